"""Losses of feature maps with parameters of their own, under the names of the zoo's state_dict."""

from torch import Tensor, nn

from .._zoos import maps, variational

EPS = 1e-6


def _initialise(net: nn.Module) -> None:
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class VID(nn.Module):
    """mean 1/2 ((regressor(fm_s) - fm_t)^2 / v_c + log v_c), v = softplus(alpha) + eps.

    Learns the regressor, three 1 x 1 convolutions without bias by He's rule, and alpha.
    Clean form: `kdops.nn.VIDLoss`, whose convolutions have a bias.
    Source: Ahn et al., 2019, "Variational Information Distillation for Knowledge Transfer",
        equation 5.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        init_var: float,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.regressor = variational.regressor(in_channels, mid_channels, out_channels)
        self.alpha = variational.raw_variance(out_channels, init_var, eps)
        _initialise(self)

    def forward(self, fm_s: Tensor, fm_t: Tensor) -> Tensor:
        return variational.likelihood(self.regressor(fm_s), fm_t, self.alpha, self.eps)


class OFD(nn.Module):
    """Mean of (s - g)^2 over all entries, those with s <= g <= 0 counted as 0; g = max(fm_t, m).

    s is the student's map through a learned 1 x 1 convolution and batch normalisation. m is the
    mean of the batch's negative entries of a channel; the paper has its expectation from the
    teacher's batch normalisation, and sums over a sample.
    Source: Heo et al., 2019, "A Comprehensive Overhaul of Feature Distillation", section 3. kdops
        has no other form.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        convolution = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.connector = nn.Sequential(convolution, nn.BatchNorm2d(out_channels))
        _initialise(self)

    def forward(self, fm_s: Tensor, fm_t: Tensor) -> Tensor:
        ours, theirs = maps.checked("OFD", fm_s, fm_t)
        negative = (theirs.clamp(max=0), theirs < 0)
        total, count = (x.sum((0, 2, 3), keepdim=True) for x in negative)
        return maps.overhaul(self.connector(ours), theirs, total / (count + EPS)).mean()


class AFD(nn.Module):
    """Mean over samples of sum_c rho_c mean_hw (a_s - a_t)^2, a = x_c / (|x_c| + eps).

    rho is the sigmoid of two learned 1 x 1 convolutions of the teacher's mean over positions, over
    its sum: a squeeze-and-excitation block in place of the paper's attention. Maps must have one
    shape. A batch of one sample is an error in the zoo.
    Source: Wang et al., 2020, "Pay Attention to Features, Transfer Learn Faster CNNs", section 3.
        kdops has no other form.
    """

    def __init__(self, in_channels: int, att_f: float) -> None:
        super().__init__()
        hidden = int(in_channels * att_f)
        self.attention = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, in_channels, 1)
        )
        _initialise(self)

    def forward(self, fm_s: Tensor, fm_t: Tensor, eps: float = EPS) -> Tensor:
        layers = maps.checked("AFD", fm_s, fm_t)
        rho = self.attention(layers[1].mean((2, 3), keepdim=True)).sigmoid().flatten(1)
        rho = rho / rho.sum(1, keepdim=True)
        ours, theirs = (x / (x.norm(dim=(2, 3), keepdim=True) + eps) for x in layers)
        return (rho * (ours - theirs).square().mean((2, 3))).sum(1).mean()
