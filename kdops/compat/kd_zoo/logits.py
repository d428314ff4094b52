"""Losses of logits, classes in dimension 1."""

from torch import Tensor, nn

from .._zoos import maps
from .._zoos.logits import soft_targets


class Logits(nn.Module):
    """Mean squared error over samples and classes.

    Clean form: `kdops.hint_loss(out_s, out_t, reduction="mean")`, half the value.
    Source: Ba, Caruana, 2014, "Do Deep Nets Really Need to be Deep?", equation 1, which has 1/2 and
        no mean over classes.
    """

    def forward(self, out_s: Tensor, out_t: Tensor) -> Tensor:
        return maps.squared_error(out_s, out_t)


class SoftTarget(nn.Module):
    """T^2 / N sum p (log p - log q), p = softmax(out_t / T), q = softmax(out_s / T).

    Clean form: `kdops.kd_loss(out_s, out_t, temperature=T)`.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network".
    """

    def __init__(self, T: float) -> None:  # noqa: N803
        super().__init__()
        self.T = T

    def forward(self, out_s: Tensor, out_t: Tensor) -> Tensor:
        return soft_targets("SoftTarget", out_s, out_t, self.T)


class DML(nn.Module):
    """KL(softmax(out2) || softmax(out1)) over N: of one of two peers.

    Clean form: `kdops.mutual_kl([out1, out2])`, of both or of any number of peers, whose targets
    get no gradient.
    Source: Zhang, Xiang, Hospedales, Lu, 2018, "Deep Mutual Learning", equation 5.
    """

    def forward(self, out1: Tensor, out2: Tensor) -> Tensor:
        return soft_targets("DML", out1, out2, 1.0)


class BSS(nn.Module):
    """KL of softened logits of attacked images over N, without T^2.

    Clean form: `kdops.kd_loss(attacked_out_s, attacked_out_t, temperature=T, scale_t2=False)`.
    Source: Heo, Lee, Yun, Choi, 2019, "Knowledge Distillation with Adversarial Samples Supporting
        Decision Boundary".
    """

    def __init__(self, T: float) -> None:  # noqa: N803
        super().__init__()
        self.T = T

    def forward(self, attacked_out_s: Tensor, attacked_out_t: Tensor) -> Tensor:
        return soft_targets("BSS", attacked_out_s, attacked_out_t, self.T, scale_t2=False)
