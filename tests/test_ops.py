"""The registered ops themselves: schema, fakes, and what they do without the public functions."""

import pytest
import torch

import kdops
from kdops import _native

from .cases import CASES, call, generator, small_inputs

pytestmark = pytest.mark.usefixtures("native")

UTILITIES = (
    "test_schema",
    "test_autograd_registration",
    "test_faketensor",
    "test_aot_dispatch_dynamic",
    "test_aot_dispatch_static",
)


def pair(rows=6, columns=10, dtype=torch.float32, transposed=False):
    shape = (2, columns, rows) if transposed else (2, rows, columns)
    x = torch.randn(shape, generator=generator()).to(dtype)
    return (x.mT if transposed else x).unbind()


def mutual(s, t, target, wanted):
    weights = [0.0, 1.0, 0.5, 0.0]
    stacked = wanted != 7  # then the bits of a list's two tensors, and of weights
    logits = [torch.stack((s, t))] if stacked else [s, t]
    return logits, target, weights, [1.0, 0.0], 2.0, 4.0, 0, -100, stacked, wanted & 3


def mixture(s, t, target, wanted):
    stacked = wanted != 7
    logits = [torch.stack((s, t))] if stacked else [s, t]
    accumulated = torch.float64 if s.dtype == torch.float64 else torch.float32
    weights = torch.full((len(s), 2, 2), 0.5, dtype=accumulated)
    scalars = (2.0, 4.0, 0.5, 0, 2, 2 * (wanted == 1), -100, stacked, wanted)
    return logits, weights, target, [1.0, 0.0], *scalars


def samples(rows=6, dtype=torch.float32, transposed=False):
    """Arguments of each op, by name."""
    s, t = pair(rows, dtype=dtype, transposed=transposed)
    target = torch.arange(rows) % 10
    accumulated = torch.float64 if dtype == torch.float64 else torch.float32
    square = torch.randn(rows, rows, generator=generator()).to(accumulated)
    cube = torch.randn(rows, rows, rows, generator=generator()).to(accumulated)
    for grad in (False, True):
        for reduction in (0, 1, 2):
            yield "_kd_loss", (s, t, None, 4.0, 1.0, 0.0, reduction, -100, grad)
            yield "_kd_loss", (s, t, target, 4.0, 0.9, 0.1, reduction, -100, grad)
            yield "_soft_cross_entropy", (s, t, 4.0, 16.0, reduction, grad)
        for teacher in (False, True):
            yield "_rkd_distance_loss", ([s, s, t], 0.0, True, grad, teacher)
            yield "_rkd_angle_loss", ([s, t], 1e-12, False, grad, teacher)
            yield "_irg_edge_loss", ([s, t], True, grad, teacher)
            yield "_cckd_loss", ([s, t], 0.4, [0.4, 0.4, 0.1], True, True, grad, teacher)
        for power in (0, 1, 2):
            for student_t in (False, True):
                yield "_pkt_loss", ([s, t], student_t, not student_t, student_t, 0.0, power, grad)
            yield "_pkt_loss", ([s, t], False, False, True, 1e-7, power, grad)
            for norm in (1, 2):
                yield "_sp_loss", ([s, t], norm, power, grad)
    for wanted in (0, 1, 7):
        yield "_mutual_kl", mutual(s, t, target, wanted)
        yield "_mixture_kl", mixture(s, t, target, wanted)
    for normalize in (0, 1, 2):
        yield "_pairwise_distance", (s, normalize == 2, normalize, 0.0)
        yield "_pairwise_distance_backward", (square, s, normalize == 2, normalize, 0.0)
    for coefficients in ([], [0.4, 0.4, 0.1]):
        yield "_rbf_correlation", (s, 0.4, coefficients, True)
        yield "_rbf_correlation_backward", (square, s, 0.4, coefficients, False)
    yield "_triplet_angle", (s, 0.0)
    yield "_triplet_angle_backward", (cube, s, 0.0)


NAMES = sorted({name for name, _ in samples()})


