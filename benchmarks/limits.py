"""What a step cannot be faster than, from probes timed beside it: the machine of that moment.

A probe is a run of PyTorch whose seconds stand for what the hardware gives:

    empty     an autograd.Function that allocates the loss and the gradient and computes nothing
    stream    x + y into z, arrays of the student's bytes: two reads and a write
    product   a matrix product in cache, taken to do one vector FMA (16 lanes of float32, 8 of
              float64) a cycle; it reaches nine tenths of that, so a cycle is overstated by a tenth

Instructions are counted in such cycles, with inputs and outputs free:

    exp       10 cycles a vector: a polynomial of degree 6 and the scaling by a power of two
    map       half of N x N, D terms: 1.25 cycles a vector of squared differences, as a difference
              and an FMA from registers take, 1 of products
    triples   half of N x N x N angles, 11 cycles a vector: both cosines, the Huber term, the sums
    gradient  the N x N by N x D product: 1 cycle a vector
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import Function

SIDE = 384  # of the probe's matrices
LANES = 16
CYCLES = {"exp": 10, "squared difference": 1.25, "product": 1, "triple": 11}


class _Empty(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(torch.empty_like(x))
        return x.new_empty(())

    @staticmethod
    def backward(ctx, upstream):
        return ctx.saved_tensors[0]


def empty(student: Tensor, teacher: Tensor) -> Callable:
    def run() -> None:
        student.grad = None
        _Empty.apply(student).backward()

    return run


def stream(student: Tensor, teacher: Tensor) -> Callable:
    x, y = student.detach(), teacher
    if x.element_size() == 2:  # the same bytes without the conversion
        x, y = x.view(torch.float32), y.view(torch.float32)
    z = torch.empty_like(x)
    return lambda: torch.add(x, y, out=z)


def product(student: Tensor, teacher: Tensor) -> Callable:
    x, y, z = torch.randn(3, SIDE, SIDE)
    return lambda: torch.mm(x, y, out=z)


PROBES = {"empty": empty, "stream": stream, "product": product}


def _cycle(probes: dict, dtype: torch.dtype) -> float:
    """Seconds of one float32 vector FMA; a float64 vector has half the lanes."""
    wide = 2 if dtype == torch.float64 else 1
    return wide * probes["product"] * LANES / SIDE**3


def _vectors(terms: float) -> float:
    return terms / LANES


def exp_and_bytes(probes: dict, shape: tuple, dtype: torch.dtype, labels: bool) -> float:
    exps = shape[0] * shape[1] * (3 if labels else 2)  # student and teacher at T, student at 1
    return _vectors(exps) * CYCLES["exp"] * _cycle(probes, dtype) + probes["stream"]


def operations(limit: str, shape: tuple) -> dict[str, float]:
    """How often a relation does what: both half maps, the gradient's product, the triples."""
    n, d = shape
    products = n * n * d
    return {
        "maps + product": {"squared difference": products, "product": products},
        "Gram maps + product": {"product": 2 * products},
        "triples + maps + product": {
            "triple": n**3 / 2,
            "squared difference": products,
            "product": products,
        },
    }[limit]


def _arithmetic(limit: str) -> tuple:
    def seconds(probes: dict, shape: tuple, dtype: torch.dtype, labels: bool) -> float:
        counts = operations(limit, shape).items()
        cycles = sum(_vectors(count) * CYCLES[term] for term, count in counts)
        return cycles * _cycle(probes, dtype)

    return ("product",), seconds


# name: the probes it needs, and its seconds from (their seconds, shape, dtype, labels)
LIMITS = {
    "empty function": (("empty",), lambda probes, *_: probes["empty"]),
    "x + y": (("stream",), lambda probes, *_: probes["stream"]),
    "exp + x + y": (("product", "stream"), exp_and_bytes),
    **{
        name: _arithmetic(name)
        for name in ("maps + product", "Gram maps + product", "triples + maps + product")
    },
}
