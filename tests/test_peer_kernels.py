"""The kernels of the losses of peers, on every instruction set: their numbers against the float64
reference, and what must hold to the bit."""

import math

import pytest
import torch

import kdops

from .cases import DOUBLE
from .metrics import gradient_error, upstream, value_error
from .peer_cases import CASES, labels, mixing, oracle, peers, run
from .test_cpu_levels import level  # noqa: F401
from .test_memory import peak_bytes

INF, NAN = math.inf, math.nan
COUNTS = (2, 3, 4, 6, 16)
SHAPES = ((5, 1), (5, 2), (33, 10), (7, 100), (3, 1000), (2, 5003))


@pytest.fixture(autouse=True)
def _kernels(backend):
    if backend == "reference":
        pytest.skip("the oracle itself")


def check(name, count, shape, dtype, kind, **more):
    function, make, _ = CASES[name]
    options = {**make(count, shape), **more}
    logits = peers(count, shape, dtype, kind)
    losses, terms, gradient, weights = run(function, logits, upstream, **options)
    exact = oracle(function, logits, upstream, **options)
    hard = kind not in ("randn", "relu")
    bounds = (1e-5, 5e-5) if hard else (5e-6, 5e-6)
    if dtype == torch.float64:  # of near peers the oracle mixes logits that have rounded
        bounds = [max(x * DOUBLE, 1e-8 if hard else 0) for x in bounds]
    assert value_error(losses, exact[0], floor=1e-12) <= bounds[0]
    for found, expected in zip(terms.split(count), exact[1].split(count), strict=True):
        floor = 1e-2 * expected.abs().max().item() + 1e-12  # the smallest has few digits
        assert value_error(found, expected, floor=floor) <= 2 * bounds[0]
    flows = options.get("target_grad", "none") != "none"  # a sum over the learning peers cancels
    assert gradient_error(gradient, exact[2]) <= bounds[1] * (1 + 3 * flows)
    if weights is not None and exact[3] is not None:
        assert gradient_error(weights, exact[3]) <= 4 * bounds[1]


EVERY = [(name, kind) for name, (_, _, kinds) in CASES.items() for kind in kinds]
each = pytest.mark.parametrize("name", CASES)
all_kinds = pytest.mark.parametrize(("name", "kind"), EVERY, ids=lambda x: x)


@pytest.mark.parametrize("count", COUNTS)
@all_kinds
def test_float32(name, kind, count):
    for shape in SHAPES if count in (2, 4) else SHAPES[1:4]:
        check(name, count, shape, torch.float32, kind)


@all_kinds
def test_float64(name, kind):
    for count, shape in ((2, (5, 1)), (3, (33, 10)), (5, (3, 1000)), (2, (2, 2500))):
        check(name, count, shape, torch.float64, kind)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@all_kinds
def test_half_types(name, kind, dtype):
    for count, shape in ((2, (33, 10)), (4, (5, 1030))):
        check(name, count, shape, dtype, kind)


@pytest.mark.parametrize("reduction", ["sum", "none"])
@each
def test_reductions(name, reduction):
    for count, shape in ((2, (33, 10)), (3, (5, 100))):
        check(name, count, shape, torch.float32, "randn", reduction=reduction)


@pytest.mark.usefixtures("native", "level")
@each
def test_levels(name):
    for kind in CASES[name][2]:
        for count, shape in ((2, (33, 10)), (4, (3, 1030))):
            check(name, count, shape, torch.float32, kind)
    check(name, 3, (3, 1030), torch.float64, "randn")
    check(name, 3, (7, 100), torch.bfloat16, "randn")


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


@each
def test_threads(name):
    function, make, _ = CASES[name]
    logits, options = peers(3, (301, 517)), make(3, (301, 517))
    expected = run(function, logits, **options)
    for threads in (2, 3, 8):
        torch.set_num_threads(threads)
        same(run(function, logits, **options), expected)


@each
def test_a_list_and_a_stack_agree(name):
    function, make, _ = CASES[name]
    for reduction in ("mean", "none"):
        logits, options = peers(4, (9, 33)), {**make(4, (9, 33)), "reduction": reduction}
        expected = run(function, logits, upstream, **options)
        same(run(function, logits, upstream, stacked=True, **options), expected)


