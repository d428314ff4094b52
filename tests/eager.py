"""What users write today, by case: published formulas or torch's own, in the input's type."""

import torch.nn.functional as F

from kdops.bench import published


def _labels(student, teacher, *, temperature, target, kd_weight, ce_weight):
    counted = target != -100
    soft = published.kd(student[counted], teacher[counted], temperature)
    return kd_weight * soft + ce_weight * F.cross_entropy(student, target)


def _hard(student, teacher, *, target, **_):
    return F.cross_entropy(student, target)


def _soft_cross_entropy(student, teacher, *, temperature):
    p = F.softmax(teacher / temperature, -1)
    return temperature**2 * F.cross_entropy(student / temperature, p)


EAGER = {
    "kd_loss": published.kd,
    "kd_loss-labels": _labels,
    "kd_loss-hard": _hard,
    "soft_cross_entropy": _soft_cross_entropy,
    "rkd_distance_loss": published.rkd_distance,
    "rkd_angle_loss": published.rkd_angle,
    "irg_edge_loss": published.irg_edge,
    "cckd_loss": published.cckd,
    "cckd_loss-order3": published.cckd,
    "pkt_loss": published.pkt,
    "pkt_loss-student_t": published.student_t,
    "sp_loss": published.sp,
}
