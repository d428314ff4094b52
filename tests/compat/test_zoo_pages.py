"""The pages of RepDistiller, mdistiller and Knowledge-Distillation-Zoo: a row for every loss."""

import re
from pathlib import Path

import pytest
import torch

import kdops
from kdops.compat import kd_zoo, mdistiller, repdistiller

from ..cases import generator
from ..test_docs import ROOT, names_in, tables
from . import test_kd_zoo, test_mdistiller, test_repdistiller
from .parity import kernels

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="not a source tree")
MODULES = pytest.mark.parametrize(
    "module", [kd_zoo, mdistiller, repdistiller], ids=lambda m: m.__name__
)


def page_of(module) -> Path:
    return ROOT / "docs" / "migrate" / f"{module.__name__.rpartition('.')[2]}.md"


def rows_of(module) -> tuple[list, list]:
    """Those of the losses, and of what is not there."""
    (_, losses), (_, missing) = tables(page_of(module).read_text())
    return losses, missing


@MODULES
def test_every_loss_has_a_row(module):
    losses, missing = rows_of(module)
    named = [name for row in losses for name in names_in(row[0])]
    assert sorted(named) == sorted(module.__all__)
    assert all(len(row) == 4 and all(row) for row in losses)
    absent = {name for row in missing for name in names_in(row[0])}
    assert absent and not any(hasattr(module, name) for name in absent if name.isidentifier())


@pytest.mark.parametrize("tests", [test_kd_zoo, test_mdistiller, test_repdistiller])
def test_kernels_are_named(tests, native):
    text = page_of(tests.ours).read_text()
    [sentence] = re.findall(r"^- kdops's kernels compute (.*?);", text, re.M | re.S)
    assert set(names_in(sentence)) == set(kernels(tests.CASES))


@MODULES
def test_clean_calls_are_there(module):
    """The functions that a row names; where kdops has none it says so, as does the docstring."""
    losses, _ = rows_of(module)
    for row in losses:
        (name,) = names_in(row[0])
        text = getattr(module, name).__doc__
        calls = [path for code in names_in(row[3]) for path in re.findall(r"kdops\.([\w.]+)", code)]
        assert calls or row[3].endswith("kdops has no other form"), name
        for path in calls:
            found = kdops
            for part in path.split("."):
                found = getattr(found, part)
            assert callable(found), path
        if not calls:
            assert "no other form" in " ".join(text.split()), name


G = generator(0)
S, T = torch.randn(2, 9, 12, generator=G, dtype=torch.float64)
S1, T1 = torch.randn(2, 9, 4, 6, 6, generator=G, dtype=torch.float64)
S2, T2 = torch.randn(2, 9, 4, 3, 3, generator=G, dtype=torch.float64)
LABELS = torch.arange(9)
FLAT = [x.flatten(1) for x in (S1, T1)]
CLEAN = {
    "DistillKL": (repdistiller.DistillKL(3.0)(S, T), kdops.kd_loss(S, T, temperature=3.0)),
    "RKDLoss": (repdistiller.RKDLoss()(S, T), kdops.nn.RKDLoss(25, 50)(S, T)),
    "PKT": (9 * repdistiller.PKT()(S, T), kdops.pkt_loss(S, T)),
    "Similarity": (repdistiller.Similarity()([S1], [T1])[0], kdops.sp_loss(*FLAT)[None]),
    "HintLoss": (
        repdistiller.HintLoss()(S1, T1) / 2,
        kdops.hint_loss(S1, T1, reduction="mean"),
    ),
    "Attention": (repdistiller.Attention(4)([S1], [T1])[0], kdops.at_loss(S1, T1, p=4)),
    "FSP": (
        repdistiller.FSP([S1.shape], [T1.shape])([S1, S2], [T1, T2])[0],
        kdops.fsp_loss((S1, S2), (T1, T2)),
    ),
    "dkd_loss": (
        mdistiller.dkd_loss(S, T, LABELS, 1.0, 8.0, 4.0),
        kdops.dkd_loss(S, T, LABELS, target_weight=1.0, rest_weight=8.0),
    ),
    "DML": (
        torch.stack([kd_zoo.DML()(S, T), kd_zoo.DML()(T, S)]),
        kdops.mutual_kl([S, T]),
    ),
    "BSS": (kd_zoo.BSS(3.0)(S, T), kdops.kd_loss(S, T, temperature=3.0, scale_t2=False)),
    "CC": (kd_zoo.CC(0.4, 2)(S, T), kdops.cckd_loss(S, T, gamma=0.4, order=2)),
    "IRG edges": (
        3 * kd_zoo.IRG(0, 1, 0)([S1, S2, S, S], [T1, T2, T, T]),
        kdops.irg_edge_loss(*FLAT)
        + kdops.irg_edge_loss(S2.flatten(1), T2.flatten(1))
        + kdops.irg_edge_loss(S, T),
    ),
    "IRG transformation": (
        kd_zoo.IRG(0, 0, 1)([S2, S2 + S2.square(), S, S], [T2, T2 + T2.square(), T, T]),
        kdops.irg_transform_loss(
            (S2.flatten(1), (S2 + S2.square()).flatten(1)),
            (T2.flatten(1), (T2 + T2.square()).flatten(1)),
        ),
    ),
    "AT": (kd_zoo.AT(2)(S1, T1), kdops.at_loss(S1, T1)),
}


@pytest.mark.parametrize("name", CLEAN)
def test_clean_forms_are_what_the_pages_say(name):
    """The same value, up to the factor that is said, and up to the peer's eps."""
    theirs, clean = CLEAN[name]
    torch.testing.assert_close(theirs, clean, rtol=1e-5, atol=0)
