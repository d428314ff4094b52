"""What an argument must be: each check once, in the caller's words, before anything is computed."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
LABELS = (torch.int64, torch.int32)
TEMPERATURE_RANGE = (2.0**-20, 2.0**20)


def tensor(function: str, name: str, x: Tensor) -> None:
    """A strided float tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{function}: {name} must be a tensor, got {type(x).__name__}")
    if x.dtype not in FLOATS:
        raise TypeError(
            f"{function}: {name} must be float32, float64, bfloat16 or float16, got {x.dtype}"
        )
    if x.layout is not torch.strided:
        raise ValueError(f"{function}: {name} must be a dense tensor, got layout {x.layout}")


def same_device(function: str, name: str, x: Tensor, other: Tensor) -> None:
    if x.device != other.device:
        raise RuntimeError(
            f"{function}: student and {name} must be on one device, "
            f"got {other.device} and {x.device}"
        )


def logits(function: str, student: Tensor, teacher: Tensor) -> None:
    """Two (..., C) tensors of the same shape, C >= 1: nothing is ever broadcast."""
    tensor(function, "student", student)
    tensor(function, "teacher", teacher)
    same_device(function, "teacher", teacher, student)
    if student.dim() < 2:
        raise ValueError(
            f"{function}: student must be (..., C) logits with at least two dimensions, "
            f"got shape {tuple(student.shape)}"
        )
    if student.shape != teacher.shape:
        raise ValueError(
            f"{function}: teacher must have student's shape {tuple(student.shape)}, "
            f"got {tuple(teacher.shape)}"
        )
    if student.shape[-1] == 0:
        raise ValueError(f"{function}: student must have at least one class, got 0")


def features(function: str, name: str, x: Tensor) -> None:
    """An (N, D) tensor, D >= 1."""
    tensor(function, name, x)
    if x.dim() != 2:
        raise ValueError(
            f"{function}: {name} must be (N, D) features, got shape {tuple(x.shape)}"
            + ("; flatten(1) makes it so" if x.dim() > 2 else "")
        )
    if x.shape[1] == 0:
        raise ValueError(f"{function}: {name} must have at least one feature, got 0")


def probabilities(function: str, name: str, x: Tensor) -> None:
    """(N, K) rows >= 0 with sum 1 within a hundredth, a half type's; NaN passes. Reads the values:
    a synchronisation on a GPU.
    """
    tensor(function, name, x)
    if x.dim() != 2 or x.shape[1] == 0:
        raise ValueError(
            f"{function}: {name} must be (N, K) probabilities, K >= 1, got shape {tuple(x.shape)}"
        )
    x = x.detach()
    total = x.sum(1, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)
    bad = (x < 0).any(1) | ((total - 1).abs() > 0.01)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise ValueError(
            f"{function}: {name} must be probabilities, rows >= 0 with sum 1, "
            f"got a least entry of {x[row].min():.3g} and a sum of {total[row]:.3g} in row {row}"
        )


def feature_maps(function: str, name: str, x: Tensor) -> None:
    """An (N, C, H, W) tensor, none but N empty."""
    tensor(function, name, x)
    if x.dim() != 4 or 0 in x.shape[1:]:
        raise ValueError(
            f"{function}: {name} must be (N, C, H, W) feature maps with C, H, W >= 1, "
            f"got shape {tuple(x.shape)}"
        )


def pair(function: str, name: str, x: object) -> None:
    """Two tensors, of two layers."""
    if isinstance(x, Tensor) or not isinstance(x, Sequence) or len(x) != 2:
        count = f" of {len(x)}" if isinstance(x, Sequence) else ""
        raise TypeError(
            f"{function}: {name} must be a pair of tensors, of two layers, "
            f"got {type(x).__name__}{count}"
        )


