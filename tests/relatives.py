"""One table of the losses that are composed of PyTorch's operations, on layers, maps and logits.

A loss is called with (student, teacher), each one tensor or a pair of two layers, then with what
else it takes.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

import kdops

from .cases import generator

ROWS = ("batchmean", "mean", "sum", "none")


@dataclass(frozen=True)
class Relative:
    name: str
    stem: str  # the public function's name, as in its error messages
    student: tuple  # shapes, one a layer
    teacher: tuple
    options: dict = field(default_factory=dict)
    reductions: tuple = ()

    def inputs(self, dtype=torch.float64, seed=0, rows=4) -> tuple[list[Tensor], list[Tensor]]:
        """The layers of student, and of teacher."""
        g = generator(seed)
        return tuple(
            [
                torch.randn((rows, *shape[1:]), generator=g, dtype=torch.float64).to(dtype)
                for shape in layers
            ]
            for layers in (self.student, self.teacher)
        )

    def __call__(self, student, teacher, **more) -> Tensor:
        """Of lists of layers."""
        function, options = getattr(kdops, self.stem), dict(self.options)
        ours, theirs = (x[0] if len(x) == 1 else tuple(x) for x in (student, teacher))
        if self.stem == "dkd_loss":
            rows = len(ours) if isinstance(ours, Tensor) and ours.dim() else 4
            options["target"] = torch.arange(rows) % 5
            options["target"][3:4] = -100
        if self.stem == "vid_loss":
            options["variance"] = torch.tensor([0.5, 3.0])
        return function(ours, theirs, **{**options, **more})


def _relative(stem, student, teacher, variant="", reductions=(), **options):
    name = f"{stem}-{variant}" if variant else stem
    return Relative(name, stem, student, teacher, options, reductions)


_MAP, _SMALL, _LARGE = (4, 3, 3, 2), (4, 2, 2, 2), (4, 5, 2, 4)
_PAIR, _OTHER = ((4, 2, 4, 3), (4, 3, 2, 2)), ((4, 2, 2, 2), (4, 3, 2, 4))
_LOGITS, _ROW, _WIDE = ((4, 5),), (4, 3), (4, 6)
RELATIVES = [
    _relative("at_loss", (_MAP,), (_LARGE,), reductions=ROWS),
    _relative("at_loss", (_MAP,), (_MAP,), "paper", squared=False, reductions=ROWS),
    _relative("at_loss", (_MAP,), (_MAP,), "cubes", p=3.0),
    _relative("fsp_loss", _PAIR, _OTHER, reductions=ROWS),
    _relative("hint_loss", (_SMALL,), (_SMALL,), reductions=ROWS),
    _relative("vid_loss", (_SMALL,), (_SMALL,), reductions=ROWS),
    _relative("dkd_loss", _LOGITS, _LOGITS, reductions=ROWS),
    _relative("dkd_loss", _LOGITS, _LOGITS, "T1", temperature=1.0, rest_weight=2.0),
    _relative("dist_loss", _LOGITS, _LOGITS),
    _relative("dist_loss", _LOGITS, _LOGITS, "T4", temperature=4.0, inter_weight=2.0),
    _relative("irg_transform_loss", (_ROW, _ROW), (_WIDE, _WIDE), reductions=("mean", "sum")),
    _relative("irg_transform_loss", (_ROW, _WIDE), (_WIDE, (4, 2)), "edge", part="edge"),
    _relative(
        "cckd_loss", (_ROW,), (_WIDE,), "mmd", reductions=("mean", "sum", "none"), kernel="mmd"
    ),
    _relative("cckd_loss", (_ROW,), (_WIDE,), "mmd raw", kernel="mmd", normalize=False),
    _relative("cckd_loss", (_ROW,), (_WIDE,), "bilinear raw", kernel="bilinear", normalize=False),
]
BY_NAME = {loss.name: loss for loss in RELATIVES}
PLAIN = [loss for loss in RELATIVES if loss.name == loss.stem]


def gradients(loss: Relative, student, teacher, **more) -> tuple[Tensor, list[Tensor]]:
    """The value, and the gradient of each layer of the student."""
    student = [x.detach().clone().requires_grad_() for x in student]
    value = loss(student, teacher, **more)
    return value.detach(), list(torch.autograd.grad(value.sum(), student))
