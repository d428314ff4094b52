"""Timed against kdops: eager PyTorch, torch.compile, torchdistill, the published formulas."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from . import eager, published

try:
    from torchdistill.losses import mid_level as torchdistill
except (ImportError, AttributeError, OSError, RuntimeError):  # or made for another torch
    torchdistill = None

NAMES = ("eager", "published", "torchdistill", "compile")
PEERS = NAMES[:3]
TEMPERATURE = 4.0
PUBLISHED = {
    "kd_loss": published.kd,
    "rkd_distance_loss": published.rkd_distance,
    "rkd_angle_loss": published.rkd_angle,
    "irg_edge_loss": published.irg_edge,
    "cckd_loss": published.cckd,
    "pkt_loss": published.pkt,
    "sp_loss": published.sp,
    "dist_loss": published.dist,
    "pairwise_distance": published.distances,
    "triplet_angle": published.angles,
    "rbf_correlation": published.correlations,
}


@dataclass(frozen=True)
class Rival:
    function: Callable
    factor: float = 1.0  # its value times this is the loss


def _torchdistill_kd(kd_weight=1.0, ce_weight=0.0) -> Rival:
    """Without the hard term it leaves T^2 out."""
    module = torchdistill.KDLoss(
        "", "output", "", "output", temperature=TEMPERATURE, alpha=ce_weight, beta=kd_weight
    )

    def function(student, teacher, target=None, **_):
        return module({"": {"output": student}}, {"": {"output": teacher}}, target)

    return Rival(function, 1.0 if ce_weight else TEMPERATURE**2)


def _torchdistill_rkd(distance: float, angle: float) -> Rival:
    module = torchdistill.RKDLoss("", "", distance, angle, "mean")

    def function(student, teacher):
        return module({"": {"output": student}}, {"": {"output": teacher}})

    return Rival(function)


def _torchdistill_cckd() -> Rival:
    """It leaves rows as they are and does not square the norm: both are done outside."""
    config = {"type": "gaussian", "gamma": 0.4, "max_p": 2}
    module = torchdistill.CCKDLoss("", "", config, "sum")

    def function(student, teacher):
        student, teacher = F.normalize(student), F.normalize(teacher)
        norm = module({"": {"output": student}}, {"": {"output": teacher}})
        return norm.square() / len(student) ** 2

    return Rival(function)


def _torchdistill(stem: str, options: dict) -> Rival | None:
    if stem == "kd_loss":
        return _torchdistill_kd(**options)
    if stem == "rkd_distance_loss":
        return _torchdistill_rkd(1.0, 0.0)
    if stem == "rkd_angle_loss":
        return _torchdistill_rkd(0.0, 1.0)
    return _torchdistill_cckd() if stem == "cckd_loss" else None


def rival(name: str, stem: str, options: dict) -> Rival | None:
    """The rival of the public function `stem`, None where it has no such loss."""
    if name == "eager":
        return Rival(getattr(eager, stem))
    if name == "published":
        plain = stem in PUBLISHED and not options
        return Rival(PUBLISHED[stem]) if plain else None
    if name == "torchdistill":
        return _torchdistill(stem, options) if torchdistill else None
    torch._dynamo.reset()  # or it falls back to eager, silently, after eight shapes
    return Rival(torch.compile(getattr(eager, stem), dynamic=False))
