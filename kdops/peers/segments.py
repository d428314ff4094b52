"""A model cut in front of named submodules, by torch.fx, and put together again."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, fx, nn

from ..taps import find_layer

BY_HAND = "hand the stem and the tails over yourself, as Branched(stem, tails)"


class _Tracer(fx.Tracer):
    """Goes into those modules alone that hold a point, and notes where in the graph it meets one.

    `starts` has, of every module by its identity, the number of nodes in front of its calls and
    its first arguments.
    """

    def __init__(self, inner: set[nn.Module]):
        super().__init__()
        self.inner = inner
        self.starts: dict[nn.Module, list[tuple[int, object]]] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m not in self.inner

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        first = next(iter((*args, *kwargs.values())), None)
        self.starts.setdefault(m, []).append((len(self.graph.nodes), first))
        return super().call_module(m, forward, args, kwargs)


def _trace(model: nn.Module, inner: set[nn.Module], mode: bool) -> tuple[fx.Graph, _Tracer]:
    """The graph in training or evaluation mode of the modules that are traced through."""
    modes = {module: module.training for module in inner}
    tracer = _Tracer(inner)
    try:
        for module in inner:
            module.training = mode
        return tracer.trace(model), tracer
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"segments: {type(model).__name__} must be a model that torch.fx can trace, got "
            f"{reason!r}; {BY_HAND}"
        ) from error
    finally:
        for module, was in modes.items():
            module.training = was


def _graph(model: nn.Module, points: Sequence[str]) -> tuple[fx.Graph, _Tracer]:
    inner = {model}
    for point in points:
        parts = point.split(".")
        inner |= {find_layer(model, ".".join(parts[:depth])) for depth in range(1, len(parts))}
    (graph, tracer), (other, _) = (_trace(model, inner, mode) for mode in (True, False))
    if str(graph) != str(other):
        raise ValueError(
            f"segments: {type(model).__name__} must compute the same in both modes but for its "
            "layers, got a forward pass that reads self.training (as F.dropout is given it): use "
            f"modules such as nn.Dropout, or {BY_HAND}"
        )
    return graph, tracer


def _cut(model: nn.Module, point: str, tracer: _Tracer) -> tuple[int, fx.Node]:
    """The number of nodes in front of the cut, and the point's input."""
    calls = tracer.starts.get(find_layer(model, point), [])
    if len(calls) != 1:
        raise ValueError(
            f"segments: point {point!r} must run once in a pass of {type(model).__name__}, got "
            f"{len(calls)} times"
        )
    place, given = calls[0]
    if not isinstance(given, fx.Proxy):
        raise ValueError(
            f"segments: point {point!r} must be given a tensor first, got {type(given).__name__}"
        )
    return place, given.node


def _crossing(nodes: list[fx.Node], place: int, feature: fx.Node) -> list[fx.Node]:
    """What is computed in front of a place and needed behind it, the feature first."""
    behind = set(nodes[place:])
    others = (node for node in nodes[:place] if node is not feature and behind & node.users.keys())
    return [feature, *others]


def _segment(
    model: nn.Module, nodes: list[fx.Node], given: list[fx.Node], handed: list[fx.Node] | None
) -> fx.GraphModule:
    """The nodes as a module from the values `given` to those `handed` on; None: at the end."""
    graph, new = fx.Graph(), {}
    for value in given:
        new[value] = graph.placeholder(value.name)
    for node in nodes:
        new[node] = graph.node_copy(node, new.__getitem__)
    if handed is not None:
        graph.output(tuple(new[value] for value in handed))
    return fx.GraphModule(model, graph, type(model).__name__)


def _check_weights(segments: Sequence[nn.Module]) -> None:
    """No weight on both sides of a cut."""
    owner: dict[Tensor, int] = {}
    for i, segment in enumerate(segments):
        for name, weight in (*segment.named_parameters(), *segment.named_buffers()):
            if owner.setdefault(weight, i) != i:
                raise ValueError(
                    f"segments: the model must use each of its weights on one side of a cut, got "
                    f"{name!r} on both sides"
                )


def segments(model: nn.Module, points: Sequence[str]) -> list[nn.Module]:
    """A model in pieces: cut in front of each of its submodules `points`.

    A piece takes the values that cross the cut in front of it and gives, as a tuple, those that
    cross the next; the last gives what the model gives. The first of the values is the point's
    input; the others are those that a later piece needs too, as a skip connection's. One after
    another the pieces compute what the model does, bitwise, in both modes. They share its layers,
    under the model's own names, so hooks and `Tapped` find them.

    Args:
        model: one that torch.fx can trace down to the points; other layers are not looked into.
        points: names as in `model.named_modules()`, in the order in which they run.
    Returns:
        len(points) + 1 modules.
    Raises:
        ValueError: for a name that the model has not, with those near to it; for a layer that
        runs not at all or several times; for points out of order; for a model that torch.fx cannot
        trace, or that reads self.training outside its layers; for a weight that is used on both
        sides of a cut.

    >>> stem, tail = segments(model, ["layer3"])
    >>> logits = tail(*stem(images))
    """
    points = [points] if isinstance(points, str) else list(points)
    for point in points:
        if find_layer(model, point) is model:
            raise ValueError("segments: point must be a submodule's name, got ''")
    graph, tracer = _graph(model, points)
    cuts = [_cut(model, point, tracer) for point in points]
    for (name, (place, _)), (following, (after, _)) in pairwise(zip(points, cuts, strict=True)):
        if place >= after:
            raise ValueError(
                f"segments: points must be in the order in which they run, got {name!r} in front "
                f"of {following!r}, which does not run after it"
            )
    nodes = list(graph.nodes)
    edges = [0, *(place for place, _ in cuts), len(nodes)]
    handed: list[Any] = [[], *(_crossing(nodes, *cut) for cut in cuts), None]
    pieces: list[nn.Module] = [
        _segment(model, nodes[start:end], given, after)
        for (start, end), (given, after) in zip(pairwise(edges), pairwise(handed), strict=True)
    ]
    _check_weights(pieces)
    return pieces


class Chain(nn.Module):
    """Modules one after another, each called with the tuple that the one before it gives."""

    def __init__(self, stages: Sequence[nn.Module]):
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, *values: Any) -> Any:
        for stage in self.stages:
            values = stage(*values) if isinstance(values, tuple) else stage(values)
        return values


def join(pieces: Sequence[nn.Module]) -> nn.Module:
    """Pieces as one module that shares their layers.

    Of pieces as `segments` gives them (or copies) the layers have the model's own names: its
    `state_dict` is one of the model. Of others it is a `Chain`.
    """
    graphs = [piece for piece in pieces if isinstance(piece, fx.GraphModule)]
    if len(graphs) < len(pieces):
        return Chain(pieces)
    graph = fx.Graph()
    layers: dict[str, nn.Module] = {}
    values: Any = None
    for piece in graphs:
        inputs = [node for node in piece.graph.nodes if node.op == "placeholder"]
        new = dict(zip(inputs, values, strict=True)) if values is not None else {}
        values = graph.graph_copy(piece.graph, new)
        for node in piece.graph.nodes:
            if node.op == "call_module":
                layers[node.target] = piece.get_submodule(node.target)
            elif node.op == "get_attr":
                holder, _, name = node.target.rpartition(".")
                layers[node.target] = getattr(piece.get_submodule(holder), name)
    graph.output(values)
    return fx.GraphModule(layers, graph, type(pieces[0]).__name__)
