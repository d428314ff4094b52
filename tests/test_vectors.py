"""Numbers worked out by hand or by other code, independent of this package's formulas."""

import pytest
import torch

import kdops

S = [[1.0, 0.0], [0.0, 2.0], [3.0, 1.0], [-1.0, 1.0]]
T = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0], [1.0, 1.0, 1.0]]
DUPLICATE = [[1.0, 0.0], [1.0, 0.0], [3.0, 1.0], [-1.0, 1.0]]
X = [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 2.0], [-1.0, 0.5, 1.0]]
Y = [[2.0, 1.0], [0.0, 1.0], [1.0, -1.0], [0.5, 3.0]]
JEFFREYS = {"divergence": "jeffreys"}
LOGITS, TEACHER, LABELS = (
    [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]],
    [[3.0, 1.0, 0.0], [0.0, 2.0, -2.0]],
    [0, 1],
)
LINEAR = [[0.0, 0.0], [0.0, 0.1], [0.1, 0.0], [10.0, 0.0]]
LINEAR_TEACHER = [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [0.1, 0.0]]


def tensor(rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


VALUES = {
    "KL at T=1": (kdops.kd_loss, LOGITS, TEACHER, {"temperature": 1.0}, 1.17133943034),
    "KL at T=4": (kdops.kd_loss, LOGITS, TEACHER, {}, 1.70463824387),
    "KL without T^2": (kdops.kd_loss, LOGITS, TEACHER, {"scale_t2": False}, 0.106539890242),
    "KL at T=20": (kdops.kd_loss, LOGITS, TEACHER, {"temperature": 20}, 1.72978255191),
    "hard": (
        kdops.kd_loss,
        LOGITS,
        TEACHER,
        {"kd_weight": 0.0, "ce_weight": 1.0, "target": torch.tensor(LABELS)},
        1.75310912656,
    ),
    "hard and soft": (
        kdops.kd_loss,
        LOGITS,
        TEACHER,
        {"kd_weight": 0.9, "ce_weight": 0.1, "target": torch.tensor(LABELS)},
        1.70948533214,
    ),
    "soft cross-entropy at T=4": (
        kdops.soft_cross_entropy,
        LOGITS,
        TEACHER,
        {"temperature": 4.0, "scale_t2": False},
        1.14070074782,
    ),
    "RKD distance": (kdops.rkd_distance_loss, S, T, {}, 0.0358038572094),
    "RKD distance, duplicate rows": (kdops.rkd_distance_loss, DUPLICATE, T, {}, 0.101344825513),
    "RKD distance, duplicate rows, published eps": (
        kdops.rkd_distance_loss,
        DUPLICATE,
        T,
        {"eps": 1e-12},
        0.101344763537,
    ),
    "RKD distance, beyond the square": (
        kdops.rkd_distance_loss,
        LINEAR,
        LINEAR_TEACHER,
        {},
        0.556055166925,
    ),
    "RKD angle": (kdops.rkd_angle_loss, S, T, {}, 0.0685605445309),
    "RKD angle, duplicate rows": (kdops.rkd_angle_loss, DUPLICATE, T, {}, 0.102320950563),
    "IRG": (kdops.irg_edge_loss, S, T, {}, 0.10802734375),
    "IRG, Caffe's value": (kdops.irg_edge_loss, S, T, {"reduction": "sum"}, 0.2160546875 * 8),
    "CCKD of order 1": (kdops.cckd_loss, S, T, {"order": 1}, 0.060026221693),
    "CCKD of order 2": (kdops.cckd_loss, S, T, {}, 0.0730543660789),
    "CCKD of order 3": (kdops.cckd_loss, S, T, {"order": 3}, 0.080598752704),
    "CCKD, exact": (kdops.cckd_loss, S, T, {"order": None}, 0.0815236433395),
    "PKT": (kdops.pkt_loss, X, Y, {}, 0.265010425148),
    "PKT, the published code": (
        kdops.pkt_loss,
        X,
        Y,
        {"eps": 1e-7, "reduction": "mean"},
        0.0662525475575,
    ),
    "PKT, the Zoo's": (kdops.pkt_loss, S, T, {"eps": 1e-6, "reduction": "mean"}, 0.0437569250252),
    "PKT over j != i": (kdops.pkt_loss, X, Y, {"include_self": False}, 0.387555167524),
    "HKD, cosine": (
        kdops.pkt_loss,
        X,
        Y,
        {"eps": 1e-6, "reduction": "mean", **JEFFREYS},
        0.137234040095,
    ),
    "HKD, Student-t": (
        kdops.pkt_loss,
        X,
        Y,
        {"kernel": "student_t", "eps": 1e-6, "reduction": "mean", **JEFFREYS},
        0.0116404526142,
    ),
    "HKD, cosine, over j != i": (
        kdops.pkt_loss,
        X,
        Y,
        {"include_self": False, **JEFFREYS},
        0.810502994637,
    ),
    "SP": (kdops.sp_loss, S, T, {}, 0.271866465809),
    "SP, L1 rows": (kdops.sp_loss, S, T, {"norm": 1}, 0.110531067819),
}
GRADIENTS = {
    "SP": (
        kdops.sp_loss,
        S,
        T,
        [
            [-0.0084770876, -0.0352819581],
            [0.0456749625, -0.0032298151],
            [0.0168661899, -0.0123405997],
            [-0.0785993098, -0.1019205621],
        ],
    ),
    "KL at T=4": (
        kdops.kd_loss,
        LOGITS,
        TEACHER,
        [[-0.4534981013, 0.0694797441, 0.3840183572], [0.0522748952, -0.3462941154, 0.2940192202]],
    ),
    "RKD distance": (
        kdops.rkd_distance_loss,
        S,
        T,
        [
            [0.0204507857, 0.0114199936],
            [-0.0057370954, -0.0140148442],
            [-0.0024324096, -0.008753256],
            [-0.0122812808, 0.0113481067],
        ],
    ),
    "RKD angle": (
        kdops.rkd_angle_loss,
        S,
        T,
        [
            [0.0102215713, 0.030290898],
            [0.0080527684, -0.0334008124],
            [0.0087989498, -0.0073374466],
            [-0.0270732896, 0.010447361],
        ],
    ),
    "IRG": (
        kdops.irg_edge_loss,
        S,
        T,
        [
            [0.034765625, 0.0296875],
            [0.029296875, -0.02578125],
            [-0.0108398437, -0.009765625],
            [-0.0532226562, 0.005859375],
        ],
    ),
    "CCKD": (
        kdops.cckd_loss,
        S,
        T,
        [
            [0.0, 0.0114332965],
            [0.0033269407, 0.0],
            [0.0029837316, -0.0089511947],
            [-0.0125289503, -0.0125289503],
        ],
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_value(backend, name):
    function, student, teacher, options, expected = VALUES[name]
    value = function(tensor(student), tensor(teacher), **options)
    assert value.item() == pytest.approx(expected, rel=1e-10)
    assert value.dtype == torch.float64 and value.shape == ()


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient(backend, name):
    function, student, teacher, expected = GRADIENTS[name]
    student = tensor(student).requires_grad_()
    function(student, tensor(teacher)).backward()
    torch.testing.assert_close(student.grad, tensor(expected), rtol=0, atol=6e-11)


def test_one_to_many_value(backend):
    student = tensor(S)
    layers = [student, student.square(), student.flip(0)]
    value = kdops.irg_edge_loss(layers, tensor(T))
    assert value.item() == pytest.approx(0.324650366512, rel=1e-11)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[0.0, 5**0.5], [5**0.5, 0.0]]),
        ({"squared": True}, [[0.0, 5.0], [5.0, 0.0]]),
        ({"normalize": "mean"}, [[0.0, 1.0], [1.0, 0.0]]),
        ({"squared": True, "normalize": "max"}, [[0.0, 1.0], [1.0, 0.0]]),
        ({"eps": 9.0}, [[0.0, 3.0], [3.0, 0.0]]),
    ],
)
def test_distance_map(backend, options, expected):
    torch.testing.assert_close(
        kdops.pairwise_distance(tensor(S[:2]), **options), tensor(expected), rtol=1e-15, atol=0
    )


def test_angle_map(backend):
    right = tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    value = kdops.triplet_angle(right)
    assert value[0, 1, 2] == 0 and value[0, 1, 1] == 1
    assert value[1, 0, 2].item() == pytest.approx(2 / 13**0.5, rel=1e-15)  # at row 1: 0 and row 2
    assert (value[1, 1] == 0).all() and (value[:, 0, 0][1:] == 1).all()


@pytest.mark.parametrize(("order", "at_one"), [(1, 0.8088), (2, 0.9526), (3, 0.9909), (None, 1.0)])
def test_correlation_of_a_row_with_itself(backend, order, at_one):
    value = kdops.rbf_correlation(tensor(S), order=order).diagonal()
    assert value.tolist() == pytest.approx([at_one] * 4, abs=5e-5)
