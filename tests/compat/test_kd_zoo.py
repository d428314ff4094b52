"""Knowledge-Distillation-Zoo's classes: names, signatures, values, gradients, and differences."""

import pytest
import torch

from kdops.compat import kd_zoo as ours

from ..cases import generator
from . import contrast_cases
from . import published_kd_zoo as published
from .parity import SEEDS, TOLERANCES, Case, agree, kernels, result, signatures

ROWS, WIDE = (9, 12), (9, 20)
MAP, OTHER, LARGE = (5, 4, 6, 6), (5, 6, 6, 6), (5, 7, 9, 9)
FLOW = [(5, 4, 6, 6), (5, 6, 3, 3), (5, 4, 3, 3), (5, 6, 3, 3)]
GRAPH = [
    [(5, 4, 6, 6), (5, 8, 3, 3), (5, 12), (5, 10)],
    [(5, 6, 4, 4), (5, 12, 4, 4), (5, 20), (5, 10)],
]


def case(name, shapes, *made, constant=(), variant="", **options) -> Case:
    """Of a class made of some arguments; the options are the published formula's."""

    def formula(*arguments):
        return getattr(published, name)(*arguments, **options)

    return Case(name, getattr(ours, name)(*made), formula, shapes, constant, variant=variant)


def with_weights(name, shapes, *made, constant=()) -> Case:
    module = getattr(ours, name)(*made)
    return Case(
        name,
        lambda *arguments: module.to(arguments[0].dtype)(*arguments),
        lambda *arguments: getattr(published, name)(module.to(arguments[0].dtype), *arguments),
        shapes,
        constant,
    )


def logits(x, weight):
    return torch.tanh(x.flatten(1)) ** 2 @ weight.t()


def of_images(loss):
    """Of the images and of the weights of two nets."""

    def call(images, student, teacher, target):
        return loss(logits(images, student), logits(images, teacher), images, target)

    return call


def of_layers(loss):
    """Of two layers and of the weights of the heads above them."""

    def call(ours, student, theirs, teacher, target):
        return loss(logits(ours, student), ours, logits(theirs, teacher), theirs, target)

    return call


TARGET = {"target": lambda g: torch.randint(7, (5,), generator=g)}
CASES = [
    case("Logits", [ROWS, ROWS]),
    case("SoftTarget", [ROWS, ROWS], 4.0),
    case("SoftTarget", [MAP, MAP], 1.0, T=1.0, variant="maps"),
    case("DML", [ROWS, ROWS]),
    case("BSS", [ROWS, ROWS], 3.0),
    case("RKD", [ROWS, WIDE], 25.0, 50.0),
    case("RKD", [ROWS, WIDE], 1, 0, w_dist=1, w_angle=0, variant="distance"),
    case("PKTCosSim", [ROWS, WIDE]),
    case("SP", [MAP, LARGE]),
    case("CC", [ROWS, WIDE], 0.4, 2),
    case("CC", [ROWS, WIDE], 1.5, 5, gamma=1.5, order=5, variant="order 5"),
    case("IRG", GRAPH, 0.1, 5.0, 5.0),
    case("IRG", GRAPH, 2.0, 1.0, 7.0, vertices=2.0, edge=1.0, transform=7.0, variant="weights"),
    case("AT", [MAP, OTHER], 2),
    case("AT", [MAP, OTHER], 1, p=1, variant="p1"),
    case("Hint", [MAP, MAP]),
    case("NST", [MAP, OTHER]),
    case("FSP", FLOW),
    case("FT", [MAP, MAP]),
    case("AB", [MAP, MAP], 1.0, constant=(1,)),
    Case(
        "Sobolev",
        of_images(ours.Sobolev()),
        of_images(published.Sobolev),
        [(5, 3, 4, 4), (7, 48), (7, 48)],
        (2,),
        TARGET,
    ),
    Case(
        "LwM",
        of_layers(ours.LwM()),
        of_layers(published.LwM),
        [(5, 3, 4, 4), (7, 48), (5, 6, 4, 4), (7, 96)],
        (2, 3),
        TARGET,
        alone=False,
    ),
    with_weights("VID", [MAP, OTHER], 4, 5, 6, 5.0),
    with_weights("OFD", [MAP, OTHER], 4, 6),
    with_weights("AFD", [MAP, MAP], 4, 0.5),
]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients(case, seed, dtype):
    agree(case, seed, dtype)


