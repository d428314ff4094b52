"""What setup.py builds, and what it refuses: each run in a process of its own, without a build."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kdops

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="not a source tree")


def setup(*arguments: str, cwd: Path = ROOT, **environment: str):
    env = {**os.environ, **environment}
    command = [sys.executable, str(ROOT / "setup.py"), *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


@pytest.fixture
def script():
    """setup.py as a module."""
    spec = importlib.util.spec_from_file_location("kdops_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def machine(tmp_path):
    """machine(torch's CUDA, nvcc's release): the environment of a stand-in for both."""

    def made(cuda: str | None, release: str | None) -> dict[str, str]:
        (tmp_path / "torch.py").write_text(f"class version:\n    cuda = {cuda!r}\n")
        if release is not None:
            nvcc = tmp_path / "bin" / "nvcc"
            nvcc.parent.mkdir()
            nvcc.write_text(
                f"#!/bin/sh\necho Cuda compilation tools, release {release}, V{release}\n"
            )
            nvcc.chmod(0o755)
        return {"PYTHONPATH": str(tmp_path), "CUDA_HOME": str(tmp_path), "KDOPS_BUILD": "cuda"}

    return made


@pytest.mark.parametrize("mode", ["gpu", "", "CPU", "cpu; touch planted", "none "])
def test_unknown_build_mode(tmp_path, mode):
    done = setup("--version", cwd=tmp_path, KDOPS_BUILD=mode)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert f"KDOPS_BUILD must be one of auto, cpu, cuda, none, got {mode!r}" in done.stderr
    assert not list(tmp_path.iterdir())


def test_build_of_nothing_imports_no_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch')")
    for mode, code in (("none", 0), ("auto", 0), ("cpu", 1), ("cuda", 1)):
        done = setup("--version", KDOPS_BUILD=mode, PYTHONPATH=str(tmp_path))
        assert done.returncode == code, done.stderr
        assert not code or f"KDOPS_BUILD={mode}: torch cannot be imported" in done.stderr


@pytest.mark.parametrize("compiler", ["/nowhere/c++", "", "'nowhere and more' -O2"])
def test_build_without_a_compiler(compiler):
    for mode, code in (("none", 0), ("auto", 0), ("cpu", 1), ("cuda", 1)):
        done = setup("--version", KDOPS_BUILD=mode, CXX=compiler)
        assert done.returncode == code and "Traceback" not in done.stderr
        reason = f"the C++ compiler {compiler!r} is not found, set CXX"
        assert not code or done.stderr == f"KDOPS_BUILD={mode}: {reason}\n"
        assert (reason in done.stdout) == (mode == "auto")


def test_a_compiler_behind_another_program(script, monkeypatch):
    monkeypatch.setenv("CXX", "env c++")
    assert script.without_compiler() is None


def test_one_version():
    """The package's; no other file of the build names one."""
    done = setup("--version", KDOPS_BUILD="none")
    assert done.stdout.split() == [kdops.__version__]
    assert kdops.__version__ not in (ROOT / "setup.py").read_text()
    assert not re.search(r"^version *= *\"", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    [newest, *_] = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest == kdops.__version__


@pytest.mark.parametrize(
    ("cuda", "release", "reason"),
    [
        (None, "13.0", "this torch is built without CUDA"),
        ("13.0", None, "no nvcc is found, set CUDA_HOME"),
        ("13.0", "12.9", "torch has CUDA 13.0, nvcc in "),
        ("12.8", "1.28", "torch has CUDA 12.8, nvcc in "),
        ("13.0", "of another kind", "torch has CUDA 13.0, nvcc in "),
    ],
)
def test_what_cuda_lacks(machine, cuda, release, reason):
    done = setup("--version", **machine(cuda, release))
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert f"KDOPS_BUILD=cuda: {reason}" in done.stderr


ARCHITECTURES = ["9", "sm_90", "9.0,8.0", "9.0+ptx", "9.0b", "90.0.0", "native", "Hopper", " ", ";"]


@pytest.mark.parametrize(
    "chosen", [*ARCHITECTURES, "8.0; touch x", "9.0;$(touch planted)", "9.0 -o planted"]
)
def test_unknown_architectures(machine, tmp_path, chosen):
    environment = machine("13.0", "13.0")
    work = tmp_path / "work"
    work.mkdir()
    done = setup("--version", cwd=work, TORCH_CUDA_ARCH_LIST=chosen, **environment)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "TORCH_CUDA_ARCH_LIST must be like '8.0;9.0+PTX'" in done.stderr
    assert repr(chosen) in done.stderr and not list(work.iterdir())


@pytest.mark.parametrize("chosen", ["8.0;9.0+PTX", "8.0 9.0+PTX", "8.0; 9.0+PTX;"])
def test_architectures(script, monkeypatch, chosen):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", chosen)
    assert script.architectures("13.0") == ["8.0", "9.0+PTX"]


@pytest.mark.parametrize("chosen", ["9.0a", "10.0f", "12.0a+PTX"])
def test_architecture_with_a_suffix(script, monkeypatch, chosen):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", chosen)
    assert script.architectures("13.0") == [chosen]


def test_default_architectures(script, monkeypatch):
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    assert script.architectures("12.6") == ["8.0", "9.0+PTX"]
    assert script.architectures("13.0")[:2] == ["8.0", "9.0+PTX"]
    assert "10.0" in script.architectures("12.8")


def test_code_of_an_architecture(script):
    assert script.code_of("9.0a") == ["-gencode=arch=compute_90a,code=sm_90a"]
    assert script.code_of("12.0+PTX") == [
        "-gencode=arch=compute_120,code=sm_120",
        "-gencode=arch=compute_120,code=compute_120",
    ]


def test_toolkit_of_the_environment(script, monkeypatch, tmp_path):
    """A named folder counts, or none: never another one."""
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert script.cuda_home() is None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").touch()
    assert script.cuda_home() == tmp_path
