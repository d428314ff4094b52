"""What must hold for any logits, without a reference to compare with."""

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

import kdops

from .cases import DTYPES, PAIR_LOSSES, PLAIN, ROW_LOSSES, generator, small_inputs
from .metrics import upstream, value_and_gradient
from .strategies import batch, seeds, temperatures, wild


@hypothesis.settings(max_examples=400)
@given(wild(), temperatures)
def test_kl_is_never_negative(backend, inputs, temperature):
    value = kdops.kd_loss(*inputs, temperature=temperature, reduction="none")
    assert not value.signbit().any()  # not even -0


@hypothesis.settings(max_examples=200)
@given(wild(), temperatures, st.sampled_from([0.0, 1.0, -512.0, 4096.0]))
def test_kl_of_equal_rows_is_zero(backend, inputs, temperature, shift):
    student = inputs[0].round()  # so that the shifted logits are exact
    value, gradient = value_and_gradient(
        kdops.kd_loss, student, student + shift, temperature=temperature, reduction="none"
    )
    assert (value == 0).all() and (gradient == 0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "case", [c for c in PLAIN if c.name != "soft_cross_entropy"], ids=lambda c: c.stem
)
@hypothesis.settings(max_examples=25)
@given(data=st.data())
def test_own_teacher(backend, case, dtype, data):
    """loss(x, x) is exactly 0, its gradient too."""
    (x,) = data.draw(wild(dtype=dtype, count=1))
    value, gradient = value_and_gradient(case.function, x, x.clone())
    assert value == 0 and (gradient == 0).all()


@hypothesis.settings(max_examples=25)
@given(batch(dtype=torch.float64))
def test_soft_cross_entropy_of_its_own_teacher_is_the_entropy(backend, inputs):
    x, _ = inputs
    value, gradient = value_and_gradient(kdops.soft_cross_entropy, x, x, reduction="none")
    entropy = torch.distributions.Categorical(logits=x).entropy()
    torch.testing.assert_close(value, entropy, rtol=1e-12, atol=1e-14)
    assert (gradient.abs() < 1e-15).all()


@given(batch(), temperatures)
def test_cross_entropy_is_kl_plus_entropy(backend, inputs, temperature):
    student, teacher = inputs
    kl = value_and_gradient(kdops.kd_loss, student, teacher, temperature=temperature)
    soft = value_and_gradient(kdops.soft_cross_entropy, student, teacher, temperature=temperature)
    entropy = torch.distributions.Categorical(logits=teacher / temperature).entropy().mean()
    torch.testing.assert_close(soft[0], kl[0] + temperature**2 * entropy)
    torch.testing.assert_close(soft[1], kl[1], rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("case", ROW_LOSSES, ids=lambda c: c.name)
@given(seed=seeds)
def test_order_of_the_rows(backend, case, seed):
    """A row's value and gradient know nothing of the other rows."""
    student, teacher, kwargs = small_inputs(case, seed=seed)
    value, gradient = value_and_gradient(
        case.function, student, teacher, reduction="none", **kwargs
    )
    order = torch.randperm(len(student), generator=generator(seed))
    if "target" in kwargs:
        kwargs["target"] = kwargs["target"][order]
    moved = value_and_gradient(
        case.function, student[order], teacher[order], reduction="none", **kwargs
    )
    assert torch.equal(moved[0], value[order]) and torch.equal(moved[1], gradient[order])


@given(batch(dtype=torch.float64), seeds)
def test_order_of_the_classes(backend, inputs, seed):
    student, teacher = inputs
    order = torch.randperm(student.shape[1], generator=generator(seed))
    value, gradient = value_and_gradient(kdops.kd_loss, student, teacher)
    moved = value_and_gradient(kdops.kd_loss, student[:, order], teacher[:, order])
    torch.testing.assert_close(moved[0], value, rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(moved[1], gradient[:, order], rtol=1e-9, atol=1e-13)


@given(batch(dtype=torch.float64), seeds)
def test_shift_of_a_row(backend, inputs, seed):
    student, teacher = inputs
    shift = torch.randint(-8, 8, (len(student), 1), generator=generator(seed))
    value = kdops.kd_loss(student, teacher)
    torch.testing.assert_close(
        kdops.kd_loss(student + shift, teacher), value, rtol=1e-9, atol=1e-13
    )
    torch.testing.assert_close(
        kdops.kd_loss(student, teacher - shift), value, rtol=1e-9, atol=1e-13
    )


@given(batch(dtype=torch.float32), st.integers(-6, 6), st.sampled_from([1.0, 3.0, 4.0, 20.0]))
def test_scale_of_the_logits(backend, inputs, exponent, temperature):
    """T^2 KL(s, t, T) grows by a^2 when all three grow by a; to the bit for a = 2^k."""
    student, teacher = inputs
    factor = 2.0**exponent
    value, gradient = value_and_gradient(kdops.kd_loss, student, teacher, temperature=temperature)
    moved = value_and_gradient(
        kdops.kd_loss, factor * student, factor * teacher, temperature=factor * temperature
    )
    assert torch.equal(moved[0], factor**2 * value)
    assert torch.equal(moved[1], factor * gradient)


@given(batch(rows=(1, 8), columns=(2, 40), dtype=torch.float32), temperatures)
def test_gradient_of_a_row_sums_to_zero(backend, inputs, temperature):
    for function in (kdops.kd_loss, kdops.soft_cross_entropy):
        _, gradient = value_and_gradient(function, *inputs, temperature=temperature)
        total, size = gradient.double().sum(1).abs(), gradient.double().abs().sum(1)
        bound = 2e-6 if function is kdops.kd_loss else 2e-4 + 1e-6 * temperature**2
        assert (total <= bound * size + 1e-30).all()


@pytest.mark.parametrize("case", PAIR_LOSSES + ROW_LOSSES, ids=lambda c: c.name)
@hypothesis.settings(max_examples=15)
@given(seed=seeds, factor=st.sampled_from([0.0, 1.0, -2.5, 3.0]))
def test_gradient_is_linear_upstream(backend, case, seed, factor):
    student, teacher, kwargs = small_inputs(case, seed=seed)
    _, one = value_and_gradient(case.function, student, teacher, **kwargs)
    _, many = value_and_gradient(
        case.function, student, teacher, lambda v: torch.full_like(v, factor), **kwargs
    )
    torch.testing.assert_close(many, factor * one, rtol=1e-5, atol=1e-6 * one.abs().amax().item())


@pytest.mark.parametrize(
    "function", [kdops.kd_loss, kdops.soft_cross_entropy], ids=lambda f: f.__name__
)
@given(batch(dtype=torch.float32), seeds)
def test_upstream_by_row(backend, function, inputs, seed):
    value, gradient = value_and_gradient(function, *inputs, reduction="none")
    weights = upstream(value, seed)
    _, weighted = value_and_gradient(function, *inputs, lambda v: weights, reduction="none")
    expected = weights[:, None] * gradient
    torch.testing.assert_close(
        weighted, expected, rtol=1e-5, atol=1e-6 * expected.abs().amax().item()
    )