@each
def test_rows_do_not_see_each_other(name):
    function, make, _ = CASES[name]
    logits, options = peers(3, (6, 33)), {**make(3, (6, 33)), "reduction": "none"}
    if isinstance(options.get("weights"), torch.Tensor) and options["weights"].dim() == 2:
        pytest.skip("the reference's")
    expected = run(function, logits, **options)
    logits[1][2, 5] = NAN
    found = run(function, logits, **options)
    for a, b in zip(found[:3], expected[:3], strict=True):
        rows = [row for row in range(6) if row != 2]
        place = -2 if a.dim() == 3 else -1
        index = torch.tensor(rows)
        assert torch.equal(a.index_select(place, index), b.index_select(place, index))
    assert found[0][..., 2].isnan().any()


@pytest.mark.parametrize("kind", ["randn", "offsets", "peaky right", "range 1e3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize("count", [2, 3, 4, 16])
def test_equal_peers_have_exactly_no_soft_loss(count, dtype, kind):
    for shape in ((5, 10), (3, 1000), (2, 5003)):
        logits = peers(1, shape, dtype, kind) * count
        rows = mixing(*shape[:1], 1, count)
        for function, options in (
            (kdops.mutual_kl, {}),
            (kdops.mixture_kl, {}),
            (kdops.mixture_kl, {"weights": rows, "target_grad": "all", "temperature": 3.0}),
            (kdops.mixture_kl, {"rule": "min_logit", "target": labels(shape)}),
            (kdops.mixture_kl, {"rule": "naive", "target": labels(shape), "target_grad": "all"}),
        ):
            losses, terms, gradient, weights = run(function, logits, **options)
            assert (losses == 0).all() and (terms == 0).all() and (gradient == 0).all()
            assert weights is None or (weights == 0).all()


def test_two_equal_peers_among_others():
    x, y = peers(2, (5, 1000))
    weights = [[0, 0, 0], [1, 0, 0], [1, 1, 0]]  # 2 learns from 0, its far one, and 1, its equal
    losses, _, gradient, _ = run(kdops.mutual_kl, [x, y, y], weights=weights)
    assert losses[0] == 0 and losses[1] == losses[2] > 0
    assert torch.equal(gradient[1], gradient[2]) and (gradient[0] == 0).all()


@pytest.mark.parametrize("masked", [[2], [0, 5], [0, 1, 2, 3]], ids=str)
@each
def test_classes_that_all_peers_lack_are_dropped(name, masked):
    function, make, _ = CASES[name]
    kept = [c for c in range(6) if c not in masked]
    options, logits = make(3, (6, 6)), peers(3, (6, 6))
    if "target" in options:
        options["target"] = torch.tensor(kept * 6)[:6]
    expected = (
        options | {"target": torch.tensor([kept.index(int(c)) for c in options["target"]])}
        if ("target" in options)
        else options
    )
    small = run(function, [x[:, kept] for x in logits], **expected)
    for x in logits:
        x[:, masked] = -INF
    found = run(function, logits, **options)
    assert (found[2][..., masked] == 0).all()
    for a, b in zip((*found[:2], found[2][..., kept]), small[:3], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_class_that_the_learning_peer_lacks():
    logits = peers(3, (4, 10))
    clean = run(kdops.mutual_kl, logits, reduction="none")
    logits[1][2, 3] = -INF
    losses, _, gradient, _ = run(kdops.mutual_kl, logits, reduction="none")
    assert losses[1, 2] == INF and losses[[0, 2]].isfinite().all() and gradient.isfinite().all()
    exact = oracle(kdops.mutual_kl, logits, reduction="none")
    torch.testing.assert_close(losses.double(), exact[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), exact[2], rtol=1e-4, atol=1e-6)
    others = [0, 1, 3]
    assert torch.equal(losses[:, others], clean[0][:, others])


def test_mixtures_lack_what_a_weighted_peer_lacks():
    logits = peers(3, (4, 10))
    logits[0][1, 4] = -INF
    weights = torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.25, 0.75], [0.0, 1.0, 0.0]])
    options = {"weights": weights, "target": labels((4, 10)), "ce_weight": 1.0}
    for grad, w in (("none", weights), ("weights", weights[:1])):
        options |= {"weights": w, "target_grad": grad}
        found = run(kdops.mixture_kl, logits, **options)
        exact = oracle(kdops.mixture_kl, logits, **options)
        assert found[0] == exact[0] == INF
        torch.testing.assert_close(found[1].double(), exact[1], rtol=1e-5, atol=1e-6)
    weights = mixing(1, 3)  # all of them weighted: the class is in no target
    found = run(kdops.mixture_kl, logits, weights=weights)
    exact = oracle(kdops.mixture_kl, logits, weights=weights)
    torch.testing.assert_close(found[0].double(), exact[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(found[2].double(), exact[2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@each
def test_ignored_rows_are_exactly_zero(name, value):
    function, make, _ = CASES[name]
    options, logits = make(3, (14, 33)), peers(3, (14, 33))
    options["target"] = labels((14, 33))
    expected = run(function, logits, **options)
    ignored = options["target"] == -100
    for x in logits:
        x[ignored] = value
    found = run(function, logits, **options)
    assert (found[2][:, ignored] == 0).all()
    same(found, expected)
    options["target"] = torch.full((14,), -100)
    for x in run(function, logits, **options):
        assert x is None or (x == 0).all()


@each
def test_huge_logits_in_float16(name):
    function, make, _ = CASES[name]
    logits = [4e4 * x.sign() for x in peers(3, (7, 100), torch.float16)]
    options = make(3, (7, 100))
    losses, _, gradient, _ = run(function, logits, **options)
    assert losses.dtype == torch.float32 and gradient.isfinite().all()
    exact = oracle(function, logits, **options)[0]
    torch.testing.assert_close(losses.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@each
def test_no_rows(name, reduction):
    function, make, _ = CASES[name]
    options = {**make(2, (0, 7)), "reduction": reduction}
    losses, _, gradient, _ = run(function, peers(2, (0, 7)), **options)
    assert gradient.shape == (2, 0, 7) and (losses == 0).all()


@each
def test_gradients_that_nobody_wants(name):
    """Neither the values nor the other gradients change; the peer is a target alone."""
    function, make, _ = CASES[name]
    logits, options = peers(3, (9, 33)), make(3, (9, 33))
    expected = run(function, logits, **options)
    leaves = [x.clone().requires_grad_(k != 1) for k, x in enumerate(logits)]
    if isinstance(options.get("weights"), torch.Tensor):
        options["weights"] = options["weights"].float()
    losses = function(leaves, **options)
    found = torch.autograd.grad(losses.sum(), [leaves[0], leaves[2]], allow_unused=True)
    assert torch.equal(losses.detach(), expected[0])
    assert torch.equal(torch.stack(found), expected[2][[0, 2]])
    assert torch.equal(function(logits, **options), expected[0])


def test_more_peers_than_the_kernels_take():
    logits = peers(17, (4, 10))
    losses, _, gradient, _ = run(kdops.mutual_kl, logits)
    exact = oracle(kdops.mutual_kl, logits)
    torch.testing.assert_close(losses.double(), exact[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), exact[2], rtol=1e-4, atol=1e-7)


def test_labels_of_int32_and_leading_dimensions():
    logits, target = peers(3, (6, 10)), labels((6, 10))
    expected = kdops.mutual_kl(logits, target, ce_weight=1.0, reduction="none")
    shaped = [x.view(2, 3, 10) for x in logits]
    found = kdops.mutual_kl(shaped, target.int().view(2, 3), ce_weight=1.0, reduction="none")
    assert found.shape == (3, 2, 3) and torch.equal(found.flatten(1), expected)


@pytest.mark.parametrize("shape", [(4, 128, 1000), (4, 16, 32000)], ids=str)
@pytest.mark.parametrize("function", ["mutual_kl", "mixture_kl"])
def test_memory_is_the_gradient(native, function, shape):
    torch.set_num_threads(2)
    logits = torch.randn(shape, requires_grad=True)

    def step():
        logits.grad = None
        getattr(kdops, function)(logits).sum().backward()

    step()
    assert peak_bytes(step) <= 1.05 * 4 * math.prod(shape) + 8192
