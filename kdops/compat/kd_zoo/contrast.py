"""CRD: contrasts with a memory of the training set."""

from torch import Tensor, nn

from .._zoos import contrast


class _Memory(nn.Module):
    """Of every sample a row of each net; Z_s and Z_t are no buffers, None until the first batch."""

    memory_t: Tensor
    memory_s: Tensor

    def __init__(
        self, feat_dim: int, n_data: int, nce_n: int, nce_t: float, nce_mom: float
    ) -> None:
        super().__init__()
        self.N, self.T, self.momentum = nce_n, nce_t, nce_mom
        self.Z_t: float | None = None
        self.Z_s: float | None = None
        for name in ("memory_t", "memory_s"):
            self.register_buffer(name, contrast.first_bank(feat_dim, n_data))

    def forward(
        self, feat_s: Tensor, feat_t: Tensor, idx: Tensor, sample_idx: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Each net's ratios against the other's rows, (N, K + 1, 1); then rows idx move."""
        batch = {"feat_s": feat_s, "feat_t": feat_t, "idx": idx, "sample_idx": sample_idx}
        contrast.check_batch("CRD", batch, self.memory_t, self.N)
        out_s = contrast.scores(feat_s, self.memory_t, sample_idx, self.T)
        out_t = contrast.scores(feat_t, self.memory_s, sample_idx, self.T)
        if self.Z_s is None:
            self.Z_s = contrast.constant(out_s, self.memory_t)
        if self.Z_t is None:
            self.Z_t = contrast.constant(out_t, self.memory_s)
        contrast.move(self.memory_t, idx, feat_t, self.momentum)
        contrast.move(self.memory_s, idx, feat_s, self.momentum)
        return out_s / self.Z_s, out_t / self.Z_t


class CRD(nn.Module):
    """-1 / N sum_i (log P_i0 / (P_i0 + c + eps) + sum_j>0 log c / (P_ij + c + eps)) of both nets.

    P_ij = exp(<a net's embedding i, row sample_idx_ij of the other net's memory> / nce_t) / Z,
    c = nce_n / n_data and eps = 1e-7, which the paper has not. Embeddings are a linear layer each,
    to feat_dim, over their length: embed_s and embed_t, which must learn. feat_s (N, ...) has s_dim
    and feat_t t_dim entries a sample; idx (N,) are the samples' numbers, sample_idx (N, nce_n + 1)
    the rows compared with, a positive first. Rows idx then become
    nce_mom row + (1 - nce_mom) embedding, over its length, in evaluation too; they get no gradient.
    Z is the first batch's mean times n_data, a constant from then on; the paper has none. It is no
    part of the state, as in the zoo: a loss that is loaded sets it anew.
    State: embed_s, embed_t, contrast.memory_t and contrast.memory_s, with the zoo's first values
    from a seed. One sample is no error here. kdops has no other form.
    Returns:
        A scalar.
    Raises:
        TypeError: for features that are no float tensor, or indices that are no integers.
        ValueError: for shapes of other batches or widths, or no row.
        IndexError: for an index that is no row of the memory. Nothing is written.
    Source: Tian et al., 2020, "Contrastive Representation Distillation", equations 18 and 19.
    """

    def __init__(
        self,
        s_dim: int,
        t_dim: int,
        feat_dim: int,
        nce_n: int,
        nce_t: float,
        nce_mom: float,
        n_data: int,
    ) -> None:
        super().__init__()
        self.n_data = n_data
        self.embed_s = contrast.Embed(s_dim, feat_dim)
        self.embed_t = contrast.Embed(t_dim, feat_dim)
        self.contrast = _Memory(feat_dim, n_data, nce_n, nce_t, nce_mom)

    def forward(self, feat_s: Tensor, feat_t: Tensor, idx: Tensor, sample_idx: Tensor) -> Tensor:
        both = self.contrast(self.embed_s(feat_s), self.embed_t(feat_t), idx, sample_idx)
        ours, theirs = (contrast.noise_contrastive("CRD", x, self.n_data) for x in both)
        return (ours + theirs).squeeze()
