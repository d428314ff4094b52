"""The classes of kdops.compat.torchdistill against torchdistill's own: values and gradients."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdops.compat import torchdistill as ours

from ..metrics import gradient_error, upstream
from .torchdistill_cases import CASES, LOGITS, Draw, outputs

theirs = pytest.importorskip(
    "torchdistill.losses.mid_level", reason="torchdistill is not installed"
)
pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
each = pytest.mark.parametrize("case", CASES, ids=str)
PAGE = Path(__file__).parents[2] / "docs" / "migrate" / "torchdistill.md"


def leaves(*io_dicts) -> list[torch.Tensor]:
    """What asks for a gradient, in the order of the io_dicts."""
    found = []
    for io_dict in io_dicts:
        for module in io_dict.values():
            for x in module.values():
                parts = x if isinstance(x, tuple) else (x,)
                found += [y for y in parts if isinstance(y, torch.Tensor) and y.is_leaf]
    return found


def made(module, case):
    """The loss, with the first values of one seed."""
    torch.manual_seed(0)
    return getattr(module, case.name)(*case.args, **case.kwargs)


def evaluated(module, case, seed, dtype):
    """The value, the gradient of every leaf (zeros where it gets none), and the state after it."""
    draw = Draw(seed, dtype)
    student, teacher = case.make(draw)
    targets = draw.labels() if case.labels else None
    targets = targets[::4] if case.images else targets
    loss = made(module, case).to(torch.promote_types(dtype, torch.float32))
    value = loss(student, teacher, targets)
    found = torch.autograd.grad(
        value, leaves(student, teacher), upstream(value), allow_unused=True, materialize_grads=True
    )
    return value.detach(), found, loss.state_dict()


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_the_digit(backend, case, dtype, seed):
    value, gradients, state = evaluated(ours, case, seed, dtype)
    exact, slopes, expected = evaluated(theirs, case, seed, dtype)
    tolerance = case.double if dtype == torch.float64 else 1e-5
    assert value.shape == exact.shape
    torch.testing.assert_close(value.double(), exact.double(), rtol=tolerance, atol=tolerance / 10)
    assert len(gradients) == len(slopes) > 0
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert gradient.dtype == slope.dtype
        assert gradient_error(gradient, slope.double()) < 2 * tolerance
    for name, x in expected.items():
        torch.testing.assert_close(state[name], x, rtol=tolerance, atol=tolerance / 10)


@pytest.mark.parametrize("name", ours.__all__)
def test_signatures(name):
    """Names, order and defaults of the arguments."""
    for method in ("__init__", "forward"):
        mine, peers = (
            inspect.signature(getattr(getattr(module, name), method)) for module in (ours, theirs)
        )
        assert [(p.name, p.kind, p.default) for p in mine.parameters.values()] == [
            (p.name, p.kind, p.default) for p in peers.parameters.values()
        ]


def test_every_class_has_a_case():
    assert {case.name for case in CASES} == set(ours.__all__)


@each
def test_half_types_are_computed_in_float32(case):
    value, *_ = evaluated(ours, case, 0, torch.bfloat16)
    assert value.dtype == torch.float32 and value.isfinite().all()


@each
def test_no_state_but_the_peers(case):
    """torchdistill trains nothing that a loss holds; CRD has a memory, of the same first values."""
    mine, peers = (made(module, case) for module in (ours, theirs))
    names = ["params", "memory_v1", "memory_v2"] if case.name == "CRDLoss" else []
    assert list(mine.state_dict()) == list(peers.state_dict()) == names
    assert all(map(torch.equal, mine.state_dict().values(), peers.state_dict().values()))
    assert not list(mine.parameters())


def test_class_weights_are_state():
    kwargs = {"temperature": 1.0, "alpha": 0.5, "weight": torch.ones(4)}
    for module in (ours, theirs):
        assert list(module.KDLoss(*LOGITS, **kwargs).state_dict()) == ["cross_entropy_loss.weight"]
        assert list(module.AuxSSKDLoss(weight=torch.ones(4)).state_dict()) == ["weight"]


def kd_losses(**kwargs):
    return [module.KDLoss(*LOGITS, temperature=4.0, **kwargs) for module in (ours, theirs)]


def test_kd_without_alpha_raises():
    for module in (ours, theirs):
        for name in ("KDLoss", "LogitStdKDLoss"):
            with pytest.raises(TypeError):
                getattr(module, name)(*LOGITS, temperature=4.0)


@pytest.mark.parametrize("alpha, labels", [(0, True), (0.5, False)])
def test_kd_alone_has_neither_beta_nor_t2(alpha, labels):
    import kdops

    student, teacher = torch.randn(2, 8, 5, dtype=torch.float64).unbind()
    targets = torch.arange(8) % 5 if labels else None
    expected = kdops.kd_loss(student, teacher, temperature=4.0, scale_t2=False)
    for loss in kd_losses(alpha=alpha, beta=7.0):
        value = loss(outputs(fc=student), outputs(fc=teacher), targets)
        torch.testing.assert_close(value, expected)


def test_bad_arguments():
    with pytest.raises(ValueError, match="KDLoss: reduction must be one of"):
        kd_losses(alpha=0.5, reduction="median")
    with pytest.raises(ValueError, match="ATLoss: mode must be one of"):
        ours.ATLoss({}, mode="other")
    with pytest.raises(ValueError, match="CCKDLoss: kernel_config"):
        ours.CCKDLoss("fc", "fc", {"type": "rbf"}, "sum")
    (loss, _) = kd_losses(alpha=0.5)
    with pytest.raises(KeyError, match="output of module 'fc', got 'layer' output"):
        loss(outputs(layer=torch.ones(2, 3)), outputs(fc=torch.ones(2, 3)))


@pytest.mark.slow
def test_importing_kdops_leaves_torchdistill_alone():
    script = "import kdops, sys; assert 'torchdistill' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_it_works_without_torchdistill():
    script = (
        "import sys; sys.modules['torchdistill'] = None\n"
        "from kdops.compat import torchdistill\n"
        "import torch; fc = {'fc': {'output': torch.randn(4, 3)}}\n"
        "assert torchdistill.RKDLoss('fc', 'fc', 1.0, 2.0, 'mean')(fc, fc) == 0\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_it_takes_the_place_of_torchdistills_own():
    """Even where nothing of torchdistill was imported before."""
    script = (
        "from torchdistill.common.main_util import import_dependencies\n"
        "import_dependencies([{'name': 'kdops.compat.torchdistill'}])\n"
        "import torchdistill.losses.mid_level\n"
        "from torchdistill.losses.registry import MIDDLE_LEVEL_LOSS_DICT as found\n"
        "from kdops.compat import torchdistill\n"
        "for name in torchdistill.__all__: assert found[name] is getattr(torchdistill, name)\n"
        "assert set(found) == set(torchdistill.__all__)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def names_of(section: str) -> list[str]:
    text = PAGE.read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


@pytest.mark.skipif(not PAGE.exists(), reason="not a source tree")
def test_the_page_has_a_row_of_each_class():
    losses = [
        name
        for name, value in vars(theirs).items()
        if inspect.isclass(value) and value.__module__ == theirs.__name__
    ]
    there, missing = names_of("The losses"), names_of("Not there")
    assert sorted(there) == sorted(ours.__all__)
    assert sorted(there + missing) == sorted(losses)
