"""Numbers worked out by hand or by other code for losses on layers, feature maps and logits."""

import pytest
import torch

import kdops
from kdops.reference.probabilities import similarity
from kdops.reference.relations import edge_change, vertex_change

from .test_vectors import JEFFREYS, LABELS, LOGITS, TEACHER, S, T, X, Y, tensor

PUBLISHED = {"eps": 1e-7, "reduction": "mean"}
LOGITS_2 = [[1.0, 2.0, 4.0], [0.0, 1.0, -1.0]]
SECOND = [[2.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
TEACHER_SECOND = [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [2.0, 1.0, 1.0]]
index = torch.arange(16, dtype=torch.float64)
MAP = (index / 8 - 1).view(2, 2, 2, 2)
TEACHER_MAP = (7 * index % 11 / 5 - 1).view(2, 2, 2, 2)
LAYERS = (MAP, MAP.flip(1) + 0.5)
TEACHER_LAYERS = (TEACHER_MAP, TEACHER_MAP.flip(1) - 0.25)
RAW = {"normalize": False}


def dkd(**weights):
    return kdops.dkd_loss(tensor(LOGITS), tensor(TEACHER), torch.tensor(LABELS), **weights)


def vid():
    student, teacher = [[1.0, 2.0], [0.0, -1.0]], [[1.5, 1.0], [0.5, -2.0]]
    return kdops.vid_loss(tensor(student), tensor(teacher), tensor([5.0, 5.0]))


def cckd(kernel, **options):
    return kdops.cckd_loss(tensor(S), tensor(T), kernel=kernel, **options)


def standardized(unbiased):
    """KL at T = 2 of logits standardised with the published eps, without T^2."""
    student, teacher = (
        kdops.standardize_logits(tensor(x), unbiased=unbiased, eps=1e-7)
        for x in (LOGITS_2, TEACHER)
    )
    return kdops.kd_loss(student, teacher, temperature=2.0, scale_t2=False)


def fitnets_second_stage():
    """CE + 4 CE at T = 3 without T^2, the weight of the first epochs."""
    logits, target = (tensor(LOGITS), tensor(TEACHER)), torch.tensor(LABELS)
    soft = kdops.soft_cross_entropy(*logits, temperature=3.0, scale_t2=False)
    return kdops.kd_loss(*logits, target, kd_weight=0.0, ce_weight=1.0) + 4 * soft


def transform(**options):
    layers, teacher = (tensor(S), tensor(SECOND)), (tensor(T), tensor(TEACHER_SECOND))
    return kdops.irg_transform_loss(layers, teacher, **options)


VALUES = {
    "FitNets' second stage": (fitnets_second_stage, 6.44495903105),
    "hint": (lambda: kdops.hint_loss(MAP, TEACHER_MAP), 2.64625),
    "hint, half of the mean square": (
        lambda: kdops.hint_loss(MAP, TEACHER_MAP, reduction="mean"),
        0.6615625 / 2,
    ),
    "hint, half of the sum": (
        lambda: kdops.hint_loss(MAP, TEACHER_MAP, reduction="sum"),
        10.585 / 2,
    ),
    "attention": (lambda: kdops.at_loss(MAP, TEACHER_MAP), 0.0361318277973),
    "attention, the paper's": (
        lambda: kdops.at_loss(MAP, TEACHER_MAP, squared=False),
        0.374308371824,
    ),
    "flow": (lambda: kdops.fsp_loss(LAYERS, TEACHER_LAYERS), 0.202208300781),
    "VID": (vid, 0.867218956217),
    "DKD": (dkd, 5.38477644928),
    "DKD, the target's part": (lambda: dkd(rest_weight=0.0), 1.45593725416),
    "DKD, the rest's part": (lambda: dkd(target_weight=0.0, rest_weight=1.0), 0.491104899389),
    "DIST": (lambda: kdops.dist_loss(tensor(LOGITS_2), tensor(TEACHER)), 1.4894748196),
    "DIST, a constant row": (
        lambda: kdops.dist_loss(tensor(LOGITS), tensor(TEACHER)),
        2.04816316533,
    ),
    "standardised logits": (lambda: standardized(True), 0.162117122702),
    "standardised logits, biased": (lambda: standardized(False), 0.240550049802),
    "CCKD, MMD": (lambda: cckd("mmd", **RAW), 0.621527777778),
    "CCKD, bilinear": (lambda: cckd("bilinear", **RAW), 7.125),
    "CCKD, bilinear of unit rows": (lambda: cckd("bilinear"), 0.464549722437),
    "IRG's vertices": (transform, 0.34375),
    "IRG's edges": (
        lambda: transform(part="edge", reduction="sum"),
        (2.5284375 - (2 + 331 / 450)) ** 2,
    ),
    "PKT, published": (
        lambda: kdops.pkt_loss(tensor(S), tensor(T), **PUBLISHED),
        0.0437574929921,
    ),
    "PKT, the Zoo's": (
        lambda: kdops.pkt_loss(tensor(X), tensor(Y), eps=1e-6, reduction="mean"),
        0.0662520189959,
    ),
    "KL where T is large": (  # half of the mean square of centred logits, over K
        lambda: kdops.kd_loss(tensor(LOGITS), tensor(TEACHER), temperature=2.0**20),
        31 / 18,
    ),
}
GRADIENTS = {
    "PKT, published": (
        kdops.pkt_loss,
        PUBLISHED,
        (S, T),
        [
            [0.0, -0.0564693394],
            [5.65751e-05, 0.0],
            [0.0030056195, -0.0090168577],
            [-0.0433193442, -0.043319338],
        ],
    ),
    "PKT, published, the first row": (
        kdops.pkt_loss,
        PUBLISHED,
        (X, Y),
        [[5.6591e-09, -0.0245612622380599, -0.05704786120210304]],
    ),
    "Jeffreys' divergence, the first row": (
        kdops.pkt_loss,
        {**PUBLISHED, **JEFFREYS},
        (X, Y),
        [[8.84e-09, -0.042244678730570015, -0.09558185984442533]],
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_value(backend, name):
    value, expected = VALUES[name][0](), VALUES[name][1]
    tolerance = 1e-6 if "is large" in name else 1e-10
    assert value.item() == pytest.approx(expected, rel=tolerance)
    assert value.dtype == torch.float64 and value.shape == ()


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient(backend, name):
    function, options, (student, teacher), expected = GRADIENTS[name]
    student = tensor(student).requires_grad_()
    function(student, tensor(teacher), **options).backward()
    gradient, expected = student.grad[: len(expected)], tensor(expected)
    printed = expected != 0
    torch.testing.assert_close(gradient[printed], expected[printed], rtol=0, atol=6e-11)
    assert (gradient[~printed].abs() < 1e-8).all()


def test_probabilities_of_a_row():
    """PKT's teacher: cosine, a row itself included."""
    k = similarity(tensor(Y), "cosine", True, 0.0)
    expected = [0.31488064234417856, 0.22784977328012748, 0.20722732221731255, 0.25004226215838155]
    assert (k / k.sum(1, keepdim=True))[0].tolist() == pytest.approx(expected, rel=1e-14)


def test_changes_between_layers():
    """IRG's transformation, vertices and edges, of each network."""
    student, teacher = (tensor(S), tensor(SECOND)), (tensor(T), tensor(TEACHER_SECOND))
    assert vertex_change(*student).tolist() == [0.25, 0.25, 1.0, 0.5]
    assert vertex_change(*teacher).tolist() == [1.0] * 4
    assert edge_change(*student, "sum").item() == pytest.approx(2.5284375, rel=1e-14)
    assert edge_change(*teacher, "sum").item() == pytest.approx(2.73555555556, rel=1e-11)
    mean = transform(part="edge").item()
    assert mean * 16**2 == pytest.approx(transform(part="edge", reduction="sum").item(), rel=1e-12)


def test_parts_of_dkd_make_the_kl():
    """KL = target's part + (1 - p'_y) the rest's part, row by row."""
    logits = tensor(LOGITS), tensor(TEACHER)
    options = {"temperature": 2.0, "reduction": "none"}
    target = torch.tensor(LABELS)
    first = kdops.dkd_loss(*logits, target, rest_weight=0.0, **options)
    second = kdops.dkd_loss(*logits, target, target_weight=0.0, rest_weight=1.0, **options)
    others = 1 - (logits[1] / 2).softmax(1).gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(first + others * second, kdops.kd_loss(*logits, **options))
