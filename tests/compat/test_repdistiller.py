"""RepDistiller's classes: names, signatures, values and gradients, and where kdops differs."""

import pytest
import torch

from kdops.compat import repdistiller as ours

from ..cases import generator
from . import contrast_cases
from . import published_repdistiller as published
from .parity import SEEDS, TOLERANCES, Case, agree, kernels, result, signatures

ROWS, WIDE = (9, 12), (9, 20)
MAP, OTHER, LARGE = (5, 4, 6, 6), (5, 6, 6, 6), (5, 7, 9, 9)
LAYERS = [[MAP, LARGE, OTHER], [OTHER, MAP, LARGE]]
FLOWS = [[MAP, (5, 6, 3, 3), (5, 2, 3, 3)], [(5, 4, 3, 3), OTHER, (5, 2, 7, 7)]]
DEEP = [[(3, 6, 4, 4), (3, 7, 3, 3), (3, 9, 3, 3)], [(3, 6, 3, 3), (3, 7, 5, 5), (3, 9, 4, 4)]]


def case(name, shapes, *made, constant=(), variant="", same_type=False, **options) -> Case:
    """Of a class made of some arguments; the options are the published formula's."""

    def formula(*arguments):
        return getattr(published, name)(*arguments, **options)

    call = getattr(ours, name)(*made)
    return Case(name, call, formula, shapes, constant, variant=variant, same_type=same_type)


def with_weights(name, shapes, *made) -> Case:
    module = getattr(ours, name)(*made)
    return Case(
        name,
        lambda *arguments: module.to(arguments[0].dtype)(*arguments),
        lambda *arguments: getattr(published, name)(module.to(arguments[0].dtype), *arguments),
        shapes,
    )


CASES = [
    case("DistillKL", [ROWS, ROWS], 4.0),
    case("DistillKL", [ROWS, ROWS], 1.0, T=1.0, variant="T1"),
    case("DistillKL", [MAP, MAP], 2.0, T=2.0, variant="maps"),
    case("RKDLoss", [ROWS, WIDE], constant=(1,)),
    case("RKDLoss", [MAP, LARGE], 1, 2, constant=(1,), variant="maps", w_d=1, w_a=2),
    case("PKT", [ROWS, WIDE]),
    case("Similarity", LAYERS),
    case("Correlation", [ROWS, ROWS]),
    case("HintLoss", [MAP, MAP]),
    case("Attention", LAYERS),
    case("Attention", LAYERS, 3, p=3, variant="odd"),
    case("Attention", LAYERS, 4, p=4, variant="fourth"),
    case("FactorTransfer", [MAP, LARGE]),
    case("FactorTransfer", [LARGE, MAP], 1, 2, p1=1, p2=2, variant="squares"),
    case("NSTLoss", LAYERS),
    case("FSP", FLOWS, *FLOWS),
    case("KDSVD", DEEP, 3, k=3, same_type=True),
    case("ABLoss", [[MAP, OTHER], [MAP, OTHER]], 2, constant=(1,)),
    case("ABLoss", [[MAP], [MAP]], 1, 0.5, constant=(1,), margin=0.5, variant="margin"),
    with_weights("VIDLoss", [MAP, LARGE], 4, 6, 7),
]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients(case, seed, dtype):
    agree(case, seed, dtype)


SIGNATURES = {
    "ABLoss": ("(feat_num, margin=1.0)", "(g_s, g_t)"),
    "Attention": ("(p=2)", "(g_s, g_t)"),
    "Correlation": ("()", "(f_s, f_t)"),
    "DistillKL": ("(T)", "(y_s, y_t)"),
    "FSP": ("(s_shapes, t_shapes)", "(g_s, g_t)"),
    "FactorTransfer": ("(p1=2, p2=1)", "(f_s, f_t)"),
    "HintLoss": ("()", "(f_s, f_t)"),
    "KDSVD": ("(k=1)", "(g_s, g_t)"),
    "NSTLoss": ("()", "(g_s, g_t)"),
    "PKT": ("()", "(f_s, f_t)"),
    "RKDLoss": ("(w_d=25, w_a=50)", "(f_s, f_t)"),
    "Similarity": ("()", "(g_s, g_t)"),
    "VIDLoss": (
        "(num_input_channels, num_mid_channel, num_target_channels, init_pred_var=5.0, eps=1e-05)",
        "(input, target)",
    ),
}


def test_every_class_has_the_peers_name_and_a_case():
    """Those of distiller_zoo/__init__.py; those of crd are in test_contrast."""
    assert set(SIGNATURES) == {case.name for case in CASES}
    assert set(ours.__all__) == {*SIGNATURES, *contrast_cases.SIGNATURES[ours]}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name):
    assert signatures(getattr(ours, name)) == SIGNATURES[name]


