"""Awkward layers: no sample, zeros, equal rows, scales at the end of the range, NaN."""

import math

import pytest
import torch

import kdops

from .cases import generator
from .metrics import value_and_gradient, value_error
from .relatives import PLAIN, RELATIVES, gradients

each = pytest.mark.parametrize("loss", RELATIVES, ids=lambda loss: loss.name)
plain = pytest.mark.parametrize("loss", PLAIN, ids=lambda loss: loss.name)
# Those that do not depend on the scale of a layer, and the extent of the scale.
SCALED = ("at_loss", "at_loss-paper", "at_loss-cubes", "cckd_loss-mmd", "irg_transform_loss")
scaled = pytest.mark.parametrize(
    "loss",
    [loss for loss in RELATIVES if loss.name in (*SCALED, "irg_transform_loss-edge")],
    ids=lambda loss: loss.name,
)


def maps(*shape, seed=0, dtype=torch.float32):
    return torch.randn((2, *shape), generator=generator(seed)).to(dtype).unbind()


@pytest.mark.parametrize("rows", [0, 1])
@each
def test_few_samples(backend, loss, rows):
    student, teacher = loss.inputs(torch.float32, rows=rows)
    value, gradient = gradients(loss, student, teacher)
    assert value.isfinite() and all(x.isfinite().all() for x in gradient)
    if rows == 0:
        assert value == 0 and [x.shape for x in gradient] == [x.shape for x in student]
    for reduction in set(loss.reductions) - {"none"}:
        assert loss(student, teacher, reduction=reduction).isfinite()
    if "none" in loss.reductions and not loss.stem.startswith("cckd"):
        assert loss(student, teacher, reduction="none").shape[0] == rows


@pytest.mark.parametrize("name", ["irg_transform_loss-edge", "cckd_loss-mmd"])
def test_one_sample_has_no_pairs(name):
    loss = next(loss for loss in RELATIVES if loss.name == name)
    value, gradient = gradients(loss, *loss.inputs(torch.float32, rows=1))
    assert value == 0 and all((x == 0).all() for x in gradient)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
@each
def test_equal_networks(backend, loss, dtype):
    """No loss and no gradient, to the bit; VID's variances have their own."""
    student, teacher = loss.inputs(dtype)
    if [x.shape[1:] for x in student] != [x.shape[1:] for x in teacher]:
        teacher = student
    else:
        teacher = [x.clone() for x in student]
    value, gradient = gradients(loss, student, teacher)
    variance = math.log(0.5 * 3) / 4
    assert value.item() == (pytest.approx(variance, rel=1e-6) if loss.stem == "vid_loss" else 0)
    assert all((x == 0).all() for x in gradient)


@each
def test_zeros(backend, loss):
    """All-zero maps, layers and logits on either side: finite, no gradient blows up."""
    student, teacher = loss.inputs(torch.float32)
    zeros, others = [torch.zeros_like(x) for x in student], [torch.zeros_like(x) for x in teacher]
    for ours, theirs in ((zeros, teacher), (student, others), (zeros, others)):
        value, gradient = gradients(loss, ours, theirs)
        exact = loss([x.double() for x in ours], [x.double() for x in theirs])
        assert value.item() == pytest.approx(exact.item(), rel=1e-5)
        assert all(x.abs().amax() < 20 for x in gradient)


def test_a_map_of_zeros_gets_no_gradient():
    student, teacher = maps(3, 4, 2, 2)
    student[1] = 0
    for squared in (True, False):
        gradient = value_and_gradient(kdops.at_loss, student, teacher, squared=squared)[1]
        assert (gradient[1] == 0).all() and (gradient[[0, 2]] != 0).all()
    none = kdops.at_loss(student, teacher, reduction="none")
    assert none[1].sum().item() == pytest.approx(1, rel=1e-6)  # the teacher's own length


def test_equal_layers_have_no_change():
    """A maximum of 0 stays 0."""
    x, teacher = maps(4, 3)
    for pair in ((x, x), (x, x.clone())):
        pair = [y.clone().requires_grad_() for y in pair]
        value = kdops.irg_transform_loss(tuple(pair), (teacher, 2 * teacher))
        value.backward()
        assert value.isfinite() and all((y.grad == 0).all() for y in pair)


@pytest.mark.parametrize("part", ["vertex", "edge"])
def test_duplicate_rows(part):
    student, teacher = ([*maps(6, 3, seed=seed)] for seed in (0, 1))
    for x in student + teacher:
        x[5] = x[0]
    student = [x.requires_grad_() for x in student]
    value = kdops.irg_transform_loss(tuple(student), tuple(teacher), part=part)
    exact = kdops.irg_transform_loss(
        tuple(x.double() for x in student), tuple(x.double() for x in teacher), part=part
    )
    value.backward()
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    assert all(torch.equal(x.grad[5], x.grad[0]) and x.grad.abs().amax() < 10 for x in student)


