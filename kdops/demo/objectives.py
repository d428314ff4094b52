"""What each method minimises: cross-entropy on the labels, and the teacher through kdops.

The weights belong to the reductions of kdops ('batchmean' rows, 'mean' maps). They were chosen on
MNIST validation images, in training without shifts, and kept.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

import kdops

from .models import Outputs

Objective = Callable[[Outputs, Outputs | None, Tensor], Tensor]


def hard(student: Outputs, teacher: Outputs | None, labels: Tensor) -> Tensor:
    return F.cross_entropy(student.logits, labels)


def soft(student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
    """The teacher's soft targets alone: no label is seen."""
    return kdops.kd_loss(student.logits, teacher.logits, temperature=4.0)


def kd(student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
    return kdops.kd_loss(
        student.logits, teacher.logits, labels, temperature=4.0, kd_weight=0.9, ce_weight=0.1
    )


def rkd(student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
    distance = kdops.rkd_distance_loss(student.embedding, teacher.embedding)
    angle = kdops.rkd_angle_loss(student.embedding, teacher.embedding)
    return hard(student, teacher, labels) + 30 * distance + 60 * angle


def irg(student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
    edge = kdops.irg_edge_loss(student.embedding, teacher.embedding)
    vertex = F.mse_loss(student.logits, teacher.logits)
    return hard(student, teacher, labels) + 10 * edge + 0.03 * vertex


def cckd(student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
    correlation = kdops.cckd_loss(student.embedding, teacher.embedding, gamma=0.4, order=2)
    return hard(student, teacher, labels) + 1000 * correlation


# the methods of the gains table; the baseline learns from labels alone
DISTILLED: dict[str, Objective] = {"KD": kd, "RKD": rkd, "IRG": irg, "CCKD": cckd}
