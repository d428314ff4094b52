"""Methods that compare a layer's feature maps: attention, variational, and the flow between two."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from .. import functional as F
from ..nn import VIDLoss
from ..taps import Outputs
from .method import Method, layer_weights


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
        **options,
    ):
        super().__init__(**options)
        self.shares, self.weight, self.p = layer_weights("AT", layers), weight, p
        self.layers = tuple(self.shares)

    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        terms = super().terms(student, teacher, target)
        for layer, share in self.shares.items():
            value = F.at_loss(student.features[layer], teacher.features[layer], p=self.p)
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
        **options,
    ):
        super().__init__(**options)
        self.shares, self.weight, self.variance = layer_weights("VID", layers), weight, variance
        self.layers, self.losses = tuple(self.shares), nn.ModuleList()

    def prepare(self, student: Outputs, teacher: Outputs) -> None:
        channels = [[x.features[y].shape[1] for x in (student, teacher)] for y in self.layers]
        self.losses = nn.ModuleList(VIDLoss(*pair, variance=self.variance) for pair in channels)
        self.losses.to(student.logits.device)

    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        if len(self.losses) != len(self.layers):
            raise RuntimeError("VID: call prepare(student, teacher) first")
        terms = super().terms(student, teacher, target)
        for (layer, share), loss in zip(self.shares.items(), self.losses, strict=True):
            value = loss(student.features[layer], teacher.features[layer])
            terms[f"likelihood {layer}"] = self.weight * share * value
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
        **options,
    ):
        super().__init__(ce_weight=ce_weight, **options)
        self.pairs, self.weight, self.regress = tuple(map(tuple, pairs)), weight, regress
        self.layers = tuple(dict.fromkeys(layer for pair in self.pairs for layer in pair))
        self.regressors = nn.ModuleDict()

    def prepare(self, student: Outputs, teacher: Outputs) -> None:
        if self.regress:
            channels = {
                x: [side.features[x].shape[1] for side in (student, teacher)] for x in self.layers
            }
            self.regressors = nn.ModuleDict(
                {name: nn.Conv2d(*pair, 1) for name, pair in channels.items()}
            ).to(student.logits.device)

    def guided(self, student: Outputs, layer: str) -> Tensor:
        x = student.features[layer]
        return self.regressors[layer](x) if self.regress else x

    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        terms = super().terms(student, teacher, target)
        for pair in self.pairs:
            ours = tuple(self.guided(student, layer) for layer in pair)
            theirs = tuple(teacher.features[layer] for layer in pair)
            terms[f"flow {'-'.join(pair)}"] = self.weight * F.fsp_loss(ours, theirs)
        return terms
