"""The public functions on tensors of the device: from the checks to what autograd is given.

The kernels' numbers on awkward inputs are the suite's matter, run with KDOPS_TEST_BACKENDS=cuda.
"""

import pytest
import torch

import kdops
from kdops import nn

from .. import cases, stacked_peers
from ..cases import DTYPES, LOSSES, ONE_TO_MANY, PLAIN, call
from ..metrics import gradient_error, oracle, upstream, value_and_gradient, value_error
from ..test_accuracy import conditioned
from ..test_views import LAYOUTS
from .batches import batch, close, equal, weights_of

CASES = [*cases.CASES, *stacked_peers.CASES]
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
matrices = pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
losses = pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.name)
SHAPES = {
    "rows": [(5, 2), (33, 1000), (3, 70001), (2, 262144)],
    "peers": [(5, 2), (33, 1000), (3, 70001), (16, 2, 513), (2, 2, 262144)],
    "pairs": [(9, 7), (130, 70), (200, 513)],
    "map": [(9, 7), (70, 130)],
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@each
def test_accuracy(device, case, dtype):
    bounds = case.tolerance.of(dtype, "randn")
    for shape in SHAPES[case.kind]:
        student, teacher, kwargs = batch(case, device, shape, dtype)
        given = (student, teacher, weights_of(case))
        value, gradient = value_and_gradient(case.function, *given, **kwargs)
        exact, slope = oracle(case, *given, **kwargs)
        absolute = case.tolerance.is_absolute("randn")
        found = (
            value_error(value, exact, absolute, case.tolerance.floor),
            gradient_error(gradient, slope),
        )
        for what, error, bound in zip(("value", "gradient"), found, bounds, strict=True):
            assert error <= bound * conditioned(case, shape), f"{what} of {shape}: {error:.1e}"


@pytest.mark.parametrize("layout", LAYOUTS)
@matrices
def test_layout(device, case, layout):
    """No bit of the result differs from a plain tensor's."""
    student, teacher, kwargs = batch(case, device, (6, 24))
    views = [LAYOUTS[layout](x) for x in (student, teacher) if x is not None]
    plain = [x.detach().resolve_neg().clone(memory_format=torch.contiguous_format) for x in views]
    leaves = [views[0].detach().requires_grad_(), plain[0].requires_grad_()]
    teachers = [(x[1:] or [None])[0] for x in (views, plain)]
    pairs = zip(leaves, teachers, strict=True)
    values = [call(case.function, leaf, teacher, **kwargs) for leaf, teacher in pairs]
    weights = weights_of(case)(values[0].detach())
    slopes = [torch.autograd.grad(v, x, weights)[0] for v, x in zip(values, leaves, strict=True)]
    assert torch.equal(*values) and torch.equal(*slopes)


@each
def test_bitwise_the_same_again(device, case):
    student, teacher, kwargs = batch(
        case, device, (70, 300) if case.kind in ("rows", "peers") else (70, 65)
    )
    given = (case.function, student, teacher, weights_of(case))
    expected = value_and_gradient(*given, **kwargs)
    for _ in range(20):
        assert equal(value_and_gradient(*given, **kwargs), expected)


@each
def test_backward_again(device, case):
    """For 1, 0 and -2.5, and what was handed out first stays as it was."""
    student, teacher, kwargs = batch(case, device)
    value = call(case.function, student.requires_grad_(), teacher, **kwargs)
    one = upstream(value) if case.kind == "map" else torch.ones_like(value)
    (first,) = torch.autograd.grad(value, student, one, retain_graph=True)
    kept = first.clone()
    for factor in (1.0, 0.0, -2.5):
        (again,) = torch.autograd.grad(value, student, factor * one, retain_graph=True)
        close(again, factor * kept)
        assert torch.equal(first, kept)
    first.fill_(7)
    (last,) = torch.autograd.grad(value, student, -2.5 * one)
    close(last, -2.5 * kept)


@losses
def test_leaf_collects(device, case):
    student, teacher, kwargs = batch(case, device)
    _, one = value_and_gradient(case.function, student, teacher, **kwargs)
    student.requires_grad_()
    for _ in range(3):
        (0.5 * case.function(student, teacher, **kwargs)).backward()
    close(student.grad, 1.5 * one)


@losses
def test_second_derivative(device, case):
    student, teacher, kwargs = batch(case, device, (4, 3), torch.float64)

    def slopes(function, student):
        student = student.clone().requires_grad_()
        value = function(student, teacher, **kwargs)
        (gradient,) = torch.autograd.grad(value, student, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), student)[0]

    expected = slopes(case.reference, student)
    close(slopes(case.function, student), expected, 1e-9)


