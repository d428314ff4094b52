"""The examples: each is listed, runs as its command says, and shows what it says it shows.

Slow imports are most of the time, so each is run once, in its quick form.
"""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="not a source tree"),
]
NUMBER = r"(-?[\d.]+(?:e[+-]?\d+)?)"
LIST = FOLDER / "README.md"
COMMANDS = re.findall(r"`((?:python|torchrun) .+?)`", LIST.read_text() if LIST.exists() else "")
# What an example may lack: those of the extras, and scikit-learn's and timm's own
OPTIONAL = {
    *("accelerate", "lightning", "pydantic", "pytorch_metric_learning", "sklearn", "timm"),
    *("torchvision", "transformers", "yaml"),
}


@functools.cache
def run(command: str) -> str:
    """What a command of the README prints in its quick form."""
    program, *arguments = command.split()
    launch = [sys.executable]
    if program == "torchrun":
        launch += [
            "-m",
            "torch.distributed.run",
            "--rdzv-backend=c10d",
            "--rdzv-endpoint=localhost:0",
        ]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, *arguments, "--quick"],
        cwd=ROOT,
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=600,
    )
    missing = re.search(r"No module named '(\w+)", done.stderr)
    if missing and missing[1] in OPTIONAL:
        pytest.skip(f"no {missing[1]} here")
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_example(command):
    """The loss falls; processes have one process's loss; no gradients or weights are apart."""
    said = run(command)
    falls = re.findall(rf"^loss {NUMBER} -> {NUMBER}$", said, re.MULTILINE)
    equal = re.findall(rf"^loss: 2 processes {NUMBER}, one {NUMBER}", said, re.MULTILINE)
    apart = re.findall(rf"largest difference {NUMBER}$", said, re.MULTILINE)
    assert falls or equal, said
    assert all(float(last) < 0.8 * float(first) for first, last in falls), said
    assert all(abs(float(a) - float(b)) <= 2e-6 for a, b in equal), said
    assert all(float(difference) < 1e-6 for difference in apart), said
    assert bool(apart) == ("torchrun" in command or "token" in command), said


def test_the_global_batch_is_another_loss():
    """The comparison could fail: without gather the value is another."""
    said = run("torchrun --nproc-per-node 2 examples/global_batch.py")
    [(one, without), *_] = re.findall(rf"one {NUMBER}, without gather {NUMBER}", said)
    assert abs(float(one) - float(without)) > 1e-3


def test_every_example_is_listed():
    """With a command that is also in the file's own docstring."""
    files = {path.name for path in FOLDER.glob("*.py")}
    assert {re.search(r"examples/(\w+\.py)", command)[1] for command in COMMANDS} == files
    for command in COMMANDS:
        path = ROOT / re.search(r"examples/\w+\.py", command)[0]
        text = path.read_text()
        docstring = text.split('"""')[1]
        assert command.removesuffix(" --fsdp") in docstring, command
        assert "--quick" in docstring and text.startswith('"""'), path


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_an_example_stays_small(path):
    assert len(path.read_text().splitlines()) <= 140


def test_links_of_the_list():
    for target in re.findall(r"\]\(([^)\s]+)\)", LIST.read_text()):
        assert (FOLDER / target).resolve().exists(), target
