"""What RepDistiller, mdistiller and Knowledge-Distillation-Zoo have in common, as published.

Written from the formulas, apart from kdops.compat; everything carries a gradient.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from kdops.bench.published import angles, cosine_probabilities, distances


def kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL over the first dimension; kd of `kdops.bench.published`, with a teacher's gradient."""
    log_q = F.log_softmax(student / temperature, dim=1)
    p = F.softmax(teacher / temperature, dim=1)
    return F.kl_div(log_q, p, reduction="sum") * temperature**2 / len(student)


def over_mean(d: Tensor) -> Tensor:
    return d / d[d > 0].mean()


def rkd(student, teacher, distance_weight, angle_weight, squared=False) -> Tensor:
    distance = F.smooth_l1_loss(*(over_mean(distances(x, squared)) for x in (student, teacher)))
    return distance_weight * distance + angle_weight * F.smooth_l1_loss(
        angles(student), angles(teacher)
    )


def pkt(student: Tensor, teacher: Tensor, eps: float) -> Tensor:
    q, p = cosine_probabilities(student, eps), cosine_probabilities(teacher, eps)
    return (p * torch.log((p + eps) / (q + eps))).mean()


def similarity(student: Tensor, teacher: Tensor) -> Tensor:
    ours, theirs = (F.normalize(x @ x.t()) for x in (student.flatten(1), teacher.flatten(1)))
    return F.mse_loss(ours, theirs)


def to_one_height(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.shape[2] > b.shape[2]:
        a = F.adaptive_avg_pool2d(a, (b.shape[2], b.shape[2]))
    elif b.shape[2] > a.shape[2]:
        b = F.adaptive_avg_pool2d(b, (a.shape[2], a.shape[2]))
    return a, b


def signed_attention(x: Tensor, p: float) -> Tensor:
    return F.normalize((x**p).mean(dim=1).reshape(len(x), -1))


def attention(student: Tensor, teacher: Tensor, p: float) -> Tensor:
    student, teacher = to_one_height(student, teacher)
    return F.mse_loss(signed_attention(student, p), signed_attention(teacher, p))


def polynomial(a: Tensor, b: Tensor) -> Tensor:
    a, b = (F.normalize(x.flatten(2), dim=2) for x in (a, b))
    return torch.einsum("nid,njd->nij", a, b).pow(2).mean()


def nst(student: Tensor, teacher: Tensor, constant: bool) -> Tensor:
    student, teacher = to_one_height(student, teacher)
    own = polynomial(teacher, teacher)
    own = own.detach() if constant else own
    return own + polynomial(student, student) - 2 * polynomial(student, teacher)


def gram(first: Tensor, second: Tensor) -> Tensor:
    first, second = to_one_height(first, second)
    return torch.einsum("nihw,njhw->nij", first, second) / (first.shape[2] * first.shape[3])


def fsp(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    return F.mse_loss(gram(*student), gram(*teacher))


def boundary(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """Of an entry, by cases."""
    off = (student + margin) ** 2 * ((teacher <= 0) & (student > -margin))
    on = (student - margin) ** 2 * ((teacher > 0) & (student <= margin))
    return off + on


def svd_layers(student, teacher, k: int, as_matrices) -> list[Tensor]:
    """SSKD_SVD, sample by sample and vector by vector."""

    def vectors(x: Tensor, count: int):
        _, s, v = torch.svd(as_matrices(x))
        return F.normalize(s[:, :count], dim=1), v[:, :, :count]

    def aligned(ours: Tensor, theirs: Tensor) -> Tensor:
        samples = []
        for a, b in zip(ours, theirs, strict=True):
            cosine = a.t() @ b
            nearest = cosine.abs().argmax(0)
            signs = cosine.gather(0, nearest[None]).sign()
            samples.append(a[:, nearest] * signs)
        return torch.stack(samples)

    found = []
    for ours, theirs in zip(student, teacher, strict=True):
        values, v_teacher = vectors(theirs, k)
        _, v_student = vectors(ours, k + 3)
        weight = values[:, None, :]
        found.append((aligned(v_student, v_teacher) * weight, v_teacher * weight))
    losses = []
    for before, now in pairwise(found):
        s, t = (
            torch.exp(-((b[:, :, None] - a[:, None]) ** 2) / 8)
            for a, b in zip(before, now, strict=True)
        )
        losses.append(((s - t.detach()) ** 2).sum() / len(s))
    return losses


def vid(prediction: Tensor, teacher: Tensor, raw: Tensor, eps: float) -> Tensor:
    variance = (torch.log(1 + torch.exp(raw)) + eps).reshape(1, -1, 1, 1)
    return (0.5 * ((prediction - teacher) ** 2 / variance + torch.log(variance))).mean()
