"""Wrong arguments of losses on layers, maps and logits: type, and a text that names the place."""

import re

import numpy
import pytest
import torch

import kdops
from kdops.compat import caffe

from .relatives import PLAIN

NAN, INF = float("nan"), float("inf")
BY_STEM = {loss.stem: loss for loss in PLAIN}
each = pytest.mark.parametrize("loss", PLAIN, ids=lambda loss: loss.stem)
layers = pytest.mark.parametrize("stem", ["fsp_loss", "irg_transform_loss"])


def randn(*shape):
    return torch.randn(shape)


def fails(error, function: str, text: str):
    return pytest.raises(error, match=f"^{function}: {text}")


def sides(loss):
    """Inputs, with the student's and the teacher's layers by name."""
    student, teacher = loss.inputs(torch.float32)
    return {"student": student, "teacher": teacher}


CHANGES = {
    "int64": (TypeError, lambda x: x.long(), "must be float32.*got torch.int64"),
    "bool": (TypeError, lambda x: x.bool(), "must be float32.*got torch.bool"),
    "complex": (TypeError, lambda x: x.to(torch.complex64), "must be float32.*got torch.complex64"),
    "sparse": (ValueError, lambda x: x.to_sparse(), "must be a dense tensor, got layout"),
    "numpy": (TypeError, lambda x: x.numpy(), "must be a tensor, got ndarray"),
    "rank 1": (ValueError, lambda x: x[:, 0].reshape(len(x), -1)[:, 0], r"must .*\(4,\)"),
    "rank 0": (ValueError, lambda x: x.flatten()[0], r"must .*\(\)"),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("side", ["student", "teacher"])
@each
def test_tensor(loss, side, name):
    error, change, text = CHANGES[name]
    for layer in range(len(sides(loss)[side])):
        inputs = sides(loss)
        inputs[side][layer] = change(inputs[side][layer])
        with fails(error, loss.stem, f"({side}|teacher) {text}"):
            loss(**inputs)


@pytest.mark.parametrize("rows", [0, 1, 3])
@each
def test_samples(loss, rows):
    """Another number of samples is never broadcast."""
    for layer in range(len(loss.teacher)):
        inputs = sides(loss)
        inputs["teacher"][layer] = inputs["teacher"][layer][:1].expand(
            rows, *loss.teacher[layer][1:]
        )
        with fails(ValueError, loss.stem, r"(student and teacher must have the same|teacher must)"):
            loss(**inputs)


@each
def test_devices(loss):
    inputs = sides(loss)
    inputs["teacher"] = [x.to("meta") for x in inputs["teacher"]]
    text = "student and teacher must be on one device, got cpu and meta"
    with fails(RuntimeError, loss.stem, text):
        loss(**inputs)


@pytest.mark.parametrize("stem", ["hint_loss", "vid_loss", "dkd_loss", "dist_loss"])
def test_shapes_are_never_broadcast(stem):
    loss = BY_STEM[stem]
    inputs = sides(loss)
    inputs["teacher"] = [inputs["teacher"][0][:, :1]]
    with fails(ValueError, stem, r"teacher must have student's shape \(4, .*, got \(4, 1"):
        loss(**inputs)


@layers
@pytest.mark.parametrize("bad", [torch.ones(2, 4, 3), [torch.ones(4, 3)], 3 * (randn(4, 3),), None])
def test_pairs_of_layers(stem, bad):
    function, (student, teacher) = getattr(kdops, stem), BY_STEM[stem].inputs()
    for name, arguments in (("student", (bad, teacher)), ("teacher", (student, bad))):
        with fails(TypeError, stem, f"{name} must be a pair of tensors, of two layers, got "):
            function(*arguments)


LOGITS, LABELS, MAP = (randn(4, 5), randn(4, 5)), torch.arange(4), randn(2, 3, 2, 2)
DKD = (*LOGITS, LABELS)
ROWS, MAPS = (randn(4, 3), randn(4, 3)), (randn(2, 3, 4, 4), randn(2, 4, 2, 2))
OTHER_MAPS = (MAPS[0], randn(2, 5, 2, 2))
BAD_ARGUMENTS = [
    ("at_loss", (randn(2, 3, 4), MAP), {}, ValueError, r"student must be \(N, C, H, W\) feature"),
    (
        "at_loss",
        (randn(2, 3, 0, 4), MAP),
        {},
        ValueError,
        r"student must .*H, W >= 1, got .*0, 4\)",
    ),
    ("at_loss", (MAP, MAP), {"p": 0.5}, ValueError, "p must be finite and >= 1, got 0.5"),
    ("at_loss", (MAP, MAP), {"p": INF}, ValueError, "p must be finite"),
    ("at_loss", (MAP, MAP), {"p": "2"}, TypeError, "p must be a number, got str"),
    (
        "fsp_loss",
        (MAPS, OTHER_MAPS),
        {},
        ValueError,
        r"student must have teacher's channels \[3, 5",
    ),
    (
        "fsp_loss",
        (MAPS, (MAPS[0], MAPS[1][:1])),
        {},
        ValueError,
        "student and teacher must have the",
    ),
    (
        "vid_loss",
        (MAP, MAP, torch.ones(2)),
        {},
        ValueError,
        r"variance must have shape \(3,\), one",
    ),
    ("vid_loss", (MAP, MAP, torch.ones(3, 1)), {}, ValueError, r"variance .*got \(3, 1\)"),
    ("vid_loss", (MAP, MAP, 5.0), {}, TypeError, "variance must be a tensor, got float"),
    ("vid_loss", (MAP, MAP, torch.ones(3).long()), {}, TypeError, "variance must be float32"),
    (
        "vid_loss",
        (MAP, MAP, torch.ones(3, device="meta")),
        {},
        RuntimeError,
        "student and variance",
    ),
    ("dkd_loss", (*LOGITS, [1] * 4), {}, TypeError, "target must be a tensor, got list"),
    ("dkd_loss", (*LOGITS, None), {}, TypeError, "target must be a tensor, got NoneType"),
    ("dkd_loss", (*LOGITS, LABELS.float()), {}, TypeError, "target must be int64 or int32"),
    ("dkd_loss", (*LOGITS, LABELS[:3]), {}, ValueError, r"target must have .*\(4,\), got \(3,\)"),
    (
        "dkd_loss",
        (*LOGITS, LABELS + 2),
        {},
        IndexError,
        r"target must be in \[0, 5\).*got 5 in row 3",
    ),
    (
        "dkd_loss",
        (*LOGITS, LABELS - 1),
        {},
        IndexError,
        r"target must be in \[0, 5\).*got -1 in row 0",
    ),
    (
        "dkd_loss",
        (randn(4, 1), randn(4, 1), 0 * LABELS),
        {},
        ValueError,
        "student must have at least",
    ),
    ("dkd_loss", DKD, {"ignore_index": 1.0}, TypeError, "ignore_index must be an int, got float"),
    ("dkd_loss", DKD, {"ignore_index": "1"}, TypeError, "ignore_index must be an int, got str"),
    ("dkd_loss", DKD, {"target_weight": NAN}, ValueError, "target_weight must be finite, got nan"),
    ("dkd_loss", DKD, {"rest_weight": "8"}, TypeError, "rest_weight must be a number, got str"),
    ("dkd_loss", DKD, {"temperature": 0}, ValueError, "temperature must be finite and > 0"),
    ("dkd_loss", DKD, {"temperature": "4"}, TypeError, "temperature must be a number"),
    ("dist_loss", LOGITS, {"temperature": -1.0}, ValueError, "temperature must be finite and > 0"),
    ("dist_loss", LOGITS, {"inter_weight": INF}, ValueError, "inter_weight must be finite"),
    ("dist_loss", LOGITS, {"intra_weight": None}, TypeError, "intra_weight must be a number"),
    (
        "dist_loss",
        (randn(4, 0), randn(4, 0)),
        {},
        ValueError,
        "student must have at least one class",
    ),
    (
        "standardize_logits",
        (randn(4, 0),),
        {},
        ValueError,
        "x must .*at least one class, got shape",
    ),
    ("standardize_logits", (torch.tensor(1.0),), {}, ValueError, r"x must .*got shape \(\)"),
    ("standardize_logits", (LABELS,), {}, TypeError, "x must be float32"),
    ("standardize_logits", ([1.0],), {}, TypeError, "x must be a tensor, got list"),
    ("standardize_logits", LOGITS[:1], {"eps": -1.0}, ValueError, "eps must be finite and >= 0"),
    (
        "cckd_loss",
        ROWS,
        {"kernel": "gauss"},
        ValueError,
        "kernel must be one of 'rbf', 'bilinear', 'm",
    ),
    (
        "irg_transform_loss",
        (ROWS, ROWS),
        {"part": "node"},
        ValueError,
        "part must be one of 'vertex'",
    ),
]


@pytest.mark.parametrize(
    ("stem", "arguments", "options", "error", "text"),
    BAD_ARGUMENTS,
    ids=[f"{i}-{row[0]}" for i, row in enumerate(BAD_ARGUMENTS)],
)
def test_argument(backend, stem, arguments, options, error, text):
    with fails(error, stem, text):
        getattr(kdops, stem)(*arguments, **options)


@pytest.mark.parametrize("reduction", ["average", None, 0])
@each
def test_reduction(loss, reduction):
    if not loss.reductions:
        pytest.skip("no reduction")
    with fails(ValueError, loss.stem, f"reduction must be one of .*got {reduction!r}"):
        loss(**sides(loss), reduction=reduction)


@pytest.mark.parametrize("place", ["kdops", "caffe"])
def test_layers_of_other_widths(place):
    """Vertices of a layer are subtracted from those of the other; edges compare any."""
    function = {"kdops": kdops, "caffe": caffe}[place].irg_transform_loss
    for width in (1, 2):
        uneven = (randn(4, 3), randn(4, width))
        text = re.escape(f"must have as many features in both layers, got (4, 3) and (4, {width})")
        for name, arguments in (("student", (uneven, ROWS)), ("teacher", (ROWS, uneven))):
            with fails(ValueError, "irg_transform_loss", f"{name} {text}"):
                function(*arguments)
        if place == "kdops":
            assert function(uneven, ROWS, part="edge").isfinite()


def test_caffe():
    for bad, error in (
        (randn(4), ValueError),
        (randn(3, 3), ValueError),
        (numpy.ones(3), TypeError),
    ):
        with fails(error, "irg_edge_loss", "(student|teacher|student and teacher) must"):
            caffe.irg_edge_loss(bad, randn(4, 3))
        with fails(error, "irg_transform_loss", "(student|teacher|student and teacher) must"):
            caffe.irg_transform_loss((randn(4, 3), bad), ROWS)
    with fails(TypeError, "irg_transform_loss", "teacher must be a pair of tensors"):
        caffe.irg_transform_loss(ROWS, randn(2, 4, 3))
