"""What the package must not do: run data, write, connect, compile, read what was not given to it.

A planted or broken library is test_library's, what setup.py refuses test_build's.
"""

import ast
import copy
import inspect
import io
import pickle
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

import kdops
from kdops import methods

from .test_library import PACKAGE, run

ROOT = Path(__file__).parents[1]
in_source = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="not a source tree")
SOURCES = [*sorted(PACKAGE.rglob("*.py")), *ROOT.glob("setup.py")]
RUNS_DATA = re.compile(
    r"pickle|torch\.load|yaml\.(load|unsafe)|eval\(|exec\(|os\.system|shell=True|__import__"
    r"|urllib|requests\.|http://|weights_only=False"
)


def allowed() -> list[str]:
    lines = Path(__file__).with_name("security_allowed.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def without(text: str, parts: list[str]) -> str:
    for part in parts:
        text = text.replace(part, "")
    return text


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_no_data_is_run(path):
    lines = without(path.read_text(), allowed()).splitlines()
    assert not [line for line in lines if RUNS_DATA.search(line)]


@in_source
def test_nothing_is_allowed_in_vain():
    text = "".join(path.read_text() for path in SOURCES)
    assert [line for line in allowed() if line not in text] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_unpickling_calls_nothing_of_ours(path):
    """No module has a say in how it is restored: its attributes are."""
    hooks = {"__reduce__", "__reduce_ex__", "__setstate__", "__getnewargs__", "__getnewargs_ex__"}
    tree = ast.parse(path.read_text())
    assert not hooks & {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def with_parts() -> list[nn.Module]:
    """Those modules that hold parameters or buffers, and methods that made some."""
    student, teacher = (
        kdops.taps.Outputs(torch.randn(4, 5), {"a": torch.randn(4, width, 8, 8)})
        for width in (2, 3)
    )
    prepared = [methods.Hint("a"), methods.FSP([("a", "a")], regress=True)]
    for method in prepared:
        method.prepare(student, teacher)
    return [*prepared, kdops.nn.EnsembleGate(8, 3), methods.online.KDCL(rule="linear")]


@pytest.mark.parametrize("module", with_parts(), ids=lambda module: type(module).__name__)
def test_a_state_is_tensors_alone(module):
    stream = io.BytesIO()
    torch.save(module.state_dict(), stream)
    stream.seek(0)
    state = torch.load(stream, weights_only=True)
    assert state
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        other.load_state_dict(state)
        assert all(map(torch.equal, other.state_dict().values(), state.values()))


# An import under an audit hook: what it opens to write, runs, connects to, and the libraries it
# loads.
WATCHED = """
import os, sys
import torch
rooms = {"socket", "subprocess", "shutil", "tempfile", "urllib", "pickle"}
calls = {"system", "exec", "posix_spawn", "fork", "mkdir", "remove", "rename", "chmod", "putenv"}
events, libraries = [], []
def hook(event, arguments):
    room, _, call = event.partition(".")
    if event == "open":
        path, mode, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            events.append((event, path))
    elif event == "ctypes.dlopen":
        libraries.append(arguments[0])
    elif room in rooms or room == "os" and call in calls:
        events.append((event, *map(str, arguments)))
sys.addaudithook(hook)
import kdops
assert not events, events
print(*libraries, sep="\\n")
"""


def test_an_import_is_watched(tmp_path):
    """It writes nothing, starts nothing, compiles nothing, connects to nothing, and loads the
    package's own libraries alone, by their absolute paths."""
    done = run(
        tmp_path, "-c", WATCHED, PYTHONPATH=str(PACKAGE.parent), LD_LIBRARY_PATH=str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    for library in done.stdout.split():
        assert Path(library).parent == PACKAGE and Path(library).name[:5] in ("_cpu.", "_cuda")
    assert bool(done.stdout.split()) == bool(list(PACKAGE.glob("_cpu.*so")))
    assert not list(tmp_path.iterdir())


def variables(path: Path) -> set[str]:
    """The environment variables that a file reads; the C++ kernels' too."""
    text = path.read_text()
    found = re.findall(r'environ(?:\.get\(|\[)"(\w+)"|getenv\("(\w+)"\)', text)
    loops = re.findall(r"os\.environ\.get\(x, 1\)\) for x in \((.*?)\)", text)
    named = re.findall(r'"(\w+)"', " ".join(loops))
    assert len(found) + len(loops) == len(
        re.findall(r"environ\b[.\[](?!update|setdefault)|getenv\(", text)
    ), path
    return {first or second for first, second in found} | set(named)


@in_source
def test_every_variable_is_in_the_docs():
    sources = [*SOURCES, *(ROOT / "csrc").rglob("*.h"), *(ROOT / "csrc").rglob("*.cpp")]
    page = (ROOT / "docs" / "environment.md").read_text()
    rows = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
    said = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set().union(*map(variables, sources)) == said


@in_source
def test_the_build_reads_an_allow_list():
    names = {"KDOPS_BUILD", "TORCH_CUDA_ARCH_LIST", "CUDA_HOME", "CUDA_PATH", "CXX"}
    assert variables(ROOT / "setup.py") == names
    tree = ast.parse((ROOT / "setup.py").read_text())
    modules = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    wanted = {"os", "re", "shlex", "shutil", "subprocess", "pathlib", "setuptools"}
    assert modules == wanted | {"torch", "torch.utils.cpp_extension"}


@pytest.fixture(scope="module")
def library() -> str:
    """What readelf says of the CPU library."""
    found = sorted(PACKAGE.glob("_cpu.*so"))
    if not found or shutil.which("readelf") is None:
        pytest.skip("no native CPU library, or no readelf")
    command = ["readelf", "--wide", "--dynamic", "--segments", "--symbols", str(found[0])]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_library_is_hardened(library):
    assert "GNU_RELRO" in library and re.search(r"FLAGS.*\bNOW\b|BIND_NOW", library)
    assert "__stack_chk_fail" in library
    [stack] = re.findall(r"GNU_STACK.*", library)
    assert "RWE" not in stack
    assert "RPATH" not in library and "RUNPATH" not in library


def test_the_library_leaves_the_processor_as_it_is(library):
    """-ffast-math links a constructor that flushes subnormal numbers, of the whole process."""
    assert "set_fast_math" not in library
    needed = re.findall(r"NEEDED.*\[(.*?)\]", library)
    known = r"lib(c10|torch|torch_cpu|torch_python|stdc\+\+|m|gcc_s|c|pthread)\.so|ld-linux"
    assert all(re.match(known, name) for name in needed), needed


# Sizes whose bytes or products no machine has: each call must say so, and read nothing.
HUGE = [(2**25, 2**25), (2**50, 1), (1, 2**50), (2**40, 2**40)]


def huge(shape: tuple[int, ...]) -> torch.Tensor:
    """One stored element, seen as many."""
    return torch.zeros(1).as_strided(shape, (0,) * len(shape)).requires_grad_()


def called(name: str, x: torch.Tensor):
    function = getattr(kdops, name)
    parameters = inspect.signature(function).parameters
    target = {"target": torch.zeros(1, dtype=torch.int64).expand(x.shape[:-1])}
    target = target if "target" in parameters else {}
    if "logits" in parameters and "teacher" not in parameters:
        return function([x, x], **target)
    if "teacher" not in parameters:
        return function(x)
    return function(x, x.detach(), **target)


KERNELS = [name for name in kdops.functional.__all__ if hasattr(torch.ops.kdops, f"_{name}")]


@pytest.mark.parametrize("shape", HUGE, ids=str)
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.usefixtures("native")
def test_sizes_that_no_memory_has(name, shape):
    """What a kernel reads is contiguous first, in torch's memory; that is where this ends."""
    with kdops.backend("native"), pytest.raises(RuntimeError, match=r"contiguous|alloc|overflow"):
        called(name, huge(shape))


@pytest.mark.parametrize("strides", [(10**6, 1), (3, 10**6)])
def test_strides_are_bound_by_the_storage(strides):
    """torch sees to it before a kernel is called; a kernel gets no pointer but torch's."""
    with pytest.raises(RuntimeError, match="storage"):
        torch.zeros(16).as_strided((4, 4), strides)


@pytest.mark.parametrize("name", KERNELS)
def test_expanded_storage_is_read_as_its_values(backend, name):
    x = torch.tensor([[0.5]]).expand(6, 5)
    torch.testing.assert_close(called(name, x), called(name, x.contiguous()), rtol=0, atol=0)


@in_source
def test_the_policy_names_the_version():
    """SECURITY.md: what is supported, and where a report goes."""
    text = (ROOT / "SECURITY.md").read_text()
    major, minor, _ = kdops.__version__.split(".")
    assert f"{major}.{minor}.x" in text and "advisory" in text


@in_source
def test_every_dependency_of_the_tests_is_pinned():
    lines = (ROOT / "requirements.txt").read_text().split()
    assert lines and all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
