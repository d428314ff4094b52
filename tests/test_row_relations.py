"""What is particular to maps whose rows have normalisers of their own: PKT, HKD and SP."""

import math

import pytest
import torch

import kdops
from kdops import reference

from .cases import generator
from .metrics import gradient_error, value_and_gradient

KERNELS = ("cosine", "student_t")
DIVERGENCES = ("kl", "jeffreys")
kernels = pytest.mark.parametrize("kernel", KERNELS)
divergences = pytest.mark.parametrize("divergence", DIVERGENCES)


def features(rows=9, columns=5, dtype=torch.float32):
    return torch.randn((2, rows, columns), generator=generator(), dtype=dtype).unbind()


@pytest.mark.parametrize(
    ("function", "options", "error", "text"),
    [
        (kdops.pkt_loss, {"kernel": "rbf"}, ValueError, "kernel must be"),
        (kdops.pkt_loss, {"divergence": "js"}, ValueError, "divergence must be"),
        (kdops.pkt_loss, {"eps": -1e-7}, ValueError, "eps must be"),
        (kdops.pkt_loss, {"eps": 1.5}, ValueError, "eps must be"),
        (kdops.pkt_loss, {"eps": "0"}, TypeError, "eps must be"),
        (kdops.sp_loss, {"norm": 3}, ValueError, "norm must be"),
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),  # the same in every process
)
def test_options(backend, function, options, error, text):
    with pytest.raises(error, match=f"^{function.__name__}: {text}"):
        function(*features(), **options)


@kernels
@divergences
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_maps_have_no_loss(backend, kernel, divergence, include_self, dtype):
    x, _ = features(40, 33, dtype)
    options = {"kernel": kernel, "divergence": divergence, "include_self": include_self}
    value, gradient = value_and_gradient(kdops.pkt_loss, x, x, **options)
    assert value == 0 and (gradient == 0).all()
    value, gradient = value_and_gradient(kdops.sp_loss, x, x)
    assert value == 0 and (gradient == 0).all()


@kernels
@divergences
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("rows", [64, 65, 150])
def test_blocks_of_rows(backend, kernel, divergence, include_self, rows):
    """A pair is seen once, from both rows: within a block, between two, beyond the last row."""
    student, teacher = features(rows, 20)
    options = {"kernel": kernel, "divergence": divergence, "include_self": include_self}
    functions = (
        (kdops.pkt_loss, reference.pkt_loss, options),
        (kdops.sp_loss, reference.sp_loss, {}),
    )
    for function, formula, options in functions:
        value, gradient = value_and_gradient(function, student, teacher, **options)
        exact = value_and_gradient(formula, student.double(), teacher.double(), **options)
        assert value.item() == pytest.approx(exact[0].item(), rel=1e-5)
        assert gradient_error(gradient, exact[1]) < 1e-5


@kernels
@divergences
def test_never_negative(backend, kernel, divergence):
    x, noise = features(40, 33)
    for spread in (1e-6, 1e-4, 1e-2):
        options = {"kernel": kernel, "divergence": divergence}
        assert kdops.pkt_loss(x + spread * noise, x, **options) >= 0


@kernels
@divergences
@pytest.mark.parametrize("same", [(0, 1), (0, 8)], ids=str)
def test_duplicate_and_zero_rows(backend, kernel, divergence, same):
    """The published code has a NaN gradient for a zero row, and for a distance of 0."""
    student, teacher = features()
    student[same[1]] = student[same[0]]
    student[3] = 0
    options = {"kernel": kernel, "divergence": divergence}
    value, gradient = value_and_gradient(kdops.pkt_loss, student, teacher, **options)
    exact = value_and_gradient(reference.pkt_loss, student.double(), teacher.double(), **options)
    assert value.item() == pytest.approx(exact[0].item(), rel=1e-5)
    torch.testing.assert_close(gradient, exact[1].float(), rtol=1e-4, atol=1e-6)
    assert kernel == "student_t" or (gradient[3] == 0).all()
    value, gradient = value_and_gradient(kdops.sp_loss, student, teacher)
    assert value.isfinite() and gradient.isfinite().all()


@divergences
@pytest.mark.parametrize("columns", [1, 4])
def test_opposite_rows(backend, columns, divergence):
    """No probability in the student where the teacher has one: infinite, with no NaN beside it."""
    student = torch.ones(3, columns)
    student[1] = -1
    for teacher, expected in ((student, 0.0), (student.abs(), math.inf)):
        value, gradient = value_and_gradient(
            kdops.pkt_loss, student, teacher, divergence=divergence
        )
        assert value == expected and gradient.isfinite().all()
    value = kdops.pkt_loss(student.abs(), student, divergence=divergence)
    assert value.isfinite() == (divergence == "kl")


