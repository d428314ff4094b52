"""Wrong arguments: the exception's type, and a text that names the function and the argument."""

import re

import pytest
import torch

import kdops

from .cases import LOSSES, MAPS, PLAIN, small_inputs

ROWS = [case for case in PLAIN if case.kind == "rows"]
PAIRS = [case for case in PLAIN if case.kind == "pairs"]
PLAIN_MAPS = [case for case in MAPS if case.name == case.stem]
BY_STEM = {case.stem: case for case in PLAIN + PLAIN_MAPS}


def randn(*shape, **options):
    return torch.randn(shape, **options)


def sparse(*shape):
    return randn(*shape).to_sparse()


def quantized(*shape):
    return torch.quantize_per_tensor(randn(*shape), 0.1, 0, torch.quint8)


NOT_FLOAT = {
    "int64": lambda *shape: torch.ones(shape, dtype=torch.int64),
    "bool": lambda *shape: torch.ones(shape, dtype=torch.bool),
    "complex64": lambda *shape: randn(*shape, dtype=torch.complex64),
    "quint8": quantized,
}


def anything(case, change, name):
    """The case's arguments with one of its tensors replaced: change(shape)."""
    student, teacher, kwargs = small_inputs(case)
    if case.kind == "map":
        return (change(*student.shape),), kwargs
    arguments = {"student": student, "teacher": teacher}
    arguments[name] = change(*student.shape)
    return tuple(arguments.values()), kwargs


def tensors_of(case):
    return ("x",) if case.kind == "map" else ("student", "teacher")


EACH_TENSOR = [
    pytest.param(case, name, id=f"{case.stem}-{name}")
    for case in PLAIN + PLAIN_MAPS
    for name in tensors_of(case)
]


def fails(error, function: str, text: str):
    return pytest.raises(error, match=f"^{function}: {text}")


@pytest.mark.parametrize(("case", "name"), EACH_TENSOR)
@pytest.mark.parametrize("dtype", NOT_FLOAT)
def test_dtype(backend, case, name, dtype):
    arguments, kwargs = anything(case, NOT_FLOAT[dtype], name)
    with fails(TypeError, case.stem, f"{name} must be float32.*got torch.{dtype}"):
        case.function(*arguments, **kwargs)


@pytest.mark.parametrize(("case", "name"), EACH_TENSOR)
def test_sparse(backend, case, name):
    arguments, kwargs = anything(case, sparse, name)
    with fails(ValueError, case.stem, f"{name} must be a dense tensor"):
        case.function(*arguments, **kwargs)


@pytest.mark.parametrize(("case", "name"), EACH_TENSOR)
def test_not_a_tensor(backend, case, name):
    arguments, kwargs = anything(case, lambda *shape: randn(*shape).numpy(), name)
    with fails(TypeError, case.stem, f"({name}|student).* must .*tensor.*, got ndarray"):
        case.function(*arguments, **kwargs)


def rank_one(*shape):
    return randn(shape[0])


def rank_zero(*shape):
    return randn()


def rank_three(*shape):
    return randn(*shape, 2)


@pytest.mark.parametrize("change", [rank_zero, rank_one])
@pytest.mark.parametrize("case", ROWS + PAIRS + PLAIN_MAPS, ids=lambda case: case.stem)
def test_rank_too_small(backend, case, change):
    for name in tensors_of(case):
        arguments, kwargs = anything(case, change, name)
        with fails(ValueError, case.stem, rf"{name} must .*(shape|got) .*\("):
            case.function(*arguments, **kwargs)


@pytest.mark.parametrize("case", PAIRS + PLAIN_MAPS, ids=lambda case: case.stem)
def test_features_of_rank_three(backend, case):
    for name in tensors_of(case):
        arguments, kwargs = anything(case, rank_three, name)
        with fails(ValueError, case.stem, rf"{name} must be \(N, D\) features.*flatten\(1\)"):
            case.function(*arguments, **kwargs)


@pytest.mark.parametrize("shape", [(8, 9), (8, 1), (1, 10), (7, 10), (8, 10, 1)], ids=str)
@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.stem)
def test_logits_are_never_broadcast(backend, case, shape):
    with fails(
        ValueError,
        case.stem,
        rf"teacher must have student's shape \(8, 10\), got {re.escape(str(shape))}",
    ):
        case.function(randn(8, 10), randn(*shape))


