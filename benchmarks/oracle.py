"""The exact loss and gradient of a workload."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdops.bench import eager, measure

ROWS = 8192  # a float64 eager relation of more rows does not fit an ordinary memory


def angle_loss_and_gradient(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """The angle loss and its gradient vertex by vertex, in N x N memory: the oracle of large N.

    cos_ijk = (S_ij + S_ik - S_jk) / (2 d_ij d_ik) with S from direct differences; for float64.
    """

    def squared(x):
        return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square()

    def cosines(s, i):
        apart = s[i] > 0
        inverse = torch.where(apart, torch.where(apart, s[i], 1.0).rsqrt(), 0.0)
        return (s[i][:, None] + s[i][None] - s) / 2 * inverse[:, None] * inverse[None]

    student = student.detach().requires_grad_()
    theirs, ours = squared(teacher), squared(student)
    leaf = ours.detach().requires_grad_()
    total = 0.0
    for i in range(len(leaf)):
        value = F.smooth_l1_loss(cosines(leaf, i), cosines(theirs, i), reduction="sum")
        value.backward()
        total = total + value.detach()
    ours.backward(leaf.grad)
    return total / len(leaf) ** 3, student.grad / len(leaf) ** 3


def exact(workload, student: Tensor, teacher: Tensor | None, options: dict, rows: int = ROWS):
    """In float64; of more rows eager's float32."""
    if workload.case.stem == "rkd_angle_loss":
        return angle_loss_and_gradient(student.double(), teacher.double())
    if len(student) <= rows:
        student, teacher = student.double(), None if teacher is None else teacher.double()
    student = student.detach().requires_grad_()
    return measure.result(getattr(eager, workload.case.stem), student, teacher, options)
