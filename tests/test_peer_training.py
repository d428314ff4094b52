"""Peers in the training loop: turns, views, shards, processes, and what is written of them."""

import copy

import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra kdops[train]")

from kdops import functional as F
from kdops import methods
from kdops.recipes import reading
from kdops.training import loop
from kdops.training.batches import Batches, Shards, UniformBatchSampler, disjoint
from kdops.training.data import Split
from kdops.training.logs import Report
from kdops.training.run import Run
from kdops.training.setting import Setting

from .peer_methods import Mutual, batches, group, part
from .test_training_loop import (
    QUICK,
    assert_one_curve,
    distill,
    finished,
    history,
    killed_at,
    result,
    started,
)

pytestmark = pytest.mark.filterwarnings("ignore:kdops runs")
HERE, PLAIN = "tests.peer_methods", "tests.test_training_loop:Plain"


def recipe(tmp_path, options="{}", method="Mutual", more=""):
    path = tmp_path / f"{method}-{abs(hash((options, more)))}.yaml"
    name = method if method in methods.online.__all__ else f"{HERE}:{method}"
    path.write_text(
        f"title: Peers\nsource: a test\nabout: peers\nphases:\n  - method: {name}\n"
        f"    teacher: null\n    options: {options}\n{more}"
    )
    return path


def fitted(method, peers=None, steps=6, **options):
    peers = peers or group(method)
    settings = loop.Settings(steps=steps)
    progress = loop.fit(
        loop.make_fabric("cpu"), peers, None, method, batches(), settings, **options
    )
    return peers, progress


def test_turns_follow_the_others_new_weights():
    """Each update is of one peer, on the targets that the others' last update left."""
    method = Mutual(peers=3, alternate=True)
    start = group(method)
    peers, progress = fitted(method, copy.deepcopy(start), steps=1)
    settings = loop.Settings(steps=1)
    images, labels = next(batches().steps(0, 1))
    expected = 0
    for i, net in enumerate(start.nets):
        optimizer = torch.optim.Adam(net.parameters(), weight_decay=settings.weight_decay)
        torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.peak_lr, total_steps=1)
        before = [x.detach().clone() for other in start.nets for x in other.parameters()]
        logits = [other(images).logits.detach() for other in start.nets]
        logits[i] = net(images).logits
        value = F.mutual_kl(logits, labels, ce_weight=1.0)[i]
        value.backward()
        optimizer.step()
        expected += value.item()
        after = [x.detach() for other in start.nets for x in other.parameters()]
        moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        each = len(moved) // 3
        assert all(moved[i * each : (i + 1) * each]) and sum(moved) == each
    assert progress.history[0]["loss"] == pytest.approx(expected, rel=1e-6)
    for ours, theirs in zip(peers.state_dict().values(), start.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)
    assert method.turn is None and peers.active is None


def test_together_is_the_sum_of_the_peers_losses():
    """Not the same weights as in turns, but the same first loss where nothing has moved yet."""
    histories = {}
    for alternate in (False, True):
        _, progress = fitted(Mutual(alternate=alternate), steps=4)
        histories[alternate] = [row["loss"] for row in progress.history]
    assert histories[False] != histories[True]


def test_goes_on_inside_the_run(tmp_path, monkeypatch):
    """Killed in the second peer's turn: the same losses, from the last whole step on."""
    whole = fitted(Mutual(alternate=True), steps=8)[1].history
    path, method = tmp_path / "peers.ckpt", Mutual(alternate=True)
    terms = method.terms

    def killed(peers, teacher, target):
        if method.calls == 6 and method.turn == 1:
            raise KeyboardInterrupt
        return terms(peers, teacher, target)

    method.terms = killed
    with pytest.raises(KeyboardInterrupt):
        fitted(method, steps=8, checkpoint=path)
    found = fitted(Mutual(alternate=True), steps=8, checkpoint=path)[1].history
    assert found == whole


