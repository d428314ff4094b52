"""Contrastive representation distillation: its loss, the memory behind it, and the embedding."""

import math

import torch
from torch import Tensor, nn

from ... import _checks
from ...functional._rows import widened
from .alias import AliasMethod


def products(a: Tensor, b: Tensor) -> Tensor:
    """a @ b outside autocast, which would round them."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


def scaled(x: Tensor, power: float = 2) -> Tensor:
    """Rows over the power's root of their sum of powers; a row whose sum is 0 stays 0, with
    gradient 0.
    """
    x = widened(x)
    total = x.pow(power).sum(1, keepdim=True)
    zero = total == 0
    return torch.where(zero, 0.0, x / torch.where(zero, 1.0, total).pow(1 / power))


def noise_contrastive(function: str, x: Tensor, samples: float, eps: float = 1e-7) -> Tensor:
    """(1,): -1 / N sum_i (log P_i0 / (P_i0 + c + eps) + sum_j>0 log c / (P_ij + c + eps)).

    c = K / samples is what the noise expects of K negatives. x is P, (N, K + 1) or (N, K + 1, 1).
    """
    _checks.tensor(function, "x", x)
    if x.dim() not in (2, 3) or x.shape[2:] not in ((), (1,)) or 0 in x.shape:
        raise ValueError(
            f"{function}: x must be (N, K + 1) or (N, K + 1, 1) ratios with N >= 1, "
            f"got shape {tuple(x.shape)}"
        )
    x = widened(x).reshape(x.shape[:2])
    noise = (x.shape[1] - 1) / samples
    positive = ((noise + eps) / x[:, 0]).log1p().sum()
    negative = ((x[:, 1:] + eps) / noise).log1p().sum()
    return ((positive + negative) / len(x)).reshape(1)


def _indices(function: str, name: str, x: Tensor, shape: tuple[int, ...], count: int) -> None:
    """Rows of a memory. Reads the values: a synchronisation on a GPU."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{function}: {name} must be a tensor, got {type(x).__name__}")
    if x.dtype not in _checks.LABELS:
        raise TypeError(f"{function}: {name} must be int64 or int32, got {x.dtype}")
    if x.shape != shape:
        raise ValueError(
            f"{function}: {name} must have the shape {shape} of one batch, got {tuple(x.shape)}"
        )
    bad = x[(x < 0) | (x >= count)]
    if bad.numel():
        raise IndexError(
            f"{function}: {name} must be in [0, {count}), rows of the memory, got {int(bad[0])}"
        )


def check_batch(function: str, batch: dict[str, Tensor], bank: Tensor, negatives: int) -> None:
    """By their names in errors: rows of two nets, their samples and, if given, the rows compared
    with.
    """
    (one, v1), (two, v2), *indices = batch.items()
    for name, v in ((one, v1), (two, v2)):
        _checks.features(function, name, v)
        if not len(v) or v.shape[1] != bank.shape[1]:
            raise ValueError(
                f"{function}: {name} must be (N, {bank.shape[1]}), N >= 1, as the memory's rows "
                f"are, got {tuple(v.shape)}"
            )
    if len(v1) != len(v2):
        raise ValueError(
            f"{function}: {one} and {two} must have the same number of rows, "
            f"got {tuple(v1.shape)} and {tuple(v2.shape)}"
        )
    shapes = (len(v1),), (len(v1), negatives + 1)
    for (name, x), shape in zip(indices, shapes, strict=False):
        _indices(function, name, x, shape, len(bank))


def first_bank(width: int, samples: int) -> Tensor:
    """(samples, width), uniform with the variance of unit rows."""
    bound = 1 / math.sqrt(width / 3)
    return torch.rand(samples, width) * (2 * bound) - bound


def scores(v: Tensor, bank: Tensor, idx: Tensor, temperature: float) -> Tensor:
    """exp(<v_i, row idx_ij of the bank> / temperature), (N, K + 1, 1)."""
    v = widened(v)
    return (products(bank[idx.long()].to(v), v[:, :, None]) / temperature).exp()


def constant(score: Tensor, bank: Tensor) -> float:
    """Z: the mean times the number of samples."""
    return (score.detach().mean() * len(bank)).item()


