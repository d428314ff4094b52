"""Random batches and memories for CRD's classes of the zoos."""

from argparse import Namespace

import pytest
import torch

from kdops.compat import kd_zoo, mdistiller, repdistiller

from ..cases import generator
from . import published_contrast as published

BOTH = pytest.mark.parametrize(
    "peer", [repdistiller, mdistiller], ids=lambda m: m.__name__.rpartition(".")[2]
)
SHARED = {
    "AliasMethod": ("(probs)", "(N)"),
    "Embed": ("(dim_in=1024, dim_out=128)", "(x)"),
    "Normalize": ("(power=2)", "(x)"),
}
MEMORY = "(v1, v2, y, idx=None)"
SIGNATURES = {
    repdistiller: {
        **SHARED,
        "CRDLoss": ("(opt)", "(f_s, f_t, idx, contrast_idx=None)"),
        "ContrastLoss": ("(n_data)", "(x)"),
        "ContrastMemory": ("(inputSize, outputSize, K, T=0.07, momentum=0.5)", MEMORY),
    },
    mdistiller: {
        **SHARED,
        "ContrastLoss": ("(num_data)", "(x)"),
        "ContrastMemory": ("(inputSize, output_size, K, T=0.07, momentum=0.5)", MEMORY),
    },
    kd_zoo: {
        "CRD": (
            "(s_dim, t_dim, feat_dim, nce_n, nce_t, nce_mom, n_data)",
            "(feat_s, feat_t, idx, sample_idx)",
        ),
    },
}


class Draw:
    """Random sizes and batches: of each sample a number, and K + 1 rows, its own first."""

    def __init__(self, seed: int, dtype: torch.dtype = torch.float64):
        self.generator, self.dtype = generator(seed), dtype
        self.rows, self.width, self.negatives = (self.size(3, 9) for _ in range(3))
        self.samples = self.size(12, 30)

    def size(self, low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=self.generator))

    def normal(self, *shape: int) -> torch.Tensor:
        x = torch.randn(shape, generator=self.generator, dtype=torch.float64).to(self.dtype)
        return x.requires_grad_()

    def unit(self) -> torch.Tensor:
        x = published.length_one(self.normal(self.rows, self.width).detach())
        return x.requires_grad_()

    def indices(self):
        y = torch.randperm(self.samples, generator=self.generator)[: self.rows]
        shape = self.rows, self.negatives + 1
        idx = torch.randint(self.samples, shape, generator=self.generator)
        idx[:, 0] = y
        return y, idx

    def memory(self, peer):
        made = peer.ContrastMemory(self.width, self.samples, self.negatives, 0.2, 0.3)
        return made.to(self.dtype)

    def options(self) -> Namespace:
        sizes = {"s_dim": 6, "t_dim": 10, "feat_dim": self.width, "n_data": self.samples}
        return Namespace(**sizes, nce_k=self.negatives, nce_t=0.2, nce_m=0.3)


def state(module) -> dict:
    """In float64."""
    return {name: x.detach().double().clone() for name, x in module.state_dict().items()}
