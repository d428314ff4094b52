"""Codistillation through the command line, a peer a process: killed, dead, late, twice."""

import json
import os
import signal
import time

import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra kdops[train]")

from kdops.recipes import reading
from kdops.recipes.schema import Recipe
from kdops.training import apart, batches, command, records
from kdops.training.data import load

from .test_training_loop import distill, finished, killed_at, result, started

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:kdops runs")]
STEPS = 160


@pytest.fixture
def recipe(tmp_path):
    """Exchanges often enough for a short run."""
    path = tmp_path / "recipe.yaml"
    options = "{burn_in: 20, exchange_every: 10, max_staleness: 50}"
    path.write_text(
        "title: two\nsource: here\nabout: short\nphases:\n"
        f"  - method: Codistillation\n    teacher: null\n    options: {options}\n"
    )
    return path


def arguments(recipe, out, peer=None, steps=STEPS):
    given = ["--recipe", recipe, "--quick", "--steps", steps, "--out", out]
    return given if peer is None else [*given, "--peer", peer, "--peers", 2]


def of_peer(out, peer):
    return json.loads((out / "seed0" / f"peer{peer}" / "result.json").read_text())


def appears(file, process):
    end = time.monotonic() + 120
    while not file.exists():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.005)


def test_one_process(tmp_path, recipe):
    assert distill(*arguments(recipe, tmp_path / "one", steps=60), "--peers", 3) == 0
    peers = result(tmp_path / "one")["peers"]
    assert len(peers["test"]) == 3 and 0 < peers["churn"] < 100
    assert peers["ages"]["2"] == {"batches": 80, "mean": 4.5, "largest": 9}


def test_a_peer_is_killed_and_comes_back(tmp_path, recipe):
    """Both finish, the one that came back from where its checkpoint was; nobody waited."""
    out = tmp_path / "two"
    exchange = out / "seed0" / "exchange" / "student"
    ours = started(*arguments(recipe, out, 0))
    killed_at(started(*arguments(recipe, out, 1)), exchange / "peer1.net")
    assert not (out / "seed0" / "peer1" / "result.json").exists()
    back = started(*arguments(recipe, out, 1))
    finished(ours)
    finished(back)
    joint = result(out)
    assert joint["processes"] == 2
    for peer in range(2):
        own = of_peer(out, peer)
        assert own["test"] == joint["peers"]["test"][peer] and own["steps"] == STEPS
        assert own["peers"]["ages"] == joint["peers"]["ages"][peer]
        history = own["phases"][0]["history"]
        assert [row["step"] for row in history] == list(range(8, STEPS + 1, 8))
    assert joint["peers"]["ages"][1]["0"]["batches"] > 0
    assert 0 < joint["peers"]["churn"] < 60
    assert joint["test"] == joint["peers"]["test"][0]


def test_a_peer_is_dead_for_good(tmp_path, recipe):
    """The other goes on with its last weights, then without, and has a result."""
    out = tmp_path / "dead"
    exchange = out / "seed0" / "exchange" / "student"
    dying = started(*arguments(recipe, out, 1))
    killed_at(dying, exchange / "peer1.net")
    step = apart.FolderExchange(exchange, 0, 2).newest(1).step
    survivor = started(*arguments(recipe, out, 0))
    output, _ = survivor.communicate(timeout=300)
    assert survivor.returncode == 0, output
    own = of_peer(out, 0)
    ages = own["peers"]["ages"]["1"]
    assert ages["largest"] == 50 and ages["batches"] == step + 51 - 20
    assert own["phases"][0]["history"][-1]["peers"] == 0
    assert "peer 1 is 51 steps behind and not asked" in " ".join(output.split())
    assert not (out / "seed0" / "result.json").exists()


def test_a_peer_starts_when_the_other_is_done(tmp_path, recipe):
    """So much does it lag; and a finished peer that is started again is not trained again."""
    out = tmp_path / "late"
    for peer in (0, 1, 0):
        assert distill(*arguments(recipe, out, peer, steps=60)) == 0
    ages = result(out)["peers"]["ages"]
    assert 0 < result(out)["peers"]["churn"] < 100
    assert ages[0]["1"]["batches"] == 0
    assert ages[1]["0"] == {"batches": 40, "mean": -20.5, "largest": -1}


