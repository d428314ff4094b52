"""The same numbers as published formulas and another package give, where these follow the paper."""

import pytest
import torch

import kdops
from kdops.bench import published

from .cases import generator
from .metrics import value_and_gradient


def features(rows=12, columns=9):
    return torch.randn((2, rows, columns), generator=generator(), dtype=torch.float64).unbind()


PUBLISHED = {
    "kd": (kdops.kd_loss, {}),
    "rkd_distance": (kdops.rkd_distance_loss, {"eps": 1e-12}),
    "rkd_angle": (kdops.rkd_angle_loss, {"eps": 1e-12}),
    "irg_edge": (kdops.irg_edge_loss, {}),
    "cckd": (kdops.cckd_loss, {}),
    "pkt": (kdops.pkt_loss, {"eps": 1e-7}),
    "student_t": (kdops.pkt_loss, {"kernel": "student_t"}),
    "sp": (kdops.sp_loss, {}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_formula(backend, name):
    function, options = PUBLISHED[name]
    student, teacher = features()
    value, gradient = value_and_gradient(function, student, teacher, **options)
    exact, slope = value_and_gradient(getattr(published, name), student, teacher)
    torch.testing.assert_close(value, exact, rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient, slope, rtol=1e-8, atol=1e-12)


def peer(name):
    losses = pytest.importorskip("torchdistill.losses.mid_level", reason="torchdistill is missing")
    return getattr(losses, name)


def outputs(x):
    return {"layer": {"output": x}}


def test_torchdistill_rkd(backend):
    """Its weighted sum of both terms, with its published bounds."""
    loss = peer("RKDLoss")("layer", "layer", 25.0, 50.0, "mean")
    student, teacher = features()
    expected = loss(outputs(student), outputs(teacher))
    value = 25 * kdops.rkd_distance_loss(student, teacher, eps=1e-12)
    value = value + 50 * kdops.rkd_angle_loss(student, teacher, eps=1e-12)
    assert value.item() == pytest.approx(expected.item(), rel=1e-10)


def test_torchdistill_kd(backend):
    """alpha CE + (1 - alpha) T^2 KL, where labels are given."""
    kd = peer("KDLoss")
    student, teacher = features()
    target = torch.arange(12) % 9
    loss = kd(
        "layer", "output", "layer", "output", temperature=4.0, alpha=0.1, reduction="batchmean"
    )
    expected = loss(outputs(student), outputs(teacher), targets=target)
    value = kdops.kd_loss(student, teacher, target, kd_weight=0.9, ce_weight=0.1)
    assert value.item() == pytest.approx(expected.item(), rel=1e-10)


def test_torch_kl_div(backend):
    student, teacher = features()
    log_q, p = (student / 3).log_softmax(-1), (teacher / 3).softmax(-1)
    expected = 9 * torch.nn.functional.kl_div(log_q, p, reduction="batchmean")
    value = kdops.kd_loss(student, teacher, temperature=3.0)
    assert value.item() == pytest.approx(expected.item(), rel=1e-11)


def test_torch_cdist(backend):
    x, _ = features()
    apart = ~torch.eye(len(x), dtype=torch.bool)
    torch.testing.assert_close(kdops.pairwise_distance(x)[apart], torch.cdist(x, x)[apart])


@pytest.mark.parametrize("temperature", [1.0, 20.0])
@pytest.mark.parametrize("spread", [1e-6, 1e-3, 1.0, 30.0])
def test_fifty_digits(backend, spread, temperature):
    """KL in fifty decimal digits, on float32 logits as they are."""
    mpmath = pytest.importorskip("mpmath", reason="mpmath is missing")
    teacher = 3 * torch.randn((6, 5), generator=generator())
    student = teacher + spread * torch.randn((6, 5), generator=generator(1))
    value = kdops.kd_loss(
        student, teacher, temperature=temperature, scale_t2=False, reduction="none"
    )
    with mpmath.workdps(50):
        for i in range(6):
            s, t = (
                [mpmath.mpf(v) / temperature for v in x[i].tolist()] for x in (student, teacher)
            )
            zs, zt = (mpmath.fsum(map(mpmath.exp, x)) for x in (s, t))
            exact = mpmath.fsum(
                mpmath.exp(b) / zt * (b - mpmath.log(zt) - a + mpmath.log(zs))
                for a, b in zip(s, t, strict=True)
            )
            assert value[i].item() == pytest.approx(float(exact), rel=1e-5)
