"""torchdistill's loss of contrasts with a memory of the training set, CRD."""

from torch import Tensor

from .._zoos.contrast import Memory, noise_contrastive
from ._io_dict import IODict, at


class CRDLoss(Memory):
    """-1 / N sum_i (log P_i0 / (P_i0 + c + eps) + sum_j>0 log c / (P_ij + c + eps)) of both nets.

    P is exp(<a net's row, the other net's row of the memory> / temperature) / Z and c is
    num_negative_samples / num_samples. The rows (N, input_size) are what both normalizers gave,
    of length 1. The student's empty module took {'pos_idx': (N,), the samples' numbers,
    'contrast_idx': (N, num_negative_samples + 1), the rows compared with, a positive first};
    without the latter they are drawn, where 1.1.5 stops. Then the memory's rows pos_idx become
    momentum row + (1 - momentum) the batch's, over its length, in evaluation too. Z is the first
    batch's mean times output_size, the number of the memory's rows. The memory follows the
    student to its device. There is no clean form.
    Returns:
        One element, (1,).
    Raises:
        TypeError: for rows that are no float tensor, or indices that are no integers.
        ValueError: for shapes of other batches or widths, or no row.
        IndexError: for an index that is no row of the memory. Nothing is written.
    """

    arguments = ("student", "teacher", "pos_idx", "contrast_idx")

    def __init__(
        self,
        student_norm_module_path: str,
        student_empty_module_path: str,
        teacher_norm_module_path: str,
        input_size: int,
        output_size: int,
        num_negative_samples: int,
        num_samples: int,
        temperature: float = 0.07,
        momentum: float = 0.5,
        eps: float = 1e-7,
    ) -> None:
        super().__init__(input_size, output_size, num_negative_samples, temperature, momentum)
        self.student, self.teacher = student_norm_module_path, teacher_norm_module_path
        self.indices = student_empty_module_path
        self.num_samples, self.eps = num_samples, eps

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor:
        student = at(student_io_dict, self.student, "output")
        teacher = at(teacher_io_dict, self.teacher, "output")
        given = at(student_io_dict, self.indices, "input")
        if student.device != self.params.device:
            self.to(student.device)
        y, idx = (
            x.to(student.device) if isinstance(x, Tensor) else x
            for x in (given.get("pos_idx"), given.get("contrast_idx"))
        )
        ours, theirs = (
            noise_contrastive("CRDLoss", x, self.num_samples, self.eps)
            for x in self.ratios(student, teacher, y, idx)
        )
        return ours + theirs
