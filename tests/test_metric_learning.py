"""kdops in pytorch-metric-learning: its losses with our distance, and ours as one of its losses."""

import runpy
from pathlib import Path

import pytest
import torch

import kdops

pytest.importorskip("pytorch_metric_learning", reason="no pytorch_metric_learning here")
pytest.importorskip("sklearn", reason="needs the extra kdops[train]")
from pytorch_metric_learning import losses
from pytorch_metric_learning.distances import LpDistance

EXAMPLE = Path(__file__).parents[1] / "examples" / "metric_learning.py"
pytestmark = pytest.mark.skipif(not EXAMPLE.exists(), reason="not a source tree")
LOSSES = {
    "triplet": losses.TripletMarginLoss,
    "contrastive": losses.ContrastiveLoss,
    "lifted": losses.GeneralizedLiftedStructureLoss,
    "ntxent": losses.NTXentLoss,
}


@pytest.fixture(scope="module")
def example() -> dict:
    return runpy.run_path(str(EXAMPLE))


def features(rows: int, dtype=torch.float64, seed=0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 5, generator=g, dtype=torch.float64).to(dtype).requires_grad_()


def value_and_gradients(loss, x, other=None):
    x = x.detach().clone().requires_grad_()
    other = other if other is None else other.detach().clone().requires_grad_()
    labels = torch.arange(len(x)) % 3
    reference = {} if other is None else {"ref_emb": other, "ref_labels": labels[: len(other)]}
    value = loss(x, labels, **reference)
    value.backward()
    return [value.detach(), x.grad, *([] if other is None else [other.grad])]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("normalize", [True, False], ids=["normalized", "raw"])
@pytest.mark.parametrize("reference", [False, True], ids=["batch", "reference"])
def test_a_loss_with_our_distance(example, backend, name, normalize, reference):
    """Value and gradients are those with PML's own distance."""
    other = features(7, seed=1) if reference else None
    ours, theirs = (
        LOSSES[name](distance=distance(normalize_embeddings=normalize))
        for distance in (example["KdopsDistance"], LpDistance)
    )
    assert isinstance(ours.distance, example["KdopsDistance"])
    found = value_and_gradients(ours, features(9), other)
    torch.testing.assert_close(found, value_and_gradients(theirs, features(9), other))
    assert found[0] > 0 and found[1].abs().max() > 0


@pytest.mark.parametrize("power", [1, 2])
def test_the_map(example, backend, power):
    x = features(8)
    options = {"normalize_embeddings": False, "power": power}
    mine, theirs = (each(**options) for each in (example["KdopsDistance"], LpDistance))
    torch.testing.assert_close(mine(x), theirs(x))
    torch.testing.assert_close(mine(x, features(3, seed=1)), theirs(x, features(3, seed=1)))


def test_half_precision_is_that_of_its_rows(example, backend):
    """float16, which PML's distance takes row by row, gets the distances of the same numbers."""
    x = features(8, torch.float16)
    found = example["KdopsDistance"](normalize_embeddings=False)(x)
    torch.testing.assert_close(found.double(), torch.cdist(x.double(), x.double()))


def test_another_norm_is_refused(example):
    with pytest.raises(ValueError, match="KdopsDistance: p must be 2, got 1"):
        example["KdopsDistance"](p=1)


@pytest.mark.parametrize(
    "loss", [kdops.nn.RKDLoss(1, 2), kdops.nn.CCKDLoss(), kdops.nn.SPLoss()], ids=lambda x: str(x)
)
def test_a_relation_as_their_loss(example, backend, loss):
    student, teacher = features(6), features(6, seed=1).detach()
    wrapped = example["RelationalLoss"](loss)(student, ref_emb=teacher)
    assert wrapped.requires_grad and torch.equal(wrapped, loss(student, teacher))
