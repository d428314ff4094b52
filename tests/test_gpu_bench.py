"""The GPU benchmark's dry run: its path and its file, on a CPU."""

import json

import pytest
import torch

from benchmarks import report
from benchmarks.gpu import row, table
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.floors import Rates, floor
from benchmarks.gpu.workloads import COMPILED, WORKLOADS, compiled

HEAD = {"card", "torch", "date", "commit", "kdops", "rates", "seconds", "rows"}
ROW = {"name", "shape", "dtype", "goal", "device", "wall", "ratio", "memory", "floor", "limit"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "cpu.json"
    assert main(["--device", "cpu", "--quick", "--only", "64x10", "--out", str(path)]) == 0
    return json.loads(path.read_text())


def test_dry_run(results):
    assert results.keys() >= HEAD
    assert [each["name"] for each in results["rows"]] == ["kd_loss 64x10", "kd_loss 64x10 bfloat16"]
    for each in results["rows"]:
        assert each.keys() >= ROW and each["device"].keys() >= {"kdops", "eager", "published"}
        assert each["device"]["kdops"] > 0 and each["errors"]["kdops"]["gradient_error"] < 1e-2
    assert table.text(results).count("\n") == 1 + len(results["rows"]) + 1


def test_a_failure_is_a_row(monkeypatch, tmp_path, capsys):
    def fail(*_):
        raise torch.OutOfMemoryError("1 GiB")

    monkeypatch.setattr(row, "inputs", fail)
    path = tmp_path / "cpu.json"
    options = ["--device", "cpu", "--quick", "--only", "64x10", "--out", str(path)]
    assert main(options) == 1
    rows = json.loads(path.read_text())["rows"]
    assert [each["failed"] for each in rows] == ["out of memory"] * 2
    assert "kd_loss 64x10 bfloat16: out of memory" in capsys.readouterr().out


def test_without_a_gpu(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 2 and "no GPU" in capsys.readouterr().err


def test_floors_of_an_h100():
    """On paper: 3 TB/s, 30 T lanes a second, launches of 4 us."""
    rates = Rates(3e12, 0.0, 0.0, 30e12, "")
    expected = {
        "kd_loss 256x32000": 33e-6,
        "kd_loss 32x128256": 16e-6,
        "rkd_angle_loss 512x512": 58e-6,
        "rkd_angle_loss 1024x512": 0.41e-3,
        "cckd_loss 16384x256": 6.9e-3,
        "irg_edge_loss 16384x256": 11.5e-3,
    }
    found = {str(each): floor(each, rates)[1] for each in WORKLOADS}
    for name, seconds in expected.items():
        assert found[name] == pytest.approx(seconds, rel=0.05), name
    slow = Rates(3e12, 4e-6, 0.0, 30e12, "")
    binds = {str(each): floor(each, slow)[0] for each in WORKLOADS}
    assert binds["kd_loss 128x1000"] == "launches" and binds["kd_loss 256x32000"] == "bytes"


def test_table_fits_a_screen(results):
    """All workloads, the longest numbers, a goal missed in each."""
    figures = dict(results["rows"][0])
    figures |= {"graph": 123.4e-6, "launches": 9, "waits": True, "binds": "launches"}
    figures |= {"peer": 1234.0, "limit": 123.4, "ratio": {"compile": 123.4, "liger": 12.3}}
    figures |= {"device": {"kdops": 1.2345e-2}, "wall": {"kdops": 1.2345e-2, "eager": 12.0}}
    rows = [figures | report.row(each, {}) for each in WORKLOADS]
    lines = table.text(results | {"rows": rows}).splitlines()
    assert len(lines) <= 50
    assert all(line.rstrip().endswith("launches") for line in lines[2:-1])


def test_what_is_compiled_is_timed():
    assert sum(map(compiled, WORKLOADS)) == len(COMPILED)
