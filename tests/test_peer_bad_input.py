"""Wrong arguments of the peers' losses: the exception's type, and a text that names them."""

import math

import pytest
import torch

import kdops

from .peer_calls import STEMS

LOGITS = torch.randn(3, 4, 5)
TARGET = torch.tensor([0, 1, -100, 4])


def fails(error, stem, text):
    return pytest.raises(error, match=f"^{stem}: {text}")


BAD_LOGITS = {
    "nothing": (None, TypeError, "logits must be a tensor or a sequence of tensors, got NoneType"),
    "no tensor": ([1.0, 2.0], TypeError, "logits must be a tensor, got float"),
    "integers": (torch.ones(3, 4, 5, dtype=torch.int64), TypeError, "logits must be float32"),
    "complex": ([torch.ones(4, 5, dtype=torch.complex64)] * 2, TypeError, "logits must be float32"),
    "sparse": ([torch.ones(4, 5).to_sparse()] * 2, ValueError, "logits must be a dense tensor"),
    "no peers": ([], ValueError, "logits must hold at least one peer's, got none"),
    "none stacked": (torch.ones(0, 4, 5), ValueError, r"logits must be \(K, ..., C\) with K >= 1"),
    "vectors": ([torch.ones(5)] * 2, ValueError, r"logits must be \(..., C\) with at least 2"),
    "one peer's": (torch.ones(4, 5), ValueError, r"logits must be \(K, ..., C\) with at least 3"),
    "no classes": (torch.ones(3, 4, 0), ValueError, r"logits must be .* C >= 1, got shape"),
    "shapes": ([torch.ones(4, 5), torch.ones(4, 1)], ValueError, "all peers' logits must have one"),
    "devices": (
        [torch.ones(4, 5), torch.ones(4, 5, device="meta")],
        RuntimeError,
        "all peers' logits must be on one device, got cpu and meta",
    ),
}


@pytest.mark.parametrize("name", BAD_LOGITS)
@pytest.mark.parametrize("stem", STEMS)
def test_logits(backend, stem, name):
    logits, error, text = BAD_LOGITS[name]
    with fails(error, stem, text):
        getattr(kdops, stem)(logits)


