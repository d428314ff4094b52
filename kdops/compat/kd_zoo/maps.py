"""Losses of feature maps of one layer, or of two."""

import torch.nn.functional as F
from torch import Tensor, nn

from ... import functional
from ...functional._rows import widened
from .._zoos import maps, relations

EPS = 1e-6  # added to lengths


class Hint(nn.Module):
    """Mean squared error over all entries: neither the paper's 1/2 nor its sum over a sample.

    Clean form: `kdops.hint_loss(fm_s, fm_t, reduction="mean")`, half the value.
    Source: Romero et al., 2015, "FitNets: Hints for Thin Deep Nets", equation 3.
    """

    def forward(self, fm_s: Tensor, fm_t: Tensor) -> Tensor:
        return maps.squared_error(fm_s, fm_t)


def _attention(x: Tensor, p: float) -> Tensor:
    a = x.abs().pow(p).sum(1).flatten(1)
    return a / (a.norm(dim=1, keepdim=True) + EPS)


class AT(nn.Module):
    """Mean of (a_s - a_t)^2, a = v / (|v| + 1e-6), v = sum_c |x_c|^p. Maps must have one size.

    eps is seen where activations are small: v of length 1e-4 loses a hundredth.
    Clean form: `kdops.at_loss(fm_s, fm_t, p=p)`, without eps.
    Source: Zagoruyko, Komodakis, 2017, "Paying More Attention to Attention", equation 2, which
        takes the length of the difference.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, fm_s: Tensor, fm_t: Tensor) -> Tensor:
        ours, theirs = maps.checked("AT", fm_s, fm_t)
        return F.mse_loss(_attention(ours, self.p), _attention(theirs, self.p))


class NST(nn.Module):
    """The squared MMD of channels of length 1, kernel <x, y>^2. Maps must have one size.

    k(t, t) + k(s, s) - 2 k(s, t), means over samples and pairs of channels.
    Source: Huang, Wang, 2017, "Like What You Like", section 3. kdops has no other form.
    """

    def forward(self, fm_s: Tensor, fm_t: Tensor) -> Tensor:
        return maps.selectivity(*maps.checked("NST", fm_s, fm_t), constant=False)


class FSP(nn.Module):
    """Mean of (G_s - G_t)^2, G_ij = mean_hw first_ihw second_jhw, over samples and channel pairs.

    The first map is averaged to the second's size where it is larger; the paper pools by maximum.
    Clean form: `kdops.fsp_loss((fm_s1, fm_s2), (fm_t1, fm_t2))`.
    Source: Yim, Joo, Bae, Kim, 2017, "A Gift from Knowledge Distillation", equations 1 and 2.
    """

    def forward(self, fm_s1: Tensor, fm_s2: Tensor, fm_t1: Tensor, fm_t2: Tensor) -> Tensor:
        return functional.fsp_loss((fm_s1, fm_s2), (fm_t1, fm_t2), teacher_grad=True)


class FT(nn.Module):
    """Mean of |f_s - f_t|, factors flattened and brought to length 1.

    Source: Kim, Park, Kwak, 2018, "Paraphrasing Complex Network", section 3, which has the norm,
        not the mean. The paraphraser and the translator are models. kdops has no other form.
    """

    def forward(self, factor_s: Tensor, factor_t: Tensor) -> Tensor:
        factors = relations.both_rows("FT", factor_s, factor_t)
        ours, theirs = (F.normalize(widened(x)) for x in factors)
        return F.l1_loss(ours, theirs)


class AB(nn.Module):
    """Mean of relu(margin - sign(t) s)^2 over all entries, sign(t) -1 at 0.

    The paper sums over a sample.
    Source: Heo, Lee, Yun, Choi, 2019, "Knowledge Transfer via Distillation of Activation
        Boundaries Formed by Hidden Neurons", section 3. kdops has no other form.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, fm_s: Tensor, fm_t: Tensor) -> Tensor:
        return maps.boundaries(*maps.checked("AB", fm_s, fm_t), self.margin).mean()