def op(name):
    return getattr(torch.ops.kdops, name).default


def test_every_op_is_sampled():
    registered = {
        n.partition("::")[2]
        for n in torch._C._dispatch_get_all_op_names()
        if n.startswith("kdops::")
    }
    assert registered == {*NAMES, "_scale_"}  # which CUDA alone has


@pytest.mark.parametrize("name", NAMES)
def test_every_op_has_a_kernel(name):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"kdops::{name}", "CPU")


BATCHES = {
    "float32": {},
    "float64": {"dtype": torch.float64},
    "bfloat16": {"dtype": torch.bfloat16},
    "transposed": {"transposed": True},
    "no rows": {"rows": 0},
    "one row": {"rows": 1},
    "two rows": {"rows": 2},
}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name, batch):
    utilities = UTILITIES if batch in ("float32", "transposed") else UTILITIES[:3]
    for sample, arguments in samples(**BATCHES[batch]):
        if sample == name:
            torch.library.opcheck(op(name), arguments, test_utils=utilities)


def requiring_grad(argument):
    if isinstance(argument, list):
        return [requiring_grad(x) for x in argument]
    if isinstance(argument, torch.Tensor) and argument.is_floating_point():
        return argument.clone().requires_grad_()
    return argument


@pytest.mark.parametrize("name", NAMES)
def test_an_op_is_not_differentiable_by_itself(name):
    """Never a silent None: the backward of a raw op raises or warns."""
    for sample, arguments in samples():
        if sample == name:
            value = op(name)(*map(requiring_grad, arguments))
            value = value if isinstance(value, torch.Tensor) else value[0]
            if value.requires_grad:
                with pytest.warns(UserWarning, match="autograd kernel was not registered"):
                    value.sum().backward()


class Counter(torch.utils._python_dispatch.TorchDispatchMode):
    """The kdops ops that run inside."""

    def __init__(self):
        super().__init__()
        self.called = []

    def __torch_dispatch__(self, function, types, arguments=(), kwargs=None):
        if function.namespace == "kdops":
            self.called.append(function._schema.name.partition("::")[2])
        return function(*arguments, **(kwargs or {}))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_public_function_calls_its_op(case):
    """Once, with the gradient in the same call; a map has an op for it."""
    student, teacher, kwargs = small_inputs(case)
    with kdops.backend("native"), Counter() as counter:
        value = call(case.function, student.requires_grad_(), teacher, **kwargs)
        value.sum().backward()
    backward = [f"_{case.stem}_backward"] if case.kind == "map" else []
    expected = [] if case.name == "kd_loss-hard" else [f"_{case.stem}", *backward]
    assert counter.called in (expected, [f"_{case.stem}", *backward])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_reference_calls_no_op(case):
    student, teacher, kwargs = small_inputs(case)
    with kdops.backend("reference"), Counter() as counter:
        call(case.function, student.requires_grad_(), teacher, **kwargs).sum().backward()
    assert not counter.called


def test_the_choice_ends_with_its_block_and_belongs_to_its_thread():
    import threading

    seen = []
    x = torch.randn(4, 3)

    def run():
        with Counter() as counter:
            kdops.pairwise_distance(x)
        seen.append(counter.called)

    with kdops.backend("reference"):
        run()
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        with pytest.raises(KeyError), kdops.backend("native"):
            raise KeyError
        run()
    run()
    assert seen == [[], ["_pairwise_distance"], [], ["_pairwise_distance"]]


def test_subclasses_go_to_the_reference():
    class Tagged(torch.Tensor):
        pass

    x = torch.randn(4, 3)
    with Counter() as counter:
        value = kdops.pairwise_distance(x.as_subclass(Tagged))
    assert isinstance(value, Tagged) and not counter.called
    torch.testing.assert_close(value.as_subclass(torch.Tensor), kdops.pairwise_distance(x))


def test_schemas_are_defined_once():
    with pytest.raises(RuntimeError, match=r"multiple times|already"):
        _native.define("_kd_loss(Tensor x) -> Tensor", lambda x: x)
