"""What must hold for any features, without a reference to compare with."""

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

import kdops

from .cases import MAPS, PLAIN, generator, small_inputs
from .metrics import value_and_gradient
from .strategies import batch, seeds

PAIRS = [case for case in PLAIN if case.kind == "pairs"]
MEASURES = [kdops.rkd_distance_loss, kdops.rkd_angle_loss, kdops.irg_edge_loss]
pairs = pytest.mark.parametrize("function", [c.function for c in PAIRS], ids=lambda f: f.__name__)
measures = pytest.mark.parametrize("function", MEASURES, ids=lambda f: f.__name__)


@pairs
@given(batch(), seeds)
def test_order_of_the_batch(backend, function, inputs, seed):
    student, teacher = inputs
    order = torch.randperm(len(student), generator=generator(seed))
    value, gradient = value_and_gradient(function, student, teacher)
    moved = value_and_gradient(function, student[order], teacher[order])
    torch.testing.assert_close(moved[0], value, rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(moved[1], gradient[order], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", MAPS, ids=lambda c: c.name)
@given(seed=seeds)
def test_order_of_a_map(backend, case, seed):
    x, _, kwargs = small_inputs(case, seed=seed, shape=(7, 5))
    order = torch.randperm(len(x), generator=generator(seed))
    value = case.function(x, **kwargs)
    for dimension in range(value.dim()):
        value = value.index_select(dimension, order)
    moved = case.function(x[order], **kwargs)
    sums = backend == "reference" and case.stem == "rbf_correlation"  # a matrix product's
    if sums or kwargs.get("normalize") == "mean":  # in another order
        torch.testing.assert_close(moved, value)
    else:
        assert torch.equal(moved, value)


@measures
@given(batch(), st.lists(st.integers(-1000, 1000), min_size=9, max_size=9))
def test_translation(backend, function, inputs, shift):
    student, teacher = inputs
    student = student.float().double()  # so that the sums are exact
    shift = torch.tensor(shift, dtype=torch.float64)[: student.shape[1]]
    value, gradient = value_and_gradient(function, student, teacher)
    moved = value_and_gradient(function, student + shift, teacher)
    torch.testing.assert_close(moved[0], value, rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(moved[1], gradient, rtol=1e-8, atol=1e-12)


@pairs
@given(batch(dtype=torch.float32), st.integers(-20, 20))
def test_scale(backend, function, inputs, exponent):
    student, teacher = inputs
    value = function(student, teacher)
    assert torch.equal(function(student * 2.0**exponent, teacher), value)
    assert torch.equal(function(student, teacher * 2.0**exponent), value)


@pairs
@given(batch(rows=(3, 8), columns=(2, 6)), seeds)
def test_rotation(backend, function, inputs, seed):
    student, teacher = inputs
    width = student.shape[1]
    q, _ = torch.linalg.qr(
        torch.randn((width, width), generator=generator(seed), dtype=torch.float64)
    )
    value, gradient = value_and_gradient(function, student, teacher)
    moved = value_and_gradient(function, student @ q, teacher)
    torch.testing.assert_close(moved[0], value, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(moved[1], gradient @ q, rtol=1e-7, atol=1e-10)


@pairs
@given(batch(rows=(3, 12), columns=(2, 9), dtype=torch.float32))
def test_gradient_identities(backend, function, inputs):
    """Of the invariances: sum g = 0, <x, g> = 0, and X^T G symmetric."""
    student, teacher = inputs
    if function is kdops.pkt_loss:  # of opposite rows the probabilities are 0, or of few digits
        student = student.abs()
    _, gradient = value_and_gradient(function, student, teacher)
    x, g = student.double(), gradient.double()
    size = (x.norm(dim=1) * g.norm(dim=1)).sum().clamp(min=1e-30)
    bound = 1e-5  # of a sum of terms each rounded to float32
    assert (x * g).sum().abs() <= bound * size
    moment = x.mT @ g
    assert (moment - moment.mT).abs().amax() <= bound * size
    if function in MEASURES:
        assert g.sum(0).norm() <= bound * g.norm(dim=1).sum().clamp(min=1e-30)
    elif function is not kdops.sp_loss:
        assert ((x * g).sum(1).abs() <= bound * size).all()


@given(batch(rows=(3, 12), columns=(1, 9), dtype=torch.float32, count=1), st.integers(0, 5))
def test_a_map_of_distances_is_a_metric(backend, inputs, duplicates):
    (x,) = inputs
    x = torch.cat([x, x[:duplicates]])
    d = kdops.pairwise_distance(x)
    assert torch.equal(d, d.mT) and (d.diagonal() == 0).all()
    assert (d[:, None] <= (d[:, :, None] + d[None]) * (1 + 4 * 2.0**-23)).all()
    assert torch.equal(
        kdops.pairwise_distance(x, squared=True), kdops.pairwise_distance(x, squared=True).mT
    )


@given(batch(rows=(3, 9), columns=(1, 9), dtype=torch.float32, count=1), st.integers(0, 3))
def test_a_map_of_cosines(backend, inputs, duplicates):
    (x,) = inputs
    cosines = kdops.triplet_angle(torch.cat([x, x[:duplicates]]))
    symmetric = {"rtol": 0, "atol": 0 if backend == "native" else 5e-7}  # a matrix product's sums
    torch.testing.assert_close(cosines, cosines.transpose(1, 2), **symmetric)
    assert (cosines.abs() <= 1 + 1e-6).all()
    n = len(cosines)
    for i in range(n):
        assert (cosines[i, i] == 0).all() and (cosines[i, :, i] == 0).all()


@given(batch(rows=(3, 9), columns=(1, 9), dtype=torch.float32, count=1))
def test_a_map_of_correlations(backend, inputs):
    for order in (2, None):
        k = kdops.rbf_correlation(inputs[0], order=order)
        torch.testing.assert_close(k, k.mT, rtol=1e-6 if backend == "reference" else 0, atol=0)
        assert (k <= 1 + 1e-6).all() and (k > 0).all()


@pairs
@hypothesis.settings(max_examples=40)
@given(batch(rows=(6, 10), columns=(3, 6), dtype=torch.float32), st.data())
def test_duplicate_and_zero_rows(backend, function, inputs, data):
    """Whatever rows are equal or zero: finite gradients, no larger than four times as large."""
    student, teacher = inputs
    usual = value_and_gradient(function, student, teacher)[1].abs().amax().item()
    count = data.draw(st.integers(1, len(student) // 2))
    rows = torch.randperm(len(student), generator=generator(data.draw(seeds)))[:count]
    source = data.draw(st.integers(-1, 5))
    student[rows] = 0 if source < 0 else student[source].clone()
    value, gradient = value_and_gradient(function, student, teacher)
    assert value.isfinite() and gradient.isfinite().all()
    # The gradient goes as 1 / length: the shortest pair or row that is left counts.
    lengths = torch.cat([kdops.pairwise_distance(student).flatten(), student.norm(dim=1)])
    shortest = lengths[lengths > 0].amin().item() if (lengths > 0).any() else 1.0
    assert gradient.abs().amax() <= 4 * max(usual, 1 / shortest)
