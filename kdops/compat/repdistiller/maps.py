"""Losses of feature maps: of a layer, of each of a list, or of neighbours in a list.

Maps of other heights are averaged to the lower one, H x H. Lists are taken in pairs up to the end
of the shorter one. The teacher gets a gradient where no class says otherwise.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from ... import _checks, functional
from .._zoos import maps, svd, variational


class HintLoss(nn.Module):
    """Mean squared error over all entries: neither the paper's 1/2 nor its sum over a sample.

    Clean form: `kdops.hint_loss(f_s, f_t, reduction="mean")`, half the value.
    Source: RepDistiller, distiller_zoo/FitNet.py.
    """

    def forward(self, f_s: Tensor, f_t: Tensor) -> Tensor:
        return maps.squared_error(f_s, f_t)


class Attention(nn.Module):
    """Of each pair of layers the mean of (a_s - a_t)^2, a = mean_c x_c^p over its length.

    x^p keeps its sign for odd p, where the paper takes |x|^p.
    Clean form: `kdops.at_loss(f_s, f_t, p=p)`, equal for even p.
    Source: RepDistiller, distiller_zoo/AT.py.
    """

    def __init__(self, p: float = 2) -> None:
        super().__init__()
        self.p = p

    def forward(self, g_s: Iterable[Tensor], g_t: Iterable[Tensor]) -> list[Tensor]:
        return [maps.attention(*pair, self.p) for pair in maps.pairs("Attention", g_s, g_t)]


class FactorTransfer(nn.Module):
    """Mean of |a_s - a_t|^p2, or of (a_s - a_t)^p2 unless p2 is 1; a as in Attention with p1.

    The paper compares whole normalised factors; here their channels are averaged first. The
    paraphraser and the translator that make the factors are models.
    Source: RepDistiller, distiller_zoo/FT.py. kdops has no other form.
    """

    def __init__(self, p1: float = 2, p2: float = 1) -> None:
        super().__init__()
        self.p1, self.p2 = p1, p2

    def forward(self, f_s: Tensor, f_t: Tensor) -> Tensor:
        layers = maps.same_height(*maps.checked("FactorTransfer", f_s, f_t))
        ours, theirs = (maps.power_map(x, self.p1) for x in layers)
        difference = ours - theirs
        return (difference.abs() if self.p2 == 1 else difference.pow(self.p2)).mean()


class NSTLoss(nn.Module):
    """Of each pair of layers the squared MMD of channels of length 1, kernel <x, y>^2.

    k(t, t) + k(s, s) - 2 k(s, t), means over samples and pairs of channels. The teacher gets a
    gradient from the last term alone.
    Source: RepDistiller, distiller_zoo/NST.py. kdops has no other form.
    """

    def forward(self, g_s: Iterable[Tensor], g_t: Iterable[Tensor]) -> list[Tensor]:
        layers = maps.pairs("NSTLoss", g_s, g_t)
        return [maps.selectivity(*pair, constant=True) for pair in layers]


class FSP(nn.Module):
    """Of each two neighbours in the lists the mean of (G_s - G_t)^2, G_ij = mean_hw x_ihw y_jhw.

    The paper brings the larger map to size by max pooling.
    Clean form: `kdops.fsp_loss((g_s[i], g_s[i + 1]), (g_t[i], g_t[i + 1]))`.
    Raises:
        ValueError: for shapes (N, C, ...) of other channels, or lists of other lengths.
    Source: RepDistiller, distiller_zoo/FSP.py.
    """

    def __init__(
        self, s_shapes: Iterable[Sequence[int]], t_shapes: Iterable[Sequence[int]]
    ) -> None:
        super().__init__()
        student, teacher = ([shape[1] for shape in shapes] for shapes in (s_shapes, t_shapes))
        if student != teacher:
            raise ValueError(f"FSP: s_shapes must have t_shapes' channels {teacher}, got {student}")

    def forward(self, g_s: Sequence[Tensor], g_t: Sequence[Tensor]) -> list[Tensor]:
        for name, layers in (("g_s", g_s), ("g_t", g_t)):
            for x in layers:
                _checks.feature_maps("FSP", name, x)
        ours, theirs = ([maps.same_height(*x) for x in pairwise(layers)] for layers in (g_s, g_t))
        return [
            functional.fsp_loss(*pair, teacher_grad=True)
            for pair in zip(ours, theirs, strict=False)
        ]


class KDSVD(nn.Module):
    """Of each layer but the first, 1 / N sum (exp(-dv_s^2 / 8) - exp(-dv_t^2 / 8))^2.

    dv are differences between the right singular vectors of the (H W, C) layer and those of the
    layer before, the student's aligned with the teacher's k and both weighted by the teacher's
    singular values, its only way to a gradient. Both nets must have as many channels.
    The value depends on the signs that the SVD gives the teacher's vectors, which differ between
    devices and types; the derivative is unbounded where two singular values meet.
    Source: RepDistiller, distiller_zoo/KDSVD.py. kdops has no other form.
    """

    def __init__(self, k: int = 1) -> None:
        super().__init__()
        self.k = k

    def forward(self, g_s: Iterable[Tensor], g_t: Iterable[Tensor]) -> list[Tensor]:
        layers = maps.pairs("KDSVD", g_s, g_t)
        return svd.changes("KDSVD", layers, self.k, lambda x: x.flatten(2).mT)


class ABLoss(nn.Module):
    """Of each pair of layers 3 / (1000 N) 2^(i - feat_num + 1) sum relu(margin - sign(t) s)^2.

    sign(t) is -1 at 0. The weights and 3 / 1000 are not in the paper's formula. The connector in
    front of it is a model.
    Source: RepDistiller, distiller_zoo/AB.py. kdops has no other form.
    """

    def __init__(self, feat_num: int, margin: float = 1.0) -> None:
        super().__init__()
        self.w = [2.0 ** (i - feat_num + 1) for i in range(feat_num)]
        self.margin = margin

    def forward(self, g_s: Iterable[Tensor], g_t: Iterable[Tensor]) -> list[Tensor]:
        weighted = zip(self.w, maps.pairs("ABLoss", g_s, g_t), strict=False)
        return [
            weight * maps.boundaries(*pair, self.margin).sum() / len(pair[0]) / 1000 * 3
            for weight, pair in weighted
        ]


class VIDLoss(nn.Module):
    """mean 1/2 ((regressor(input) - target)^2 / v_c + log v_c), v = softplus(log_scale) + eps.

    Learns the regressor, three 1 x 1 convolutions without bias, and log_scale: the names of
    RepDistiller's state_dict. The regressor's first weights are PyTorch's defaults.
    Clean form: `kdops.nn.VIDLoss`, whose convolutions have a bias and whose maps have one size.
    Source: RepDistiller, distiller_zoo/VID.py.
    """

    def __init__(
        self,
        num_input_channels: int,
        num_mid_channel: int,
        num_target_channels: int,
        init_pred_var: float = 5.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.regressor = variational.regressor(
            num_input_channels, num_mid_channel, num_target_channels
        )
        self.log_scale = variational.raw_variance(num_target_channels, init_pred_var, eps)
        self.eps = eps

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        ours, theirs = maps.same_height(*maps.checked("VIDLoss", input, target))
        return variational.likelihood(self.regressor(ours), theirs, self.log_scale, self.eps)
