"""The losses of K peers against their reference in float64: sizes, types, rules, awkward rows."""

import pytest
import torch

import kdops

from . import stand_in
from .cases import DTYPES, generator
from .metrics import gradient_error, upstream, value_error

INF = torch.inf
UNIT = {torch.float64: 2e-13}  # of values and gradients; float32's where the inside is float32
RULES = ("min_logit", "naive")
KL, MIX = kdops.mutual_kl, kdops.mixture_kl


def peers(count, rows, classes, spread=1.0, dtype=torch.float32, seed=0):
    """(K, rows, C): a common row, and `spread` times what each has for itself."""
    g = generator(seed)
    common = 2 * torch.randn((rows, classes), generator=g, dtype=torch.float64)
    own = torch.randn((count, rows, classes), generator=g, dtype=torch.float64)
    return (common + spread * own).to(dtype)


def labels(rows, classes, ignored=2):
    """One in seven of them, from `ignored` on, does not count."""
    target = torch.randint(classes, (rows,), generator=generator(5))
    target[ignored::7] = -100
    return target


def mixing(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=generator(7), dtype=torch.float64).softmax(-1).to(dtype)


def answers(function, logits, target, weights=None, listed=False, **options):
    """Value, terms in one vector, the gradients of the logits and of the weights or None."""
    z = logits.detach().clone().requires_grad_()
    w = weights
    if isinstance(w, torch.Tensor) and function is MIX:
        w = w.detach().clone().requires_grad_()
    given = list(z.unbind()) if listed else z
    value, terms = function(given, target, weights=w, return_terms=True, **options)
    wanted = [z, w] if w is not weights else [z]
    found = torch.autograd.grad(value, wanted, upstream(value), materialize_grads=True)
    return value.detach(), torch.cat([x.flatten() for x in terms.values()]), *found


def exactly(function, logits, target, weights=None, **options):
    """The reference's answers in float64, on inputs that keep their rounding."""
    wide = weights.double() if isinstance(weights, torch.Tensor) else weights
    with kdops.backend("reference"):
        return answers(function, logits.double(), target, wide, **options)


def check(function, logits, target, weights=None, units=1.0, **options):
    unit = units * UNIT.get(logits.dtype, 1e-6)
    found = answers(function, logits, target, weights, **options)
    exact = exactly(function, logits, target, weights, **options)
    for what, x, y in zip(("value", "terms"), found, exact, strict=False):
        assert value_error(x, y, floor=1e-30) <= 10 * unit, what
    for x, y in zip(found[2:], exact[2:], strict=True):
        assert gradient_error(x, y) <= 10 * unit, "gradient"


@pytest.mark.parametrize("classes", [1, 7, 10, 64, 513, 1000])
@pytest.mark.parametrize("count", [2, 3, 4, 16])
def test_sizes(backend, count, classes):
    logits, target = peers(count, 3, classes), labels(3, classes, 1)
    check(KL, logits, target, temperature=2.0, ce_weight=0.5)
    flow = {"ce_weight": 0.5, "ensemble_ce_weight": 0.3, "target_grad": "all"}
    check(MIX, logits, target, mixing(1, count), temperature=2.0, **flow)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("classes", [33, 48])
def test_types(backend, dtype, classes):
    logits, target = peers(3, 9, classes, dtype=dtype), labels(9, classes)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for listed in (False, True):
        check(KL, logits, target, ce_weight=[1.0, 0.0, 0.5], listed=listed)
        weights = mixing(3, 3, dtype=wide)
        check(MIX, logits, target, weights, ce_weight=1.0, target_grad="all", listed=listed)


@pytest.mark.parametrize("reduction", ["batchmean", "mean", "sum", "none"])
def test_reductions(backend, reduction):
    """Of leading dimensions, with labels of 32 bits, for an upstream gradient a number."""
    logits = peers(3, 12, 20).reshape(3, 3, 4, 20)
    target = labels(12, 20).reshape(3, 4).int()
    for ce_weight in (0.0, 0.7):
        options = {"ce_weight": ce_weight, "reduction": reduction, "temperature": 3.0}
        check(KL, logits, target, **options)
        check(MIX, logits, target, mixing(3, 4, 3, 3), target_grad="all", **options)
    check(KL, logits, None, reduction=reduction, scale_t2=False)