SIGNATURES = {
    "AB": ("(margin)", "(fm_s, fm_t)"),
    "AFD": ("(in_channels, att_f)", "(fm_s, fm_t, eps=1e-06)"),
    "AT": ("(p)", "(fm_s, fm_t)"),
    "BSS": ("(T)", "(attacked_out_s, attacked_out_t)"),
    "CC": ("(gamma, P_order)", "(feat_s, feat_t)"),
    "DML": ("()", "(out1, out2)"),
    "FSP": ("()", "(fm_s1, fm_s2, fm_t1, fm_t2)"),
    "FT": ("()", "(factor_s, factor_t)"),
    "Hint": ("()", "(fm_s, fm_t)"),
    "IRG": ("(w_irg_vert, w_irg_edge, w_irg_tran)", "(irg_s, irg_t)"),
    "Logits": ("()", "(out_s, out_t)"),
    "LwM": ("()", "(out_s, fm_s, out_t, fm_t, target)"),
    "NST": ("()", "(fm_s, fm_t)"),
    "OFD": ("(in_channels, out_channels)", "(fm_s, fm_t)"),
    "PKTCosSim": ("()", "(feat_s, feat_t, eps=1e-06)"),
    "RKD": ("(w_dist, w_angle)", "(feat_s, feat_t)"),
    "SP": ("()", "(fm_s, fm_t)"),
    "Sobolev": ("()", "(out_s, out_t, img, target)"),
    "SoftTarget": ("(T)", "(out_s, out_t)"),
    "VID": ("(in_channels, mid_channels, out_channels, init_var, eps=1e-06)", "(fm_s, fm_t)"),
}


def test_every_class_has_the_peers_name_and_a_case():
    """CRD is in test_contrast_kd_zoo."""
    assert set(SIGNATURES) == {case.name for case in CASES}
    assert set(ours.__all__) == {*SIGNATURES, *contrast_cases.SIGNATURES[ours]}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name):
    assert signatures(getattr(ours, name)) == SIGNATURES[name]


def test_kernels(native):
    assert kernels(CASES) == {
        "BSS": {"kd_loss"},
        "CC": {"cckd_loss"},
        "DML": {"kd_loss"},
        "IRG": {"irg_edge_loss"},
        "PKTCosSim": {"pkt_loss"},
        "RKD": {"rkd_distance_loss", "rkd_angle_loss"},
        "SP": {"sp_loss"},
        "SoftTarget": {"kd_loss"},
    }


LEARNED = {
    "VID": (
        (4, 5, 6, 5.0),
        {"alpha", "regressor.0.weight", "regressor.2.weight", "regressor.4.weight"},
    ),
    "OFD": ((4, 6), {"connector.0.weight", "connector.1.weight", "connector.1.bias"}),
    "AFD": (
        (6, 0.5),
        {"attention.0.weight", "attention.0.bias", "attention.2.weight", "attention.2.bias"},
    ),
}


