"""Inputs that break losses of peers: one peer, equal ones, masked classes, huge half types."""

import warnings

import pytest
import torch

import kdops
from kdops.functional import _peers

from .peer_calls import CASES, STEMS

LABELLED = [case for case in CASES if case.labels]
FORMS = ("stacked", "list")


def solved(case, logits, mixture, **options):
    """The value and all gradients."""
    leaves = [x.detach().clone().requires_grad_() for x in logits]
    w = None if mixture is None else mixture.detach().clone().requires_grad_()
    value = case.call(leaves, w, **options)
    wanted = leaves if w is None else [*leaves, w]
    if not value.requires_grad:
        return value, [torch.zeros_like(x) for x in wanted]
    found = torch.autograd.grad(value.sum(), wanted, allow_unused=True)
    return value.detach(), [
        torch.zeros_like(x) if g is None else g for x, g in zip(wanted, found, strict=True)
    ]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equal_peers_have_no_soft_loss(backend, case, dtype):
    """Exactly 0, value and gradient, where the weights of a mixture sum to 1."""
    if "min_logit" in case.name:
        pytest.skip("its target has the labels' logits taken away")
    (first, *_), mixture, options = case.inputs(dtype, rows=(9,), classes=33)
    options |= {"ce_weight": 0.0, "ensemble_ce_weight": 0.0}
    if case.stem == "mutual_kl":
        del options["ensemble_ce_weight"]
    elif mixture is not None:
        mixture = torch.tensor([0.25, 0.5, 0.25]).to(mixture).expand_as(mixture)
    value, gradients = solved(case, [first] * 3, mixture, **options)
    assert (value == 0).all()
    for gradient in gradients:
        assert (gradient == 0).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stem", STEMS)
def test_one_peer_alone(backend, stem, form, monkeypatch):
    monkeypatch.setattr(_peers, "_warned", False)
    logits = torch.randn(1, 6, 5, dtype=torch.float64, requires_grad=True)
    target = torch.arange(6) % 5
    given = logits if form == "stacked" else list(logits)
    with pytest.warns(UserWarning, match=f"^{stem}: one peer alone") as told:
        value = getattr(kdops, stem)(given, target, ce_weight=0.5, temperature=2.0)
    assert told[0].filename == __file__
    expected = 0.5 * torch.nn.functional.cross_entropy(logits[0], target)
    torch.testing.assert_close(value.sum(), expected)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once a process
        assert (getattr(kdops, stem)(given) == 0).all()


