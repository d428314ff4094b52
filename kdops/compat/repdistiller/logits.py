"""Losses of logits."""

from torch import Tensor, nn

from .._zoos.logits import soft_targets


class DistillKL(nn.Module):
    """T^2 / N sum p (log p - log q), p = softmax(y_t / T), q = softmax(y_s / T).

    Over dimension 1; of (N, C, H, W) logits the sum over positions is divided by N alone. The
    teacher gets a gradient, unless it comes without its graph.
    Clean form: `kdops.kd_loss(y_s, y_t, temperature=T)`, or `kdops.nn.KDLoss`.
    Source: RepDistiller, distiller_zoo/KD.py.
    """

    def __init__(self, T: float) -> None:  # noqa: N803
        super().__init__()
        self.T = T

    def forward(self, y_s: Tensor, y_t: Tensor) -> Tensor:
        return soft_targets("DistillKL", y_s, y_t, self.T)
