"""KDCL's weights of an ensemble: of logits by their cross-entropy, of probabilities by errors.

Both are minimised over w >= 0, sum w = 1, exactly: a quadratic on a simplex of a few corners has
its minimum on one of few faces, and each face's is a linear system.
"""

import warnings

import torch
from torch import Tensor

from .. import _checks
from ..functional._peers import Peers, as_batch, check_rows

MOST_WEIGHTS = 8  # 2^8 - 1 faces
NEWTON_STEPS = 100
TOLERANCE = 1e-13  # of the gap to the minimum, relative to the gradient


def _count(function: str, count: int) -> int:
    if count > MOST_WEIGHTS:
        raise ValueError(f"{function}: there must be at most {MOST_WEIGHTS} peers, got {count}")
    return count


def simplex_minimum(quadratic: Tensor, linear: Tensor) -> Tensor:
    """The w of least w^T quadratic w / 2 + linear^T w over w >= 0, sum w = 1.

    Args:
        quadratic: (K, K) positive semidefinite, K <= 8. linear: (K,). Both float64, finite.
    Returns:
        (K,) float64: the least of the stationary points of all faces that lie in their face.
    """
    count = len(linear)
    scale = max(quadratic.abs().max().item(), linear.abs().max().item()) or 1.0
    numbers = torch.arange(1, 2**count)[:, None]
    face = (numbers >> torch.arange(count) & 1).double()
    system = face.new_zeros(len(face), count + 1, count + 1)
    system[:, :count, :count] = face[:, :, None] * face[:, None] * (quadratic / scale)
    system[:, :count, :count] += torch.diag_embed(1 - face)
    system[:, :count, count] = system[:, count, :count] = face
    right = torch.cat([-face * (linear / scale), face.new_ones(len(face), 1)], 1)
    points, failed = torch.linalg.solve_ex(system, right)
    points = points[:, :count]
    inside = (failed == 0) & (points >= -1e-12).all(1) & points.isfinite().all(1)
    points = torch.where(inside[:, None], points.clamp_min(0), face / face.sum(1, keepdim=True))
    points = points / points.sum(1, keepdim=True)
    values = ((points @ quadratic) * points).sum(1) / 2 + points @ linear
    return points[torch.where(inside, values, torch.inf).argmin()]


