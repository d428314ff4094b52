"""The command bench: every function's table, its backend, what is left out, and bad options."""

import gc
import subprocess
import sys

import pytest
import torch

import kdops
from kdops import _native
from kdops.__main__ import main as kdops_main
from kdops.bench import command, compare, measure
from kdops.bench.cases import CUBIC, KINDS, Case
from kdops.bench.rivals import torchdistill

SMALL = ["--rows", "24", "--cols", "40", "--seconds", "0.01"]
pytestmark = pytest.mark.filterwarnings("ignore:kdops runs")


def report(case: Case, forward_only=False, limit=2**30):
    return compare.compare(case, 0.01, limit, forward_only, measure.clock_of("cpu", 1))


def small(op: str, **more) -> Case:
    return Case(op, 24, 40, **more)


@pytest.fixture(autouse=True, scope="module")
def few_objects():
    """torchdistill brings many, which every measurement of memory would look through again."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("cols", [10, 300])
@pytest.mark.parametrize("op", KINDS)
def test_every_form(op, cols):
    """One function, within the memory that --memory lets through."""
    case = Case(op, 32, cols, peers=4)
    lines = report(case).lines
    assert [line.name for line in lines[:3]] == ["kdops", compare.REFERENCE, "eager PyTorch"]
    assert lines[0].ratio == 1
    for line in lines:
        assert line.loss_error < 1e-4 and line.gradient_error < 1e-3, line
        reference = line.name == compare.REFERENCE
        own = case.needed(compare.has_kernels("cpu")) if line.name == "kdops" else 0
        assert line.memory <= max(own, case.held(reference)), line


def test_backend_that_ran(monkeypatch):
    with kdops.backend("reference"):
        assert report(small("sp_loss")).backend.startswith("reference: chosen")
    with kdops.backend("auto"):
        if "cpu" in _native.loaded:
            said = report(small("sp_loss")).backend
            assert said == f"native kernels, cpu library for {_native.level('cpu')}"
        monkeypatch.setattr(_native, "loaded", frozenset())
        monkeypatch.setitem(_native.errors, "cpu", "not built")
        assert report(small("sp_loss")).backend == "reference: cpu library: not built"


@pytest.mark.parametrize("op", CUBIC)
def test_large_forms_are_left_out(op):
    """At 512 rows eager's angles take gigabytes; nothing of that size is made here."""
    case = Case(op, 48, 16)
    found = report(case, limit=case.held(reference=True) - 1)
    assert [line.name for line in found.lines] == ["kdops"]
    assert {compare.REFERENCE, "eager PyTorch", "errors"} <= set(found.left_out)
    assert "GiB" in found.left_out["eager PyTorch"]
    assert found.lines[0].loss_error is None


def test_what_does_not_run_is_left_out():
    """torch.cdist has no half type."""
    found = report(small("rkd_distance_loss", dtype=torch.bfloat16))
    assert found.lines[0].gradient_error < 1e-2

    def fails(*_):
        raise RuntimeError("no kernel\nand more")

    left_out = {}
    taken = {"other": compare.Rival(fails)}
    assert compare._answers(taken, small("sp_loss").inputs(), None, left_out) == {}
    assert left_out == {"other": "no kernel"}


def test_rounds():
    """As many as fit, at least three; a round that is longer than the budget once."""
    now = iter(range(10**6))
    runs = {"a": lambda: None, "b": lambda: None}
    for budget, rounds in ((1, 1), (2, 3), (10, 5), (1000, measure.MOST_ROUNDS)):
        times = measure.interleaved(runs, budget, lambda: next(now))
        assert {name: len(found) for name, found in times.items()} == {"a": rounds, "b": rounds}


def test_forward_only_makes_no_gradient():
    """The value alone needs less than one gradient."""
    case = Case("kd_loss", 64, 1000)
    gradient = 64 * 1000 * 4
    assert report(case).lines[0].memory >= gradient
    if compare.has_kernels("cpu"):
        assert report(case, forward_only=True).lines[0].memory < gradient / 2


