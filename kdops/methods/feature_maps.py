"""Methods that compare a layer's feature maps: attention, variational, and the flow between two."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .. import _checks
from .. import functional as F
from ..functional._rows import widened
from ..nn import VIDLoss
from ..taps import Outputs
from .method import Method, layer_pairs, layer_weights, like, tapped, try_options


def _check_maps(method: str, student: Tensor, teacher: Tensor) -> None:
    _checks.feature_maps(method, "student", student)
    _checks.feature_maps(method, "teacher", teacher)


class AT(Method):
    """Labels + weight * at_loss, summed over layers.

    Args:
        layers: one layer, or several, or shares by layer.
        weight: the published 1000 of the 'mean' reduction.
        p: power of the activations.
        options: of `Method`.
    Source: Zagoruyko, Komodakis, 2017, "Paying More Attention to Attention", section 3.1.
    """

    def __init__(
        self,
        layers: str | Sequence[str] | Mapping[str, float] = ("early", "middle"),
        *,
        weight: float = 1000.0,
        p: float = 2,
        **options: Any,
    ):
        super().__init__(**options)
        self.shares, self.weight = layer_weights("AT", layers), self.number("weight", weight)
        self.layers, self.p = tapped(self.shares), p
        try_options(F.at_loss, (1, 1, 1, 1), p=p)

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        terms = super().terms(student, teacher, target)
        for layer, share in self.shares.items():
            value = F.at_loss(*self.pair(student, teacher, layer), p=self.p)
            terms[f"attention {layer}"] = self.weight * share * value
        return terms


class VID(Method):
    """Labels + weight * vid_loss, summed over layers, with the regressors and variances it learns.

    Args:
        layers: of feature maps with equal sides; one layer, or several, or shares by layer.
        weight: the published 1.
        variance: at the start.
        options: of `Method`.
    Source: Ahn, Hu, Damianou, Lawrence, Dai, 2019, "Variational Information Distillation for
        Knowledge Transfer", section 2.
    """

    def __init__(
        self,
        layers: str | Sequence[str] | Mapping[str, float] = "middle",
        *,
        weight: float = 1.0,
        variance: float = 5.0,
        **options: Any,
    ):
        super().__init__(**options)
        self.shares, self.weight = layer_weights("VID", layers), self.number("weight", weight)
        self.variance = self.number("variance", variance)
        self.layers, self.losses = tapped(self.shares), nn.ModuleList()

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        self.losses = nn.ModuleList()
        for layer in self.shares:
            ours, theirs = maps = self.pair(student, teacher, layer)
            _check_maps("VID", *maps)
            loss = VIDLoss(ours.shape[1], theirs.shape[1], variance=self.variance)
            self.losses.append(like(loss, ours))

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        self.check_prepared(self.losses, len(self.shares))
        terms = super().terms(student, teacher, target)
        for (layer, share), loss in zip(self.shares.items(), self.losses, strict=True):
            ours, theirs = self.pair(student, teacher, layer)
            terms[f"likelihood {layer}"] = self.weight * share * loss(widened(ours), theirs)
        return terms


class FSP(Method):
    """The first stage of FSP: the flow between layers, without labels; train with `Labels` after.

    Args:
        pairs: pairs of layers whose channels are the teacher's; where they are not, `regress`.
        weight: of the sum; 50 is published for a 'mean'.
        regress: whether a 1 x 1 convolution brings the student's channels to the teacher's.
        options: of `Method`; ce_weight is 0.
    Source: Yim, Joo, Bae, Kim, 2017, "A Gift from Knowledge Distillation", section 3.
    """

    def __init__(
        self,
        pairs: Sequence[Sequence[str]] = (("early", "middle"),),
        *,
        weight: float = 50.0,
        regress: bool = False,
        ce_weight: float = 0.0,
        **options: Any,
    ):
        super().__init__(ce_weight=ce_weight, **options)
        self.pairs, self.weight = layer_pairs("FSP", "pairs", pairs), self.number("weight", weight)
        if not self.pairs:
            raise ValueError("FSP: pairs must hold at least one pair of layers, got none")
        self.layers, self.regress = tapped(x for pair in self.pairs for x in pair), regress
        self.regressors = nn.ModuleList()

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        self.regressors = nn.ModuleList()
        for layer in self.layers if self.regress else ():
            ours, theirs = maps = self.pair(student, teacher, layer)
            _check_maps("FSP", *maps)
            self.regressors.append(like(nn.Conv2d(ours.shape[1], theirs.shape[1], 1), ours))

    def guided(self, student: Outputs, layer: str) -> Tensor:
        x = self.feature(student, layer)
        return self.regressors[self.layers.index(layer)](widened(x)) if self.regress else x

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        self.check_prepared(self.regressors, len(self.layers) * self.regress)
        terms = super().terms(student, teacher, target)
        for a, b in self.pairs:
            ours = self.guided(student, a), self.guided(student, b)
            theirs = self.feature(teacher, a), self.feature(teacher, b)
            terms[f"flow {a}-{b}"] = self.weight * F.fsp_loss(ours, theirs)
        return terms