@pytest.mark.parametrize("rows", [(1,), (0,), (2, 0), (2, 3)], ids=str)
@pytest.mark.parametrize("reduction", ["batchmean", "sum", "none"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_few_rows(backend, case, reduction, rows):
    """One row, none, and leading dimensions; the result is the reference's."""
    logits, mixture, options = case.inputs(rows=rows)
    options["reduction"] = reduction
    value, gradients = solved(case, logits, mixture, **options)
    with kdops.backend("reference"):
        expected, expected_gradients = solved(case, logits, mixture, **options)
    assert value.shape == expected.shape
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-13)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("filler", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("case", LABELLED, ids=lambda case: case.name)
def test_an_ignored_row_counts_nowhere(backend, case, filler):
    logits, mixture, options = case.inputs(rows=(9,))
    ignored = options["target"] == -100
    assert ignored.any()
    expected, expected_gradients = solved(case, logits, mixture, **options)
    for x in logits:
        x[ignored] = filler
    if case.weights == "rows":
        mixture[ignored] = filler
    value, gradients = solved(case, logits, mixture, **options)
    assert torch.equal(value, expected)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        assert torch.equal(ours, theirs)
    for gradient in gradients[:3]:
        assert (gradient[ignored] == 0).all()


@pytest.mark.parametrize("case", LABELLED, ids=lambda case: case.name)
def test_no_counted_row(backend, case):
    logits, mixture, options = case.inputs(rows=(3,))
    options["target"] = torch.full((3,), -100)
    value, gradients = solved(case, logits, mixture, **options)
    assert (value == 0).all()
    for gradient in gradients:
        assert (gradient == 0).all()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nan_stays_in_its_row(backend, case):
    logits, mixture, options = case.inputs(rows=(6,))
    options["reduction"] = "none"
    clean, clean_gradients = solved(case, logits, mixture, **options)
    logits[0][2, 1] = torch.nan
    value, gradients = solved(case, logits, mixture, **options)
    others = [i for i in range(6) if i != 2]
    assert value[..., 2].isnan().any()
    torch.testing.assert_close(value[..., others], clean[..., others], rtol=1e-12, atol=1e-14)
    for ours, theirs in zip(gradients[:3], clean_gradients[:3], strict=True):
        torch.testing.assert_close(ours[others], theirs[others], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_class_masked_in_all_peers_is_dropped(backend, case):
    logits, mixture, options = case.inputs(rows=(5,), classes=7)
    if case.labels:
        options["target"][options["target"] == 6] = 0
    expected, expected_gradients = solved(case, [x[:, :6] for x in logits], mixture, **options)
    for x in logits:
        x[:, 6] = -torch.inf
    value, gradients = solved(case, logits, mixture, **options)
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-13)
    for ours, theirs in zip(gradients[:3], expected_gradients[:3], strict=True):
        torch.testing.assert_close(ours[:, :6], theirs, rtol=1e-10, atol=1e-13)
        assert (ours[:, 6] == 0).all()
    for ours, theirs in zip(gradients[3:], expected_gradients[3:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stem", STEMS)
def test_a_class_masked_in_the_learning_peer_alone_costs_infinity(backend, stem, form):
    logits = torch.zeros(2, 3, 4)
    logits[0, 1, 2] = -torch.inf
    given = logits if form == "stacked" else list(logits)
    value = getattr(kdops, stem)(given, reduction="none")
    assert value.reshape(-1, 3)[0].tolist() == [0, torch.inf, 0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_huge_float16(backend, case):
    """+-4e4 in float16, whose differences overflow the type: finite, and the oracle's."""
    sign = torch.tensor([1.0, -1.0])[torch.arange(15) % 2].reshape(3, 5)
    logits, mixture, options = case.inputs(torch.float16, rows=(3,))
    logits = [(4e4 * sign * (1 - 2 * (i % 2))).half() for i in range(3)]
    value, gradients = solved(case, logits, mixture, **options)
    double = [x.double() for x in logits]
    mixture = mixture if mixture is None else mixture.double()
    with kdops.backend("reference"):
        expected, expected_gradients = solved(case, double, mixture, **options)
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)
    # A target's gradient is a difference of log-ratios of 8e4, which float32 rounds.
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        assert ours.isfinite().all()
        if ours.shape == logits[0].shape:
            torch.testing.assert_close(ours.double(), theirs, rtol=2e-3, atol=1e-2)


def test_saturated_disagreement_keeps_its_gradient(backend):
    """A gap of 60: forms with an eps in the logarithm have 18.4 and a gradient of 1e-18."""
    logits = torch.tensor([[[60.0, 0.0]], [[0.0, 60.0]]], requires_grad=True)
    value = kdops.mutual_kl(logits)
    value.sum().backward()
    torch.testing.assert_close(value, torch.tensor([60.0, 60.0]))
    torch.testing.assert_close(logits.grad[:, 0, 0], torch.tensor([1.0, -1.0]))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_views(backend, case, form):
    """Transposed, strided and offset logits give what contiguous ones give."""
    logits, mixture, options = case.inputs(torch.float32, rows=(9,), classes=6)
    stacked = torch.stack(logits)
    expected = case.call(stacked, mixture, **options)
    wide = torch.zeros(3, 6, 19)
    wide[:, :, 1::2] = stacked.mT
    view = wide[:, :, 1::2].mT
    assert torch.equal(view, stacked) and not view.is_contiguous()
    given = view if form == "stacked" else list(view)
    assert torch.equal(case.call(given, mixture, **options), expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_terms_add_up(backend, case):
    logits, mixture, options = case.inputs(rows=(9,))
    options["return_terms"] = True
    value, terms = case.call(logits, mixture, **options)
    assert not any(x.requires_grad for x in terms.values())
    weights = torch.tensor(options.get("ce_weight", 0.0), dtype=torch.float64)
    total = weights * terms["ce"] + terms["kl"]
    if case.stem == "mixture_kl":
        total = total.sum() + options.get("ensemble_ce_weight", 0.0) * terms["ensemble_ce"].sum()
    torch.testing.assert_close(value, total)
