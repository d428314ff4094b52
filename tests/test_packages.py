"""The packages, as far as they are seen without a library: `make packages` does the rest."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import kdops

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="not a source tree")
NEEDED = ["setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "SECURITY.md"]
TREES = ["kdops", "csrc", "tests", "docs"]


def copied(folder: Path) -> Path:
    """The sources in another folder, with what is left there by builds."""
    folder.mkdir(parents=True)
    for name in NEEDED:
        shutil.copy(ROOT / name, folder)
    for name in TREES:
        ignore = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for left in ("kdops/_cpu.abi3.so", "tests/left.pyc", "csrc/left.so"):
        (folder / left).write_bytes(b"left from a build")
    return folder


def built(folder: Path, hook: str) -> Path:
    environment = {**os.environ, "KDOPS_BUILD": "none", "SOURCE_DATE_EPOCH": "1000000000"}
    subprocess.run(
        [sys.executable, "-c", f"from setuptools import build_meta as b; b.{hook}('dist')"],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
    )
    [package] = (folder / "dist").iterdir()
    return package


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return [copied(tmp_path_factory.mktemp("a") / name) for name in ("one", "an other/deeper")]


@pytest.fixture(scope="module")
def wheels(folders):
    return [built(folder, "build_wheel") for folder in folders]


def test_a_wheel_is_reproducible(wheels):
    first, second = (hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels)
    assert first == second


def test_what_a_wheel_holds(wheels):
    """The package as it is in the tree, no less and no more."""
    assert wheels[0].name == f"kdops-{kdops.__version__}-py3-none-any.whl"
    kinds = (".py", ".yaml", ".md", ".typed")
    tree = {str(p.relative_to(ROOT)) for p in (ROOT / "kdops").rglob("*") if p.suffix in kinds}
    names = zipfile.ZipFile(wheels[0]).namelist()
    assert {name for name in names if ".dist-info/" not in name} == tree
    assert {"kdops/py.typed", "kdops/recipes/rkd.yaml", "kdops/studies/questions.md"} <= tree
    assert any(name.endswith("/LICENSE") for name in names)


def test_what_an_sdist_holds(folders):
    """All that builds and tests it, and nothing that was built."""
    shutil.rmtree(folders[0] / "dist", ignore_errors=True)
    with tarfile.open(built(folders[0], "build_sdist")) as archive:
        names = archive.getnames()
    inside = {name.partition("/")[2] for name in names}
    for tree in TREES:
        files = [p for p in (ROOT / tree).rglob("*") if p.is_file()]
        kept = (p for p in files if p.suffix not in (".so", ".pyc"))
        assert {str(p.relative_to(ROOT)) for p in kept} <= inside
    assert set(NEEDED) <= inside
    assert not [name for name in inside if name.endswith((".so", ".pyc", ".o"))]


@pytest.mark.skipif(shutil.which("c++") is None, reason="c++ is missing")
def test_an_object_is_reproducible(folders):
    """Compiled in two folders by setup.py's flags, a source that names its file is one object."""
    texts = []
    for folder in folders:
        spec = importlib.util.spec_from_file_location("kdops_setup", folder / "setup.py")
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        source = folder / "csrc" / "cpu" / "where.cpp"
        source.write_text(
            '#include "formulas/platform.h"\nconst char* where() { return __FILE__; }\n'
        )
        command = ["c++", "-c", *script.CXX, str(source), "-o", "where.o"]
        subprocess.run(command, cwd=folder, check=True)
        texts.append((folder / "where.o").read_bytes())
        assert str(folder).encode() not in texts[-1]
    assert texts[0] == texts[1]
