"""Liger-Kernel's KL divergence, which takes log-probabilities: T and softmax are PyTorch's."""

import atexit
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import torch.nn.functional as F

from kdops.bench.rivals import TEMPERATURE, Rival


def add_wheels(folder: Path) -> None:
    """Make the pure-Python wheels of a folder importable, without an installer or a network."""
    target = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise FileNotFoundError(f"no wheel in {folder}")
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
    sys.path.append(target)


def rival() -> Rival:
    from liger_kernel.transformers.kl_div import LigerKLDIVLoss

    divergence = LigerKLDIVLoss(reduction="batchmean", log_target=True)

    def function(student, teacher):
        log_q = F.log_softmax(student / TEMPERATURE, -1)
        log_p = F.log_softmax(teacher / TEMPERATURE, -1)
        return divergence(log_q, log_p) * TEMPERATURE**2

    return Rival(function)