def test_held_out_rows_once_an_epoch(monkeypatch):
    """Before the epoch's first step, from what the peers then say of the validation rows."""
    method, seen = Mutual(), []

    def fit_held_out(logits, target):
        alone = [loop.predict(peers.peer(i), part(9)) for i in range(2)]
        assert all(map(torch.equal, logits, alone)) and torch.equal(target, part(9).labels)
        seen.append(int(method.calls))

    monkeypatch.setattr(Mutual, "held_out", True)
    monkeypatch.setattr(method, "fit_held_out", fit_held_out)
    peers = group(method)
    fitted(method, peers, steps=5, val=part(9))  # an epoch is two steps
    assert seen == [0, 2, 4]
    with pytest.raises(ValueError, match="fit: val must be given: Mutual learns from it"):
        fitted(Mutual())


def test_own_rows_train_every_peer():
    method = Mutual(own="rows")
    peers = group(method)
    before = copy.deepcopy(peers.state_dict())
    shards = [
        Batches(each, UniformBatchSampler(len(each), 5, 0)) for each in disjoint(part(), 2, 0)
    ]
    settings = loop.Settings(steps=3)
    loop.fit(loop.make_fabric("cpu"), peers, None, method, Shards(shards), settings)
    moved = [not torch.equal(before[name], value) for name, value in peers.state_dict().items()]
    assert all(moved)


def test_what_is_written(tmp_path):
    """The deployed net is the first peer, and a single peer is the net trained on labels alone."""
    arguments = [*QUICK, "--student", PLAIN, "--seeds", 1]
    out = tmp_path / "peers"
    assert distill("--recipe", recipe(tmp_path, "{peers: 3}"), *arguments, "--out", out) == 0
    found = result(out)
    peers = found["peers"]
    assert set(peers) == {"val", "test", "ensemble", "churn"}
    assert len(peers["val"]) == len(peers["test"]) == 3
    assert (found["val"], found["test"]) == (peers["val"][0], peers["test"][0])
    assert len(set(peers["test"])) > 1 and 0 < peers["churn"] < 100
    assert "teacher" not in found
    assert [row["val"] for row in history(out)][-1] == found["val"]

    options = "{peers: 2, own: rows}"
    assert distill("--recipe", recipe(tmp_path, options), *arguments, "--out", tmp_path / "r") == 0
    assert result(tmp_path / "r")["peers"]["churn"] > 0


@pytest.mark.parametrize("own", ["", "images"])
def test_the_first_peer_starts_as_the_baseline(tmp_path, own):
    """Weights, rows and shifts: without soft targets it ends as the baseline does."""
    path = recipe(tmp_path, f"{{own: '{own}'}}", "Alone")
    arguments = [*QUICK, "--student", PLAIN]
    assert distill("--recipe", path, *arguments, "--out", tmp_path / "alone") == 0
    assert distill("--recipe", "labels", *arguments, "--out", tmp_path / "labels") == 0
    for key in ("val", "test", "per_class"):
        assert result(tmp_path / "alone")[key] == result(tmp_path / "labels")[key]


def test_a_later_phase_begins_with_the_net_as_it_is(tmp_path):
    """The first peer goes on from an earlier phase; the others are fresh, and differ."""
    split, fabric = Split(part(), part(9), part(9)), loop.make_fabric("cpu")
    kept = reading.read(recipe(tmp_path, "{peers: 3}"))
    places = (tmp_path / "run", tmp_path / "teachers")
    run = Run(fabric, kept, Setting(data="own"), split, 0, *places, Report(""))
    with torch.no_grad():
        run.nets["student"].head.weight.fill_(7)
    [phase] = kept.phases
    peers = run.assemble(phase, run.method(phase))
    first, second, third = (peers.peer(i).head.weight for i in range(3))
    assert (first == 7).all() and first is not run.nets["student"].head.weight
    assert not (second == 7).any() and not torch.equal(second, third)
    again = run.assemble(phase, run.method(phase))
    assert torch.equal(again.peer(1).head.weight, second)