@kernels
@divergences
def test_many_rows(backend, kernel, divergence):
    """More than a block has threads, and than there are blocks."""
    student, teacher = features(300, 16)
    options = {"kernel": kernel, "divergence": divergence, "include_self": kernel == "cosine"}
    for function, kwargs in ((kdops.pkt_loss, options), (kdops.sp_loss, {})):
        value, gradient = value_and_gradient(function, student, teacher, **kwargs)
        formula = getattr(reference, function.__name__)
        exact = value_and_gradient(formula, student.double(), teacher.double(), **kwargs)
        assert value.item() == pytest.approx(exact[0].item(), rel=1e-6)
        assert gradient_error(gradient, exact[1]) < 5e-6


@divergences
def test_improbable_neighbours(backend, divergence):
    """Probabilities of 1e-4 to 1e-12 in the student alone: 1 - p / q keeps its digits."""
    if backend == "reference":
        pytest.skip("rounds in float32, and has no number beyond 1e8")
    noise, teacher = features()
    options = {"kernel": "student_t", "divergence": divergence}
    for length in (1e4, 1e8, 1e12):
        student = length * noise
        student[1:3] = student[0] + noise[1:3]
        value, gradient = value_and_gradient(kdops.pkt_loss, student, teacher, **options)
        exact = value_and_gradient(kdops.pkt_loss, student.double(), teacher.double(), **options)
        assert value.item() == pytest.approx(exact[0].item(), rel=1e-5)
        for rows in (slice(3), slice(3, None)):
            assert gradient_error(gradient[rows], exact[1][rows]) < 1e-4


@kernels
def test_a_row_alone_has_no_neighbour(backend, kernel):
    """Two rows without themselves: each has the other with probability 1."""
    student, teacher = features(rows=2)
    value, gradient = value_and_gradient(
        kdops.pkt_loss, student, teacher, kernel=kernel, include_self=False
    )
    assert abs(value) < 1e-12 and (gradient.abs() < 1e-6).all()


PUBLISHED = {
    "PKT": ("pkt_loss", {"eps": 1e-7, "reduction": "mean"}),
    "PKT of others": ("pkt_loss", {"eps": 1e-3, "include_self": False}),
    "SP": ("sp_loss", {"norm": 1}),
}
published = pytest.mark.parametrize(("name", "options"), PUBLISHED.values(), ids=list(PUBLISHED))


@published
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spread", [1.0, 1e-2])
@pytest.mark.parametrize("rows", [3, 9, 70])
def test_published_forms(backend, name, options, dtype, spread, rows):
    """Of rows at scales of 1e-3 to 1e3, the student's near the teacher's or not."""
    teacher, noise = features(rows, 19, torch.float64)
    scale = torch.logspace(-3, 3, rows, dtype=torch.float64)[:, None]
    student = ((1 - spread) * teacher + spread * noise) * scale
    student, teacher = student.to(dtype), (teacher * scale).to(dtype)
    value, gradient = value_and_gradient(getattr(kdops, name), student, teacher, **options)
    exact = value_and_gradient(
        getattr(reference, name), student.double(), teacher.double(), **options
    )
    bound = 1e-11 if dtype == torch.float64 else 1e-5 / spread
    assert value.item() == pytest.approx(exact[0].item(), rel=bound)
    for row in range(rows):
        assert gradient_error(gradient[row], exact[1][row]) < 10 * bound


@published
def test_published_forms_run_on_the_kernels(native, monkeypatch, name, options):
    monkeypatch.delattr(reference, name)
    student, teacher = features()
    assert getattr(kdops, name)(student.requires_grad_(), teacher, **options) > 0


@published
def test_published_forms_of_equal_and_zero_rows(backend, name, options):
    student, teacher = features()
    value, gradient = value_and_gradient(getattr(kdops, name), teacher, teacher, **options)
    assert value == 0 and gradient.abs().max() <= options.get("eps", 0)  # not 0 with eps
    student[3], student[4], teacher[5] = 0, student[2], 0
    value, gradient = value_and_gradient(getattr(kdops, name), student, teacher, **options)
    exact = value_and_gradient(
        getattr(reference, name), student.double(), teacher.double(), **options
    )
    assert value.item() == pytest.approx(exact[0].item(), rel=1e-5)
    for row in range(9):
        torch.testing.assert_close(
            gradient[row], exact[1][row].float(), rtol=1e-4, atol=1e-5 * exact[1][row].abs().max()
        )
    if name == "pkt_loss":  # x / (|x| + eps) has the slope 1 / eps at 0
        length = (1 / options["eps"]) * gradient[2].norm()
        assert length / 100 < gradient[3].norm() < 100 * length


@pytest.mark.parametrize("magnitude", [1e-30, 1e-18, 1e18, 1e30])
def test_published_neighbours_of_any_length(backend, magnitude):
    """Rows far below eps are all orthogonal, far above it eps counts for nothing."""
    student, teacher = features()
    value = kdops.pkt_loss(magnitude * student, magnitude * teacher, eps=1e-7)
    plain = kdops.pkt_loss(student, teacher, eps=1e-7)
    expected = plain.item() if magnitude > 1 else 0
    assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-12)
