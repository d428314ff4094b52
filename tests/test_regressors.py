"""Parts with parameters: the hint's regressor, and VID with its regressor and variances."""

import math

import pytest
import torch

import kdops
from kdops.nn import HintRegressor, VIDLoss

from .cases import generator


@pytest.mark.parametrize(
    ("student", "teacher", "kernel"),
    [
        ((3, 8, 6), (5, 4, 4), (5, 3)),
        ((3, 4, 4), (5, 4, 4), (1, 1)),
        ((3, 4, 4), (3, 1, 4), (4, 1)),
    ],
    ids=str,
)
def test_convolution(student, teacher, kernel):
    """Without padding, its kernel takes the size to the teacher's."""
    regressor = HintRegressor(student, teacher)
    assert regressor[0].kernel_size == kernel and regressor[0].padding == (0, 0)
    count = teacher[0] * (student[0] * kernel[0] * kernel[1] + 1)
    assert sum(p.numel() for p in regressor.parameters()) == count
    assert regressor(torch.randn(2, *student)).shape == (2, *teacher)


def test_vectors_and_equal_shapes():
    assert HintRegressor((6,), (9,))(torch.randn(2, 6)).shape == (2, 9)
    for shape in ((6,), (3, 4, 4)):
        regressor, x = HintRegressor(shape, shape), torch.randn(2, *shape)
        assert not list(regressor.parameters()) and torch.equal(regressor(x), x)


@pytest.mark.parametrize("activation", [None, "relu", "tanh", "sigmoid"])
def test_activation(activation):
    regressor, x = (
        HintRegressor((3, 4, 4), (5, 4, 4), activation=activation),
        torch.randn(2, 3, 4, 4),
    )
    plain = regressor[0](x)
    expected = getattr(torch, activation)(plain) if activation else plain
    assert torch.equal(regressor(x), expected)


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        (((3, 4, 4), (5, 5, 4)), {}, "teacher must be no larger than student in height and width"),
        (((3, 4, 4), (5,)), {}, r"student and teacher must both be \(C, H, W\) or \(C,\)"),
        (((3, 4), (5, 4)), {}, r"student and teacher must both be .*got \(3, 4\) and \(5, 4\)"),
        (((3, 4, 4), (5, 0, 4)), {}, r"student and teacher must .*sizes >= 1, got .*\(5, 0, 4\)"),
        (((0,), (5,)), {}, "student and teacher must .*sizes >= 1"),
        (
            ((3,), (5,)),
            {"activation": "gelu"},
            "activation must be one of None, 'relu'.*got 'gelu'",
        ),
    ],
    ids=["larger", "ranks", "rank 2", "empty", "no channel", "activation"],
)
def test_wrong_regressor(arguments, options, text):
    with pytest.raises(ValueError, match=f"^HintRegressor: {text}"):
        HintRegressor(*arguments, **options)


def test_first_stage_learns_the_hint():
    """FitNets' first stage: the regressor of an equal student reaches the teacher's layer."""
    g = generator()
    student = torch.randn(32, 3, 3, 3, generator=g)
    teacher = torch.einsum("nchw,dc->ndhw", student, torch.randn(4, 3, generator=g))
    regressor = HintRegressor((3, 3, 3), (4, 3, 3))
    optimiser = torch.optim.Adam(regressor.parameters(), lr=0.1)
    values = []
    for _ in range(100):
        optimiser.zero_grad()
        value = kdops.hint_loss(regressor(student), teacher)
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] < 1e-3 * values[0]


@pytest.mark.parametrize("variance", [5.0, 1e-4, 1e6])
def test_variance_at_the_start(variance):
    vid = VIDLoss(2, 3, variance=variance)
    assert vid.variance().tolist() == pytest.approx([variance] * 3, rel=1e-5)
    assert VIDLoss(2, 3, variance=1e-4, eps=0.0).variance().tolist() == pytest.approx([1e-4] * 3)


def test_vid_is_the_function_of_its_parts():
    vid, g = VIDLoss(2, 3, hidden=7, reduction="sum"), generator()
    student, teacher = torch.randn(4, 2, 5, 5, generator=g), torch.randn(4, 3, 5, 5, generator=g)
    expected = kdops.vid_loss(vid.regressor(student), teacher, vid.variance(), reduction="sum")
    assert torch.equal(vid(student, teacher), expected)
    assert [tuple(p.shape[:2]) for p in vid.regressor.parameters() if p.dim() > 1] == [
        (7, 2),
        (7, 7),
        (3, 7),
    ]


def test_no_raw_variance_gives_infinities():
    """softplus neither overflows nor reaches 0, where log(1 + exp) and log would."""
    vid = VIDLoss(2, 3)
    with torch.no_grad():
        vid.raw_variance.copy_(torch.tensor([-1e4, 0.0, 1e4]))
    value = vid(torch.randn(2, 2, 4, 4), torch.randn(2, 3, 4, 4))
    value.backward()
    assert value.isfinite() and vid.raw_variance.grad.isfinite().all()
    assert vid.variance().tolist() == pytest.approx([1e-5, math.log(2) + 1e-5, 1e4])


def test_vid_learns_its_variances():
    """With a fixed mean the best variance of a channel is its mean squared error."""
    vid, scale = VIDLoss(1, 2, variance=1.0), torch.tensor([0.3, 2.0])
    teacher = scale[:, None, None] * torch.randn(64, 2, 4, 4, generator=generator())
    student = torch.zeros(64, 1, 4, 4)
    with torch.no_grad():
        vid.regressor[4].weight.zero_(), vid.regressor[4].bias.zero_()
    optimiser = torch.optim.Adam([vid.raw_variance], lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        vid(student, teacher).backward()
        optimiser.step()
    expected = teacher.square().mean((0, 2, 3))
    torch.testing.assert_close(vid.variance().detach(), expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"variance": 0.0},
        {"variance": 1e-5},
        {"eps": -1.0},
        {"variance": math.inf},
        {"eps": math.nan},
    ],
    ids=str,
)
def test_wrong_variance(options):
    with pytest.raises(
        ValueError, match=r"^VIDLoss: variance must be finite and above eps >= 0, got"
    ):
        VIDLoss(2, 3, **options)


def test_state_and_half_types():
    """Parameters are saved and loaded; a bfloat16 module computes its loss in float32."""
    vid, other = VIDLoss(2, 3), VIDLoss(2, 3)
    other.load_state_dict(vid.state_dict())
    student, teacher = torch.randn(2, 2, 4, 4), torch.randn(2, 3, 4, 4)
    assert torch.equal(vid(student, teacher), other(student, teacher))
    value = vid.bfloat16()(student.bfloat16(), teacher.bfloat16())
    assert value.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert other(student, teacher).dtype == torch.float32