MISTAKES = {
    "teacher": ("    teacher: teacher\n", "Mutual's peers learn from each other: must be null"),
    "option": ("    teacher: null\n    options: {peer: 2}\n", "no such key; near: peers"),
    "superclasses": (
        "    teacher: null\n    sampler: {groups: superclasses}\n",
        "superclasses are of a teacher's embeddings, and there is none",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_bad_recipes(mistake):
    text, message = MISTAKES[mistake]
    head = f"title: a\nsource: b\nabout: c\nphases:\n  - method: {HERE}:Mutual\n"
    with pytest.raises(reading.RecipeError, match=r"^x, line ") as error:
        reading.parse(head + text, "x")
    assert message in str(error.value)


EARLY = {
    "layer": (("Deep", "{}", []), "no layer 'branch'"),
    "rows": (("Mutual", "{own: rows, peers: 11}", ["--labels", 10]), "at least 1 rows, got 0"),
    "processes": (("Mutual", "{}", ["--one-peer-a-process"]), "start the processes by torchrun"),
}


@pytest.mark.parametrize("mistake", EARLY)
def test_early_errors(tmp_path, capsys, mistake):
    (method, options, more), text = EARLY[mistake]
    path = recipe(tmp_path, options, method)
    arguments = ["--recipe", path, *QUICK, "--student", PLAIN, "--out", tmp_path / "o"]
    assert distill(*arguments, *more) == 2
    assert text in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_goes_on_after_a_kill(tmp_path):
    path = recipe(tmp_path, "{alternate: true}")
    arguments = ["--recipe", path, *QUICK, "--steps", "300"]
    assert distill(*arguments, "--out", tmp_path / "whole") == 0
    out = tmp_path / "killed"
    killed_at(started(*arguments, "--out", out), out / "seed0" / "student.ckpt")
    assert not (out / "seed0" / "result.json").exists()
    finished(started(*arguments, "--out", out))
    assert history(out) == history(tmp_path / "whole")
    assert result(out)["peers"] == result(tmp_path / "whole")["peers"]


@pytest.mark.slow
@pytest.mark.parametrize("options", ["{}", "{alternate: true}", "{own: images}", "{own: rows}"])
def test_data_parallel_peers_have_the_curve_of_one_process(tmp_path, options):
    arguments = ["--recipe", recipe(tmp_path, options), *QUICK, "--student", PLAIN]
    assert distill(*arguments, "--out", tmp_path / "one") == 0
    finished(started(*arguments, "--out", tmp_path / "two", processes=2))
    assert_one_curve(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("DML", "{}"),
        ("KDCL", "{rule: linear}"),
        ("KDCL", "{rule: general}"),
    ],
)
def test_one_peer_a_process(tmp_path, method, options):
    """The curve and the peers of one process, and its checkpoint."""
    arguments = ["--recipe", recipe(tmp_path, options, method), *QUICK]
    assert distill(*arguments, "--out", tmp_path / "one") == 0
    apart = [*arguments, "--one-peer-a-process", "--out", tmp_path / "two"]
    finished(started(*apart, processes=2))
    for ours, theirs in zip(history(tmp_path / "two"), history(tmp_path / "one"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    for key in ("val", "test", "peers"):
        assert result(tmp_path / "two")[key] == result(tmp_path / "one")[key]
    weights = [
        torch.load(tmp_path / name / "seed0" / "student.ckpt", weights_only=True)
        for name in ("one", "two")
    ]
    for each in ("objective", "optimizer"):
        torch.testing.assert_close(weights[1][each], weights[0][each], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_processes_go_on_with_the_run_of_one(tmp_path):
    arguments = ["--recipe", "dml", *QUICK, "--steps", "300"]
    assert distill(*arguments, "--out", tmp_path / "whole") == 0
    out = tmp_path / "killed"
    killed_at(started(*arguments, "--out", out), out / "seed0" / "student.ckpt")
    finished(started(*arguments, "--one-peer-a-process", "--out", out, processes=2))
    assert result(out)["processes"] == 2
    for ours, theirs in zip(history(out), history(tmp_path / "whole"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "options", "text"),
    [
        ("Mutual", "{peers: 3}", "Mutual has 3 peers, got 2 processes"),
        ("Branches", "{}", "Branches's peers must be trained together"),
    ],
)
def test_peers_that_cannot_be_apart(tmp_path, method, options, text):
    arguments = ["--recipe", recipe(tmp_path, options, method), *QUICK, "--out", tmp_path / "o"]
    process = started(*arguments, "--one-peer-a-process", processes=2)
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0 and text in " ".join(output.split())
