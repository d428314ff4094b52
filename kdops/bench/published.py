"""The formulas that today's public packages compute: tests of parity, baselines of speed.

Each keeps what makes the published code what it is: distances from a Gram matrix bounded at 1e-12,
a selection by mask, N x N x D differences, N x N x N angles. Student first, teacher without
gradient.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-12


def kd(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """T^2 / N * sum_nc p (log p - log q): RepDistiller, mdistiller, Knowledge-Distillation-Zoo."""
    log_q = F.log_softmax(student / temperature, dim=1)
    p = F.softmax(teacher / temperature, dim=1)
    return F.kl_div(log_q, p, reduction="sum") * temperature**2 / len(student)


def distances(x: Tensor, squared: bool = False) -> Tensor:
    """|x|^2 + |y|^2 - 2 <x, y> bounded at 1e-12, its root, then 0 on the diagonal (lenscloth)."""
    norms = x.pow(2).sum(1)
    value = (norms[:, None] + norms[None] - 2 * x @ x.t()).clamp(min=EPS)
    value = value.clone() if squared else value.sqrt().clone()
    value[range(len(x)), range(len(x))] = 0
    return value


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber of distances over the mean of the positive ones: lenscloth, RepDistiller and others."""
    with torch.no_grad():
        target = distances(teacher)
        target = target / target[target > 0].mean()
    value = distances(student)
    value = value / value[value > 0].mean()
    return F.smooth_l1_loss(value, target)


def angles(x: Tensor) -> Tensor:
    """(N, N, N) cosines <e_ij, e_ik> of the N x N x D normalised differences."""
    units = F.normalize(x[None] - x[:, None], p=2, dim=2)
    return torch.bmm(units, units.transpose(1, 2))


def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber of all N^3 cosines: lenscloth, RepDistiller, mdistiller, torchdistill."""
    with torch.no_grad():
        target = angles(teacher)
    return F.smooth_l1_loss(angles(student), target)


def irg_edge(student: Tensor, teacher: Tensor) -> Tensor:
    """MSE of squared distances over their maximum: one layer in Knowledge-Distillation-Zoo."""
    with torch.no_grad():
        target = distances(teacher, squared=True)
        target = target / target.max()
    value = distances(student, squared=True)
    return F.mse_loss(value / value.max(), target)


def correlations(x: Tensor, gamma: float = 0.4, order: int = 2) -> Tensor:
    """exp(-2 gamma) sum_p (2 gamma)^p / p! <x, y>^p of rows brought to length 1, power by power."""
    x = F.normalize(x, p=2, dim=-1)
    gram = x @ x.t()
    value = torch.zeros_like(gram)
    for p in range(order + 1):
        weight = math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p)
        value = value + weight * gram.pow(p)
    return value


def cckd(student: Tensor, teacher: Tensor, gamma: float = 0.4, order: int = 2) -> Tensor:
    """MSE of the Taylor correlations: Knowledge-Distillation-Zoo."""
    with torch.no_grad():
        target = correlations(teacher, gamma, order)
    return F.mse_loss(correlations(student, gamma, order), target)


def cosine_probabilities(x: Tensor, eps: float) -> Tensor:
    """(1 + cosine) / 2 over the rows' sums, the diagonal included."""
    x = x / (x.pow(2).sum(1, keepdim=True).sqrt() + eps)
    value = (x @ x.t() + 1) / 2
    return value / value.sum(1, keepdim=True)


def pkt(student: Tensor, teacher: Tensor, eps: float = 1e-7) -> Tensor:
    """sum p log((p + eps) / (q + eps)) / N, where RepDistiller and torchdistill divide by N^2."""
    with torch.no_grad():
        p = cosine_probabilities(teacher, eps)
    q = cosine_probabilities(student, eps)
    return (p * torch.log((p + eps) / (q + eps))).sum() / len(p)


def student_t_probabilities(x: Tensor) -> Tensor:
    value = 1 / (1 + torch.cdist(x, x))
    return value / value.sum(1, keepdim=True)


def student_t(student: Tensor, teacher: Tensor, kernel: str = "student_t") -> Tensor:
    """KL of Student-t probabilities by torch.cdist, for one degree of freedom."""
    with torch.no_grad():
        p = student_t_probabilities(teacher)
    return F.kl_div(student_t_probabilities(student).log(), p, reduction="batchmean")


def sp(student: Tensor, teacher: Tensor) -> Tensor:
    """MSE of Gram matrices with rows of length 1: RepDistiller, mdistiller."""
    with torch.no_grad():
        target = F.normalize(teacher @ teacher.t(), p=2, dim=1)
    return F.mse_loss(F.normalize(student @ student.t(), p=2, dim=1), target)


def dist(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 (2 - mean correlation of rows - mean correlation of columns), without its eps: DIST."""
    q, p = (F.softmax(x / temperature, dim=1) for x in (student, teacher))

    def distance(q: Tensor, p: Tensor) -> Tensor:
        q, p = (x - x.mean(1, keepdim=True) for x in (q, p))
        return 1 - F.cosine_similarity(q, p, dim=1, eps=0).mean()

    return temperature**2 * (distance(q, p) + distance(q.t(), p.t()))
