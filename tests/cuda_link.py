"""What an installation with both libraries does without a GPU; run by cuda_link.sh."""

import inspect

import torch

import kdops
from kdops import _native

assert _native.loaded == {"cpu", "cuda"}, _native.errors
assert _native.level("cuda"), "no architectures"
assert not torch.cuda.is_initialized(), "the import asked for a GPU"

ops = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("kdops::")]
missing = [
    f"{name} on {key}"
    for name in ops
    for key in ("CPU", "CUDA")
    if not torch._C._dispatch_has_kernel_for_dispatch_key(name, key)
]
assert missing == ["kdops::_scale_ on CPU"], f"without a kernel: {missing}"


def value_and_gradient(function, inputs):
    first = inputs[0].clone().requires_grad_()
    value = function(first, *inputs[1:])
    value.sum().backward()
    return value.detach(), first.grad


torch.manual_seed(0)
pair = torch.randn(2, 16, 8)
stems = [name.removeprefix("kdops::_") for name in ops]
functions = sorted(name for name in stems if hasattr(kdops, name))
for name in functions:
    function = getattr(kdops, name)
    parameters = inspect.signature(function).parameters
    inputs = pair if "teacher" in parameters else [pair if "logits" in parameters else pair[0]]
    with kdops.backend("native"):
        native = value_and_gradient(function, inputs)
    with kdops.backend("reference"):
        reference = value_and_gradient(function, inputs)
    torch.testing.assert_close(native, reference, rtol=1e-4, atol=1e-5)

try:
    kdops.kd_loss(pair[0].cuda(), pair[1].cuda())
except RuntimeError as error:
    assert "Found no NVIDIA driver" in str(error) or "No CUDA GPUs" in str(error), error
else:
    raise AssertionError("there is a GPU after all")
print(f"cuda-link: {len(ops)} ops, {len(functions)} functions on the CPU: fine")
