"""torchdistill's losses of correlations, DIST and DIST+. The teacher's gradient is kept."""

from torch import Tensor, nn

from ...reference.numbers import accumulation, root
from ._io_dict import IODict, Pair, at


def correlation(student: Tensor, teacher: Tensor, eps: float) -> Tensor:
    """Mean over the rows of Pearson's correlation, each length at least eps."""
    student, teacher = (x - x.mean(1, keepdim=True) for x in (student, teacher))
    return nn.functional.cosine_similarity(student, teacher, eps=eps).mean()


class DISTLoss(Pair):
    """tau^2 (beta (1 - r over the classes of a row) + gamma (1 - r over the rows of a class)).

    `kdops.dist_loss` is the clean form, without eps: it is exact where probabilities are below
    eps, and has no term of classes in a batch of one row, which here is gamma tau^2.
    """

    def __init__(
        self,
        student_module_path: str,
        student_module_io: str,
        teacher_module_path: str,
        teacher_module_io: str,
        beta: float = 1.0,
        gamma: float = 1.0,
        tau: float = 1.0,
        eps: float = 1e-8,
        **kwargs: object,
    ) -> None:
        super().__init__(
            student_module_path, student_module_io, teacher_module_path, teacher_module_io
        )
        self.beta, self.gamma, self.tau, self.eps = beta, gamma, tau, eps

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor:
        logits = self.pair(student_io_dict, teacher_io_dict)
        q, p = ((accumulation(x) / self.tau).softmax(1) for x in logits)
        inter, intra = 1 - correlation(q, p, self.eps), 1 - correlation(q.mT, p.mT, self.eps)
        return self.tau**2 * (self.beta * inter + self.gamma * intra)


class DISTPlusLoss(DISTLoss):
    """`DISTLoss` of logits + iota times a term of channels + kappa times one of positions.

    The second is 1 - r over the samples, of the sum over channels at a position. The first is
    the correlation of channels at a position itself, as torchdistill has it: with iota > 0 it
    grows as the student comes to agree with the teacher.
    """

    def __init__(
        self,
        student_logit_module_path: str,
        student_logit_module_io: str,
        teacher_logit_module_path: str,
        teacher_logit_module_io: str,
        student_feature_module_path: str,
        student_feature_module_io: str,
        teacher_feature_module_path: str,
        teacher_feature_module_io: str,
        beta: float = 1.0,
        gamma: float = 1.0,
        iota: float = 1.0,
        kappa: float = 1.0,
        tau: float = 1.0,
        eps: float = 1e-8,
        **kwargs: object,
    ) -> None:
        super().__init__(
            student_logit_module_path,
            student_logit_module_io,
            teacher_logit_module_path,
            teacher_logit_module_io,
            beta=beta,
            gamma=gamma,
            tau=tau,
            eps=eps,
        )
        self.student_feature = student_feature_module_path, student_feature_module_io
        self.teacher_feature = teacher_feature_module_path, teacher_feature_module_io
        self.iota, self.kappa = iota, kappa

    def channels(self, ours: Tensor, theirs: Tensor) -> Tensor:
        ours, theirs = (x - x.mean(1, keepdim=True) for x in (ours, theirs))
        lengths = root(ours.square().sum(1) * theirs.square().sum(1))
        return ((ours * theirs).sum(1) / (lengths + self.eps)).mean()

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor:
        value = super().forward(student_io_dict, teacher_io_dict)
        ours = accumulation(at(student_io_dict, *self.student_feature))
        theirs = accumulation(at(teacher_io_dict, *self.teacher_feature))
        s, t = (x.sum(1).flatten(1).mT for x in (ours, theirs))
        positions = 1 - correlation(s, t, self.eps)
        return value + self.iota * self.channels(ours, theirs) + self.kappa * positions
