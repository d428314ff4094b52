"""A user's code under mypy --strict: it is checked, never run."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from typing_extensions import assert_type

import kdops
from kdops.taps import Outputs


def losses(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    with kdops.backend("reference"):
        value = kdops.kd_loss(student, teacher, labels, temperature=2, ce_weight=0.1)
    assert_type(value, Tensor)
    assert_type(kdops.rkd_distance_loss([student, student], teacher), Tensor)
    assert_type(kdops.mutual_kl([student, teacher], labels), Tensor)
    loss, terms = kdops.mutual_kl(torch.stack([student, teacher]), labels, return_terms=True)
    assert_type(terms, dict[str, Tensor])
    return value + loss.sum()


def wrong(student: Tensor, teacher: Tensor) -> None:
    """Each line is an error; --strict also says where an ignore is not needed."""
    kdops.kd_loss(student, teacher, temperature="4")  # type: ignore[arg-type]
    kdops.kd_loss(student, [teacher])  # type: ignore[arg-type]
    kdops.rkd_angle_loss(student, teacher, beta=1)  # type: ignore[call-arg]
    kdops.nn.KDLoss(reduction=1)  # type: ignore[arg-type]
    kdops.no_such_loss(student, teacher)  # type: ignore[attr-defined]


def offline(model: nn.Module, big: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    student = kdops.Tapped(model, {"embedding": "fc:input"})
    teacher = kdops.Teacher(big.eval(), {"embedding": "fc:input"})
    method: kdops.methods.Method = kdops.methods.RKD(ce_weight=1.0)
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    for images, labels in batches:
        outputs: Outputs = student(images)
        method(outputs, teacher(images), labels).backward()
        optimizer.step()


def online(batches: Iterable[tuple[Tensor, Tensor]]) -> nn.Module:
    method = kdops.methods.online.DML(temperature=2.0)
    group = method.assemble(lambda i: nn.Linear(8, 3), {})
    assert_type(group, kdops.peers.NetGroup)
    method.set_epoch(1)
    for step, (images, labels) in enumerate(batches):
        method.set_step(step, group)
        method(group(images), labels).backward()
    return group.model


def parts(labels: Tensor, features: Tensor) -> list[int]:
    criterion = nn.Sequential(kdops.nn.RKDLoss(distance_weight=25.0), kdops.nn.SPLoss())
    assert_type(kdops.nn.grad_rescale(features, 0.5), Tensor)
    scheduled = kdops.schedules.SigmoidRampup(80)(3)
    assert_type(scheduled, float)
    print(criterion, kdops.metrics.churn(features, features))
    return [i for i, _ in enumerate(labels)]
