"""CRD's parts: contrasts with a memory of the training set."""

from torch import Tensor, nn

from .._zoos import contrast


class ContrastLoss(nn.Module):
    """-1 / N sum_i (log P_i0 / (P_i0 + c + eps) + sum_j>0 log c / (P_ij + c + eps)), one element.

    P (N, K + 1) or (N, K + 1, 1) are ratios, the positive in column 0; c = K / num_data and
    eps = 1e-7, which the paper has not. Ratios next to 1 keep their digits, which the
    peer's quotient rounds off. kdops has no other form.
    Raises:
        ValueError: for another shape, or no row.
    Source: mdistiller, mdistiller/distillers/CRD.py.
    """

    def __init__(self, num_data: int) -> None:
        super().__init__()
        self.num_data = num_data

    def forward(self, x: Tensor) -> Tensor:
        return contrast.noise_contrastive("ContrastLoss", x, self.num_data)


class ContrastMemory(contrast.Memory):
    """exp(<v1, row of memory_v2> / T) / Z and the same of v2, (N, K + 1, 1) each; moves rows y.

    v1 and v2 are (N, inputSize), y (N,) their samples' numbers, idx (N, K + 1) the rows compared
    with, by convention y first; without it they are drawn. The banks' rows y become
    momentum row + (1 - momentum) v, over its length, after they were read; they get no gradient.
    Z is the first batch's mean times output_size, a constant from then on; the paper has none.
    State: params, which is (K, T, Z of v1, Z of v2, momentum), memory_v1 and memory_v2, with the
    peer's first values from a seed.
    Other than in mdistiller params never keeps the first batch's graph, and no GPU is asked for.
    kdops has no other form.
    Raises:
        TypeError: for features that are no float tensor, or indices that are no integers.
        ValueError: for shapes of other batches or widths, or no row.
        IndexError: for an index that is no row of the memory. Nothing is written.
    Source: mdistiller, mdistiller/distillers/CRD.py.
    """

    def __init__(
        self,
        inputSize: int,  # noqa: N803
        output_size: int,
        K: int,  # noqa: N803
        T: float = 0.07,  # noqa: N803
        momentum: float = 0.5,
    ) -> None:
        super().__init__(inputSize, output_size, K, T, momentum)

    def forward(
        self, v1: Tensor, v2: Tensor, y: Tensor, idx: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.ratios(v1, v2, y, idx)