@pytest.mark.parametrize("rows", [1, 3, 5, 0])
@pytest.mark.parametrize("case", PAIRS, ids=lambda case: case.stem)
def test_rows_of_a_batch(backend, case, rows):
    text = r"student and teacher must have the same number of rows, got \(4, 6\) and "
    with fails(ValueError, case.stem, text):
        case.function(randn(4, 6), randn(rows, 6))


@pytest.mark.parametrize("case", PLAIN + PLAIN_MAPS, ids=lambda case: case.stem)
def test_no_columns(backend, case):
    arguments = (randn(4, 0),) * len(tensors_of(case))
    with fails(ValueError, case.stem, r"(student|teacher|x) must have at least one"):
        case.function(*arguments)


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.stem)
def test_devices(backend, case):
    student, teacher, kwargs = small_inputs(case)
    with fails(
        RuntimeError, case.stem, "student and teacher must be on one device, got cpu and meta"
    ):
        case.function(student, teacher.to("meta"), **kwargs)


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.stem)
@pytest.mark.parametrize("reduction", ["average", "MEAN", None, 0])
def test_reduction(backend, case, reduction):
    student, teacher, kwargs = small_inputs(case)
    with fails(ValueError, case.stem, f"reduction must be one of .*got {reduction!r}"):
        case.function(student, teacher, reduction=reduction, **kwargs)


BAD_TEMPERATURES = [
    (0.0, ValueError),
    (-1.0, ValueError),
    (float("nan"), ValueError),
    (float("inf"), ValueError),
    (1e30, ValueError),
    (1e-30, ValueError),
    (True, TypeError),
    ("4", TypeError),
    (None, TypeError),
    (torch.ones(8), TypeError),
    (torch.ones(8, 1), TypeError),
    (torch.tensor(4.0, requires_grad=True), TypeError),
    (torch.tensor(4.0, device="meta"), TypeError),
    (torch.tensor(True), TypeError),
    (torch.tensor(0.0), ValueError),
]


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.stem)
@pytest.mark.parametrize(("temperature", "error"), BAD_TEMPERATURES, ids=str)
def test_temperature(backend, case, temperature, error):
    with fails(error, case.stem, "temperature must be"):
        case.function(randn(8, 10), randn(8, 10), temperature=temperature)


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.stem)
@pytest.mark.parametrize(
    "temperature", [2, torch.tensor(2.0), torch.tensor(2.0).double(), torch.tensor(2)]
)
def test_temperature_as_a_number_or_tensor(backend, case, temperature):
    student, teacher = randn(8, 10), randn(8, 10)
    value = case.function(student, teacher, temperature=temperature)
    assert torch.equal(value, case.function(student, teacher, temperature=2.0))
    assert value.dtype == torch.float32


LABELS = torch.arange(8)
BAD_ARGUMENTS = [
    ("kd_loss", {"target": LABELS.to(torch.uint8)}, TypeError, "target must be int64 or int32"),
    ("kd_loss", {"target": LABELS.to(torch.int16)}, TypeError, "target must be int64 or int32"),
    ("kd_loss", {"target": LABELS.float()}, TypeError, "target must be int64 or int32"),
    ("kd_loss", {"target": [1] * 8}, TypeError, "target must be a tensor, got list"),
    ("kd_loss", {"target": LABELS[:7]}, ValueError, r"target must have .*\(8,\), got \(7,\)"),
    ("kd_loss", {"target": LABELS[:, None]}, ValueError, r"target must have .*got \(8, 1\)"),
    ("kd_loss", {"target": LABELS.to("meta")}, RuntimeError, "student and target must be on one"),
    ("kd_loss", {"ce_weight": 1.0}, ValueError, "target must be given for ce_weight > 0, got 1.0"),
    ("kd_loss", {"kd_weight": float("nan")}, ValueError, "kd_weight must be finite"),
    ("kd_loss", {"kd_weight": "1"}, TypeError, "kd_weight must be a number, got str"),
    ("kd_loss", {"ce_weight": float("inf"), "target": LABELS}, ValueError, "ce_weight must be fin"),
    ("kd_loss", {"ce_weight": True, "target": LABELS}, TypeError, "ce_weight must be a number"),
    ("kd_loss", {"ignore_index": 1.0}, TypeError, "ignore_index must be an int, got float"),
    ("kd_loss", {"ignore_index": True}, TypeError, "ignore_index must be an int, got bool"),
    ("rkd_distance_loss", {"eps": -1.0}, ValueError, "eps must be finite and >= 0, got -1.0"),
    ("rkd_distance_loss", {"eps": float("nan")}, ValueError, "eps must be finite"),
    ("rkd_angle_loss", {"eps": float("inf")}, ValueError, "eps must be finite"),
    ("rkd_angle_loss", {"eps": None}, TypeError, "eps must be a number"),
    ("cckd_loss", {"gamma": -0.1}, ValueError, "gamma must be finite and >= 0"),
    ("cckd_loss", {"gamma": 41.0}, ValueError, "gamma must be at most 40, got 41"),
    ("cckd_loss", {"gamma": "wide"}, TypeError, "gamma must be a number"),
    ("cckd_loss", {"order": -1}, ValueError, "order must be in 0..8"),
    ("cckd_loss", {"order": 9}, ValueError, "order must be in 0..8"),
    ("cckd_loss", {"order": 2.0}, TypeError, "order must be an int or None"),
    ("cckd_loss", {"order": True}, TypeError, "order must be an int or None"),
    ("rbf_correlation", {"gamma": float("nan")}, ValueError, "gamma must be finite"),
    ("rbf_correlation", {"order": 9}, ValueError, "order must be in 0..8"),
    ("pairwise_distance", {"normalize": "median"}, ValueError, "normalize must be one of"),
    ("pairwise_distance", {"eps": -1.0}, ValueError, "eps must be finite and >= 0"),
    ("triplet_angle", {"eps": -1.0}, ValueError, "eps must be finite and >= 0"),
]


