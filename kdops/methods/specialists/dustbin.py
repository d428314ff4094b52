"""What the dustbin's logit lacks after training on batches with too few of its examples."""

import math

from ... import _checks


def dustbin_bias(share: float, *, sampled: float = 0.5, form: str = "log_odds") -> float:
    """What to add to a specialist's dustbin logit, for its training saw S^m too often.

    With pi the share of S^m in the data and r in the batches, Bayes' rule gives the logarithm of
    how much the odds rose, b = log[r (1 - pi) / ((1 - r) pi)]. The paper's words are "the log of
    the proportion by which the specialist class is oversampled": log(r / pi), less by
    log[(1 - pi) / (1 - r)]. It is for training on labels: the generalist's soft targets have the
    data's shares already.

    Args:
        share: pi, in (0, 1).
        sampled: r, in (0, 1); `HalfAndHalfBatchSampler.share`.
        form: 'log_odds', or 'literal' for the paper's words.
    Returns:
        b; negative where S^m was sampled less often than it occurs.
    Raises:
        TypeError, ValueError: for wrong types or ranges.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network", section
        5.2.

    >>> round(dustbin_bias(0.02), 6), round(dustbin_bias(0.02, form="literal"), 6)
    (3.89182, 3.218876)
    """
    for name, value in (("share", share), ("sampled", sampled)):
        if not 0 < _checks.number("dustbin_bias", name, value) < 1:
            raise ValueError(f"dustbin_bias: {name} must be between 0 and 1, got {value}")
    _checks.one_of("dustbin_bias", "form", form, ("log_odds", "literal"))
    literal = math.log(sampled / share)
    return literal if form == "literal" else literal + math.log1p(-share) - math.log1p(-sampled)