def test_kernels(native):
    assert kernels(CASES) == {
        "DistillKL": {"kd_loss"},
        "PKT": {"pkt_loss"},
        "RKDLoss": {"rkd_distance_loss", "rkd_angle_loss"},
        "Similarity": {"sp_loss"},
    }


def test_parameters_are_the_peers_own():
    """VIDLoss learns under RepDistiller's names, from the same first values; the others nothing."""
    torch.manual_seed(0)
    loss = ours.VIDLoss(4, 6, 7)
    shapes = {name: tuple(x.shape) for name, x in loss.state_dict().items()}
    assert shapes == {
        "log_scale": (7,),
        "regressor.0.weight": (6, 4, 1, 1),
        "regressor.2.weight": (6, 6, 1, 1),
        "regressor.4.weight": (7, 6, 1, 1),
    }
    torch.manual_seed(0)
    first = torch.nn.Conv2d(4, 6, 1, bias=False)
    assert torch.equal(loss.regressor[0].weight, first.weight)
    raw = torch.full((7,), 5.0 - 1e-5).exp().sub(1).log()  # log(exp(v) - 1)
    torch.testing.assert_close(loss.log_scale, raw, rtol=1e-6, atol=0)
    for made in (ours.DistillKL(4.0), ours.RKDLoss(), ours.ABLoss(2), ours.FSP(*FLOWS)):
        assert not made.state_dict()


def test_gradients_of_parameters():
    loss = ours.VIDLoss(4, 6, 7).double()
    x, y = torch.randn(2, 5, 7, 6, 6, generator=generator(0), dtype=torch.float64)
    x = x[:, :4]
    actual = torch.autograd.grad(loss(x, y), list(loss.parameters()))
    expected = torch.autograd.grad(published.VIDLoss(loss, x, y), list(loss.parameters()))
    for a, b in zip(actual, expected, strict=True):
        assert b.any()
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


# Where kdops differs, and what the published formula gives there.


def test_one_sample():
    x, y = torch.randn(2, 1, 8, generator=generator(0), dtype=torch.float64)
    assert published.RKDLoss(x, y).isnan()
    for loss in (ours.RKDLoss(), ours.Correlation()):
        value, (gradient, _) = result(loss, [x, y])
        assert value == 0 and gradient is None


def test_equal_samples():
    """A distance of 0 whose root's gradient explodes in the peer."""
    x, y = torch.randn(2, 8, 6, generator=generator(1), dtype=torch.float64)
    x[1] = x[0]
    value, (gradient, _) = result(ours.RKDLoss(), [x, y])
    theirs, (exploded, _) = result(published.RKDLoss, [x.detach().float(), y.detach().float()])
    torch.testing.assert_close(value, theirs.double(), rtol=1e-3, atol=0)
    assert gradient.abs().max() < 10 and not exploded.abs().max() < 1000


def test_a_zero_row():
    x, y = torch.randn(2, 6, 5, generator=generator(0), dtype=torch.float64)
    x[2] = 0
    value, (gradient, _) = result(ours.PKT(), [x, y])
    theirs, (broken, _) = result(published.PKT, [x.detach(), y.detach()])
    torch.testing.assert_close(value, theirs, rtol=1e-9, atol=0)
    assert gradient.isfinite().all() and broken.isnan().any()


def test_nan_stays():
    """RepDistiller's PKT takes a row of NaN for zeros."""
    x, y = torch.randn(2, 6, 5, generator=generator(0))
    x[2, 0] = torch.nan
    assert ours.PKT()(x, y).isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_are_computed_in_float32(dtype):
    x, y = torch.randn(2, 5, 6, 4, 4, generator=generator(0)).to(dtype)
    for loss in (ours.HintLoss(), ours.FactorTransfer()):
        assert loss(x, y).dtype == torch.float32
        torch.testing.assert_close(loss(x, y), loss(x.float(), y.float()))


def test_bad_input():
    with pytest.raises(ValueError, match=r"FSP: s_shapes must have t_shapes' channels \[4\], got"):
        ours.FSP([(5, 3, 2, 2)], [(5, 4, 2, 2)])
    with pytest.raises(ValueError, match=r"Attention: student must be \(N, C, H, W\)"):
        ours.Attention()([torch.ones(2, 3)], [torch.ones(2, 3)])
    with pytest.raises(ValueError, match="DistillKL: teacher must have student's shape"):
        ours.DistillKL(4.0)(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"KDSVD: the matrices of .* columns, got 4 and 5"):
        ours.KDSVD()([torch.ones(2, 4, 3, 3)], [torch.ones(2, 5, 3, 3)])
    with pytest.raises(TypeError, match="RKDLoss: student must be a tensor, got list"):
        ours.RKDLoss()([1.0], torch.ones(2, 4))