@pytest.mark.parametrize(
    ("stem", "options", "error", "text"), BAD_ARGUMENTS, ids=lambda x: str(x)[:40]
)
def test_argument(backend, stem, options, error, text):
    arguments = (randn(8, 10),) * len(tensors_of(BY_STEM[stem]))
    with fails(error, stem, text):
        BY_STEM[stem].function(*arguments, **options)


@pytest.mark.parametrize("label", [10, -1, -101, 2**31])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_label_out_of_range(backend, label, reduction):
    target = torch.zeros(8, dtype=torch.int64)
    target[5], target[7] = label, 11  # the first is named
    text = rf"target must be in \[0, 10\) or ignore_index -100, got {label} in row 5"
    with fails(IndexError, "kd_loss", text):
        kdops.kd_loss(randn(8, 10), randn(8, 10), target, ce_weight=1.0, reduction=reduction)


def test_masking_target_is_not_read(backend):
    """With ce_weight = 0 the target is a mask only."""
    student, teacher = randn(8, 10), randn(8, 10)
    target = torch.full((8,), 99)
    assert torch.equal(kdops.kd_loss(student, teacher, target), kdops.kd_loss(student, teacher))


@pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.name)
def test_int32_labels(backend, case):
    student, teacher, kwargs = small_inputs(case)
    if "target" not in kwargs:
        pytest.skip("no labels")
    expected = case.function(student, teacher, **kwargs)
    kwargs["target"] = kwargs["target"].int()
    assert torch.equal(case.function(student, teacher, **kwargs), expected)


@pytest.mark.parametrize("stem", ["rkd_distance_loss", "rkd_angle_loss", "irg_edge_loss"])
@pytest.mark.parametrize(
    ("students", "error", "text"),
    [
        ([], ValueError, "student must hold at least one tensor"),
        ([randn(4, 3), None], TypeError, "student must be a tensor, got NoneType"),
        ([randn(4, 3), randn(5, 3)], ValueError, "student and teacher must have the same number"),
        ([randn(4, 3), randn(4)], ValueError, r"student must be \(N, D\) features"),
    ],
    ids=["empty", "None", "rows", "rank"],
)
def test_list_of_students(backend, stem, students, error, text):
    with fails(error, stem, text):
        getattr(kdops, stem)(students, randn(4, 6))


def test_inputs_are_unchanged_by_an_error(backend):
    student = randn(8, 10)
    before, version = student.clone(), student._version
    with pytest.raises(IndexError):
        kdops.kd_loss(student, student, torch.full((8,), 10), ce_weight=1.0)
    assert torch.equal(student, before) and student._version == version


def test_unknown_backend():
    with pytest.raises(ValueError, match="name must be one of auto, native, reference, got 'gpu'"):
        kdops.backend("gpu")
