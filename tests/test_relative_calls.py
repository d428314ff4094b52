"""How composed losses are called: types, autocast, layouts, compiled, as modules."""

import copy
import inspect
import pickle

import pytest
import torch
import torch._dynamo

import kdops
from kdops import nn

from .relatives import BY_NAME, PLAIN, RELATIVES, gradients
from .test_views import LAYOUTS

each = pytest.mark.parametrize("loss", RELATIVES, ids=lambda loss: loss.name)
plain = pytest.mark.parametrize("loss", PLAIN, ids=lambda loss: loss.stem)
HALF = (torch.float16, torch.bfloat16)
HALVES = pytest.mark.parametrize("dtype", HALF, ids=str)
MODULES = {
    "at_loss": (nn.ATLoss, {"p": 3.0, "squared": False, "reduction": "sum"}),
    "fsp_loss": (nn.FSPLoss, {"reduction": "batchmean"}),
    "hint_loss": (nn.HintLoss, {"reduction": "mean"}),
    "dkd_loss": (nn.DKDLoss, {"temperature": 2.0, "target_weight": 0.5, "rest_weight": 2.0}),
    "dist_loss": (nn.DISTLoss, {"temperature": 2.0, "inter_weight": 0.5, "intra_weight": 2.0}),
    "irg_transform_loss": (nn.IRGTransformLoss, {"part": "edge", "reduction": "sum"}),
}
modules = pytest.mark.parametrize("stem", MODULES)


@HALVES
@each
def test_half_types_are_computed_in_float32(backend, loss, dtype):
    """Value and gradient of float64 on the rounded inputs; the gradient in its input's type."""
    student, teacher = loss.inputs(dtype)
    value, gradient = gradients(loss, student, teacher)
    exact, slope = gradients(loss, *([x.double() for x in layers] for layers in (student, teacher)))
    assert value.dtype == torch.float32 and value.item() == pytest.approx(exact.item(), rel=1e-5)
    unit = torch.finfo(dtype).eps
    for x, y in zip(gradient, slope, strict=True):
        assert x.dtype == dtype
        torch.testing.assert_close(x.double(), y, rtol=unit, atol=1e-5 * y.abs().amax().item())


DTYPES = (torch.float64, torch.float32, *HALF)


@pytest.mark.parametrize("theirs", DTYPES, ids=str)
@pytest.mark.parametrize("ours", DTYPES, ids=str)
@plain
def test_mixed_types(backend, loss, ours, theirs):
    """Both in the type that holds them, each gradient in its input's."""
    student = [x.requires_grad_() for x in loss.inputs(ours)[0]]
    teacher = [x.requires_grad_() for x in loss.inputs(theirs)[1]]
    value = loss(student, teacher, teacher_grad=True)
    double = torch.float64 in (ours, theirs)
    assert value.dtype == (torch.float64 if double else torch.float32)
    exact = loss([x.double() for x in student], [x.double() for x in teacher])
    assert value.item() == pytest.approx(exact.item(), rel=1e-12 if double else 1e-5)
    value.backward()
    assert {x.grad.dtype for x in student} == {ours} and {x.grad.dtype for x in teacher} == {theirs}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@each
def test_autocast_changes_nothing(backend, loss, dtype):
    student, teacher = loss.inputs(dtype)
    expected = gradients(loss, student, teacher)
    student = [x.requires_grad_() for x in student]
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(student, teacher)
    value.backward()
    assert value.dtype == torch.float32 and torch.equal(value, expected[0])
    assert all(torch.equal(x.grad, y) for x, y in zip(student, expected[1], strict=True))


MAP_LAYOUTS = {
    "channels last": lambda x: x.to(memory_format=torch.channels_last) if x.dim() == 4 else x,
    "transposed": lambda x: x.transpose(0, -1).contiguous().transpose(0, -1),
    "flipped": lambda x: x.flip(0, -1).contiguous().flip(0, -1),
    "step": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "misaligned": LAYOUTS["misaligned"],
    "neg bit": LAYOUTS["neg bit"],
    "expanded": lambda x: x[:1].expand_as(x),
}


@pytest.mark.parametrize("layout", MAP_LAYOUTS)
@each
def test_layout(backend, loss, layout):
    """Sums are taken in the order of the strides: as many digits, not bits."""
    views = [[MAP_LAYOUTS[layout](x) for x in layers] for layers in loss.inputs()]
    plain = [[x.resolve_neg().contiguous() for x in layers] for layers in views]
    expected = gradients(loss, *plain)
    student = [x.detach().requires_grad_() for x in views[0]]
    value = loss(student, views[1])
    torch.testing.assert_close(value.detach(), expected[0], rtol=1e-12, atol=1e-15)
    actual = torch.autograd.grad(value, student)
    torch.testing.assert_close(list(actual), expected[1], rtol=1e-10, atol=1e-14)