BAD_OPTIONS = {
    "temperature": ({"temperature": 0.0}, ValueError, "temperature must be finite and > 0"),
    "nan": ({"temperature": math.nan}, ValueError, "temperature must be finite and > 0"),
    "text": ({"temperature": "4"}, TypeError, "temperature must be a number"),
    "reduction": ({"reduction": "average"}, ValueError, "reduction must be one of"),
    "ce_weight": ({"ce_weight": math.inf}, ValueError, "ce_weight must be finite"),
    "ce_weights": (
        {"ce_weight": [1.0, 2.0]},
        ValueError,
        "ce_weight must be a number or 3 of them, one a peer, got 2",
    ),
    "one ce_weight": ({"ce_weight": [1.0, True, 0.0]}, TypeError, r"ce_weight\[1\] must be a num"),
    "no target": ({"ce_weight": 1.0}, ValueError, "target must be given for its labels, got None"),
    "float target": ({"target": torch.ones(4)}, TypeError, "target must be int64 or int32"),
    "target's shape": (
        {"target": torch.ones(3, dtype=torch.int64)},
        ValueError,
        "target must have",
    ),
    "ignore_index": ({"ignore_index": 0.5}, TypeError, "ignore_index must be an int"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
@pytest.mark.parametrize("stem", STEMS)
def test_options(backend, stem, name):
    options, error, text = BAD_OPTIONS[name]
    with fails(error, stem, text):
        getattr(kdops, stem)(LOGITS, **options)


@pytest.mark.parametrize("label", [5, -1, 2**40])
@pytest.mark.parametrize("form", ["stacked", "list"])
@pytest.mark.parametrize("stem", STEMS)
def test_a_label_out_of_range(backend, stem, form, label):
    logits = LOGITS if form == "stacked" else list(LOGITS)
    target = torch.tensor([0, 1, label, 4])
    with fails(
        IndexError, stem, rf"target must be in \[0, 5\) or ignore_index -100, got {label} i"
    ):
        getattr(kdops, stem)(logits, target, ce_weight=1.0)


MATRICES = {
    "rows": ([[0, 1], [1, 0]], ValueError, "weights must be 3 x 3, a row for each peer"),
    "columns": ([[0, 1]] * 3, ValueError, "weights must be 3 x 3, a row for each peer"),
    "diagonal": ([[1, 1, 1]] * 3, ValueError, "weights must be 0 on the diagonal, got 1 for peer"),
    "negative": ([[0, -1, 0]] * 3, ValueError, r"weights\[0\]\[1\] must be finite and >= 0"),
    "nan": ([[0, math.nan, 0]] * 3, ValueError, r"weights\[0\]\[1\] must be finite"),
    "text": ([[0, "1", 0]] * 3, TypeError, r"weights\[0\]\[1\] must be a number"),
    "vector": (torch.ones(3), ValueError, "weights must be 3 x 3"),
    "number": (1.0, TypeError, "weights must be rows of numbers, got float"),
    "flat": ([0.0, 1.0, 1.0], ValueError, "weights must be 3 x 3"),
    "learned": (torch.zeros(3, 3).requires_grad_(), ValueError, "weights must be constants"),
}


@pytest.mark.parametrize("name", MATRICES)
def test_weights_of_pairs(backend, name):
    weights, error, text = MATRICES[name]
    with fails(error, "mutual_kl", text):
        kdops.mutual_kl(LOGITS, weights=weights)


MIXTURES = {
    "list": ([[1.0] * 3], TypeError, "weights must be a tensor, got list"),
    "integers": (torch.ones(1, 3, dtype=torch.int64), TypeError, "weights must be float32"),
    "two targets": (torch.ones(2, 3), ValueError, r"weights must be \(A, 3\) or \(4, 'A', 3\)"),
    "peers": (torch.ones(1, 2), ValueError, "weights must be"),
    "rows": (torch.ones(5, 1, 3), ValueError, "weights must be"),
    "vector": (torch.ones(3), ValueError, "weights must be"),
    "device": (torch.ones(1, 3, device="meta"), RuntimeError, "logits and weights must be on one"),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_weights_of_mixtures(backend, name):
    weights, error, text = MIXTURES[name]
    with fails(error, "mixture_kl", text):
        kdops.mixture_kl(LOGITS, weights=weights)


MIXTURE_OPTIONS = {
    "rule": ({"rule": "best"}, ValueError, "rule must be one of"),
    "labels": ({"rule": "min_logit"}, ValueError, "target must be given for its labels"),
    "weights": (
        {"rule": "naive", "weights": torch.ones(1, 3), "target": TARGET},
        ValueError,
        "weights must be None for rule 'naive'",
    ),
    "kd_weight": ({"kd_weight": math.nan}, ValueError, "kd_weight must be finite"),
    "ensemble": ({"ensemble_ce_weight": 1.0}, ValueError, "target must be given for its labels"),
    "target_grad": ({"target_grad": True}, ValueError, "target_grad must be one of"),
}


@pytest.mark.parametrize("name", MIXTURE_OPTIONS)
def test_options_of_mixtures(backend, name):
    options, error, text = MIXTURE_OPTIONS[name]
    with fails(error, "mixture_kl", text):
        kdops.mixture_kl(LOGITS, **options)


@pytest.mark.parametrize("stem", STEMS)
def test_types_are_promoted(backend, stem):
    """The type that holds all peers' is computed in; each gradient has its own input's."""
    leaves = [LOGITS[0].bfloat16().requires_grad_(), LOGITS[1].clone().requires_grad_()]
    value = getattr(kdops, stem)(leaves)
    value.sum().backward()
    assert value.dtype == torch.float32
    assert [x.grad.dtype for x in leaves] == [torch.bfloat16, torch.float32]
    torch.testing.assert_close(value, getattr(kdops, stem)([x.detach().float() for x in leaves]))
