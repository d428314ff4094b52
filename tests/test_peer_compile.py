"""torch.compile, torch.export, torch.func, forward mode and fake tensors for losses of peers."""

import pytest
import torch
import torch._dynamo
from torch._subclasses.fake_tensor import FakeTensorMode

from .peer_calls import BY_NAME, CASES

SOME = [
    BY_NAME[name]
    for name in ("mutual_kl-labels", "mixture_kl-others", "mixture_kl-gate_all", "mixture_kl-naive")
]
FORMS = ("stacked", "list")


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def given(logits, form):
    return torch.stack(logits) if form == "stacked" else list(logits)


def value_and_gradients(function, logits, mixture, form, **options):
    leaves = [x.clone().requires_grad_() for x in logits]
    w = None if mixture is None else mixture.clone().requires_grad_()
    if mixture is not None:
        options["weights"] = w
    value = function(given(leaves, form), **options)
    wanted = leaves if w is None else [*leaves, w]
    found = torch.autograd.grad(value.sum(), wanted, allow_unused=True)
    return [value.detach(), *(torch.zeros(()) if g is None else g for g in found)]


def agrees(case, compiled, form, rows=(8,), classes=10, dtype=torch.float32):
    logits, mixture, options = case.inputs(dtype, rows=rows, classes=classes)
    expected = value_and_gradients(case.function, logits, mixture, form, **options)
    actual = value_and_gradients(compiled, logits, mixture, form, **options)
    near = {"rtol": 2e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-2, "atol": 1e-2}
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, **near)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", SOME, ids=lambda case: case.name)
def test_compile(backend, case, form):
    compiled = torch.compile(case.function, fullgraph=True, dynamic=False, backend="aot_eager")
    agrees(case, compiled, form)
    agrees(case, compiled, form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", SOME[:2], ids=lambda case: case.name)
def test_compile_dynamic(native, case, form):
    """Three sizes with no compilation after the second."""
    compiled = torch.compile(case.function, fullgraph=True, backend="aot_eager")
    agrees(case, compiled, form)
    agrees(case, compiled, form, (16,), 12)
    with torch.compiler.set_stance("fail_on_recompile"):
        agrees(case, compiled, form, (5,), 33)


@pytest.mark.parametrize("case", SOME[:3:2], ids=lambda case: case.name)
def test_compile_with_inductor_in_bfloat16(native, case):
    agrees(case, torch.compile(case.function, fullgraph=True), "stacked", dtype=torch.bfloat16)


class Step(torch.nn.Module):
    def __init__(self, case, options):
        super().__init__()
        self.linear, self.case, self.options = torch.nn.Linear(5, 5), case, options

    def forward(self, logits, mixture):
        return self.case.call(self.linear(logits), mixture, **self.options).sum()


@pytest.mark.parametrize("case", SOME, ids=lambda case: case.name)
def test_export(backend, case):
    logits, mixture, options = case.inputs(torch.float32)
    step, inputs = Step(case, options), (torch.stack(logits), mixture)
    exported = torch.export.export(step, inputs).module()
    expected = torch.autograd.grad(step(*inputs), step.linear.weight)[0]
    exported(*inputs).backward()
    gradient = dict(exported.named_parameters())["linear.weight"].grad
    torch.testing.assert_close(gradient, expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_func(backend, case):
    """vmap of grad equals a loop, and a jvp the product with the gradient's finite difference."""
    logits, mixture, options = case.inputs()
    stacked = torch.stack([torch.stack(logits), 2 * torch.stack(logits)])

    def value(logits):
        return case.call(logits, mixture, **options).sum()

    batched = torch.func.vmap(torch.func.grad(value))(stacked)
    for x, gradient in zip(stacked, batched, strict=True):
        x = x.clone().requires_grad_()
        torch.testing.assert_close(torch.autograd.grad(value(x), x)[0], gradient)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_forward_mode(backend, case):
    """The tangent is the gradient times the direction, constant targets included."""
    logits, mixture, options = case.inputs()
    stacked = torch.stack(logits).requires_grad_()
    direction = torch.linspace(-1, 1, stacked.numel(), dtype=stacked.dtype).view_as(stacked)

    def value(logits):
        return case.call(logits, mixture, **options).sum()

    _, tangent = torch.func.jvp(value, (stacked.detach(),), (direction,))
    (gradient,) = torch.autograd.grad(value(stacked), stacked)
    torch.testing.assert_close(tangent, (gradient * direction).sum())


@pytest.mark.parametrize("reduction", ["batchmean", "none"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fake_tensors(backend, case, form, reduction):
    logits, mixture, options = case.inputs(torch.float32)
    options |= {"reduction": reduction, "return_terms": True}
    real, real_terms = case.call(given(logits, form), mixture, **options)
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(x) for x in logits]
        mixture = mixture if mixture is None else mode.from_tensor(mixture)
        if "target" in options:
            options["target"] = mode.from_tensor(options["target"])
        value, terms = case.call(given(fake, form), mixture, **options)
    assert (value.shape, value.dtype) == (real.shape, real.dtype)
    assert {k: v.shape for k, v in terms.items()} == {k: v.shape for k, v in real_terms.items()}
