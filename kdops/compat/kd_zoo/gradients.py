"""Losses of derivatives of the target's logit. The teacher's are constants."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _sensitivity(function: str, name: str, out: Tensor, of: Tensor, target: Tensor) -> Tensor:
    """d out[target] / d of, one sample from the other, with its graph."""
    if not (isinstance(of, Tensor) and of.requires_grad):
        raise ValueError(f"{function}: {name} must require grad, and take part in the logits")
    chosen = out.gather(1, target.view(-1, 1)).sum()
    return torch.autograd.grad(chosen, of, create_graph=True)[0]


class Sobolev(nn.Module):
    """Mean of (j_s - j_t)^2, j the gradient of the target's logit by the image, of length 1.

    Of all rows of the Jacobian the target's alone.
    Source: Czarnecki et al., 2017, "Sobolev Training for Neural Networks"; Srinivas, Fleuret, 2018,
        "Knowledge Transfer with Jacobian Matching". kdops has no other form.
    """

    def forward(self, out_s: Tensor, out_t: Tensor, img: Tensor, target: Tensor) -> Tensor:
        ours, theirs = (
            F.normalize(_sensitivity("Sobolev", "img", out, img, target).flatten(1))
            for out in (out_s, out_t)
        )
        return F.mse_loss(ours, theirs.detach())


class LwM(nn.Module):
    """Mean of |c_s - c_t|, c = relu(sum_c w_c g_c) of length 1, w_c the mean of g_c.

    g is the gradient of the target's logit by the layer. Grad-CAM, and with it the paper, multiply
    w with the layer, not with its gradient; the paper sums over positions.
    Source: Dhar et al., 2019, "Learning without Memorizing". kdops has no other form.
    """

    def forward(
        self, out_s: Tensor, fm_s: Tensor, out_t: Tensor, fm_t: Tensor, target: Tensor
    ) -> Tensor:
        def attention(name: str, out: Tensor, layer: Tensor) -> Tensor:
            g = _sensitivity("LwM", name, out, layer, target)
            weights = g.mean((2, 3), keepdim=True)
            return F.normalize((weights * g).sum(1).relu().flatten(1))

        ours, theirs = attention("fm_s", out_s, fm_s), attention("fm_t", out_t, fm_t)
        return F.l1_loss(ours, theirs.detach())
