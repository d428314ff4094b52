"""The training loop through the command line: resumption, processes, own nets, early errors."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

pytest.importorskip("lightning_fabric", reason="needs the extra kdops[train]")

from kdops.training import command, loop, nets
from kdops.training.setting import Setting

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:kdops runs")]
QUICK = ["--quick", "--steps", "40", "--teacher-steps", "60"]


class Plain(nn.Module):
    """A net whose outputs do not depend on the rest of the batch, unlike batch norm's."""

    def __init__(self, classes=10):
        super().__init__()
        self.first, self.norm = nn.Linear(64, 24), nn.LayerNorm(24)
        self.head = nn.Linear(24, classes)

    def forward(self, images):
        return self.head(self.norm(self.first(images.flatten(1))).relu())


def distill(*arguments) -> int:
    threads = torch.get_num_threads()
    try:
        return command.main([*map(str, arguments)])
    finally:
        torch.set_num_threads(threads)


def started(*arguments, processes=0):
    launcher = [sys.executable, "-m"]
    if processes:
        launcher += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*launcher, "kdops", "distill", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process) -> None:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


def result(folder, seed=0) -> dict:
    return json.loads((folder / f"seed{seed}" / "result.json").read_text())


def assert_one_curve(two, one) -> None:
    """Two processes' run has the history of one's."""
    assert result(two)["processes"] == 2
    for ours, theirs in zip(history(two), history(one), strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3)
    assert history(two)[0]["loss"] == pytest.approx(history(one)[0]["loss"], rel=1e-5)


def history(folder) -> list[dict]:
    return [row for phase in result(folder)["phases"] for row in phase["history"]]


def killed_at(process, file) -> None:
    """Kill the process as soon as the file is there."""
    end = time.monotonic() + 120
    while not file.exists():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_goes_on_after_a_kill(tmp_path):
    """In the first phase, then in the second: the same losses as without."""
    arguments = ["--recipe", "fitnets", *QUICK, "--steps", "300", "--teachers", tmp_path / "t"]
    assert distill(*arguments, "--out", tmp_path / "whole") == 0
    out = tmp_path / "killed"
    for phase in ("hint", "student"):
        killed_at(started(*arguments, "--out", out), out / "seed0" / f"{phase}.ckpt")
        assert not (out / "seed0" / "result.json").exists()
    finished(started(*arguments, "--out", out))
    assert history(out) == history(tmp_path / "whole")
    for key in ("test", "val", "per_class"):
        assert result(out)[key] == result(tmp_path / "whole")[key]
    log = (out / "seed0" / "logs" / "student" / "metrics.csv").read_text().splitlines()
    assert len(log) == 1 + len(result(out)["phases"][1]["history"])


def test_a_finished_seed_is_not_trained_again(tmp_path):
    arguments = ["--recipe", "labels", *QUICK, "--out", tmp_path / "labels"]
    assert distill(*arguments) == 0
    before = (tmp_path / "labels" / "seed0" / "result.json").stat().st_mtime_ns
    assert distill(*arguments, "--seeds", 2) == 0
    assert (tmp_path / "labels" / "seed0" / "result.json").stat().st_mtime_ns == before
    assert result(tmp_path / "labels", 1)["seed"] == 1
    for name in ("curves.png", "config.json"):
        assert (tmp_path / "labels" / name).stat().st_size > 0


@pytest.mark.parametrize("recipe", ["kd", "rkd", "pkt", "irg", "cckd"])
def test_two_processes_have_the_curve_of_one(tmp_path, recipe):
    arguments = ["--recipe", recipe, *QUICK, "--student", f"{__name__}:Plain"]
    arguments += ["--teachers", tmp_path / "teachers"]
    arguments += ["--student-layer", "early=first", "--student-layer", "middle=norm"]
    assert distill(*arguments, "--out", tmp_path / "one") == 0
    finished(started(*arguments, "--out", tmp_path / "two", processes=2))
    assert_one_curve(tmp_path / "two", tmp_path / "one")


def test_own_net_with_layers_by_name(tmp_path):
    arguments = ["--recipe", "rkd", *QUICK, "--student", f"{__name__}:Plain"]
    assert distill(*arguments, "--out", tmp_path / "a") == 0  # the input of the last linear layer
    arguments += ["--student-layer", "embedding=norm"]
    assert distill(*arguments, "--out", tmp_path / "b") == 0
    losses = [history(tmp_path / name)[0]["distance embedding"] for name in "ab"]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--recipe", "rdk"], "no recipe 'rdk'; there are rkd"),
        (["--recipe", "rkd", "--data", "cifar"], "data 'cifar' must be one of"),
        (["--recipe", "rkd", "--student", "resnet9000"], "network 'resnet9000' must be one of"),
        (
            ["--recipe", "rkd", *QUICK, "--student-layer", "embedding=embeding"],
            "no layer 'embeding'; near: 'embedding'",
        ),
        (["--recipe", "rkd", *QUICK, "--labels", "0"], "labels must be at least"),
    ],
    ids=str,
)
def test_early_errors(tmp_path, capsys, arguments, text):
    assert distill(*arguments, "--out", tmp_path / "out") == 2
    assert text in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("place", [[], ["--peer", "0", "--peers", "2"]], ids=["all", "one peer"])
def test_no_gpu(tmp_path, capsys, monkeypatch, place):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = ["--recipe", "codistillation", *QUICK, *place, "--accelerator", "cuda"]
    assert distill(*arguments, "--out", tmp_path) == 2
    text = " ".join(capsys.readouterr().out.split())
    assert "accelerator must be 'cpu' or 'auto' where CUDA is not available, got 'cuda'" in text


def test_another_configuration_in_the_same_folder(tmp_path, capsys):
    assert distill("--recipe", "labels", *QUICK, "--out", tmp_path / "x") == 0
    assert distill("--recipe", "labels", *QUICK, "--steps", "41", "--out", tmp_path / "x") == 2
    text = " ".join(capsys.readouterr().out.split())
    assert "holds runs of another configuration (setting.steps differ)" in text


def test_own_weights_of_the_teacher(tmp_path):
    torch.manual_seed(0)
    net = nets.make_net("teacher", 10, 1)
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    arguments = ["--recipe", "kd", *QUICK, "--teacher-weights", tmp_path / "weights.pt"]
    assert distill(*arguments, "--out", tmp_path / "kd") == 0
    assert not (tmp_path / "teachers").exists()


def test_command_line_over_quick_over_defaults():
    parse = command.parser().parse_args
    options = parse(["--recipe", "kd", "--out", "x", "--quick", "--steps", "7"])
    setting = command.setting_of(options)
    assert (setting.data, setting.steps) == ("digits", 7)
    options = parse(["--recipe", "kd", "--out", "x", "--student-layer", "a=b"])
    assert command.setting_of(options) == Setting(student_layers={"a": "b"})


def test_a_loss_that_is_not_finite_stops(tmp_path):
    fabric = loop.make_fabric("cpu")
    row = torch.tensor(float("nan"))
    with pytest.raises(RuntimeError, match="the loss is not finite at step 0"):
        loop._row(fabric, loop.Progress(), None, None, row, {})