def relation(function: str, students: Sequence[Tensor], teacher: Tensor) -> None:
    """Features of one batch: as many rows in each, any number of columns."""
    if len(students) == 0:
        raise ValueError(
            f"{function}: student must hold at least one tensor, got an empty sequence"
        )
    features(function, "teacher", teacher)
    for student in students:
        features(function, "student", student)
        same_device(function, "teacher", teacher, student)
        if student.shape[0] != teacher.shape[0]:
            raise ValueError(
                f"{function}: student and teacher must have the same number of rows, "
                f"got {tuple(student.shape)} and {tuple(teacher.shape)}"
            )


def same_width(function: str, name: str, layers: Sequence[Tensor]) -> None:
    """Two layers of a network whose rows can be subtracted."""
    first, second = (tuple(x.shape) for x in layers)
    if first[1] != second[1]:
        raise ValueError(
            f"{function}: {name} must have as many features in both layers, "
            f"got {first} and {second}"
        )


def number(
    function: str, name: str, value: float, low: float = -math.inf, high: float = math.inf
) -> float:
    """A finite real number in low..high."""
    if type(value) is float and low <= value <= high and -math.inf < value < math.inf:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{function}: {name} must be a number, got {type(value).__name__}")
    if not (math.isfinite(value) and low <= value <= high):
        bound = "" if low == -math.inf else f" and >= {low:g}"
        bound += "" if high == math.inf else f" and <= {high:g}"
        raise ValueError(f"{function}: {name} must be finite{bound}, got {value}")
    return value


def integer(function: str, name: str, value: int, low: float = 0, high: int | None = None) -> int:
    """An int in low..high; low may be -inf."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{function}: {name} must be an int, got {type(value).__name__}")
    if value < low or (high is not None and value > high):
        bound = f">= {low}" if high is None else f"in {low}..{high}"
        raise ValueError(f"{function}: {name} must be {bound}, got {value}")
    return value


def temperature(function: str, value: float | Tensor) -> float:
    """A number in [2^-20, 2^20]; a 0-dim CPU tensor without gradient is read once."""
    low, high = TEMPERATURE_RANGE
    if type(value) is float and low <= value <= high:
        return value
    if isinstance(value, Tensor):
        if value.dim() or value.device.type != "cpu" or value.requires_grad or value.is_complex():
            raise TypeError(
                f"{function}: temperature must be a number or a 0-dim CPU tensor without gradient, "
                f"got a {value.device.type} tensor of shape {tuple(value.shape)}"
                + (" that requires grad" if value.requires_grad else "")
            )
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{function}: temperature must be a number, got {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(
            f"{function}: temperature must be finite and > 0 (2^-20 to 2^20), got {value}"
        )
    return float(value)


def one_of(function: str, name: str, value: object, choices: Collection[Any]) -> None:
    if value not in choices:
        raise ValueError(
            f"{function}: {name} must be one of {', '.join(map(repr, choices))}, got {value!r}"
        )


def target(function: str, x: Tensor, student: Tensor) -> None:
    """Integer labels in the student's leading shape."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{function}: target must be a tensor, got {type(x).__name__}")
    if x.dtype not in LABELS:
        raise TypeError(f"{function}: target must be int64 or int32, got {x.dtype}")
    same_device(function, "target", x, student)
    if x.shape != student.shape[:-1]:
        raise ValueError(
            f"{function}: target must have student's leading shape {tuple(student.shape[:-1])}, "
            f"got {tuple(x.shape)}"
        )


def label_range(function: str, x: Tensor, classes: int, ignore_index: int) -> None:
    """Every label a class or ignore_index. Reads the values: a synchronisation on a GPU."""
    bad = ((x < 0) | (x >= classes)) & (x != ignore_index)
    if bad.any():
        row = int(bad.flatten().nonzero()[0])
        raise IndexError(
            f"{function}: target must be in [0, {classes}) or ignore_index {ignore_index}, "
            f"got {int(x.flatten()[row])} in row {row}"
        )