@pytest.mark.parametrize("name", LEARNED)
def test_parameters(name):
    """The zoo's names, and the gradients of their formula."""
    made, names = LEARNED[name]
    loss = getattr(ours, name)(*made).double()
    assert {name for name, _ in loss.named_parameters()} == names
    inputs = 6 if name == "AFD" else 4
    g = generator(0)
    x = torch.randn(5, inputs, 3, 3, generator=g, dtype=torch.float64)
    y = torch.randn(5, 6, 3, 3, generator=g, dtype=torch.float64)
    weights = list(loss.parameters())
    actual = torch.autograd.grad(loss(x, y), weights)
    expected = torch.autograd.grad(getattr(published, name)(loss, x, y), weights)
    for a, b in zip(actual, expected, strict=True):
        assert b.any()
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_first_weights():
    """By He's rule for a layer's outputs, biases 0."""
    torch.manual_seed(0)
    loss = ours.VID(40, 50, 60, 5.0)
    for layer in (loss.regressor[0], loss.regressor[2], loss.regressor[4]):
        assert layer.weight.std().item() == pytest.approx((2 / layer.out_channels) ** 0.5, rel=0.1)
    assert not ours.AFD(6, 0.5).attention[0].bias.any()
    raw = torch.tensor(5.0 - 1e-6).exp().sub(1).log()
    torch.testing.assert_close(loss.alpha, raw.expand(60), rtol=1e-6, atol=0)
    assert not any(getattr(ours, name)().state_dict() for name in ("SP", "NST", "Sobolev", "DML"))


# Where kdops differs, and what the published formula gives there.


def test_one_sample():
    x, y = torch.randn(2, 1, 8, generator=generator(0), dtype=torch.float64)
    assert published.RKD(x, y).isnan()
    value, gradients = result(ours.RKD(1, 2), [x, y])
    assert value == 0 and gradients == [None, None]
    graph = [[torch.randn(1, *shape[1:]) for shape in layers] for layers in GRAPH]
    assert published.IRG(*graph).isnan() and ours.IRG(0.1, 5.0, 5.0)(*graph).isfinite()
    x = torch.randn(1, 4, 3, 3)
    assert ours.AFD(4, 0.5)(x, x + 1).isfinite()


def test_equal_samples():
    x, y = torch.randn(2, 8, 6, generator=generator(1))
    x[1] = x[0]
    _, (gradient, _) = result(ours.RKD(1.0, 2.0), [x, y])
    assert gradient.abs().max() < 10


def test_a_zero_row():
    x, y = torch.randn(2, 6, 5, generator=generator(0), dtype=torch.float64)
    x[2] = 0
    _, (gradient, _) = result(ours.PKTCosSim(), [x, y])
    _, (broken, _) = result(published.PKTCosSim, [x.detach(), y.detach()])
    assert gradient.isfinite().all() and broken.isnan().any()


def test_attention_of_small_activations_keeps_eps():
    """The clean loss does not change with the scale, the zoo's does."""
    x, y = 1e-4 * torch.randn(2, *MAP, generator=generator(0), dtype=torch.float64)
    value, large = ours.AT(2)(x, y), ours.AT(2)(1e4 * x, 1e4 * y)
    torch.testing.assert_close(value, published.AT(x, y), rtol=1e-9, atol=0)
    assert value < 0.1 * large


def test_orders_of_correlation_end_at_8():
    with pytest.raises(ValueError, match=r"cckd_loss: order must be in 0\.\.8"):
        ours.CC(0.4, 9)(torch.ones(2, 3), torch.ones(2, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_are_computed_in_float32(dtype):
    x, y = torch.randn(2, 5, 6, 4, 4, generator=generator(0)).to(dtype)
    for loss in (ours.AT(2), ours.NST(), ours.FT(), ours.AB(1.0), ours.Hint()):
        assert loss(x, y).dtype == torch.float32
        torch.testing.assert_close(loss(x, y), loss(x.float(), y.float()))


def test_bad_input():
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"AT: student must be \(N, C, H, W\) feature maps"):
        ours.AT(2)(x, x)
    with pytest.raises(ValueError, match="DML: teacher must have student's shape"):
        ours.DML()(x, torch.ones(2, 4))
    with pytest.raises(ValueError, match="Sobolev: img must require grad"):
        ours.Sobolev()(x, x, x, torch.tensor([0, 1]))
