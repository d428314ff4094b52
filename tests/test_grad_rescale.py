"""grad_rescale: the identity, bit for bit, whose derivatives are multiplied."""

import pytest
import torch
from torch import nn
from torch.func import grad, jacfwd, jacrev, jvp, vmap

from kdops.nn import GradRescale, grad_rescale

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_are_a_view_and_the_gradient_is_multiplied(dtype):
    x = torch.tensor([1.5, -0.0, torch.inf, -torch.inf, torch.nan, 6e-8], dtype=dtype)
    x.requires_grad_()
    y = grad_rescale(x, 0.25)
    assert y.data_ptr() == x.data_ptr() and y.dtype == dtype
    assert torch.equal(y.view(torch.uint8), x.detach().view(torch.uint8))
    upstream = torch.tensor([1, -2, 3, 4, 5, 0], dtype=dtype)
    (gradient,) = torch.autograd.grad(y, x, upstream)
    assert gradient.dtype == dtype and torch.equal(gradient, upstream / 4)


@pytest.mark.parametrize("factor", [0, 0.5, -1.0, 3])
def test_gradient_of_the_gradient(factor):
    torch.manual_seed(0)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)

    def slope(x):  # the gradient of a function of the rescaled x
        return torch.autograd.grad(
            grad_rescale(x, factor).pow(3).sum(), x, create_graph=torch.is_grad_enabled()
        )[0]

    torch.testing.assert_close(slope(x), factor * 3 * x**2)
    (second,) = torch.autograd.grad(slope(x).sum(), x)
    # the chain passes the function twice: once where x enters the slope, once from upstream
    torch.testing.assert_close(second, factor * factor * 6 * x)
    # as a function of upstream it is linear, and its own derivative agrees with differences
    upstream = torch.randn_like(x).requires_grad_()

    def pulled(upstream):
        y = grad_rescale(x, factor)
        return torch.autograd.grad(y, x, upstream, create_graph=True)[0]

    assert torch.autograd.gradcheck(pulled, (upstream,))
    assert torch.autograd.gradgradcheck(pulled, (upstream,))


def test_transforms():
    torch.manual_seed(0)
    x = torch.randn(3, 4, dtype=torch.float64)
    tangent = torch.randn_like(x)

    def f(x):
        return grad_rescale(x, 0.25).pow(2)

    value, push = jvp(f, (x,), (tangent,))
    assert torch.equal(value, x**2)
    torch.testing.assert_close(push, 0.5 * x * tangent)
    torch.testing.assert_close(jacfwd(f)(x), jacrev(f)(x))
    torch.testing.assert_close(vmap(grad(lambda row: f(row).sum()))(x), 0.5 * x)
    torch.testing.assert_close(vmap(lambda a, b: jvp(f, (a,), (b,))[1])(x, tangent), push)
    assert torch.equal(vmap(f, in_dims=1, out_dims=1)(x), x**2)


def test_compiled():
    x = torch.randn(3, 4, requires_grad=True)
    compiled = torch.compile(
        lambda x: grad_rescale(x * 2, 0.25).sin().sum(), fullgraph=True, backend="aot_eager"
    )
    compiled(x).backward()
    torch.testing.assert_close(x.grad, 0.5 * (2 * x).cos().detach())


def test_autocast_changes_nothing():
    x = torch.randn(3, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = GradRescale(4)(x)
        z = nn.functional.linear(GradRescale(2)(x), torch.eye(4))
    assert y.dtype == torch.float32 and z.dtype == torch.bfloat16
    (y.sum() + z.sum()).backward()
    assert x.grad.eq(0.75).all()


def test_no_write_into_the_view():
    y = grad_rescale(torch.randn(3, requires_grad=True) * 1, 0.5)
    with pytest.raises(RuntimeError, match="view"):
        y.relu_()


def test_mean_of_the_childrens_gradients():
    torch.manual_seed(0)
    stem = nn.Linear(4, 5).double()
    heads = [nn.Linear(5, 3).double() for _ in range(4)]
    x = torch.randn(7, 4, dtype=torch.float64)

    def gradient(rescale, heads):
        stem.zero_grad()
        h = rescale(stem(x))
        sum(head(h).square().sum() for head in heads).backward()
        return stem.weight.grad.clone()

    total = gradient(nn.Identity(), heads)
    assert torch.equal(gradient(GradRescale(4), heads), total / 4)
    parts = [gradient(nn.Identity(), [head]) for head in heads]
    torch.testing.assert_close(gradient(GradRescale(4), heads), torch.stack(parts).mean(0))
    assert repr(GradRescale(4)) == "GradRescale(num_children=4)"


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: grad_rescale([1.0], 0.5), TypeError, "grad_rescale: x must be a tensor, got list"),
        (lambda: grad_rescale(torch.arange(3), 0.5), TypeError, "grad_rescale: x must be float32"),
        (lambda: grad_rescale(torch.ones(3), torch.nan), ValueError, "factor must be finite"),
        (lambda: grad_rescale(torch.ones(3), "2"), TypeError, "factor must be a number, got str"),
        (lambda: GradRescale(0), ValueError, "GradRescale: num_children must be >= 1, got 0"),
        (lambda: GradRescale(2.0), TypeError, "GradRescale: num_children must be an int"),
    ],
    ids=["list", "labels", "nan", "text", "none", "float"],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