class _CrossEntropy:
    """Mean CE(sum_k w_k z_k, y) as a function of w, with its derivatives, in float64."""

    def __init__(self, logits: list[Tensor], label: Tensor):
        z = torch.stack(logits).double()
        lacking = (z == -torch.inf).any(0)  # a class that a peer lacks is absent
        self.z = torch.where(lacking, 0.0, z)
        self.lacking, self.label = lacking, label.long()[:, None]
        self.hit = self.z.gather(2, self.label.expand(len(z), -1, -1))[..., 0]

    def mixed(self, w: Tensor) -> Tensor:
        mixed = (w.to(self.z.device)[:, None, None] * self.z).sum(0)
        return torch.where(self.lacking, -torch.inf, mixed)

    def value(self, w: Tensor) -> float:
        mixed = self.mixed(w)
        hit = (w.to(self.z.device)[:, None] * self.hit).sum(0)
        return (mixed.logsumexp(1) - hit).mean().item()

    def derivatives(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient and the Hessian: mean over rows of E_q z_k - z_ky and of Cov_q(z_k, z_l)."""
        q = self.mixed(w).softmax(1)
        means = (q * self.z).sum(2)
        deviations = ((self.z - means[..., None]) * q.sqrt()).flatten(1)
        return (means - self.hit).mean(1).cpu(), (deviations @ deviations.T / len(q)).cpu()


@torch.no_grad()
def linear_ensemble_weights(logits: Peers, target: Tensor, *, ignore_index: int = -100) -> Tensor:
    """The weights, >= 0 with sum 1, of least cross-entropy of the mixed logits: KDCL's 'linear'.

        argmin_w mean_n CE(sum_k w_k z_kn, y_n)

    Convex; by Newton's method with steps that are exact on the simplex, until the gap to the
    minimum, w^T g - min g, is 0 but for rounding. Deterministic. Waits for a GPU.

    Args:
        logits: (K, N, C) of K <= 8 peers, or K tensors (N, C).
        target: (N,) labels.
        ignore_index: a row with this target does not count.
    Returns:
        (K,) float64 on the CPU, without gradient. No row: 1 / K. A class where a peer has -inf is
        left out; NaN or inf elsewhere in a row that counts makes them NaN.
    Raises:
        TypeError, ValueError: as of `mixture_kl`, and for more than 8 peers.
    Source: Guo et al., 2020, "Online Knowledge Distillation via Collaborative Learning", section
        3.2, KDCL-Linear.
    """
    batch = as_batch("linear_ensemble_weights", logits)
    count = _count("linear_ensemble_weights", batch.count)
    check_rows("linear_ensemble_weights", batch, target, True, ignore_index)
    w = torch.full((count,), 1 / count, dtype=torch.float64)
    counted = target != ignore_index
    if count == 1 or not counted.any():
        return w
    function = _CrossEntropy([x[counted] for x in logits], target[counted])
    value = function.value(w)
    for _ in range(NEWTON_STEPS):
        slope, curvature = function.derivatives(w)
        if not (slope.isfinite().all() and curvature.isfinite().all()):
            return torch.full_like(w, torch.nan)
        if w @ slope - slope.min() <= TOLERANCE * slope.abs().max():
            break
        ridge = 1e-12 * curvature.diagonal().mean()
        curvature = curvature + ridge * torch.eye(count, dtype=torch.float64)
        step = simplex_minimum(curvature, slope - curvature @ w) - w
        w, value, moved = _along(function, w, step, value, (slope @ step).item())
        if not moved:
            break
    return w


def _along(
    function: _CrossEntropy, w: Tensor, step: Tensor, value: float, slope: float
) -> tuple[Tensor, float, bool]:
    """The first of w + step, w + step / 2, ... that is low enough; and whether there is one."""
    noise = 4e-16 * max(1.0, abs(value))
    for halvings in range(40):
        length = 0.5**halvings
        there = w + length * step
        found = function.value(there)
        if found <= value + 1e-4 * length * slope + noise:
            return there, found, True
    return w, value, False


class GeneralEnsembleWeights:
    """KDCL's 'general' weights: those of least squared error of the mixed probabilities.

    With f_i the softmax of peer i and t the one-hot label, over held-out rows

        C_ij = mean_n <f_i - t, f_j - t>,    argmin w^T C w with sum w = 1

    `reset`, then `update` with every batch of the held-out rows, then `solve`. C is summed in
    float64.

    Args:
        m: number of peers, at most 8.
        ridge: that times the mean of C's diagonal is added to it, which makes equal peers' weights
            equal; without it equal peers leave them undetermined.
        nonneg: whether w >= 0 too. The paper's w may be negative, C^-1 1 / (1^T C^-1 1): the mixed
            logits then lie outside the peers', and their KL can double.
    Source: Guo et al., 2020, "Online Knowledge Distillation via Collaborative Learning", section
        3.2, KDCL-General.

    >>> fit = GeneralEnsembleWeights(2)
    >>> fit.update(torch.randn(2, 64, 10), torch.randint(10, (64,)))
    >>> fit.solve().sum().round().item()
    1.0
    """

    def __init__(self, m: int, *, ridge: float = 1e-6, nonneg: bool = True):
        _checks.integer("GeneralEnsembleWeights", "m", m, 1, MOST_WEIGHTS)
        self.ridge = _checks.number("GeneralEnsembleWeights", "ridge", ridge, low=0)
        self.m, self.nonneg = m, nonneg
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        self.products, self.rows = torch.zeros(self.m, self.m, dtype=torch.float64), 0

    @torch.no_grad()
    def update(self, logits: Peers, target: Tensor, *, ignore_index: int = -100) -> None:
        """Add rows: (m, N, C) logits, or m tensors (N, C), and (N,) labels."""
        batch = as_batch("GeneralEnsembleWeights", logits)
        check_rows("GeneralEnsembleWeights", batch, target, True, ignore_index)
        if batch.count != self.m:
            raise ValueError(
                f"GeneralEnsembleWeights: logits must be those of m = {self.m} peers, "
                f"got {batch.count}"
            )
        counted = target != ignore_index
        label = target[counted].long()[:, None]
        errors = torch.stack([x[counted].double().softmax(1) for x in logits])
        errors.scatter_add_(
            2, label.expand(self.m, -1, -1), errors.new_full((self.m, *label.shape), -1.0)
        )
        errors = errors.flatten(1)
        self.products += (errors @ errors.T).cpu()
        self.rows += len(label)

    def solve(self) -> Tensor:
        """(m,) float64 weights; 1 / m, with a warning, before any row."""
        even = torch.full((self.m,), 1 / self.m, dtype=torch.float64)
        if self.rows == 0:
            warnings.warn(
                "GeneralEnsembleWeights: no held-out row was given, the weights are 1 / m",
                stacklevel=2,
            )
            return even
        errors = self.products / self.rows
        if not errors.any():
            return even
        if not errors.isfinite().all():
            return even * torch.nan
        errors = errors + self.ridge * errors.diagonal().mean() * torch.eye(self.m).double()
        if self.nonneg:
            return simplex_minimum(errors, torch.zeros_like(even))
        solved, failed = torch.linalg.solve_ex(errors, torch.ones_like(even))
        if failed:
            raise RuntimeError(
                "GeneralEnsembleWeights: ridge must be > 0 for peers that make the same errors, "
                f"got {self.ridge}"
            )
        return solved / solved.sum()
