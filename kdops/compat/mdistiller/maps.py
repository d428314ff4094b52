"""Losses of feature maps, of a layer or of a list of them.

Maps of other heights are averaged to the lower one, H x H. Lists are taken in pairs up to the end
of the shorter one. The teacher gets a gradient where no function says otherwise.
"""

from collections.abc import Callable, Iterable
from typing import Literal

from torch import Tensor

from .._zoos import maps, svd, variational


def single_stage_at_loss(f_s: Tensor, f_t: Tensor, p: float) -> Tensor:
    """The mean of (a_s - a_t)^2, a = mean_c x_c^p over its length.

    x^p keeps its sign for odd p, where the paper takes |x|^p.
    Clean form: `kdops.at_loss(f_s, f_t, p=p)`, equal for even p.
    Source: mdistiller, mdistiller/distillers/AT.py.
    """
    return maps.attention(*maps.checked("single_stage_at_loss", f_s, f_t), p)


def at_loss(g_s: Iterable[Tensor], g_t: Iterable[Tensor], p: float) -> Tensor | Literal[0]:
    """The sum of `single_stage_at_loss` over pairs of layers; 0 for no layer.

    Source: mdistiller, mdistiller/distillers/AT.py.
    """
    return sum(maps.attention(*pair, p) for pair in maps.pairs("at_loss", g_s, g_t))


def single_stage_nst_loss(f_s: Tensor, f_t: Tensor) -> Tensor:
    """The squared MMD of channels of length 1, kernel <x, y>^2.

    k(t, t) + k(s, s) - 2 k(s, t), means over samples and pairs of channels. The teacher gets a
    gradient from the last term alone.
    Source: mdistiller, mdistiller/distillers/NST.py. kdops has no other form.
    """
    return maps.selectivity(*maps.checked("single_stage_nst_loss", f_s, f_t), constant=True)


def nst_loss(g_s: Iterable[Tensor], g_t: Iterable[Tensor]) -> Tensor | Literal[0]:
    """The sum of `single_stage_nst_loss` over pairs of layers; 0 for no layer.

    Source: mdistiller, mdistiller/distillers/NST.py. kdops has no other form.
    """
    return sum(maps.selectivity(*pair, constant=True) for pair in maps.pairs("nst_loss", g_s, g_t))


def kdsvd_loss(g_s: Iterable[Tensor], g_t: Iterable[Tensor], k: int) -> Tensor | Literal[0]:
    """Of the layers but the first the sum of 1 / N sum (exp(-dv_s^2 / 8) - exp(-dv_t^2 / 8))^2.

    dv are differences between the right singular vectors of a layer and those of the layer before,
    the student's aligned with the teacher's k and both weighted by the teacher's singular values.
    A layer is taken as a (C H, W) matrix, where the paper and RepDistiller have (H W, C), so both
    nets must have maps of one width; always in float32, as there. 0 for fewer than two layers.
    The value depends on the signs that the SVD gives the teacher's vectors, which differ between
    devices; the derivative is unbounded where two singular values meet.
    Source: mdistiller, mdistiller/distillers/KDSVD.py. kdops has no other form.
    """
    layers = maps.pairs("kdsvd_loss", g_s, g_t)
    return sum(svd.changes("kdsvd_loss", layers, k, lambda x: x.flatten(1, 2).float()))


def vid_loss(
    regressor: Callable[[Tensor], Tensor],
    log_scale: Tensor,
    f_s: Tensor,
    f_t: Tensor,
    eps: float = 1e-5,
) -> Tensor:
    """mean 1/2 ((regressor(f_s) - f_t)^2 / v_c + log v_c), v = softplus(log_scale) + eps.

    mdistiller's VID leaves log_scale out of its learnable parameters: there v keeps its first
    value.
    Clean form: `kdops.vid_loss(regressor(f_s), f_t, variance)`, or `kdops.nn.VIDLoss`.
    Source: mdistiller, mdistiller/distillers/VID.py.
    """
    ours, theirs = maps.same_height(*maps.checked("vid_loss", f_s, f_t))
    return variational.likelihood(regressor(ours), theirs, log_scale, eps)


def feat_loss(source: Tensor, target: Tensor, margin: Tensor) -> Tensor:
    """OFD: the sum of (source - max(target, margin))^2 over a sample, the mean over samples.

    An entry counts where source is above the maximum, or target > 0. The margin is negative, one
    a channel, as OFD's are. The connector in front of it is a model.
    Source: mdistiller, mdistiller/distillers/OFD.py. kdops has no other form.
    """
    ours, theirs = maps.checked("feat_loss", source, target)
    return maps.overhaul(ours, theirs, margin.to(ours)).sum() / max(1, len(ours))


def hcl_loss(fstudent: Iterable[Tensor], fteacher: Iterable[Tensor]) -> Tensor | Literal[0]:
    """ReviewKD: the sum over layers of weighted means of squared errors of a pyramid.

    Its levels are the map itself and averages to 4 x 4, 2 x 2 and 1 x 1 where these are less high,
    with weights 1, 1/2, 1/4, ... over their sum. The fusing modules are models.
    Source: mdistiller, mdistiller/distillers/ReviewKD.py. kdops has no other form.
    """
    layers = maps.pairs("hcl_loss", fstudent, fteacher)
    return sum(maps.pyramid(maps.squared_error, *pair) for pair in layers)
