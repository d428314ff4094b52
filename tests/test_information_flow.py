"""HKD: the sum over layers and kernels, information flow vectors, and the layers they match."""

import math

import pytest
import torch

import kdops
from kdops.nn import InformationFlowLoss, information_flow, match_layers
from kdops.schedules import CriticalPeriod

from .cases import generator
from .test_vectors import S, X, Y, tensor


def layers(count=3, rows=8, seed=0):
    g = generator(seed)
    return [torch.randn(rows, 3 + i, generator=g, dtype=torch.float64) for i in range(count)]


def test_published_value(backend):
    """Both kernels, Jeffreys' divergence, mean over N^2."""
    value = InformationFlowLoss(eps=1e-6)([tensor(X)], [tensor(Y)], [1.0])
    assert value.item() == pytest.approx(0.148874492709, rel=1e-11)
    cosine = InformationFlowLoss(eps=1e-6, kernels=["cosine"])([tensor(X)], [tensor(Y)], [2.0])
    assert cosine.item() == pytest.approx(2 * 0.137234040095, rel=1e-11)


@pytest.mark.parametrize(
    "options",
    [{}, {"divergence": "kl", "reduction": "batchmean", "include_self": False}],
    ids=["defaults", "options"],
)
def test_sum_over_layers_and_kernels(backend, options):
    student, teacher = layers(), layers(seed=1)
    weights = CriticalPeriod()(9, 3)
    each = {"divergence": "jeffreys", "reduction": "mean", **options}
    expected = sum(
        w * kdops.pkt_loss(s, t, kernel=kernel, **each)
        for s, t, w in zip(student, teacher, weights, strict=True)
        for kernel in ("cosine", "student_t")
    )
    torch.testing.assert_close(InformationFlowLoss(**options)(student, teacher, weights), expected)


def test_gradients(backend):
    student = [x.requires_grad_() for x in layers()]
    teacher = [x.requires_grad_() for x in layers(seed=1)]
    value = InformationFlowLoss()(student, teacher, [1.0, 0.5, 0.0])
    value.backward()
    assert all(x.grad is None for x in teacher) and (student[2].grad == 0).all()
    assert all(x.grad.abs().sum() > 0 for x in student[:2])
    assert not InformationFlowLoss().state_dict()


@pytest.mark.parametrize("counts", [(2, 3, 3), (3, 2, 3), (3, 3, 2), (0, 0, 0)], ids=str)
def test_one_entry_a_layer(counts):
    student, teacher, weights = layers(counts[0]), layers(counts[1]), [1.0] * counts[2]
    text = "InformationFlowLoss: .* one entry a layer, got {}, {} and {}".format(*counts)
    with pytest.raises(ValueError, match=text):
        InformationFlowLoss()(student, teacher, weights)


def test_kernels_are_named():
    with pytest.raises(ValueError, match="InformationFlowLoss: kernels must hold at least one"):
        InformationFlowLoss(kernels=())
    with pytest.raises(ValueError, match="kernel must be one of 'cosine', 'student_t', got 'rbf'"):
        InformationFlowLoss(kernels=["rbf"])(layers(1), layers(1), [1.0])


def cosine_kernel(x):
    unit = x / x.norm(dim=1, keepdim=True)
    return (1 + unit @ unit.mT) / 2


def test_flow_to_labels_is_quadratic_mutual_information(backend):
    """V_in + V_all - 2 V_between of the information potentials, class by class."""
    target = torch.tensor([0, 1, 1, 2, 0, 1, 3, 3])
    student, n = layers(), len(target)
    for x, value in zip(student, information_flow(student, target), strict=True):
        k = cosine_kernel(x)
        inside = everything = between = 0.0
        for label in target.unique():
            own = target == label
            share = own.sum() / n
            inside += k[own][:, own].sum() / n**2
            everything += share**2 * k.sum() / n**2
            between += share * k[own].sum() / n**2
        assert value.item() == pytest.approx((inside + everything - 2 * between).item(), rel=1e-10)


