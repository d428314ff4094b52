"""ONE's gate: how much each branch counts in a row's ensemble."""

import torch
from torch import Tensor, nn

from .. import _checks


class _BatchNorm(nn.BatchNorm1d):
    """Of a single row in training it takes the running statistics: one row has no variance."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or len(x) > 1:
            return super().forward(x)
        mean, variance = self.running_mean, self.running_var
        return nn.functional.batch_norm(x, mean, variance, self.weight, self.bias, eps=self.eps)


class EnsembleGate(nn.Module):
    """A row's weights of K branches: softmax(ReLU(BN(W pool(x) + b))), each > 0, their sum 1.

    Its input is the trunk's feature in front of the branches, so it does not see what they say.
    Batch norm centres each branch's energy over the batch and ReLU bounds it from below: a
    preference, not a choice. A row whose energies are all <= 0 has exactly equal weights and no
    gradient. Everything is in float32 for half types, under autocast too, but for the batch norm
    of a gate that is itself in a half type. torch.nn.SyncBatchNorm.convert_sync_batchnorm takes
    the statistics of all ranks, which small batches need.

    Args:
        in_channels: C.
        num_branches: K.
        pool: 'adaptive', the mean over all positions; or a module from (N, C, H, W) to (N, C, 1, 1)
            or (N, C).
    Shapes:
        (N, C, H, W) feature maps or (N, C) features; (N, K) out, in float32 for half types. In
        training a batch of one row is normalised by the running statistics and does not move them.
    Raises:
        TypeError: for what is no float tensor. ValueError: for other shapes.
    Source: Lan, Zhu, Gong, 2018, "Knowledge Distillation by On-the-Fly Native Ensemble"; the
        layers are those of the authors' code.

    >>> EnsembleGate(32, 3)(torch.randn(8, 32, 16, 16)).shape
    torch.Size([8, 3])
    """

    def __init__(self, in_channels: int, num_branches: int, pool: str | nn.Module = "adaptive"):
        super().__init__()
        _checks.integer("EnsembleGate", "in_channels", in_channels, low=1)
        _checks.integer("EnsembleGate", "num_branches", num_branches, low=1)
        if not isinstance(pool, nn.Module):
            _checks.one_of("EnsembleGate", "pool", pool, ["adaptive"])
        self.pool = pool
        self.fc = nn.Linear(in_channels, num_branches)
        self.norm = _BatchNorm(num_branches)

    def forward(self, features: Tensor) -> Tensor:
        x = self._pooled(features)
        if x.dim() != 2 or x.shape[1] != self.fc.in_features:
            raise ValueError(
                f"EnsembleGate: features must be (N, {self.fc.in_features}, H, W) or "
                f"(N, {self.fc.in_features}), got shape {tuple(features.shape)}"
            )
        with torch.autocast(x.device.type, enabled=False):
            energy = nn.functional.linear(x, self.fc.weight.to(x.dtype), self.fc.bias.to(x.dtype))
            energy = self.norm(energy.to(self.norm.weight.dtype)).to(x.dtype)
            return energy.relu().softmax(1)

    def _pooled(self, features: Tensor) -> Tensor:
        _checks.tensor("EnsembleGate", "features", features)
        wide = torch.promote_types(features.dtype, torch.float32)
        if features.dim() == 4:
            _checks.feature_maps("EnsembleGate", "features", features)
            if not isinstance(self.pool, nn.Module):
                return features.mean((2, 3), dtype=wide)
            features = self.pool(features).flatten(1)
        return features.to(wide)
