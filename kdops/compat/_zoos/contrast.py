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


class Memory(nn.Module):
    """Of every sample of the training set and each net a row of length 1, the mean of its past.

    Buffers: params (5,), that is K, T, Z of v1 and of v2 (-1 until the first batch) and momentum;
    memory_v1 and memory_v2, (samples, width), first uniform with the variance of unit rows.
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
        bound = 1 / math.sqrt(width / 3)
        for name in ("memory_v1", "memory_v2"):
            self.register_buffer(name, torch.rand(samples, width) * (2 * bound) - bound)

    def ratios(
        self, v1: Tensor, v2: Tensor, y: Tensor, idx: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Of v1 against the bank of v2 and of v2 against that of v1, (N, K + 1, 1) each:
        exp(<v, row idx_ij> / T) / Z. Then rows y move to the batch's.

        Z is the first batch's mean of exp(...) times the number of samples, a constant from then
        on. Without idx the negatives are drawn, of all samples alike, and column 0 is y.
        """
        self._check(v1, v2, y, idx)
        y, idx = y.long(), self._draw(y) if idx is None else idx.long()
        v1, v2 = widened(v1), widened(v2)
        temperature, momentum = self.params[1].item(), self.params[4].item()
        against = (v1, self.memory_v2), (v2, self.memory_v1)
        scores = [
            (products(bank[idx].to(v), v[:, :, None]) / temperature).exp() for v, bank in against
        ]
        with torch.no_grad():
            for place, score in enumerate(scores, 2):
                if self.params[place] < 0:
                    self.params[place] = score.mean() * len(self.memory_v1)
            for v, bank in (v1, self.memory_v1), (v2, self.memory_v2):
                moved = momentum * bank[y].to(v) + (1 - momentum) * v
                bank.index_copy_(0, y, scaled(moved).to(bank))
        return scores[0] / self.params[2].item(), scores[1] / self.params[3].item()

    def _draw(self, y: Tensor) -> Tensor:
        self.multinomial.to(y.device)
        idx = self.multinomial.draw(len(y) * (int(self.params[0]) + 1)).view(len(y), -1)
        idx[:, 0] = y
        return idx

    def _check(self, v1: Tensor, v2: Tensor, y: Tensor, idx: Tensor | None) -> None:
        function, names = type(self).__name__, self.arguments
        count, width = self.memory_v1.shape
        for name, v in zip(names, (v1, v2), strict=False):
            _checks.features(function, name, v)
            if not len(v) or v.shape[1] != width:
                raise ValueError(
                    f"{function}: {name} must be (N, {width}), N >= 1, as the memory's rows are, "
                    f"got {tuple(v.shape)}"
                )
        if len(v1) != len(v2):
            raise ValueError(
                f"{function}: {names[0]} and {names[1]} must have the same number of rows, "
                f"got {tuple(v1.shape)} and {tuple(v2.shape)}"
            )
        _indices(function, names[2], y, (len(v1),), count)
        if idx is not None:
            _indices(function, names[3], idx, (len(v1), int(self.params[0]) + 1), count)


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