@torch.no_grad()
def move(bank: Tensor, y: Tensor, v: Tensor, momentum: float) -> None:
    """Rows y of the bank become momentum row + (1 - momentum) v, over its length."""
    y, v = y.long(), widened(v)
    moved = momentum * bank[y].to(v) + (1 - momentum) * v
    bank.index_copy_(0, y, scaled(moved).to(bank))


class Memory(nn.Module):
    """Of every sample of the training set and each net a row of length 1, the mean of its past.

    Buffers: params (5,), that is K, T, Z of v1 and of v2 (-1 until the first batch) and momentum;
    memory_v1 and memory_v2, (samples, width), the first values `first_bank`'s.
    """

    arguments = ("v1", "v2", "y", "idx")  # their names in errors
    params: Tensor
    memory_v1: Tensor
    memory_v2: Tensor

    def __init__(
        self, width: int, samples: int, negatives: int, temperature: float, momentum: float
    ) -> None:
        super().__init__()
        self.multinomial = AliasMethod(torch.ones(samples))
        params = [float(x) for x in (negatives, temperature, -1, -1, momentum)]
        self.register_buffer("params", torch.tensor(params))
        for name in ("memory_v1", "memory_v2"):
            self.register_buffer(name, first_bank(width, samples))

    def ratios(
        self, v1: Tensor, v2: Tensor, y: Tensor, idx: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Of v1 against the bank of v2 and of v2 against that of v1, (N, K + 1, 1) each:
        exp(<v, row idx_ij> / T) / Z. Then rows y move to the batch's.

        Z is the first batch's mean of exp(...) times the number of samples, a constant from then
        on. Without idx the negatives are drawn, of all samples alike, and column 0 is y.
        """
        given = (v1, v2, y) if idx is None else (v1, v2, y, idx)
        batch = dict(zip(self.arguments, given, strict=False))
        check_batch(type(self).__name__, batch, self.memory_v1, int(self.params[0]))
        idx = self._draw(y.long()) if idx is None else idx
        temperature, momentum = self.params[1].item(), self.params[4].item()
        out1 = scores(v1, self.memory_v2, idx, temperature)
        out2 = scores(v2, self.memory_v1, idx, temperature)
        for place, score in enumerate((out1, out2), 2):
            if self.params[place] < 0:
                self.params[place] = constant(score, self.memory_v1)
        move(self.memory_v1, y, v1, momentum)
        move(self.memory_v2, y, v2, momentum)
        return out1 / self.params[2].item(), out2 / self.params[3].item()

    def _draw(self, y: Tensor) -> Tensor:
        self.multinomial.to(y.device)
        idx = self.multinomial.draw(len(y) * (int(self.params[0]) + 1)).view(len(y), -1)
        idx[:, 0] = y
        return idx


class Normalize(nn.Module):
    """Rows of (N, D) over (sum x^power)^(1 / power).

    x^power keeps its sign: for an odd power it is no norm. A row of zeros stays 0 and has gradient
    0, where the peers give NaN.
    Clean form of power 2: `torch.nn.functional.normalize(x)`; kdops has no other form.
    Source: RepDistiller, crd/criterion.py; mdistiller, mdistiller/distillers/CRD.py.
    """

    def __init__(self, power: float = 2) -> None:
        super().__init__()
        self.power = power

    def forward(self, x: Tensor) -> Tensor:
        _checks.features("Normalize", "x", x)
        return scaled(x, self.power)


class Embed(nn.Module):
    """A linear layer of what follows the samples, flattened, then rows of length 1: (N, dim_out).

    Learns linear.weight and linear.bias; their first values are PyTorch's defaults. kdops has no
    other form.
    Source: RepDistiller, crd/criterion.py; mdistiller, mdistiller/distillers/CRD.py.
    """

    def __init__(self, dim_in: int = 1024, dim_out: int = 128) -> None:
        super().__init__()
        self.linear = nn.Linear(dim_in, dim_out)
        self.l2norm = Normalize(2)

    def forward(self, x: Tensor) -> Tensor:
        _checks.tensor("Embed", "x", x)
        if x.dim() < 2 or x.shape[1:].numel() != self.linear.in_features:
            raise ValueError(
                f"Embed: x must have {self.linear.in_features} entries a sample, "
                f"got shape {tuple(x.shape)}"
            )
        y: Tensor = self.l2norm(self.linear(widened(x.flatten(1))))
        return y