@pytest.mark.parametrize("size", [(5, 3), (3, 5), (2, 7), (1, 1)], ids=str)
def test_sizes_of_attention(size):
    """Where a side differs the longer one is averaged over cells."""
    student, teacher = torch.randn(4, 3, 5, 4), torch.randn(4, 2, *size)
    least = [min(a, b) for a, b in zip((5, 4), size, strict=True)]
    pooled = [torch.nn.functional.adaptive_avg_pool2d(x, least) for x in (student, teacher)]
    value = kdops.at_loss(student, teacher)
    torch.testing.assert_close(value, kdops.at_loss(*pooled))
    attention = [x.double().square().mean(1).flatten(1) for x in pooled]
    ours, theirs = (x / x.norm(dim=1, keepdim=True) for x in attention)
    assert value.item() == pytest.approx((ours - theirs).square().mean().item(), rel=1e-5)


def test_attention_keeps_the_features_alone():
    """No tensor of their size beside them, until backward."""
    student, teacher = maps(3, 8, 4, 4)
    student.requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        kdops.at_loss(student, teacher)
    large = {x.data_ptr() for x in kept if x.numel() == student.numel()}
    assert large == {student.data_ptr()}


@pytest.mark.parametrize("p", [1, 2.5, 40, 1000])
def test_no_power_underflows(p):
    student, teacher = maps(3, 4, 3, 3)
    value, gradient = value_and_gradient(kdops.at_loss, student, teacher, p=p)
    exact, slope = value_and_gradient(kdops.at_loss, student.double(), teacher.double(), p=p)
    assert value.item() == pytest.approx(exact.item(), rel=1e-4) and value > 0.01
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@scaled
def test_ends_of_the_float32_range(loss, scale):
    """Values hold; gradients by the inverse of the scale."""
    student, teacher = loss.inputs(torch.float32)
    student, teacher = ([scale * x for x in layers] for layers in (student, teacher))
    value, gradient = gradients(loss, student, teacher)
    double = [[x.double() for x in layers] for layers in (student, teacher)]
    exact, slope = gradients(loss, *double)
    assert value_error(value, exact) < 1e-5
    for x, y in zip(gradient, slope, strict=True):
        torch.testing.assert_close(x.double() * scale, y * scale, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("exponent", [-90, 90])
@scaled
def test_a_power_of_two_cancels(loss, exponent):
    student, teacher = loss.inputs(torch.float32)
    moved = [[2.0**exponent * x for x in layers] for layers in (student, teacher)]
    assert torch.equal(loss(*moved), loss(student, teacher))


@pytest.mark.parametrize(("first", "second"), [(1e-30, 1.0), (1e20, 1e-20)], ids=str)
def test_layers_of_different_scales(first, second):
    """Edges have a maximum each; vertices share theirs."""
    student, teacher = maps(5, 4), maps(5, 4, seed=1)
    moved = (student[0] * first, student[1] * second)
    for part in ("vertex", "edge"):
        value = kdops.irg_transform_loss(moved, teacher, part=part)
        double = tuple(x.double() for x in moved), tuple(x.double() for x in teacher)
        exact = kdops.irg_transform_loss(*double, part=part)
        assert value.item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize("scale", [6e4, 300.0, 1e-6])
@each
def test_half_layers(backend, loss, scale):
    """float16 that overflows when squared, or vanishes: float32 inside, compared with float64."""
    student, teacher = loss.inputs(torch.float32, seed=2)
    halves = [[(scale * x.clamp(-1, 1)).half() for x in layers] for layers in (student, teacher)]
    value, gradient = gradients(loss, *halves)
    exact, slope = gradients(loss, *([x.double() for x in layers] for layers in halves))
    assert value.dtype == torch.float32 and value.isfinite()
    # DKD's two classes are sums of the others, which round at 1.
    assert value_error(value, exact, floor=1e-9 if loss.stem == "dkd_loss" else 1e-20) < 2e-5
    for x, y in zip(gradient, slope, strict=True):
        assert x.dtype == torch.float16
        unit = torch.finfo(x.dtype)
        expected = y.clamp(-unit.max, unit.max)
        error = (x.double().clamp(-unit.max, unit.max) - expected).abs()
        assert (error <= 1e-3 * expected.abs() + 1e-4 * expected.abs().amax() + 1e-7).all()


@pytest.mark.parametrize("spoil", [math.nan, math.inf])
@pytest.mark.parametrize("side", [0, 1], ids=["student", "teacher"])
@each
def test_nan_and_infinity(backend, loss, side, spoil):
    """Never a finite loss; what is summed sample by sample spoils its own sample alone."""
    inputs = loss.inputs(torch.float32)
    clean = loss(*inputs, reduction="none") if "none" in loss.reductions else None
    inputs[side][0][1].view(-1)[1] = spoil
    assert not loss(*inputs).isfinite()
    if clean is not None and loss.stem != "cckd_loss":
        value = loss(*inputs, reduction="none")
        others = [0, 2, 3]
        assert torch.equal(value[others], clean[others]) and not value[1].isfinite().all()


def test_a_variance_that_is_none():
    student, teacher = maps(2, 3, 2, 2)
    for bad in (0.0, -1.0, math.nan):
        value = kdops.vid_loss(student, teacher, torch.tensor([1.0, bad, 1.0]), reduction="none")
        assert value[:, 1].isnan().all() and value[:, [0, 2]].isfinite().all()
