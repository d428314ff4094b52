"""One case a class or function of a peer: our call, the published formula, and their inputs."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import kdops

from ..cases import generator

SEEDS = range(4)
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-5}


@dataclass(frozen=True)
class Case:
    name: str  # the peer's
    ours: Callable
    published: Callable
    shapes: list  # of the arguments: a shape, or a list of shapes for a list of layers
    constant: tuple = ()  # numbers of arguments that get no gradient, as in the peer
    more: dict = field(default_factory=dict)  # arguments made from a generator, by name
    variant: str = ""
    alone: bool = True  # whether it runs where the first argument alone requires grad
    same_type: bool = False  # the published formula too, for its SVD's signs differ between types

    def __str__(self) -> str:
        return f"{self.name}-{self.variant}" if self.variant else self.name

    def arguments(self, seed: int, dtype: torch.dtype) -> list:
        g = generator(seed)

        def make(shape):
            if isinstance(shape, list):
                return [make(layer) for layer in shape]
            return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)

        return [make(shape) for shape in self.shapes]

    def options(self, seed: int) -> dict:
        return {name: make(generator(seed)) for name, make in self.more.items()}


def leaves(arguments) -> list[Tensor]:
    if isinstance(arguments, Tensor):
        return [arguments]
    return [x for item in arguments for x in leaves(item)]


def result(function: Callable, arguments: list, **options):
    """What the loss returns, and the gradient of its sum for every tensor, or for those that
    require it alone: None where it has none, and none of zeros.
    """
    tensors = [x for x in leaves(arguments) if x.requires_grad]
    tensors = tensors or [x.requires_grad_() for x in leaves(arguments)]
    found = function(*arguments, **options)
    value = torch.stack([x.sum() for x in leaves(found)]).sum()
    gradients = torch.autograd.grad(value, tensors, allow_unused=True)
    return found, [None if g is None or not g.any() else g for g in gradients]


def agree(case: Case, seed: int, dtype: torch.dtype) -> None:
    """Ours in a type against the published formula in float64: types, shapes, values, gradients.

    Gradients to the tolerance of their largest entry.
    """
    options = case.options(seed)
    exact = dtype if case.same_type else torch.float64
    arguments = case.arguments(seed, dtype)
    same = case.arguments(seed, dtype)
    same = [[x.to(exact) for x in a] if isinstance(a, list) else a.to(exact) for a in same]
    actual, gradients = result(case.ours, arguments, **options)
    wanted, expected = result(case.published, same, **options)
    tolerance = TOLERANCES[leaves(actual)[0].dtype]
    assert type(actual) is type(wanted), (type(actual), type(wanted))
    for a, b in zip(leaves(actual), leaves(wanted), strict=True):
        assert a.shape == b.shape
        assert b != 0 and (a.double() - b.double()).abs() <= tolerance * b.abs(), (a, b)
    no_teacher(case, seed, dtype, gradients[0])
    owners = [
        number
        for number, argument in enumerate(arguments)
        for _ in (argument if isinstance(argument, list) else [argument])
    ]
    assert any(g is not None for g in gradients)
    for number, a, b in zip(owners, gradients, expected, strict=True):
        assert (a is None) == (b is None) == (number in case.constant), (number, a, b)
        if a is not None:
            assert a.dtype == dtype
            assert (a.double() - b).abs().max() <= tolerance * b.abs().max(), (number, a, b)


def no_teacher(case: Case, seed: int, dtype: torch.dtype, wanted: Tensor | list) -> None:
    """The first argument's gradient when no other has a graph, as from the kernels."""
    arguments = case.arguments(seed, dtype)
    leaves(arguments)[0].requires_grad_()
    if case.alone:
        _, (gradient,) = result(case.ours, arguments, **case.options(seed))
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        assert (gradient - wanted).abs().max() <= tolerance * wanted.abs().max()


class _Ops(TorchDispatchMode):
    """The names of kdops's own ops that run."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op.namespace == "kdops":
            self.seen.add(op._schema.name.removeprefix("kdops::_"))
        return op(*args, **(kwargs or {}))


def kernels(cases: list[Case]) -> dict[str, set[str]]:
    """Of the peer's losses that run any, without a teacher's graph: the names of the kernels."""
    found = {}
    for case in cases:
        if case.alone:
            arguments = case.arguments(0, torch.float32)
            leaves(arguments)[0].requires_grad_()
            with kdops.backend("native"), _Ops() as ops:
                case.ours(*arguments, **case.options(0))
            if ops.seen:
                found.setdefault(case.name, set()).update(ops.seen)
    return found


def parameters_of(function: Callable) -> str:
    """Names and defaults as in a def statement, without self and without types."""
    signature = inspect.signature(function)
    bare = [
        p.replace(annotation=inspect.Parameter.empty)
        for name, p in signature.parameters.items()
        if name != "self"
    ]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def signatures(cls: type[nn.Module]) -> tuple[str, str]:
    """Of a class's constructor, '()' where it has none of its own, and of its forward."""
    init = parameters_of(cls.__init__) if "__init__" in vars(cls) else "()"
    return init, parameters_of(cls.forward)
