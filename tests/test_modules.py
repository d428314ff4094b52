"""Modules: the function's value, plain attributes, nothing in the state_dict."""

import copy
import inspect
import io
import pickle

import pytest
import torch

import kdops
from kdops import nn

from .cases import PLAIN, small_inputs

MODULES = {
    "kd_loss": nn.KDLoss,
    "soft_cross_entropy": nn.SoftCrossEntropyLoss,
    "rkd_distance_loss": nn.RKDDistanceLoss,
    "rkd_angle_loss": nn.RKDAngleLoss,
    "irg_edge_loss": nn.IRGLoss,
    "cckd_loss": nn.CCKDLoss,
    "pkt_loss": nn.PKTLoss,
    "sp_loss": nn.SPLoss,
}
OPTIONS = {
    "kd_loss": {"temperature": 2.0, "kd_weight": 0.5, "reduction": "sum", "scale_t2": False},
    "soft_cross_entropy": {"temperature": 3.0, "reduction": "none", "scale_t2": False},
    "rkd_distance_loss": {"eps": 1e-12, "reduction": "sum"},
    "rkd_angle_loss": {"eps": 1e-12, "reduction": "none"},
    "irg_edge_loss": {"reduction": "sum"},
    "cckd_loss": {"gamma": 1.0, "order": None, "normalize": False, "reduction": "sum"},
    "pkt_loss": {"kernel": "student_t", "divergence": "jeffreys", "include_self": False},
    "sp_loss": {"reduction": "sum", "norm": 1},
}
each = pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.stem)


@each
@pytest.mark.parametrize("chosen", [False, True], ids=["defaults", "options"])
def test_value(backend, case, chosen):
    student, teacher, _ = small_inputs(case)
    options = OPTIONS[case.stem] if chosen else {}
    module = MODULES[case.stem](**options)
    assert torch.equal(module(student, teacher), case.function(student, teacher, **options))
    for name, value in options.items():
        assert getattr(module, name) == value and f"{name}={value!r}" in repr(module)


@each
def test_defaults_are_the_functions(case):
    function = inspect.signature(case.function).parameters
    module = inspect.signature(MODULES[case.stem]).parameters
    keywords = {name: p.default for name, p in function.items() if p.kind is p.KEYWORD_ONLY}
    assert {name: p.default for name, p in module.items()} == keywords


@each
def test_holds_plain_attributes(case):
    module = MODULES[case.stem](**OPTIONS[case.stem])
    assert not module.state_dict() and not list(module.parameters()) and not list(module.buffers())
    stream = io.BytesIO()
    torch.save(module.state_dict(), stream)
    stream.seek(0)
    assert module.load_state_dict(torch.load(stream, weights_only=True)) is not None
    for other in (
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        module.to("meta").half(),
    ):
        assert other.options() == module.options() and repr(other) == repr(module)


@each
def test_attributes_may_be_changed(backend, case):
    student, teacher, _ = small_inputs(case)
    module = MODULES[case.stem]()
    module.reduction = "sum"
    assert torch.equal(module(student, teacher), case.function(student, teacher, reduction="sum"))


def test_labels(backend):
    student, teacher = torch.randn(2, 8, 10)
    target = torch.arange(8)
    module = nn.KDLoss(ce_weight=0.1)
    assert torch.equal(
        module(student, teacher, target), kdops.kd_loss(student, teacher, target, ce_weight=0.1)
    )


def test_rkd_is_the_weighted_sum(backend):
    student, teacher = torch.randn(2, 6, 5)
    distance, angle = (
        kdops.rkd_distance_loss(student, teacher),
        kdops.rkd_angle_loss(student, teacher),
    )
    torch.testing.assert_close(nn.RKDLoss()(student, teacher), 25 * distance + 50 * angle)
    torch.testing.assert_close(nn.RKDLoss(1, 2)(student, teacher), distance + 2 * angle)
    assert torch.equal(nn.RKDLoss(0, 1)(student, teacher), angle)
    assert nn.RKDLoss(0, 0)(student, teacher) == 0
    vectors = ([[1.0, 0], [0, 2], [3, 1], [-1, 1]], [[1.0, 0, 0], [0, 1, 0], [0, 0, 2], [1, 1, 1]])
    value = nn.RKDLoss()(*(torch.tensor(x, dtype=torch.float64) for x in vectors))
    assert value.item() == pytest.approx(4.32312365678, rel=1e-11)
    assert not nn.RKDLoss().state_dict()


def test_layers(backend):
    students, teacher = torch.randn(3, 6, 5).unbind(), torch.randn(6, 7)
    for module in (nn.RKDDistanceLoss(), nn.RKDAngleLoss(), nn.IRGLoss(), nn.RKDLoss()):
        expected = sum(module(x, teacher) for x in students)
        torch.testing.assert_close(module(students, teacher), expected)
