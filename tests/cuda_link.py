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
    student = inputs[0].clone().requires_grad_()
    value = function(student, *inputs[1:])
    value.sum().backward()
    return value.detach(), student.grad


torch.manual_seed(0)
pair = torch.randn(16, 8), torch.randn(16, 8)
for name in kdops.functional.__all__:
    function = getattr(kdops, name)
    inputs = pair if "teacher" in inspect.signature(function).parameters else pair[:1]
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
print(f"cuda-link: {len(ops)} ops, {len(kdops.functional.__all__)} functions on the CPU: fine")
