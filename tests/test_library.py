"""The library file missing, corrupt, foreign or planted; and what an import may do.

Each in a process of its own, on a copy of the package.
"""

import _ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kdops

PACKAGE = Path(kdops.__file__).parent
TRAIN = """
import warnings, torch
warnings.simplefilter("always")
import kdops
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    student = torch.randn(4, 3, requires_grad=True)
    for _ in range(3):
        kdops.kd_loss(student, torch.zeros(4, 3)).backward()
        kdops.irg_edge_loss(student, torch.randn(4, 3)).backward()
print([str(w.message) for w in caught if "kdops" in str(w.message)])
print(sorted(kdops._native.loaded), student.grad.isfinite().all().item())
"""


def garbage(path: Path) -> None:
    path.write_bytes(b"\x7fELF not a library" * 100)


def foreign(path: Path) -> None:
    """A library that loads, and holds none of the kernels."""
    shutil.copy(_ctypes.__file__, path)


def missing(path: Path) -> None:
    pass


FILES = {"missing": missing, "garbage": garbage, "foreign": foreign}
each = pytest.mark.parametrize("kind", FILES)


def run(folder: Path, *arguments: str, cwd: Path | None = None, **environment: str):
    inherited = {name: value for name, value in os.environ.items() if "KDOPS" not in name}
    env = {**inherited, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd or folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def copied(tmp_path):
    """A copy of the package without libraries."""
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "kdops", ignore=ignore)
    return tmp_path


def spoil(folder: Path, kind: str) -> None:
    FILES[kind](folder / "kdops" / "_cpu.abi3.so")


@each
def test_import_is_silent(copied, kind):
    spoil(copied, kind)
    done = run(copied, "-c", f"import kdops; assert kdops.__file__.startswith({str(copied)!r})")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@each
def test_info_names_the_reason(copied, kind):
    spoil(copied, kind)
    done = run(copied, "-m", "kdops", "info")
    assert done.returncode == 0 and done.stderr == ""
    (line,) = (line for line in done.stdout.splitlines() if line.strip().startswith("cpu library"))
    assert "not loaded: " in line and len(line.partition("not loaded: ")[2]) > 5


def test_cuda_built_for_another_torch(copied):
    """One wheel serves every torch: where the CUDA library's own are missing, info says so."""
    source = copied / "needy.c"
    source.write_text("int kdops_cuda_level;")
    command = ["gcc", "-shared", "-o", copied / "libcudart_of_another.so", "-x", "c", source]
    if shutil.which("gcc") is None:
        pytest.skip("gcc is missing")
    subprocess.run(command, check=True)
    library = copied / "kdops" / "_cuda.abi3.so"
    linked = ["-L", copied, "-Wl,--no-as-needed", "-l:libcudart_of_another.so"]
    subprocess.run(["gcc", "-shared", "-o", library, source, *linked], check=True)
    (copied / "libcudart_of_another.so").unlink()
    done = run(copied, "-m", "kdops", "info")
    assert done.returncode == 0 and done.stderr == ""
    said = dict(line.strip().split(": ", 1) for line in done.stdout.splitlines())
    assert said["cuda library"].startswith("not loaded: libcudart_of_another.so: cannot open")
    assert said["cpu library"] == "not loaded: not built"


@each
def test_losses_run_on_the_reference_with_one_warning(copied, kind):
    spoil(copied, kind)
    done = run(copied, "-c", TRAIN)
    assert done.returncode == 0, done.stderr
    caught, state = done.stdout.splitlines()
    assert caught.count("which is slower") == 1 and state == "[] True"


@each
def test_native_is_refused_with_the_remedy(copied, kind):
    spoil(copied, kind)
    code = "import torch, kdops; kdops.kd_loss(torch.randn(2, 3), torch.randn(2, 3))"
    done = run(copied, "-c", code, KDOPS_BACKEND="native")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: kd_loss: backend 'native'") and "pip install" in last


def test_reference_warns_of_nothing(copied):
    done = run(copied, "-c", TRAIN, KDOPS_BACKEND="reference")
    assert done.stdout.splitlines() == ["[]", "[] True"]


def test_unknown_choice_of_the_environment(copied):
    done = run(copied, "-c", "import kdops", KDOPS_BACKEND="fast")
    assert done.returncode == 1
    assert "KDOPS_BACKEND must be one of auto, native, reference, got 'fast'" in done.stderr


@pytest.mark.parametrize("name", ["_cpu.so", "_cpu.abi3.so", "kdops/_cpu.abi3.so"])
def test_a_planted_library_is_not_loaded(copied, tmp_path_factory, name):
    """Not from the working directory, nor from the end of the path, nor the linker's."""
    planted = tmp_path_factory.mktemp("planted")
    (planted / name).parent.mkdir(exist_ok=True)
    foreign(planted / name)
    code = f"import sys; sys.path.append({str(planted)!r}); import kdops"
    code += "; print(open('/proc/self/maps').read())"
    for path in (str(copied), f"{copied}{os.pathsep}{planted}"):
        own = {"PYTHONPATH": path, "LD_LIBRARY_PATH": str(planted), "PYTHONSAFEPATH": "1"}
        done = run(copied, "-c", code, cwd=planted, **own)
        assert done.returncode == 0, done.stderr
        assert str(planted) not in done.stdout


QUIET = """
import os, socket, sys, threading
import torch
def refuse(*arguments, **options):
    raise AssertionError("a connection")
socket.socket = refuse
tasks = len(os.listdir("/proc/self/task"))
files = {p for d, _, names in os.walk(".") for p in names}
import kdops
assert len(os.listdir("/proc/self/task")) == tasks, "a thread was started"
assert threading.active_count() == 1
assert not torch.cuda.is_initialized()
assert torch.tensor(1e-40) * 1 != 0 and torch.tensor(5e-324, dtype=torch.float64) * 1 != 0
x = torch.randn(64, 10, requires_grad=True)
kdops.kd_loss(x, torch.randn(64, 10)).backward()
assert torch.tensor(1e-40) * 1 != 0 and 5e-324 * 1.0 != 0, "subnormals are flushed"
assert {p for d, _, names in os.walk(".") for p in names} == files, "a file was written"
assert not {"matplotlib", "rich", "sklearn", "triton"} & set(sys.modules)
"""


def test_import_changes_nothing(tmp_path):
    """No output, thread, file, connection, GPU; subnormal numbers stay. The library included."""
    folder = str(PACKAGE.parent)
    done = run(tmp_path, "-c", QUIET, PYTHONPATH=folder, HOME=str(tmp_path), OMP_NUM_THREADS="1")
    warned = [
        line for line in done.stderr.splitlines() if "slower" not in line and "kd_loss" not in line
    ]
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and not [line for line in warned if "kdops" in line]


def test_read_only_package(copied):
    for path in [copied / "kdops", *(copied / "kdops").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert run(copied, "-c", "import kdops").returncode == 0
    finally:
        for path in [copied / "kdops", *(copied / "kdops").rglob("*")]:
            path.chmod(0o755)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("level", ["base", "v3", "v4"])
def test_level_of_the_environment(level):
    """KDOPS_CPU_LEVEL lowers the instruction set, and info shows it."""
    done = run(PACKAGE.parent, "-m", "kdops", "info", KDOPS_CPU_LEVEL=level)
    (line,) = (line for line in done.stdout.splitlines() if "processor level" in line)
    levels = ["base", "v3", "v4"]
    found = line.split()[-1]
    assert found in levels[: levels.index(level) + 1]
    assert level != "base" or found == "base"
