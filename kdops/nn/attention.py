"""OKDDip's attention: how much each peer counts in another's target."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import _checks


class PeerAttention(nn.Module):
    """Weights of P peers in the targets of each: alpha_ab = softmax_b(L(h_a) . E(h_b)).

    L and E are linear maps without bias that all peers share. The softmax runs over all peers, a
    itself among them, and the energy is not divided by a root of the width. It is not symmetric,
    as L and E differ. Everything is in float32 for half types, under autocast too. The maps learn
    through the targets alone: a loss that detaches these leaves the attention as it began.

    Args:
        in_features: D, width of the peers' embeddings.
        reduction: L and E go from D to D // reduction.
    Shapes:
        (P, B, D), or P tensors (B, D); (B, P, P) out, rows a that sum to 1.
    Raises:
        TypeError: for what is no float tensor. ValueError: for other shapes, no peer, or a
        reduction above D.
    Source: Chen, Mei, Wang, Feng, Chen, 2020, "Online Knowledge Distillation with Diverse Peers";
        the widths are those of the authors' code.

    >>> PeerAttention(64)(torch.randn(3, 8, 64)).shape
    torch.Size([8, 3, 3])
    """

    def __init__(self, in_features: int, reduction: int = 8):
        super().__init__()
        _checks.integer("PeerAttention", "in_features", in_features, low=1)
        _checks.integer("PeerAttention", "reduction", reduction, low=1, high=in_features)
        self.query = nn.Linear(in_features, in_features // reduction, bias=False)  # L
        self.key = nn.Linear(in_features, in_features // reduction, bias=False)  # E

    def forward(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        x = self._stacked(features)
        x = x.to(torch.promote_types(x.dtype, torch.float32)).transpose(0, 1)  # (B, P, D)
        with torch.autocast(x.device.type, enabled=False):
            queries, keys = (
                nn.functional.linear(x, layer.weight.to(x.dtype))
                for layer in (self.query, self.key)
            )
            return (queries @ keys.transpose(1, 2)).softmax(-1)

    def _stacked(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        width = self.query.in_features
        peers = [features] if isinstance(features, Tensor) else list(features)
        if not peers:
            raise ValueError("PeerAttention: features must hold at least one peer's, got none")
        for x in peers:
            _checks.tensor("PeerAttention", "features", x)
            dims = 3 if x is features else 2
            if x.dim() != dims or x.shape[-1] != width or x.shape != peers[0].shape:
                raise ValueError(
                    f"PeerAttention: features must be (P, B, {width}) or P tensors (B, {width}) of "
                    f"one shape, got {[tuple(peer.shape) for peer in peers]}"
                )
        stacked = features if isinstance(features, Tensor) else torch.stack(peers)
        if len(stacked) == 0:
            raise ValueError("PeerAttention: features must hold at least one peer's, got none")
        return stacked
