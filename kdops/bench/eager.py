"""What one writes in PyTorch without a library: the quickest composition of its calls that we know.

The source of torch.compile's code too, and in float64 an oracle. The teacher has no gradient, so
nothing is kept for it.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def kd_loss(student, teacher, target=None, temperature=4.0, kd_weight=1.0, ce_weight=0.0):
    if kd_weight == 0:
        return ce_weight * F.cross_entropy(student, target)
    log_q = F.log_softmax(student / temperature, -1)
    log_p = F.log_softmax(teacher / temperature, -1)
    soft = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2
    if ce_weight == 0:
        return soft
    return kd_weight * soft + ce_weight * F.cross_entropy(student, target)


def soft_cross_entropy(student, teacher, temperature=1.0):
    p = F.softmax(teacher / temperature, -1)
    return F.cross_entropy(student / temperature, p) * temperature**2


def labels_loss(peers, target):
    return 0 if target is None else sum(F.cross_entropy(x, target) for x in peers)


def mutual_kl(peers, _=None, target=None, temperature=1.0):
    """The sum of all peers' losses: the KLs to the others on average, and the cross-entropies."""
    logs = [F.log_softmax(z / temperature, -1) for z in peers]
    constant = [log.detach() for log in logs]
    pairs = [
        F.kl_div(log, other, reduction="batchmean", log_target=True)
        for i, log in enumerate(logs)
        for j, other in enumerate(constant)
        if i != j
    ]
    return sum(pairs) * temperature**2 / (len(logs) - 1) + labels_loss(peers, target)


def mixture_kl(peers, _=None, target=None, temperature=1.0):
    """Each peer's target is the mean of the others' logits."""
    constant, others = peers.detach(), len(peers) - 1
    targets = (constant.sum(0) - constant) / others
    losses = [
        F.kl_div(
            F.log_softmax(z / temperature, -1),
            F.log_softmax(mean / temperature, -1),
            reduction="batchmean",
            log_target=True,
        )
        for z, mean in zip(peers, targets, strict=True)
    ]
    return sum(losses) * temperature**2 + labels_loss(peers, target)


def accumulation(x: Tensor) -> Tensor:
    """Half types in float32: torch.cdist has none, and 1e-12 is 0 in float16."""
    return x if x.dtype == torch.float64 else x.float()


def pairwise_distance(x: Tensor) -> Tensor:
    x = accumulation(x)
    return torch.cdist(x, x)


def triplet_angle(x: Tensor) -> Tensor:
    x = accumulation(x)
    units = F.normalize(x[None] - x[:, None], dim=-1)
    return units @ units.mT


def rbf_correlation(x: Tensor, gamma: float = 0.4, order: int | None = 2) -> Tensor:
    x = F.normalize(accumulation(x), dim=-1)
    if order is None:
        return torch.exp(-gamma * torch.cdist(x, x).square())
    gram = x @ x.mT
    value = torch.zeros_like(gram)
    for p in range(order, -1, -1):
        value = value * gram + math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p)
    return value


def rkd_distance_loss(student, teacher):
    def normalised(x):
        d = pairwise_distance(x)
        return d / (d.sum() / (len(x) * (len(x) - 1)))

    return F.smooth_l1_loss(normalised(student), normalised(teacher))


def irg_edge_loss(student, teacher):
    def normalised(x):
        squared = pairwise_distance(x).square()
        return squared / squared.max()

    return F.mse_loss(normalised(student), normalised(teacher))


def rkd_angle_loss(student, teacher):
    return F.smooth_l1_loss(triplet_angle(student), triplet_angle(teacher))


def inner_products(x: Tensor) -> Tensor:
    """Of rows of length 1."""
    x = F.normalize(accumulation(x), dim=-1)
    return x @ x.mT


def cckd_loss(student, teacher, gamma=0.4, order=2, kernel="rbf"):
    if kernel == "bilinear":
        return F.mse_loss(inner_products(student), inner_products(teacher))
    return F.mse_loss(*(rbf_correlation(x, gamma, order) for x in (student, teacher)))


def pkt_loss(student, teacher, kernel="cosine", divergence="kl", include_self=True):
    def apart(x):
        return 1 - torch.eye(len(x), dtype=x.dtype, device=x.device)

    def log_probabilities(x):
        x = accumulation(x)
        if kernel == "cosine":
            x = F.normalize(x, dim=-1)
            k = (x @ x.mT + 1) / 2
        else:
            k = 1 / (1 + torch.cdist(x, x) * apart(x))  # cdist's own diagonal is not 0
        total = (k if include_self else k * apart(x)).sum(1, keepdim=True)
        return k.log() - total.log()  # a diagonal of log(0) would have a gradient of NaN

    log_q, log_p = log_probabilities(student), log_probabilities(teacher)
    if divergence == "kl":
        return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    terms = (log_q.exp() - log_p.exp()) * (log_q - log_p)
    return (terms if include_self else terms.fill_diagonal_(0)).sum() / len(student)


def sp_loss(student, teacher):
    def normalised(x):
        x = accumulation(x)
        return F.normalize(x @ x.mT, dim=-1)

    return F.mse_loss(normalised(student), normalised(teacher))
