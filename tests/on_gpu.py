"""The ops of kdops for CPU tensors, computed by the CUDA library on copies in the GPU's memory.

A copy has the layout of its original: strides, and a storage that may begin unaligned.
"""

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from kdops import _native

ALL = torch._C._dispatch_get_all_op_names()
NAMES = [name.removeprefix("kdops::") for name in ALL if name.startswith("kdops::")]


def missing() -> str | None:
    """Why there is no CUDA kernel to run."""
    if "cuda" not in _native.loaded:
        return f"no CUDA library: {_native.errors['cuda']}"
    return None if torch.cuda.is_available() else "torch sees no GPU here"


def copied(x: Tensor) -> Tensor:
    storage = x.untyped_storage().to(device="cuda")
    copy = torch.empty(0, dtype=x.dtype, device="cuda")
    return copy.set_(storage, x.storage_offset(), x.shape, x.stride())


def _op(name: str):
    kernel = getattr(torch.ops.kdops, name).default

    def call(*arguments):
        outputs = kernel(*tree_map_only(Tensor, copied, arguments))
        return tree_map_only(Tensor, Tensor.cpu, outputs)

    return call


def _scale(gradient: Tensor, upstream: Tensor) -> None:
    on_gpu = copied(gradient)
    torch.ops.kdops._scale_(on_gpu, copied(upstream))
    gradient.copy_(on_gpu)


OPS = {name: _op(name) for name in NAMES} | {"_scale_": _scale}
