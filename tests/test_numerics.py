"""The claims of docs/numerics.md, on the figures that its command prints."""

from pathlib import Path

import pytest

from benchmarks import numerics

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.filterwarnings("ignore:kdops runs")


@pytest.fixture(scope="module")
def found():
    return numerics.measured()


def test_a_published_kl_is_negative_and_ours_is_exact(found):
    rows = found["kl"]
    assert any(row["published"] < 0 for row in rows)
    assert all(row["published_half"] < -1e-3 for row in rows if row["spread"] < 0.05)
    near = [row for row in rows if row["spread"] <= 1e-3]
    assert all(0 < row["negative"] < numerics.LOGITS[0] for row in near)
    assert all(abs(row["published"] / row["exact"] - 1) > 0.1 for row in near)
    for row in rows:
        assert 0 <= row["kdops"] == pytest.approx(row["exact"], rel=1e-5)
        assert 0 <= row["kdops_half"] == pytest.approx(row["exact_half"], rel=1e-5)


def test_a_duplicate_explodes_the_published_gradient_alone(found):
    *apart, twice = found["angle"]
    assert twice["gap"] == 0
    assert twice["published"] > 1e8 * twice["exact"]
    for row in (*apart, twice):
        assert row["kdops"] == pytest.approx(row["exact"], rel=1e-5)
        assert row["kdops_error"] < 1e-6
    for row in apart:  # the growth is the formula's own: the page says that all agree
        assert row["published"] == pytest.approx(row["exact"], rel=1e-4)


def test_a_published_distance_is_lost(found):
    near = [row for row in found["distance"] if row["gap"] <= 1e-4]
    assert all(row["published_error"] > 0.1 for row in near)
    assert all(row["kdops_error"] < 1e-6 for row in found["distance"])


def test_the_page_has_the_tables(found):
    """Their columns, and the figures that do not hang on rounding."""
    page = (ROOT / "docs" / "numerics.md").read_text()
    tables = [block for block in page.split("\n\n") if block.startswith("|")]
    for (story, rows), table in zip(found.items(), tables, strict=True):
        head, _, *lines = [[x.strip() for x in s.split("|")[1:-1]] for s in table.splitlines()]
        columns = list(numerics.COLUMNS[story])
        assert head == list(numerics.COLUMNS[story].values())
        for row, cells in zip(rows, lines, strict=True):
            for name in (columns[0], "exact", "kdops"):
                assert float(cells[columns.index(name)]) == pytest.approx(row[name], rel=6e-3)


def test_pictures(found, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra kdops[train]")
    paths = numerics.draw(found, tmp_path)
    assert [path.name for path in paths] == [f"numerics-{story}.svg" for story in found]
    assert all("<svg" in path.read_text() for path in paths)
    assert "below 0" in paths[0].read_text()
