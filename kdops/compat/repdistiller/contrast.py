"""CRD: contrasts with a memory of the training set."""

from typing import Any

from torch import Tensor, nn

from .._zoos import contrast


class ContrastLoss(nn.Module):
    """-1 / N sum_i (log P_i0 / (P_i0 + c + eps) + sum_j>0 log c / (P_ij + c + eps)), one element.

    P (N, K + 1) or (N, K + 1, 1) are ratios, the positive in column 0; c = K / n_data and
    eps = 1e-7, which the paper has not. Ratios next to 1 keep their digits, which the
    peer's quotient rounds off. kdops has no other form.
    Raises:
        ValueError: for another shape, or no row.
    Source: RepDistiller, crd/criterion.py.
    """

    def __init__(self, n_data: int) -> None:
        super().__init__()
        self.n_data = n_data

    def forward(self, x: Tensor) -> Tensor:
        return contrast.noise_contrastive("ContrastLoss", x, self.n_data)


class ContrastMemory(contrast.Memory):
    """exp(<v1, row of memory_v2> / T) / Z and the same of v2, (N, K + 1, 1) each; moves rows y.

    v1 and v2 are (N, inputSize), y (N,) their samples' numbers, idx (N, K + 1) the rows compared
    with, by convention y first; without it they are drawn. The banks' rows y become
    momentum row + (1 - momentum) v, over its length, after they were read; they get no gradient.
    Z is the first batch's mean times outputSize, a constant from then on; the paper has none.
    State: params, which is (K, T, Z of v1, Z of v2, momentum), memory_v1 and memory_v2, with the
    peer's first values from a seed.
    Other than in RepDistiller params never keeps the first batch's graph, nothing is printed, and
    no GPU is asked for. kdops has no other form.
    Raises:
        TypeError: for features that are no float tensor, or indices that are no integers.
        ValueError: for shapes of other batches or widths, or no row.
        IndexError: for an index that is no row of the memory. Nothing is written.
    Source: RepDistiller, crd/memory.py.
    """

    def __init__(
        self,
        inputSize: int,  # noqa: N803
        outputSize: int,  # noqa: N803
        K: int,  # noqa: N803
        T: float = 0.07,  # noqa: N803
        momentum: float = 0.5,
    ) -> None:
        super().__init__(inputSize, outputSize, K, T, momentum)

    def forward(
        self, v1: Tensor, v2: Tensor, y: Tensor, idx: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.ratios(v1, v2, y, idx)


class CRDLoss(nn.Module):
    """`ContrastLoss` of the student's and of the teacher's ratios, summed: one element.

    The ratios are `ContrastMemory`'s of both nets' features (N, ...) after an `Embed` each, which
    must learn: embed_s and embed_t. idx (N,) are the samples' numbers, contrast_idx (N, nce_k + 1)
    the rows compared with, idx first. The memory moves in forward, in evaluation too.
    State: RepDistiller's, from the same first values.
    kdops has no other form.

    Args:
        opt: has s_dim, t_dim, feat_dim, n_data, nce_k, nce_t and nce_m.
    Raises:
        As `ContrastMemory`.
    Source: RepDistiller, crd/criterion.py.
    """

    def __init__(self, opt: Any) -> None:
        super().__init__()
        self.embed_s = contrast.Embed(opt.s_dim, opt.feat_dim)
        self.embed_t = contrast.Embed(opt.t_dim, opt.feat_dim)
        self.contrast = ContrastMemory(opt.feat_dim, opt.n_data, opt.nce_k, opt.nce_t, opt.nce_m)
        self.criterion_t = ContrastLoss(opt.n_data)
        self.criterion_s = ContrastLoss(opt.n_data)

    def forward(
        self, f_s: Tensor, f_t: Tensor, idx: Tensor, contrast_idx: Tensor | None = None
    ) -> Tensor:
        out_s, out_t = self.contrast(self.embed_s(f_s), self.embed_t(f_t), idx, contrast_idx)
        loss: Tensor = self.criterion_s(out_s) + self.criterion_t(out_t)
        return loss