def test_torchrun(tmp_path, recipe):
    out = tmp_path / "ranks"
    finished(started(*arguments(recipe, out, steps=60), processes=2))
    assert result(out)["processes"] == 2
    for peer in range(2):
        log = out / "seed0" / f"peer{peer}" / "logs" / "student" / "metrics.csv"
        assert len(log.read_text().splitlines()) == 21


def test_the_same_peer_twice(tmp_path, recipe, capsys):
    out = tmp_path / "twice"
    first = started(*arguments(recipe, out, 0))
    appears(out / "seed0" / "peer0" / "student.ckpt", first)
    first.send_signal(signal.SIGSTOP)
    assert distill(*arguments(recipe, out, 0)) == 2
    assert "another process trains peer 0" in " ".join(capsys.readouterr().out.split())
    first.send_signal(signal.SIGKILL)
    first.communicate()


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--peer", 0], "--peer: give --peers too"),
        (["--peer", 2, "--peers", 2], "peer must be in 0..1, of --peers, got 2"),
        (["--peers", 2, "--recipe", "kd"], "all phases must be Codistillation, not so: KD"),
        (["--peer", 0, "--peers", 2, "--recipe", "kd"], "all phases must be Codistillation"),
        (["--peers", 0], "count must be >= 1, got 0"),
    ],
    ids=str,
)
def test_early_errors(tmp_path, recipe, capsys, more, text):
    assert distill(*arguments(recipe, tmp_path / "out"), *more) == 2
    assert text in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "out").exists()


def test_other_peers_of_another_run(tmp_path, recipe, capsys):
    assert distill(*arguments(recipe, tmp_path / "x", 0, steps=21)) == 0
    assert distill(*arguments(recipe, tmp_path / "x", 1, steps=22)) == 2
    text = " ".join(capsys.readouterr().out.split())
    assert "holds runs of another configuration (setting.steps differ)" in text


def test_a_folder_that_another_claims_at_the_same_time(tmp_path, monkeypatch):
    def late(path, content):
        path.write_text('{"setting": {"steps": 1}}')

    monkeypatch.setattr(records, "write_json", late)
    with pytest.raises(ValueError, match="another configuration"):
        records.claim(tmp_path, {"setting": {"steps": 2}})


def test_under_torchrun_a_rank_is_a_peer(monkeypatch):
    recipe = reading.read("codistillation")
    assert apart.place_of(None, None, recipe) is None
    monkeypatch.setattr(os, "environ", {"WORLD_SIZE": "3", "RANK": "2"})
    assert apart.place_of(None, None, recipe) == apart.Place(2, 3)
    assert apart.place_of(None, None, reading.read("kd")) is None
    with pytest.raises(ValueError, match="--peers must be the number of processes, 3, got 2"):
        apart.place_of(None, 2, recipe)


def peer_run(tmp_path, peer, split, shards="disjoint") -> apart.PeerRun:
    recipe = apart.between(reading.read("codistillation"), 2)
    content = recipe.model_dump()
    content["phases"][0]["options"]["shards"] = shards
    setting = command.Setting(data="digits")
    fabric = apart.fabric_alone("cpu", "32-true")
    place = apart.Place(peer, 2)
    report = command.Report("")
    recipe = Recipe(**content)
    return apart.PeerRun(place, fabric, recipe, setting, split, 0, tmp_path, tmp_path, report)


@pytest.mark.parametrize("shards", ["disjoint", "same"])
def test_rows_and_weights_of_the_peers(tmp_path, shards):
    """Disjoint shards have no row in common; the same rows come in an order of each peer's own."""
    split = load("digits")
    rows, weights, first = [], [], []
    for peer in range(2):
        run = peer_run(tmp_path, peer, split, shards)
        [phase] = run.recipe.phases
        group = run.assemble(phase, run.method(phase))
        found = run.peer_batches(group, 0, phase)
        part = found.peers[0].part if isinstance(found, batches.Shards) else found.part
        rows.append({image.numpy().tobytes() for image in part.images})
        first.append(next(iter(found.steps(0, 1)))[0])
        weights.append(group.model.head.weight)
    assert len(rows[0] & rows[1]) == (0 if shards == "disjoint" else len(rows[0]))
    assert not torch.equal(*weights)
    assert not torch.equal(first[0], first[1])