@pytest.mark.parametrize("classes", [24, 25])
def test_unaligned(backend, classes):
    """Not a bit differs from that of plain tensors, wherever the peers' memory begins."""
    logits, target = peers(3, 5, classes), labels(5, classes)
    moved = torch.empty(logits.numel() + 1)[1:].view(logits.shape).copy_(logits)
    turned = logits.mT.contiguous().mT
    for function in (KL, MIX):
        plain = answers(function, logits, target, ce_weight=1.0)
        for listed in (False, True):
            for x in (moved, turned):
                x = x.requires_grad_()
                given = list(x.unbind()) if listed else x
                value = function(given, target, ce_weight=1.0)
                (slope,) = torch.autograd.grad(value, x, upstream(value))
                assert torch.equal(value, plain[0]) and torch.equal(slope, plain[2])


def test_who_learns_from_whom(backend):
    """Weights of every pair's own, a peer without teachers, one without a gradient."""
    logits, target = peers(4, 6, 30), labels(6, 30)
    weights = [[0, 1.5, 0, 0.2], [0, 0, 0, 0], [0.3, 0, 0, 0.7], [1, 1, 1, 0]]
    check(KL, logits, target, weights, ce_weight=[0.0, 0.0, 1.0, 2.0])
    exact = exactly(KL, logits, target, weights)[2]
    leaves = [x.clone().requires_grad_(k != 2) for k, x in enumerate(logits)]
    losses = kdops.mutual_kl(leaves, target, weights=weights)
    wanted = [leaves[k] for k in (0, 1, 3)]
    slopes = torch.autograd.grad(losses, wanted, upstream(losses), materialize_grads=True)
    for k, slope in zip((0, 1, 3), slopes, strict=True):
        torch.testing.assert_close(slope.double(), exact[k], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("ensemble", [0.0, 0.6])
@pytest.mark.parametrize("target_grad", ["none", "weights", "all"])
def test_where_a_mixture_flows(backend, target_grad, ensemble):
    logits, target = peers(3, 6, 21), labels(6, 21)
    options = {"target_grad": target_grad, "ensemble_ce_weight": ensemble, "temperature": 2.0}
    for shape in ((1, 3), (3, 3), (6, 1, 3), (6, 3, 3)):
        check(MIX, logits, target, mixing(*shape), ce_weight=0.5, **options)
    signed = torch.tensor([[0.5, -0.75, 0.5], [1.0, 1.0, 1.0], [0.0, 0.0, 0.25]])
    check(MIX, logits, target, signed, 3.0, **options)
    for rule in RULES:
        check(MIX, logits, target, rule=rule, ce_weight=[0.0, 1.0, 0.5], **options)
    if ensemble:
        check(MIX, logits, target, mixing(3, 3), kd_weight=0.0, **options)


@pytest.mark.parametrize("spread", [1e-2, 1e-4, 1e-6])
def test_near_peers(backend, spread):
    """Nothing cancels: values and gradients keep their digits, offsets of the peers included."""
    logits, target = peers(4, 5, 64, spread), labels(5, 64)
    apart = logits + torch.tensor([0.0, 64.0, -512.0, 1024.0])[:, None, None]
    check(KL, logits, target)
    check(KL, peers(4, 5, 64, spread, torch.float64), target)
    if backend == "reference":
        return  # its mixtures and its differences of offset logits are rounded
    check(KL, apart, target)
    weights = torch.tensor([[0.25, 0.5, 0.0, 0.25]])
    check(MIX, logits, target, weights, target_grad="all")
    for rule in RULES[: 1 + (spread > 1e-6)]:  # naive: float32 cannot tell which peer is best
        check(MIX, logits, target, rule=rule)
    check(MIX, apart, target, weights)


@pytest.mark.parametrize("spread", [10.0, 60.0])
def test_far_peers(backend, spread):
    logits, target = peers(3, 6, 40, spread), labels(6, 40)
    check(KL, logits, target, ce_weight=1.0, units=10)
    for rule in ("weights", "min_logit", "naive"):
        check(MIX, logits, target, rule=rule, target_grad="all", units=30)


@pytest.mark.parametrize("classes", [5, 64, 600])
def test_equal_peers(backend, classes):
    """Exactly 0, value and gradient; where two of three are equal, between these."""
    one = peers(1, 4, classes)
    found = [answers(KL, one.expand(3, -1, -1), None)]
    if backend != "reference":  # its mixtures are rounded
        given = [one.expand(k, -1, -1) for k in (1, 2, 3, 4, 8)]
        found += [answers(MIX, x, None, target_grad="all") for x in given]
        found += [answers(MIX, given[2], labels(4, classes), rule=rule) for rule in RULES]
    for value, terms, gradient, *_ in found:
        assert not value.any() and not terms.any() and not gradient.any()
    two = torch.stack([peers(1, 4, classes, seed=3)[0], one[0], one[0]])
    value, _, gradient = answers(KL, two, None, [[0, 0, 0], [0, 0, 1], [0, 1, 0]])
    assert not value.any() and not gradient.any()


def test_lacking_classes(backend):
    """-inf, row by row: in all peers, in the first alone, in another alone, in all but one."""
    logits, target = peers(3, 6, 12), torch.tensor([1, 2, 3, 4, 5, 6])
    logits[:, 0, 0] = logits[:, 1, 3:7] = -INF
    logits[0, 2, 4] = logits[2, 3, 5] = logits[1:, 4, 8] = -INF
    without = torch.tensor([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
    calls = [(KL, None, {"ce_weight": 1.0}), (KL, [[0, 1, 0], [0, 0, 1], [0, 2, 0]], {})]
    calls += [(MIX, w, {"target_grad": "all"}) for w in (without, without[:1])]
    calls += [(MIX, None, {"rule": rule, "ce_weight": 1.0}) for rule in RULES]
    for function, weights, options in calls:
        given = (function, logits, target, weights)
        value, terms, gradient, *_ = answers(*given, reduction="none", **options)
        exact, exact_terms, slope, *_ = exactly(*given, reduction="none", **options)
        torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(terms.double(), exact_terms, rtol=1e-5, atol=1e-7)
        known = slope.isfinite() & exact.reshape(-1, 6, 1).isfinite().all(0)
        assert known.any()
        torch.testing.assert_close(gradient[known].double(), slope[known], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", [None, "weights", *RULES])
def test_rows_that_do_not_count(backend, rule):
    """Whatever is in them, they are 0; and a row of NaN is NaN alone."""
    logits, target = peers(3, 6, 9), labels(6, 9)
    logits[1, 2] = float("nan")
    logits[:, 5] = INF
    target[5] = -100
    function, options = (KL, {}) if rule is None else (MIX, {"rule": rule, "target_grad": "all"})
    weights = mixing(6, 1, 3) if rule == "weights" else None
    if weights is not None:
        weights[2] = float("nan")
    for reduction in ("mean", "none"):
        given = (function, logits, target, weights)
        found = answers(*given, reduction=reduction, ce_weight=1.0, **options)
        exact = exactly(*given, reduction=reduction, ce_weight=1.0, **options)
        for x, y in zip(found, exact, strict=True):
            torch.testing.assert_close(x.double(), y, rtol=1e-5, atol=1e-6)
        assert not found[2][:, [2, 5]].any()
    logits[1, 3, 4] = float("nan")
    value = function(logits, target, weights=weights, reduction="none", **options)
    assert value.isnan().reshape(-1, 6).any(0).tolist() == [i == 3 for i in range(6)]


def test_a_batch_without_rows(backend):
    for rows, target in ((0, labels(0, 5)), (4, torch.full((4,), -100))):
        logits = peers(3, rows, 5)
        for function in (KL, MIX):
            value, terms, gradient, *_ = answers(function, logits, target, ce_weight=1.0)
            assert not value.any() and not terms.any() and not gradient.any()


@pytest.mark.parametrize("rule", [None, "weights", *RULES])
def test_label_that_is_no_class(request, backend, rule):
    """A CUDA kernel reads nothing out of bounds, and its row is NaN."""
    if request.node.callspec.params["backend"] not in stand_in.MODULES:
        pytest.skip("the host reads the labels")
    function, options = (KL, {}) if rule is None else (MIX, {"rule": rule, "target_grad": "all"})
    for label in (9, -1, 2**40):
        target = torch.arange(6)
        target[4] = label
        given = (function, peers(3, 6, 9), target)
        value, _, gradient, *_ = answers(*given, reduction="none", ce_weight=1.0, **options)
        for x in (value.reshape(-1, 6, 1), gradient):
            assert x.isnan().all(-1).all(0).tolist() == [i == 4 for i in range(6)]
            assert x.isnan().any(-1).any(0).tolist() == [i == 4 for i in range(6)]


def test_bitwise_the_same_again(backend):
    logits, target = peers(4, 40, 70), labels(40, 70)
    for function, weights in ((KL, None), (MIX, mixing(4, 4))):
        options = {"ce_weight": 1.0} | ({"target_grad": "all"} if function is MIX else {})
        first = answers(function, logits, target, weights, **options)
        again = answers(function, logits, target, weights, **options)
        assert all(map(torch.equal, first, again))
