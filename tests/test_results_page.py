"""The page of results says what its runs' record says."""

from pathlib import Path

import pytest

pytest.importorskip("lightning_fabric", reason="needs the extra kdops[train]")

from kdops.results.entries import read_entries
from kdops.studies import online, results

DOCS = Path(__file__).parents[1] / "docs"
RECORD = DOCS / "results" / "results.json"
pytestmark = pytest.mark.skipif(not RECORD.exists(), reason="not a source tree")


def test_the_page_is_the_record_s(tmp_path):
    results.write(RECORD, tmp_path)
    assert (tmp_path / "results.md").read_text() == (DOCS / "results.md").read_text()
    for picture in (DOCS / "pictures").glob("results-*.svg"):
        assert "<svg" in (tmp_path / "pictures" / picture.name).read_text()


def test_every_arm_has_the_same_seeds():
    entries = read_entries(RECORD)
    names = {**results.FEW, **results.COMBINED, **results.LONGER, **results.PLAIN}
    names |= {**results.MISSING, **results.ALL_LABELS}
    assert set(entries) in (set(names), {*names, *online.ARMS})
    assert {tuple(entry.seeds) for entry in entries.values()} == {(0, 1, 2, 3, 4)}
