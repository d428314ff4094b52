"""torch.compile, torch.export, torch.func and forward-mode AD."""

import pytest
import torch
import torch._dynamo

import kdops

from .cases import BY_NAME, CASES, ONE_TO_MANY, PLAIN, call, small_inputs
from .metrics import upstream, value_and_gradient

LARGE = {"rows": ((8, 10), (16, 12), (5, 33)), "pairs": ((6, 5), (9, 7), (13, 4))}
LARGE["map"] = LARGE["pairs"]


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def agrees(case, compiled, shape, dtype=torch.float32):
    student, teacher, kwargs = small_inputs(case, dtype, shape=shape)
    weights = upstream if case.kind == "map" else torch.ones_like
    expected = value_and_gradient(case.function, student, teacher, weights, **kwargs)
    actual = value_and_gradient(compiled, student, teacher, weights, **kwargs)
    tolerance = (
        {"rtol": 1e-2, "atol": 1e-2} if dtype != torch.float32 else {"rtol": 2e-5, "atol": 1e-6}
    )
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, **tolerance)
        assert a.stride() == b.stride() or a.is_contiguous()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_compile(backend, case):
    """Of static shapes, whole graphs; inductor's own code for plain PyTorch is its own matter."""
    compiler = "inductor" if backend == "native" or case.name == "kd_loss" else "aot_eager"
    compiled = torch.compile(case.function, fullgraph=True, dynamic=False, backend=compiler)
    agrees(case, compiled, LARGE[case.kind][0])
    agrees(case, compiled, LARGE[case.kind][0])


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_compile_dynamic(backend, case):
    """Three sizes with no compilation after the second."""
    compiled = torch.compile(case.function, fullgraph=True, backend="aot_eager")
    first, second, third = LARGE[case.kind]
    agrees(case, compiled, first)
    agrees(case, compiled, second)
    with torch.compiler.set_stance("fail_on_recompile"):
        agrees(case, compiled, third)


@pytest.mark.parametrize("name", ["kd_loss-labels", "rkd_distance_loss"])
def test_compile_dynamic_with_inductor(native, name):
    case = BY_NAME[name]
    compiled = torch.compile(case.function, fullgraph=True, dynamic=True)
    agrees(case, compiled, LARGE[case.kind][0])
    agrees(case, compiled, LARGE[case.kind][1])
    with torch.compiler.set_stance("fail_on_recompile"):
        agrees(case, compiled, LARGE[case.kind][2])


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_compile_of_a_half_type(backend, case):
    compiled = torch.compile(case.function, fullgraph=True, backend="aot_eager")
    agrees(case, compiled, LARGE[case.kind][0], torch.bfloat16)


@pytest.mark.parametrize("case", ONE_TO_MANY, ids=lambda case: case.name)
def test_compile_of_a_list_of_students(backend, case):
    student, teacher, kwargs = small_inputs(case)
    students = [student.clone().requires_grad_(), student[:, :3].clone().requires_grad_()]
    compiled = torch.compile(case.function, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(case.function(students, teacher, **kwargs), students)
    actual = torch.autograd.grad(compiled(students, teacher, **kwargs), students)
    torch.testing.assert_close(actual, expected, rtol=2e-5, atol=1e-6)


def test_compiled_training_step(native):
    """The compiled object is kept and called; the loss is a part of a larger graph."""
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 5)
    x, teacher = torch.randn(2, 8, 6)[0], torch.randn(8, 5)

    def loss(x, teacher):
        out = model(x)
        return kdops.kd_loss(out, teacher) + kdops.rkd_distance_loss(out, teacher)

    compiled = torch.compile(loss, fullgraph=True)
    gradients = []
    for function in (loss, compiled, compiled):
        model.zero_grad()
        function(x, teacher).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[2], gradients[1], rtol=0, atol=0)


class Step(torch.nn.Module):
    """A model with its loss, as it is exported."""

    def __init__(self, case, kwargs, width):
        super().__init__()
        self.linear = torch.nn.Linear(width, width)
        self.function, self.kwargs = case.function, kwargs

    def forward(self, x, teacher):
        return self.function(self.linear(x), teacher, **self.kwargs)


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_export(backend, case, dynamic):
    """The exported program gives the loss, and its module trains."""
    student, teacher, kwargs = small_inputs(case)
    step = Step(case, kwargs, student.shape[1])
    rows = torch.export.Dim("rows", min=3, max=64)
    shapes = ({0: rows}, {0: rows}) if dynamic else None
    program = torch.export.export(step, (student, teacher), dynamic_shapes=shapes)
    exported = program.module()
    if dynamic:
        student, teacher = (
            student.repeat(2, 1) + 0.1 * torch.randn(2 * len(student), 1),
            teacher.repeat(2, 1),
        )
    expected = torch.autograd.grad(step(student, teacher), step.linear.weight)[0]
    value = exported(student, teacher)
    torch.testing.assert_close(value, step(student, teacher), rtol=1e-5, atol=1e-6)
    value.backward()
    gradient = dict(exported.named_parameters())["linear.weight"].grad
    torch.testing.assert_close(gradient, expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_func(backend, case):
    """vmap, grad and vmap of grad equal a loop."""
    student, teacher, kwargs = small_inputs(case)
    students = torch.stack([student, student.flip(0), 2 * student])

    def value(student):
        return call(case.function, student, teacher, **kwargs).sum()

    loop = torch.stack([value(x) for x in students])
    torch.testing.assert_close(torch.func.vmap(value)(students), loop, rtol=1e-5, atol=1e-6)
    gradients = torch.stack(
        [value_and_gradient(case.function, x, teacher, **kwargs)[1] for x in students]
    )
    torch.testing.assert_close(torch.func.grad(value)(student), gradients[0], rtol=1e-4, atol=1e-5)
    batched = torch.func.vmap(torch.func.grad(value))(students)
    torch.testing.assert_close(batched, gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_forward_mode(backend, case):
    student, teacher, kwargs = small_inputs(case, torch.float64)
    direction = torch.randn_like(student)

    def value(student):
        return call(case.function, student, teacher, **kwargs)

    _, tangent = torch.func.jvp(value, (student,), (direction,))
    difference = (value(student + 1e-6 * direction) - value(student - 1e-6 * direction)) / 2e-6
    torch.testing.assert_close(tangent, difference, rtol=1e-6, atol=1e-7)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(student, direction)
        unpacked = torch.autograd.forward_ad.unpack_dual(value(dual))
    torch.testing.assert_close(unpacked.tangent, tangent)


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_hessian(backend, case):
    student, teacher, kwargs = small_inputs(case, torch.float64, shape=(3, 2))
    hessian = torch.func.hessian(lambda x: case.function(x, teacher, **kwargs))(student)
    flat = hessian.reshape(6, 6)
    torch.testing.assert_close(flat, flat.mT, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_meta_and_fake_tensors(backend, case):
    from torch._subclasses.fake_tensor import FakeTensorMode

    student, teacher, kwargs = small_inputs(case)
    real = call(case.function, student, teacher, **kwargs)
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(x) for x in (student, teacher) if x is not None]
        kwargs = {
            k: mode.from_tensor(v) if isinstance(v, torch.Tensor) else v for k, v in kwargs.items()
        }
        value = case.function(*fake, **kwargs)
    assert (value.shape, value.dtype, value.stride()) == (real.shape, real.dtype, real.stride())
