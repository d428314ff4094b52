"""What docs/distributed.md says of each loss, for a rank and for the global batch, is so.

Two ranks with half of the rows each are played in one process: what DDP makes of their gradients is
the mean.
"""

import re
from pathlib import Path

import pytest
import torch

import kdops

from .cases import generator

PAGE = Path(__file__).parents[1] / "docs" / "distributed.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="not a source tree")
ROWS, CLASSES = 8, 5
KINDS = ("Means over rows", "Relations between rows", "Own to each rank")


def section(title: str) -> str:
    text = PAGE.read_text() if PAGE.exists() else ""
    return text.partition(f"### {title}\n")[2].partition("\n## ")[0].partition("\n### ")[0]


def first_cells(title: str) -> list[str]:
    """The functions in the first column of a section's table."""
    cells = re.findall(r"^\| (.*?) \|", section(title), re.MULTILINE)
    names = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    return [name for name in names if name in kdops.functional.__all__]


def tensors(*shapes) -> list[torch.Tensor]:
    g = generator(0)
    return [torch.randn(ROWS, *shape, generator=g, dtype=torch.float64) for shape in shapes]


LABELS = torch.arange(ROWS) % CLASSES
LOGITS, ROW, MAP = (CLASSES,), (3,), (3, 4, 2)
VARIANCE = torch.tensor([0.5, 1.0, 2.0])
# name: shapes of what is spread over ranks, a function of them and of the labels
CALLS = {
    "kd_loss": ([LOGITS] * 2, lambda s, t, y: kdops.kd_loss(s, t, y, ce_weight=0.5)),
    "soft_cross_entropy": ([LOGITS] * 2, lambda s, t, y: kdops.soft_cross_entropy(s, t)),
    "dkd_loss": ([LOGITS] * 2, lambda s, t, y: kdops.dkd_loss(s, t, y)),
    "dist_loss": ([LOGITS] * 2, lambda s, t, y: kdops.dist_loss(s, t)),
    "mutual_kl": ([LOGITS] * 2, lambda a, b, y: kdops.mutual_kl([a, b], y, ce_weight=0.5).sum()),
    "mixture_kl": ([LOGITS] * 2, lambda a, b, y: kdops.mixture_kl([a, b], y, ce_weight=0.5).sum()),
    "standardize_logits": ([LOGITS], lambda x, y: kdops.standardize_logits(x).square().mean()),
    "at_loss": ([MAP] * 2, lambda s, t, y: kdops.at_loss(s, t)),
    "hint_loss": ([MAP] * 2, lambda s, t, y: kdops.hint_loss(s, t)),
    "vid_loss": ([MAP] * 2, lambda s, t, y: kdops.vid_loss(s, t, VARIANCE)),
    "fsp_loss": ([MAP] * 4, lambda a, b, c, d, y: kdops.fsp_loss((a, b), (c, d))),
    "irg_transform_loss": (
        [ROW] * 4,
        lambda a, b, c, d, y: kdops.irg_transform_loss((a, b), (c, d)),
    ),
    **{
        name: ([ROW] * 2, lambda s, t, y, name=name: getattr(kdops, name)(s, t))
        for name in (
            *("rkd_distance_loss", "rkd_angle_loss", "irg_edge_loss"),
            *("cckd_loss", "pkt_loss", "sp_loss"),
        )
    },
    **{
        name: ([ROW], lambda x, y, name=name: getattr(kdops, name)(x).square().mean())
        for name in ("pairwise_distance", "triplet_angle", "rbf_correlation")
    },
}


def averaged(name: str, *shares: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean over ranks, with a share of the rows each, of values and of gradients."""
    shapes, call = CALLS[name]
    leaves = [x.requires_grad_() for x in tensors(*shapes)]
    values = [call(*(x[share] for x in leaves), LABELS[share]) for share in shares]
    value = torch.stack(values).mean()
    return value.detach(), torch.autograd.grad(value, leaves[0])[0]


def test_the_page_has_every_loss():
    said = [name for kind in KINDS for name in first_cells(kind)]
    assert sorted(said) == sorted(kdops.functional.__all__) == sorted(CALLS)
    text = "".join(map(section, KINDS))
    for name in kdops.nn.__all__:
        assert not name.endswith("Loss") or f"`{name}`" in text, name


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in KINDS for name in first_cells(kind)]
)
def test_the_average_over_ranks(kind, name):
    whole = averaged(name, slice(None))
    halves = averaged(name, slice(0, ROWS // 2), slice(ROWS // 2, ROWS))
    if kind == "Means over rows":
        torch.testing.assert_close(halves, whole)
    else:
        assert (halves[1] - whole[1]).abs().max() > 1e-3 * whole[1].abs().max()


def test_sums_over_the_counted_rows_of_the_global_batch():
    """The page's lines for unequal numbers average to the whole batch's loss; means do not."""
    labels = LABELS.clone()
    labels[:2] = -100
    student, teacher = tensors(LOGITS, LOGITS)
    shares, counted = (slice(0, 3), slice(3, ROWS)), (labels != -100).sum()

    def rank(share, **options):
        return kdops.kd_loss(student[share], teacher[share], labels[share], **options)

    whole = rank(slice(None))
    sums = [rank(share, reduction="sum") * len(shares) / counted for share in shares]
    torch.testing.assert_close(torch.stack(sums).mean(), whole)
    assert (torch.stack([rank(share) for share in shares]).mean() - whole).abs() > 1e-2 * whole


def test_what_can_be_gathered():
    """Exactly the losses of the second table have the option."""
    gathered = {
        name
        for name in kdops.functional.__all__
        if "gather" in getattr(kdops, name).__code__.co_varnames
    }
    assert gathered == set(first_cells(KINDS[1]))
