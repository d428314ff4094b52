"""How a generalist's predictions vary together, summed over batches."""

import torch
from torch import Tensor

from ... import _checks


class PredictionCovariance:
    """Covariance of K classes' probabilities over any number of batches; no labels are needed.

    The mean and the centred second moments are kept, in float64: 8 K^2 bytes (0.8 MB at 1000
    classes, 1.8 GB at 15,000), twice that within an update on a GPU.

    Args:
        classes: K >= 1.
        device: where the sums are kept, one with float64.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network", section
        5.3; the update is Chan, Golub, LeVeque, 1983, "Algorithms for Computing the Sample
        Variance", equation 2.1.

    >>> statistics = PredictionCovariance(10)
    >>> for _ in range(3):
    ...     statistics.update(torch.randn(32, 10).softmax(1))
    >>> statistics.covariance().shape
    torch.Size([10, 10])
    """

    def __init__(self, classes: int, *, device: torch.device | str = "cpu"):
        _checks.integer("PredictionCovariance", "classes", classes, 1)
        self.count = 0
        self.mean = torch.zeros(classes, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(classes, classes, dtype=torch.float64, device=device)

    def _shift(self, count: int, mean: Tensor, classes: int) -> None:
        """Move to the mean of both samples; the other's own scatter is still to be added."""
        if classes != len(self.mean):
            raise ValueError(
                f"PredictionCovariance: probabilities must have {len(self.mean)} classes, "
                f"got {classes}"
            )
        if count:
            total, delta = self.count + count, mean - self.mean
            self.scatter.addr_(delta, delta, alpha=self.count * count / total)
            self.mean.add_(delta, alpha=count / total)
            self.count = total

    @torch.no_grad()
    def update(self, probabilities: Tensor) -> None:
        """Add a batch, (N, K) rows that sum to 1, of any float type."""
        _checks.probabilities("PredictionCovariance", "probabilities", probabilities)
        x = probabilities.to(self.mean.device).double()
        mean = x.mean(0)
        self._shift(len(x), mean, x.shape[1])
        centred = x - mean
        self.scatter.addmm_(centred.T, centred)

    @torch.no_grad()
    def merge(self, other: "PredictionCovariance") -> None:
        """Add what another one has seen, in another process perhaps."""
        self._shift(other.count, other.mean.to(self.mean.device), len(other.mean))
        self.scatter += other.scatter.to(self.mean.device)

    def _over(self, count: int) -> Tensor:
        if count < 1:
            raise RuntimeError(
                f"PredictionCovariance: needs more rows before it can answer, got {self.count}"
            )
        return self.scatter / count

    def covariance(self, *, unbiased: bool = True) -> Tensor:
        """(K, K); divided by the number of rows, less one where unbiased."""
        return self._over(self.count - unbiased)

    def correlation(self) -> Tensor:
        """(K, K) in [-1, 1]; 0 in the row and column of a class whose probability is constant."""
        covariance = self._over(self.count)
        variance = covariance.diagonal()
        varies = variance > (1e-14 * self.mean).square()  # above the rounding of the mean
        scale = torch.where(varies, variance.rsqrt(), 0.0)
        return (covariance * scale[:, None] * scale).clamp(-1, 1)

    def co_prediction(self) -> Tensor:
        """(K, K), P^T P / n of the probabilities as they are; frequent classes go with all."""
        return torch.addr(self._over(self.count), self.mean, self.mean)