def test_printed(capsys):
    threads = torch.get_num_threads()
    assert kdops_main(["bench", "--op", "rkd_angle_loss", *SMALL]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("rkd_angle_loss 24x40 float32 on cpu, 1 thread")
    assert "\nbackend of kdops: " in printed
    rows = [line for line in printed.splitlines() if line.startswith("| ")]
    named = ["kdops", "kdops' reference", "eager PyTorch", "published formula"]
    named += ["torchdistill"] if torchdistill else []
    assert [row.split("|")[1].strip() for row in rows[1:]] == named
    assert torch.get_num_threads() == threads


def test_aliases_and_types(capsys):
    options = ["--op", "mutual_kl", "--rows", "8", "--classes", "10", "--peers", "3"]
    options += ["--dtype", "float64", "--threads", "2", "--forward-only", "--seconds", "0.01"]
    assert command.main(options) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("mutual_kl 3x8x10 float64 on cpu, 2 threads")
    assert "value alone" in printed and "wall time" in printed


BAD = {
    "unknown": (["--op", "rkd"], "--op must be one of kd_loss"),
    "missing": ([], "required: --op"),
    "rows": (["--op", "sp_loss", "--rows", "2"], "--rows must be at least 3 for sp_loss, got 2"),
    "no rows": (["--op", "kd_loss", "--rows", "0"], "--rows must be at least 1"),
    "words": (["--op", "kd_loss", "--rows", "many"], "invalid int value: 'many'"),
    "cols": (["--op", "kd_loss", "--cols", "1"], "--cols must be at least 2"),
    "peers": (["--op", "kd_loss", "--peers", "2"], "--peers is for mutual_kl and mixture_kl"),
    "one peer": (["--op", "mutual_kl", "--peers", "1"], "--peers must be from 2 to 16, got 1"),
    "threads": (["--op", "kd_loss", "--threads", "0"], "--threads must be at least 1"),
    "dtype": (["--op", "kd_loss", "--dtype", "int8"], "invalid choice: 'int8'"),
    "huge": (
        ["--op", "kd_loss", "--rows", "1000000000"],
        "kd_loss 1000000000x512 float32 may take",
    ),
    "cubic": (
        ["--op", "triplet_angle", "--rows", "2048"],
        "triplet_angle 2048x512 float32 may take",
    ),
    "memory": (["--op", "kd_loss", "--memory", "nan"], "--memory must be positive"),
    "stray": (["--op", "kd_loss", "stray"], "unrecognized arguments: stray"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options(name, capsys):
    """One line that says what was wanted and what came, and exit status 2."""
    options, said = BAD[name]
    with pytest.raises(SystemExit) as stopped:
        command.main(options)
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m kdops bench: ") and said in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_no_gpu(capsys):
    with pytest.raises(SystemExit):
        command.main(["--op", "kd_loss", "--device", "cuda"])
    assert "torch sees no GPU" in capsys.readouterr().err


def test_a_missing_library_that_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(_native, "loaded", frozenset())
    monkeypatch.setitem(_native.errors, "cpu", "not built")
    with kdops.backend("native"):
        assert command.main(["--op", "kd_loss", *SMALL]) == 1
    assert "has no cpu library: not built" in capsys.readouterr().out


def test_it_needs_the_core_alone():
    """benchmarks, rich and the rest of the extras are not imported for it."""
    code = (
        "import sys, kdops.bench.command as c; c.main(sys.argv[1:]);"
        "print(sorted({'benchmarks', 'rich', 'tests', 'matplotlib'} & set(sys.modules)))"
    )
    code = f"import sys; sys.modules['torchdistill'] = None\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", code, "--op", "kd_loss", *SMALL],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "left out: torchdistill: not installed" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]" and not done.stderr