@pytest.mark.parametrize("case", ONE_TO_MANY, ids=lambda case: case.name)
def test_list_of_students(device, case):
    student, teacher, kwargs = batch(case, device)
    students = [student.clone().requires_grad_(), student[:, :7].clone().requires_grad_()]
    slopes = torch.autograd.grad(case.function(students, teacher, **kwargs), students)
    for x, slope in zip(students, slopes, strict=True):
        _, expected = value_and_gradient(case.function, x, teacher, **kwargs)
        close(slope, expected)


@losses
def test_teacher_gradient(device, case):
    if case.name == "kd_loss-hard":
        pytest.skip("the teacher has no part in it")
    student, teacher, kwargs = batch(case, device, dtype=torch.float64)

    def slope(function, **options):
        leaf = teacher.clone().requires_grad_()
        return torch.autograd.grad(function(student, leaf, **kwargs, **options), leaf)[0]

    found, expected = slope(case.function, teacher_grad=True), slope(case.reference)
    close(found, expected, 1e-8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@each
def test_autocast_changes_nothing(device, case, dtype):
    student, teacher, kwargs = batch(case, device)
    expected = value_and_gradient(case.function, student, teacher, weights_of(case), **kwargs)
    student.requires_grad_()
    with torch.autocast(device, dtype):
        value = call(case.function, student, teacher, **kwargs)
    (slope,) = torch.autograd.grad(value, student, weights_of(case)(value.detach()))
    assert value.dtype == torch.float32 and equal((value, slope), expected)


def test_training_step_in_half_precision(device):
    """A model under autocast, a scaler, both kinds of loss: the parameters move, all finite."""
    torch.manual_seed(0)
    model = torch.nn.Linear(64, 10, device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler(device, init_scale=1024.0)
    x, teacher = torch.randn(32, 64, device=device), torch.randn(32, 10, device=device)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        with torch.autocast(device, torch.float16):
            out = model(x)
            loss = nn.KDLoss()(out, teacher) + kdops.rkd_angle_loss(out, teacher)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < losses[0] and scaler.get_scale() == 1024.0


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_compiled(device, case):
    student, teacher, kwargs = batch(case, device)
    torch._dynamo.reset()
    compiled = torch.compile(case.function, fullgraph=True)
    expected = value_and_gradient(case.function, student, teacher, **kwargs)
    for _ in range(2):
        found = value_and_gradient(compiled, student, teacher, **kwargs)
        for x, other in zip(found, expected, strict=True):
            close(x, other)


def test_tensors_of_two_devices(gpu):
    here, there = torch.randn(4, 3), torch.randn(4, 3, device=gpu)
    for function in (kdops.kd_loss, kdops.irg_edge_loss):
        with pytest.raises(RuntimeError, match="must be on one device, got cuda:0 and cpu"):
            function(there, here)
    with pytest.raises(RuntimeError, match="must be on one device"):
        kdops.kd_loss(there, there, torch.zeros(4, dtype=torch.int64), ce_weight=1.0)


def test_temperature_on_the_device(gpu):
    """Reading it would wait for the device."""
    x = torch.randn(4, 3, device=gpu)
    with pytest.raises(TypeError, match="temperature"):
        kdops.kd_loss(x, x, temperature=torch.tensor(4.0, device=gpu))


@each
def test_other_than_the_current_device(gpu, case):
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    student, teacher, kwargs = batch(case, "cuda:1")
    found = value_and_gradient(case.function, student, teacher, weights_of(case), **kwargs)
    student, teacher, kwargs = batch(case, "cuda:0")
    expected = value_and_gradient(case.function, student, teacher, weights_of(case), **kwargs)
    assert equal([x.cpu() for x in found], [x.cpu() for x in expected])
    assert torch.cuda.current_device() == 0
