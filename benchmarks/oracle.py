"""The exact loss and gradient of a workload."""

from torch import Tensor

from . import eager, measure

ROWS = 8192  # a float64 eager relation of more rows does not fit an ordinary memory


def exact(workload, student: Tensor, teacher: Tensor | None, options: dict, rows: int = ROWS):
    """In float64; of more rows eager's float32."""
    if workload.case.stem == "rkd_angle_loss":
        return eager.angle_loss_and_gradient(student.double(), teacher.double())
    if len(student) <= rows:
        student, teacher = student.double(), None if teacher is None else teacher.double()
    student = student.detach().requires_grad_()
    return measure.result(getattr(eager, workload.case.stem), student, teacher, options)