def test_flow_to_features(backend):
    """Of the same form with two kernels; largest to itself by Cauchy's inequality."""
    student, target, n = layers(), layers(seed=1)[0], 8
    centre = torch.eye(n) - 1 / n
    wanted = centre.double() @ cosine_kernel(target) @ centre.double()
    expected = [(cosine_kernel(x) * wanted).sum().item() / n**2 for x in student]
    value = information_flow(student, target)
    assert value.tolist() == pytest.approx(expected, rel=1e-10) and (value > 0).all()
    assert not information_flow([x.requires_grad_() for x in student], target).requires_grad
    own, other = (information_flow([x], x) for x in (student[0], target))
    assert value[0] ** 2 <= own * other


def test_flow_of_awkward_layers(backend):
    """Constant or zero layers tell nothing, scales change nothing, half types are float32."""
    target = torch.arange(6) % 2
    x = torch.randn(6, 4, generator=generator())
    zeros, same = torch.zeros(6, 3), torch.ones(6, 2)
    flow = information_flow([x, 2.0**80 * x, zeros, same, target[:, None] * 2.0 - 1], target)
    assert flow[0] == flow[1] > 0 and flow[2:4].abs().max() < 1e-7
    assert flow[4] == pytest.approx(0.25) and flow.argmax() == 4
    half = information_flow([x.half()], target)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, information_flow([x.half().float()], target))
    for rows in (0, 1):
        assert information_flow([x[:rows]], target[:rows]) == 0


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            ([torch.ones(4, 2)], torch.arange(3)),
            ValueError,
            r"layers must .*3 rows, got .*\(4, 2\)",
        ),
        (([torch.ones(3)], torch.arange(3)), ValueError, r"layers must be \(N, D\) features"),
        (([torch.ones(3, 2)], torch.ones(3)), ValueError, "target must be .*got torch.float32"),
        (
            ([torch.ones(3, 2)], torch.ones(3, 2).long()),
            ValueError,
            r"target must be \(N,\) labels",
        ),
    ],
    ids=["rows", "rank", "float labels", "one-hot labels"],
)
def test_wrong_flow(arguments, error, text):
    with pytest.raises(error, match=f"^information_flow: {text}"):
        information_flow(*arguments)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ([0.1, 0.5, 0.9], [0.05, 0.2, 0.45, 1.0], [0, 2, 3]),
        ([0.1, 0.5], [0.1, 0.5], [0, 1]),
        ([0.99, 0.0], [0.1, 0.5, 1.0], [2, 2]),  # the last goes to the last, however far
        ([0.375, 1.0], [0.25, 0.5, 1.0], [0, 2]),  # a tie goes to the first
        ([0.7], [0.1, 0.7, 0.2], [2]),
        ([0.1, 0.2, 0.3], [0.5], [0, 0, 0]),
    ],
    ids=str,
)
def test_match_layers(student, teacher, expected):
    assert match_layers(student, teacher) == expected
    assert match_layers(torch.tensor(student), torch.tensor(teacher)) == expected


def test_matched_networks(backend):
    """A student whose layers are three of the teacher's five finds them."""
    teacher, target = layers(5), torch.arange(8) % 3
    student = [teacher[i] for i in (1, 3, 4)]
    flows = (information_flow(x, target) for x in (student, teacher))
    assert match_layers(*flows) == [1, 3, 4]
    assert information_flow([tensor(S)], torch.arange(4) % 2).shape == (1,)


@pytest.mark.parametrize("bad", [[], [math.nan], [0.1, math.inf]], ids=str)
def test_wrong_match(bad):
    for name, arguments in (("student", (bad, [0.1])), ("teacher", ([0.1], bad))):
        with pytest.raises(ValueError, match=f"^match_layers: {name} must hold one finite number"):
            match_layers(*arguments)
