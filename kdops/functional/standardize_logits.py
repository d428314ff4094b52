"""Logit standardisation: every row with mean 0 and deviation 1, before a KD loss."""

from torch import Tensor

from .. import _checks, reference


def standardize_logits(x: Tensor, *, unbiased: bool = True, eps: float = 0.0) -> Tensor:
    """Rows of logits less their mean, over their standard deviation.

        (x - mean(x)) / (std(x) + eps)

    The student need not copy the scale of the teacher's logits, only their relations:
    kd_loss(standardize_logits(s), standardize_logits(t), temperature=2).

    Args:
        x: (..., C) logits, C >= 1; float32, float64, bfloat16 or float16.
        unbiased: whether the variance is over C - 1, as published code has it, or over C.
        eps: >= 0, added to the deviation; published code's 1e-7.
    Returns:
        The shape of x; float32, float64 for float64. A row of equal logits is 0. Scales from 1e-30
        to 1e30 are exact. An infinite logit makes its row NaN.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape or range.
    Gradient:
        To x; a row of equal logits gets none. Twice differentiable.
    Source: Sun, Ren, Li, Wang, Cao, 2024, "Logit Standardization in Knowledge Distillation",
        section 4.2, algorithm 1.

    >>> student = torch.randn(8, 10, requires_grad=True)
    >>> standardize_logits(student).square().sum().backward()
    """
    _checks.tensor("standardize_logits", "x", x)
    if x.dim() < 1 or x.shape[-1] == 0:
        raise ValueError(
            "standardize_logits: x must be (..., C) logits with at least one class, "
            f"got shape {tuple(x.shape)}"
        )
    _checks.number("standardize_logits", "eps", eps, low=0)
    return reference.standardize_logits(x, unbiased=unbiased, eps=eps)
