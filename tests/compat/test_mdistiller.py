"""mdistiller's functions: names, signatures, values and gradients, and where kdops differs."""

import pytest
import torch

from kdops.compat import mdistiller as ours

from ..cases import generator
from . import contrast_cases
from . import published_mdistiller as published
from .parity import SEEDS, TOLERANCES, Case, agree, kernels, parameters_of, result

ROWS, WIDE = (9, 12), (9, 20)
MAP, OTHER, LARGE = (5, 4, 6, 6), (5, 6, 6, 6), (5, 7, 9, 9)
LAYERS = [[MAP, LARGE, OTHER], [OTHER, MAP, LARGE]]
DEEP = [[(3, 4, 6, 6), (3, 2, 7, 7), (3, 4, 8, 8)], [(3, 5, 6, 6), (3, 3, 7, 7), (3, 4, 8, 8)]]
PYRAMID = [[(2, 3, 8, 8), (2, 3, 4, 4), (2, 3, 3, 3), (2, 5, 1, 1)]] * 2


def case(name, shapes, constant=(), variant="", same_type=False, more=None, **options) -> Case:
    def call(module):
        return lambda *tensors, **made: getattr(module, name)(*tensors, **made, **options)

    return Case(
        name,
        call(ours),
        call(published),
        shapes,
        constant,
        more or {},
        variant,
        same_type=same_type,
    )


def vid(module):
    """With the regressor's weight as an argument."""

    def loss(weight, log_scale, f_s, f_t):
        def regressor(x):
            return torch.nn.functional.conv2d(x, weight)

        return module.vid_loss(regressor, log_scale, f_s, f_t)

    return loss


TARGET = {"target": lambda g: torch.randint(12, (9,), generator=g)}
MARGIN = {"margin": lambda g: -torch.rand(1, 4, 1, 1, generator=g)}
CASES = [
    case("kd_loss", [ROWS, ROWS], temperature=4.0),
    case("kd_loss", [MAP, MAP], variant="maps", temperature=2.0),
    case("dkd_loss", [ROWS, ROWS], more=TARGET, alpha=1.0, beta=8.0, temperature=4.0),
    case("dkd_loss", [ROWS, ROWS], more=TARGET, variant="T1", alpha=0.5, beta=2.0, temperature=1.0),
    case("rkd_loss", [ROWS, WIDE], (1,)),
    case("rkd_loss", [MAP, LARGE], (1,), "maps", distance_weight=1, angle_weight=2),
    case("rkd_loss", [ROWS, WIDE], (1,), "squared", squared=True),
    case("pkt_loss", [ROWS, WIDE]),
    case("pkt_loss", [ROWS, WIDE], variant="eps", eps=1e-3),
    case("similarity_loss", [MAP, LARGE]),
    case("sp_loss", LAYERS),
    case("single_stage_at_loss", [MAP, LARGE], p=2),
    case("at_loss", LAYERS, p=2),
    case("at_loss", LAYERS, variant="odd", p=3),
    case("single_stage_nst_loss", [LARGE, MAP]),
    case("nst_loss", LAYERS),
    case("kdsvd_loss", DEEP, same_type=True, k=3),
    Case("vid_loss", vid(ours), vid(published), [(7, 4, 1, 1), (7,), MAP, LARGE]),
    case("feat_loss", [MAP, MAP], more=MARGIN),
    case("hcl_loss", PYRAMID),
]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients(case, seed, dtype):
    agree(case, seed, dtype)


SIGNATURES = {
    "at_loss": "(g_s, g_t, p)",
    "dkd_loss": "(logits_student, logits_teacher, target, alpha, beta, temperature)",
    "feat_loss": "(source, target, margin)",
    "hcl_loss": "(fstudent, fteacher)",
    "kd_loss": "(logits_student, logits_teacher, temperature)",
    "kdsvd_loss": "(g_s, g_t, k)",
    "nst_loss": "(g_s, g_t)",
    "pkt_loss": "(f_s, f_t, eps=1e-07)",
    "rkd_loss": "(f_s, f_t, squared=False, eps=1e-12, distance_weight=25, angle_weight=50)",
    "similarity_loss": "(f_s, f_t)",
    "single_stage_at_loss": "(f_s, f_t, p)",
    "single_stage_nst_loss": "(f_s, f_t)",
    "sp_loss": "(g_s, g_t)",
    "vid_loss": "(regressor, log_scale, f_s, f_t, eps=1e-05)",
}


