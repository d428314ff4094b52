"""The shape of the source: who imports whom, sizes, docstrings, and what must not be in it."""

import ast
import re
import sys
from pathlib import Path

import pytest

import kdops

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kdops"
SOURCES = sorted(PACKAGE.rglob("*.py"))
NATIVE = [
    p for p in sorted((ROOT / "csrc").rglob("*")) if p.suffix in (".h", ".cpp", ".cu", ".cuh")
]
pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="not a source tree")

# Of each room of the package, the rooms below it.
BELOW = {
    "_backend": set(),
    "_checks": set(),
    "_native": set(),
    "reference": set(),
    "distributed": {"reference"},
    "functional": {"reference", "distributed", "_native", "_checks", "_backend"},
    "nn": {"functional", "_checks"},
    "metrics": {"functional", "_checks"},
    "compat": {"_checks", "reference", "functional"},
    "schedules": set(),
    "taps": set(),
    "peers": {"functional", "nn", "taps", "_checks"},
    "_kmeans": {"_checks"},
    "samplers": {"_checks", "_kmeans"},
    "methods": {
        "functional",
        "nn",
        "compat",
        "peers",
        "reference",
        "schedules",
        "taps",
        "_checks",
        "_kmeans",
    },
    "__init__": {
        "functional",
        "nn",
        "compat",
        "methods",
        "metrics",
        "peers",
        "samplers",
        "schedules",
        "taps",
        "_backend",
    },
    "bench": {"__init__", "functional", "_backend", "_native"},
    "recipes": {"methods"},
    "results": set(),
    "training": {"methods", "metrics", "peers", "recipes", "results", "samplers", "taps"},
    "studies": {"training", "recipes", "results", "methods", "peers", "functional", "taps"},
    "demo": {"__init__", "studies", "training", "recipes", "results", "methods", "taps"},
    "__main__": {"__init__", "_native", "bench", "demo", "training", "results", "studies"},
}
# Rooms that need more than torch and numpy: the extra kdops[train].
EXTRA = {"recipes", "results", "training", "studies", "demo"}
# Files, and rooms, that use another package where it is installed, and do without it elsewhere.
OPTIONAL = {"compat/torchdistill/registry.py": {"torchdistill"}, "bench": {"torchdistill"}}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path):
    """(module, relative to the package or not) of every import of a file."""
    package = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                ""
                if not node.level
                else ".".join(("kdops", *package[: len(package) - node.level + 1]))
            )
            module = ".".join(filter(None, (base, node.module)))
            # `from . import x` may import a module or a name of the package.
            names = (
                [f"{module}.{name.name}" for name in node.names]
                if node.module is None
                else [module]
            )
            yield from names


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    here = room(path)
    allowed = BELOW[here] | {here}
    for module in imported(path):
        first, _, rest = module.partition(".")
        if first != "kdops":
            continue
        target = rest.partition(".")[0]
        if not target or not list(PACKAGE.glob(f"{target}*")):
            target = "__init__"  # the package or a public name
        assert target in allowed, f"{here} imports {module}"


def test_reference_imports_torch_alone():
    for path in (PACKAGE / "reference").glob("*.py"):
        for module in imported(path):
            assert module.split(".")[0] in ("torch", "math", "typing", "collections", "kdops"), (
                path,
                module,
            )


def test_the_core_needs_torch_and_numpy_alone():
    for path in SOURCES:
        if room(path) not in EXTRA:
            names = (room(path), path.relative_to(PACKAGE).as_posix())
            allowed = {"torch", "numpy", "kdops"} | sys.stdlib_module_names
            allowed = allowed.union(*(OPTIONAL.get(name, set()) for name in names))
            for module in imported(path):
                assert module.split(".")[0] in allowed, (path, module)


@pytest.mark.parametrize("path", NATIVE, ids=lambda p: p.name)
def test_native_folders(path):
    includes = re.findall(r'#include\s+[<"]([^>"]+)[>"]', path.read_text())
    folder = path.parent.name
    forbidden = {
        "cpu": ("cuda",),
        "cuda": ("cpu/",),
        "common": ("cpu/", "cuda"),
        "formulas": ("cpu/", "cuda", "common/", "torch", "ATen"),
    }
    for include in includes:
        assert not include.startswith(forbidden[folder]), include
        assert not include.startswith(("torch/extension.h", "ATen/", "c10/")), include


@pytest.mark.parametrize(
    "path", SOURCES + NATIVE + sorted((ROOT / "tests").glob("*.py")), ids=lambda p: p.name
)
def test_a_file_stays_small(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", NATIVE, ids=lambda p: p.name)
def test_kernels_hold_no_float_atomics_nor_clocks(path):
    text = path.read_text()
    assert not re.search(
        r"atomicAdd|atomic<(float|double)>|#pragma omp atomic|std::rand|time\(", text
    )
    assert "ffast-math" not in text


def test_build_flags():
    text = (ROOT / "setup.py").read_text()
    assert "fast-math" not in text and "march=native" not in text
    for flag in ("-fno-trapping-math", "-fno-math-errno", "-ffile-prefix-map", "-fstack-protector"):
        assert flag in text


@pytest.mark.parametrize("name", kdops.functional.__all__)
def test_docstring(name):
    text = getattr(kdops, name).__doc__
    parts = ["Args:", "Returns:", "Raises:", "Gradient:", "Source:"]
    places = [text.find(part) for part in parts]
    assert -1 not in places and places == sorted(places)
    parameters = getattr(kdops, name).__code__
    for argument in parameters.co_varnames[: parameters.co_argcount + parameters.co_kwonlyargcount]:
        assert re.search(rf"^ +{argument}: ", text, re.MULTILINE), argument


def test_public_names():
    rooms = {"compat", "functional", "methods", "metrics", "nn", "peers", "samplers", "schedules"}
    names = {"Tapped", "Teacher", "backend"}
    assert set(kdops.__all__) == {*rooms, *names, *kdops.functional.__all__}
    for name in kdops.functional.__all__:
        assert getattr(kdops, name) is getattr(kdops.functional, name)
