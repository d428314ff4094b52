"""kd_loss beside Liger-Kernel's divergences: value and gradient, where a GPU and the package are.

WHEELS=DIR names a folder of wheels to take the package from, as for `make gpu`.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import kdops
from benchmarks.gpu import liger
from kdops.bench.rivals import TEMPERATURE

SHAPES = [(5, 10), (64, 1000), (7, 4099), (16, 32000)]


@pytest.fixture(autouse=True)
def package(gpu):
    if os.environ.get("WHEELS") and find_spec("liger_kernel") is None:
        liger.add_wheels(Path(os.environ["WHEELS"]))
    pytest.importorskip("liger_kernel")


def pair(shape, device):
    torch.manual_seed(shape[1])
    student, teacher = 3 * torch.randn(2, *shape, device=device)
    return student.requires_grad_(), teacher


def compare(student, ours, theirs):
    torch.testing.assert_close(ours, theirs.float(), rtol=1e-4, atol=1e-7)
    found, expected = (torch.autograd.grad(loss, student)[0] for loss in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_liger_kl_div_loss(device, shape):
    """LigerKLDIVLoss, of log-probabilities and with T^2 put in by its caller."""
    student, teacher = pair(shape, device)
    ours = kdops.kd_loss(student, teacher, temperature=TEMPERATURE)
    compare(student, ours, liger.rival().function(student, teacher))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_liger_jsd(device, shape):
    """LigerJSD with beta 0, the forward KL over the tokens that count."""
    from liger_kernel.transformers.jsd import LigerJSD

    student, teacher = pair(shape, device)
    labels = torch.arange(shape[0], device=device) % shape[1]
    labels[::3] = -100
    ours = kdops.kd_loss(student, teacher, labels, temperature=1.0)
    logs = F.log_softmax(student, -1), F.log_softmax(teacher, -1)
    compare(student, ours, LigerJSD(beta=0.0)(*logs, labels))
