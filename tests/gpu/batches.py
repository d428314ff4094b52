"""Batches in a device's memory."""

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ..cases import generator
from ..metrics import upstream

SHAPES = {"rows": (33, 100), "peers": (33, 100), "pairs": (33, 65), "map": (33, 65)}


def batch(case, device: str, shape=None, dtype=torch.float32, seed: int = 0):
    """(student, teacher, kwargs) as of case.make_inputs."""
    given = case.make_inputs(shape or SHAPES[case.kind], dtype, generator(seed))
    return tree_map_only(Tensor, lambda x: x.to(device), given)


def weights_of(case):
    """What makes the upstream gradient: random of a map."""
    return upstream if case.kind == "map" else torch.ones_like


def equal(a, b) -> bool:
    return all(map(torch.equal, a, b))


def close(found, expected, relative: float = 1e-5) -> None:
    """Up to a few roundings in units of the largest entry."""
    most = expected.abs().amax().item()
    torch.testing.assert_close(found, expected, rtol=relative, atol=relative * most)