def test_every_function_has_the_peers_name_and_a_case():
    """Those of CRD.py are in test_contrast."""
    assert set(SIGNATURES) == {case.name for case in CASES}
    assert set(ours.__all__) == {*SIGNATURES, *contrast_cases.SIGNATURES[ours]}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name):
    assert parameters_of(getattr(ours, name)) == SIGNATURES[name]


def test_kernels(native):
    rkd = {"rkd_distance_loss", "rkd_angle_loss"}
    assert kernels(CASES) == {
        "dkd_loss": {"kd_loss"},
        "kd_loss": {"kd_loss"},
        "pkt_loss": {"pkt_loss"},
        "rkd_loss": rkd | {"pairwise_distance"},
        "similarity_loss": {"sp_loss"},
        "sp_loss": {"sp_loss"},
    }


def test_no_layer():
    """The sum of nothing, as there."""
    assert ours.at_loss([], [], 2) == ours.sp_loss([], []) == ours.nst_loss([], []) == 0
    assert ours.kdsvd_loss([], [], 1) == ours.hcl_loss([], []) == 0


# Where kdops differs, and what the published formula gives there.


def test_one_sample():
    x, y = torch.randn(2, 1, 8, generator=generator(0), dtype=torch.float64)
    for squared in (False, True):
        assert published.rkd_loss(x, y, squared).isnan()
        value, (gradient, _) = result(ours.rkd_loss, [x, y], squared=squared)
        assert value == 0 and gradient is None


def test_a_target_of_probability_one():
    """There the logarithm of a 0, where the other classes' probabilities are lost."""
    x = torch.zeros(2, 4)
    x[:, 0] = 200.0
    options = {"target": torch.tensor([0, 0]), "alpha": 1.0, "beta": 1.0, "temperature": 1.0}
    y = x.clone()
    y[0, 0] = 190.0
    assert not published.dkd_loss(x, y, **options).isfinite()
    value, (gradient, _) = result(ours.dkd_loss, [x, y], **options)
    assert value.isfinite() and (gradient is None or gradient.isfinite().all())


def test_the_teachers_gradient_of_a_probability_of_zero():
    """kl_div's, as mdistiller calls it, is NaN where the target's logit is lowered by 1000."""
    teacher = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    p = torch.softmax(teacher - torch.tensor([[1000.0, 0.0, 0.0]]), dim=1)
    there = torch.nn.functional.kl_div(torch.zeros(1, 3), p, reduction="sum")
    assert torch.autograd.grad(there, teacher)[0].isnan().any()
    here = ours.dkd_loss(torch.zeros(1, 3), teacher, torch.tensor([0]), 1.0, 1.0, 1.0)
    assert torch.autograd.grad(here, teacher)[0].isfinite().all()


def test_an_ignored_target():
    x, y = torch.randn(2, 4, 5, generator=generator(0))
    options = {"alpha": 1.0, "beta": 8.0, "temperature": 4.0}
    target = torch.tensor([1, -100, 2, 0])
    kept = target != -100
    torch.testing.assert_close(
        ours.dkd_loss(x, y, target, **options),
        ours.dkd_loss(x[kept], y[kept], target[kept], **options),
    )
    with pytest.raises(RuntimeError):
        published.dkd_loss(x, y, target, **options)


def test_targets_of_another_shape():
    x, y = torch.randn(2, 4, 5, generator=generator(0))
    target = torch.tensor([1, 3, 2, 0])
    options = {"alpha": 1.0, "beta": 8.0, "temperature": 4.0}
    values = [ours.dkd_loss(x, y, t, **options) for t in (target, target[:, None])]
    assert torch.equal(*values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_are_computed_in_float32(dtype):
    x, y = torch.randn(2, 5, 6, 4, 4, generator=generator(0)).to(dtype)
    for loss in (ours.single_stage_nst_loss, ours.similarity_loss):
        assert loss(x, y).dtype == torch.float32
        torch.testing.assert_close(loss(x, y), loss(x.float(), y.float()))


def test_bad_input():
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"single_stage_at_loss: student must be \(N, C, H, W\)"):
        ours.single_stage_at_loss(x, x, 2)
    with pytest.raises(ValueError, match="kd_loss: teacher must have student's shape"):
        ours.kd_loss(x, torch.ones(2, 4), 4.0)
    with pytest.raises(TypeError, match="rkd_loss: teacher must be a tensor, got NoneType"):
        ours.rkd_loss(x, None)
