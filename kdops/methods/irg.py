"""IRG: the graph of a batch's samples in a layer, and how it changes between layers."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .. import _checks, compat
from .. import functional as F
from ..functional._rows import summed
from ..taps import Outputs
from .logits import logit_distance
from .method import layer_pairs, tapped
from .relation import Relation


class IRG(Relation):
    """Labels + vertices of the logits + edges of layers + transformations between layers.

        ce_weight CE + vertex_weight mean (z - z')^2 + edge_weight sum_l irg_edge_loss
            + transform_weight sum_(a, b) irg_transform_loss

    Args:
        edges: layers whose edges are compared, each with the teacher's of the same name.
        to_many: the teacher's one layer whose edges all of `edges` are compared with instead.
        transforms: pairs of layers of one network; part='vertex' needs as many channels in both.
        vertex_weight: of the squared difference of the raw logits.
        edge_weight, transform_weight: of the terms above; of their sums over layers.
        part: 'vertex' or 'edge', see `kdops.irg_transform_loss`.
        caffe: the authors' layers instead (`kdops.compat.caffe`): the maximum a constant, half of
            the edges' gradient; their weights are 0.005, and one-to-one only.
        options: of `Relation` and `Method`.
    Source: Liu, Cao, Li, Yuan, Hu, Li, Duan, 2019, "Knowledge Distillation via Instance
        Relationship Graph", section 3. The weights are not published; these are code's that follows
        it with 'mean' reductions.
    """

    def __init__(
        self,
        edges: str | Sequence[str] = "embedding",
        *,
        to_many: str | None = None,
        transforms: Sequence[Sequence[str]] = (),
        vertex_weight: float = 0.1,
        edge_weight: float = 5.0,
        transform_weight: float = 5.0,
        part: str = "vertex",
        caffe: bool = False,
        **options: Any,
    ):
        super().__init__(**options)
        self.edges = (edges,) if isinstance(edges, str) else tuple(edges)
        self.to_many, self.transforms = to_many, layer_pairs("IRG", "transforms", transforms)
        _checks.one_of("IRG", "part", part, ("vertex", "edge"))
        if caffe and (to_many is not None or part != "vertex" or self.gather is not None):
            raise ValueError("IRG: caffe has neither to_many, part='edge' nor gather")
        named = [*self.edges, *(x for pair in self.transforms for x in pair)]
        self.layers = tapped(named if to_many is None else [*named, to_many])
        self.vertex_weight = self.number("vertex_weight", vertex_weight)
        self.edge_weight = self.number("edge_weight", edge_weight)
        self.transform_weight = self.number("transform_weight", transform_weight)
        self.part, self.caffe = part, caffe

    def edge_loss(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        ours = [self.rows(student, layer) for layer in self.edges]
        if self.to_many is not None:
            return F.irg_edge_loss(ours, self.rows(teacher, self.to_many), gather=self.gather)
        theirs = [self.rows(teacher, layer) for layer in self.edges]
        if self.caffe:
            return summed(map(compat.caffe.irg_edge_loss, ours, theirs))
        return summed(
            F.irg_edge_loss(a, b, gather=self.gather) for a, b in zip(ours, theirs, strict=True)
        )

    def transform_loss(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        pairs = [
            [(self.rows(side, a), self.rows(side, b)) for side in (student, teacher)]
            for a, b in self.transforms
        ]
        if self.caffe:
            return summed(compat.caffe.irg_transform_loss(*pair) for pair in pairs)
        return summed(F.irg_transform_loss(*x, part=self.part, gather=self.gather) for x in pairs)

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        terms = super().terms(student, teacher, target)
        if self.vertex_weight:
            distance = logit_distance(*self.pair(student, teacher, "logits"))
            terms["vertices"] = self.vertex_weight * distance
        if self.edges and self.edge_weight:
            terms["edges"] = self.edge_weight * self.edge_loss(student, teacher)
        if self.transforms and self.transform_weight:
            transform = self.transform_loss(student, teacher)
            terms["transformations"] = self.transform_weight * transform
        return terms
