"""A specialist's classes, and all others: its dustbin."""

from collections.abc import Iterable

import torch
from torch import Tensor

from ... import _checks


def checked(function: str, classes: Iterable[int], total: int | None = None) -> tuple[int, ...]:
    """Distinct classes, at least one, of `total` where that is known."""
    classes = tuple(torch.as_tensor(classes).tolist())
    for each in classes:
        _checks.integer(function, "classes", each, 0, None if total is None else total - 1)
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(
            f"{function}: classes must be distinct and at least one, got {len(classes)} "
            f"of which {len(set(classes))} differ"
        )
    return classes


def split(
    function: str, classes: Iterable[int], total: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Columns of the classes, in their order, and of all others, of which there is one at least."""
    classes = checked(function, classes, total)
    if len(classes) == total:
        raise ValueError(f"{function}: classes must leave one for the dustbin, got all {total}")
    rest = sorted(set(range(total)) - set(classes))
    return torch.tensor(classes, device=device), torch.tensor(rest, device=device)