@each
def test_inputs_are_unchanged(backend, loss):
    student, teacher = loss.inputs(torch.float32)
    inputs = [x.requires_grad_() for x in student] + teacher
    before = [(x.detach().clone(), x._version) for x in inputs]
    value = loss(student, teacher)
    value.backward(retain_graph=True)
    value.backward()
    for x, (old, version) in zip(inputs, before, strict=True):
        assert torch.equal(x, old) and x._version == version


@pytest.fixture
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("reduction", [None, "none"])
@each
def test_compile(backend, fresh, loss, reduction):
    """One graph of static shapes; the compiled object is kept and called twice."""
    options = {"reduction": reduction} if reduction in loss.reductions else {}
    if reduction and not options:
        pytest.skip("no such reduction")
    compiled = torch.compile(loss.__call__, fullgraph=True, backend="aot_eager", dynamic=False)
    for seed in (0, 1):
        student, teacher = loss.inputs(torch.float32, seed)
        expected = gradients(loss, student, teacher, **options)
        student = [x.requires_grad_() for x in student]
        value = compiled(student, teacher, **options)
        torch.testing.assert_close(value.detach(), expected[0], rtol=2e-5, atol=1e-6)
        value.sum().backward()
        torch.testing.assert_close([x.grad for x in student], expected[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["at_loss", "dkd_loss", "dist_loss", "irg_transform_loss"])
def test_compile_of_other_sizes(native, fresh, name):
    """Three batches with no compilation after the second."""
    loss = BY_NAME[name]
    function = getattr(kdops, name)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")

    def agrees(rows):
        student, teacher = loss.inputs(torch.float32, rows=rows)
        inputs = [x[0] if len(x) == 1 else tuple(x) for x in (student, teacher)]
        if name == "dkd_loss":
            inputs.append(torch.arange(rows) % 5)
        torch.testing.assert_close(compiled(*inputs), function(*inputs), rtol=2e-5, atol=1e-6)

    agrees(4)
    agrees(6)
    with torch.compiler.set_stance("fail_on_recompile"):
        agrees(9)


@pytest.mark.parametrize("name", ["dkd_loss", "irg_transform_loss"])
def test_inductor(native, fresh, name):
    """The default compiler; its own code for plain PyTorch is its own matter."""
    loss = BY_NAME[name]
    compiled = torch.compile(loss.__call__, fullgraph=True, dynamic=False)
    student, teacher = loss.inputs(torch.float32)
    expected = gradients(loss, student, teacher)
    for _ in range(2):
        leaves = [x.clone().requires_grad_() for x in student]
        value = compiled(leaves, teacher)
        torch.testing.assert_close(value.detach(), expected[0], rtol=2e-5, atol=1e-6)
        value.backward()
        torch.testing.assert_close([x.grad for x in leaves], expected[1], rtol=1e-4, atol=1e-6)


@plain
def test_vmap(backend, loss):
    """Over a stack of students, as a loop."""
    student, teacher = loss.inputs()
    stacks = [torch.stack([x, x.flip(0), 2 * x]) for x in student]
    loop = torch.stack([loss([x[i] for x in stacks], teacher) for i in range(3)])
    batched = torch.func.vmap(lambda *student: loss(student, teacher))(*stacks)
    torch.testing.assert_close(batched, loop)


@modules
@pytest.mark.parametrize("chosen", [False, True], ids=["defaults", "options"])
def test_module(backend, stem, chosen):
    make, options = MODULES[stem]
    options = options if chosen else {}
    module, (student, teacher) = make(**options), BY_NAME[stem].inputs()
    inputs = [x[0] if len(x) == 1 else tuple(x) for x in (student, teacher)]
    if stem == "dkd_loss":
        inputs.append(torch.arange(4))
    assert torch.equal(module(*inputs), getattr(kdops, stem)(*inputs, **options))
    for name, value in options.items():
        assert getattr(module, name) == value and f"{name}={value!r}" in repr(module)


@modules
def test_module_holds_the_functions_defaults(stem):
    make, options = MODULES[stem]
    function = inspect.signature(getattr(kdops, stem)).parameters
    keywords = {name: p.default for name, p in function.items() if p.kind is p.KEYWORD_ONLY}
    assert {name: p.default for name, p in inspect.signature(make).parameters.items()} == keywords
    module = make(**options)
    assert not module.state_dict() and not list(module.parameters())
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert other.options() == module.options() and repr(other) == repr(module)
