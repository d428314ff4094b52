"""What tests/gpu.sh makes of its parts, with a python that plays a machine with a GPU."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "gpu.sh"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="not a source tree")
# Answers the question for the card, and fails in what STUB_FAILS names.
STUB = """#!/usr/bin/env bash
case "$*" in
  *get_device_capability*) [ -z "$STUB_CARD" ] || echo "$STUB_CARD" ;;
  *) echo "$@"; [[ -z "$STUB_FAILS" || "$*" != *"$STUB_FAILS"* ]] ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    stub = tmp_path / "python"
    stub.write_text(STUB)
    stub.chmod(0o755)
    (tmp_path / "compute-sanitizer").symlink_to(stub)

    def call(*parts: str, card="9.0", fails="") -> tuple[int, str]:
        own = {"PYTHON": stub, "OUT": tmp_path / "out", "STUB_CARD": card, "STUB_FAILS": fails}
        path = f"{tmp_path}:{os.environ['PATH']}"
        environment = os.environ | {name: str(x) for name, x in own.items()} | {"PATH": path}
        done = subprocess.run(
            [SCRIPT, *parts], env=environment, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout + done.stderr

    return call


def test_every_part(run, tmp_path):
    code, said = run()
    assert code == 0 and "FAILED" not in said
    parts = ("libraries", "accuracy", "edges", "numbers", "peers", "on_device")
    for name in (*parts, "memcheck", "racecheck", "initcheck", "examples"):
        assert f"gpu: {name} passed in" in said
        assert (tmp_path / "out" / f"{name}.log").exists()
    assert "-m benchmarks.gpu --budget" in said


@pytest.mark.parametrize(
    ("part", "fails", "name"),
    [
        ("suite", "test_accuracy.py", "accuracy"),
        ("device", "tests/gpu", "on_device"),
        ("sanitizer", "racecheck", "racecheck"),
        ("examples", "test_examples.py", "examples"),
        ("bench", "benchmarks.gpu", "bench"),
    ],
)
def test_a_part_that_fails(run, part, fails, name):
    code, said = run(part, fails=fails)
    assert code == 1 and said.strip().endswith(f"FAILED: {name}")


def test_nothing_runs_without_the_libraries(run):
    code, said = run(fails="build_ext")
    assert code == 1 and "benchmarks.gpu" not in said and "memcheck" not in said


def test_without_a_gpu(run):
    code, said = run(card="")
    assert code == 2 and "sees no GPU" in said
    code, said = run("sweet")
    assert code == 2 and "there is no part 'sweet'" in said
