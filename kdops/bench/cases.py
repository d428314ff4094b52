"""The functions that have kernels, at a person's own sizes: inputs, and what each form holds."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import kdops

KINDS = {
    "kd_loss": "rows",
    "soft_cross_entropy": "rows",
    "rkd_distance_loss": "pairs",
    "rkd_angle_loss": "pairs",
    "irg_edge_loss": "pairs",
    "cckd_loss": "pairs",
    "pkt_loss": "pairs",
    "sp_loss": "pairs",
    "pairwise_distance": "map",
    "triplet_angle": "map",
    "rbf_correlation": "map",
    "mutual_kl": "peers",
    "mixture_kl": "peers",
}
CUBIC = ("rkd_angle_loss", "triplet_angle")
RELATED = 3  # fewer rows have no relation, or always the same one
SEED = 0


@dataclass(frozen=True)
class Case:
    op: str
    rows: int
    cols: int
    peers: int = 2
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @property
    def kind(self) -> str:
        return KINDS[self.op]

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.peers,) * (self.kind == "peers") + (self.rows, self.cols)

    def __str__(self) -> str:
        return f"{self.op} {'x'.join(map(str, self.shape))} {str(self.dtype)[6:]}"

    def inputs(self) -> tuple[Tensor, Tensor]:
        """A leaf for the student or the peers, and a teacher, correlated by 0.7."""
        generator = torch.Generator().manual_seed(SEED)
        teacher, noise = (
            torch.randn(self.shape, generator=generator, dtype=torch.float64) for _ in range(2)
        )
        scale = 2 if self.kind in ("rows", "peers") else 1  # logits vary more than features
        student = 0.7 * teacher + 0.51**0.5 * noise
        student, teacher = (
            (scale * x).to(self.device, self.dtype, copy=True) for x in (student, teacher)
        )
        return student.requires_grad_(), teacher

    def as_number(self, function: Callable) -> Callable[[Tensor, Tensor], Tensor]:
        """`function` of student and teacher; a map's squares, and peers' losses, are summed."""
        if self.kind == "map":
            return lambda student, _: function(student).square().sum()
        if self.kind == "peers":
            return lambda student, _: function(student).sum()
        return function

    @property
    def function(self) -> Callable:
        return self.as_number(getattr(kdops, self.op))

    def needed(self, native: bool) -> int:
        """Bytes that inputs, drawn in float64, and kdops alone take; a kernel's maps four times."""
        inputs = 4 * 8 * torch.Size(self.shape).numel()
        if not native:
            return inputs + self.held(reference=True)
        if self.kind != "map" and self.op not in CUBIC:
            return inputs
        return inputs + 4 * self.rows ** (3 if self.op == "triplet_angle" else 2) * self._size

    def held(self, reference: bool = False, exact: bool = False) -> int:
        """Bytes that a form of PyTorch calls holds at most; `exact` in float64."""
        n, d = self.rows, self.cols
        if self.kind == "rows":
            entries = n * d * (32 if reference else 8)
        elif self.kind == "peers":
            entries = self.peers * n * d * (20 * self.peers if reference else self.peers + 4)
        elif self.op in CUBIC:
            entries = 6 * n * n * d + 5 * n**3
        else:
            entries = n * n * (4 * d + 40) if reference else 12 * n * n + 8 * n * d
        return entries * (8 if exact else self._size)

    @property
    def _size(self) -> int:
        """Bytes of a number: half types are computed in float32."""
        return max(4, self.dtype.itemsize)
