"""Weights that peers hand each other: what is refused, who is asked, and that nobody waits."""

import os
import threading
import time
import warnings

import pytest
import torch
from torch import nn

from kdops.peers.exchange import (
    Checkpoint,
    FolderExchange,
    MemoryExchange,
    PeerBank,
    ProcessGroupExchange,
    decode,
    encode,
    folder,
)


def net(seed=0, width=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Dropout(), nn.ReLU())


def constant(value):
    model = net()
    with torch.no_grad():
        for x in model.state_dict().values():
            x.fill_(value)
    return model.state_dict()


def bank_of(exchange, **options):
    return PeerBank(lambda j: net(100 + j), exchange, **options)


@pytest.fixture
def both(tmp_path):
    """Banks of two peers on one folder."""
    return [bank_of(FolderExchange(tmp_path / "exchange", i, 2)) for i in range(2)]


def held(bank, peer=1):
    return bank.nets[str(peer)].state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(map(torch.equal, a.values(), b.values()))


def test_a_peer_gets_what_the_other_published(both):
    ours, theirs = both
    state = net(1).state_dict()
    assert theirs.publish(state, 20)
    ours.refresh(50)
    assert same(held(ours), state) and ours.ages() == {1: 30}
    theirs.refresh(20)
    assert theirs.ages() == {} and theirs.predict(torch.ones(2, 4)) == []


def test_newer_alone_is_taken(both):
    ours, theirs = both
    new, old = net(1).state_dict(), net(2).state_dict()
    for state, step in ((new, 20), (old, 10)):  # a peer that was started again from the beginning
        theirs.publish(state, step)
        ours.refresh(30)
        assert same(held(ours), new)


def test_an_unchanged_file_is_read_once(both, monkeypatch):
    ours, theirs = both
    reads = []
    monkeypatch.setattr(folder, "decode", lambda data: reads.append(1) or decode(data))
    for step in (1, 2):
        theirs.publish(net().state_dict(), step)
        for _ in range(3):
            ours.refresh(5)
    assert len(reads) == 2


def write(bank, data):
    bank.exchange.path(1).write_bytes(data)


def contents(state, step=9):
    return encode(Checkpoint(step, 0, state)).numpy().tobytes()


def spoiled(state, value):
    state = {name: x.clone() for name, x in state.items()}
    state["0.weight"][1, 1] = value
    return state


BAD = {
    "half": (lambda good: contents(good)[:150], "cut"),
    "empty": (lambda good: b"", "cut"),
    "foreign": (lambda good: b"\x80\x02" * 500, "cut, or of something else"),
    "changed": (lambda good: contents(good)[:-1] + b"\x55", "checksum"),
    "nan": (lambda good: contents(spoiled(good, torch.nan)), "not finite in '0.weight'"),
    "inf": (lambda good: contents(spoiled(good, torch.inf)), "not finite in '0.weight'"),
    "shape": (lambda good: contents(net(1, 5).state_dict()), "of another net, which differs in 0"),
    "type": (lambda good: contents({k: x.double() for k, x in good.items()}), "of another net"),
    "less": (lambda good: contents(dict(list(good.items())[1:])), "differs in 0.weight"),
    "more": (lambda good: contents({**good, "more": torch.ones(1)}), "differs in more"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_once_and_the_older_kept(both, name):
    ours, theirs = both
    good = net(1).state_dict()
    theirs.publish(good, 5)
    ours.refresh(6)
    make, text = BAD[name]
    write(ours, make(good))
    with pytest.warns(UserWarning, match=f"peer 1 is not refreshed: .*{text}"):
        ours.refresh(10)
    assert same(held(ours), good) and ours.ages() == {1: 5}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.refresh(11)
        theirs.publish(net(2).state_dict(), 12)  # and a whole one after it is taken
        ours.refresh(13)
    assert ours.ages() == {1: 1}


def test_a_file_that_cannot_be_read(both):
    ours, _ = both
    ours.exchange.path(1).mkdir(parents=True)
    with pytest.warns(UserWarning, match="peer 1 is not refreshed: .*[Dd]irectory"):
        ours.refresh(1)
    assert ours.predict(torch.ones(2, 4)) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_older(both, monkeypatch, call):
    ours, theirs = both
    good = net(1).state_dict()
    theirs.publish(good, 5)

    def fail(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr(os, call, fail)
    with pytest.warns(UserWarning, match="peer 1 is not published: no space left"):
        assert not theirs.publish(net(2).state_dict(), 6)
    ours.refresh(7)
    assert same(held(ours), good)


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_weights_that_are_not_finite_are_not_published(both, value):
    ours, theirs = both
    with pytest.warns(UserWarning, match="peer 1 is not published: not finite in '0.weight'"):
        assert not theirs.publish(spoiled(net().state_dict(), value), 1)
    ours.refresh(2)
    assert ours.ages() == {}


def test_a_reader_never_sees_half(both):
    """Against a writer without a pause: weights of one publication, each time."""
    ours, theirs = both
    states, stop = [constant(float(value)) for value in range(2)], threading.Event()

    def publish():
        step = 0
        while not stop.is_set():
            step += 1
            theirs.exchange.publish(Checkpoint(step, 0, states[step % 2]))

    writer = threading.Thread(target=publish)
    writer.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            seen, end = set(), time.monotonic() + 30
            while len(seen) < 20 and time.monotonic() < end:
                ours.refresh(0)
                if ours.steps:
                    seen.add(ours.steps[1])
                    assert same(held(ours), states[ours.steps[1] % 2])
    finally:
        stop.set()
        writer.join()
    assert len(seen) == 20


def test_copies_answer_in_evaluation_mode_without_gradient(both):
    ours, theirs = both
    model = net(1)
    theirs.publish(model.state_dict(), 1)
    ours.refresh(1)
    before = {name: x.clone() for name, x in held(ours).items()}
    images = torch.randn(5, 4, requires_grad=True)
    (answer,) = ours.train().predict(images)
    assert torch.equal(answer, model.eval()(images)) and not answer.requires_grad
    assert same(held(ours), before) and not any(x.requires_grad for x in ours.parameters())


def test_a_peer_that_lags_is_not_asked(both):
    ours, theirs = both
    ours.max_staleness = 10
    theirs.publish(net().state_dict(), 5)
    ours.refresh(15)
    assert len(ours.predict(torch.ones(2, 4))) == 1
    ours.refresh(16)
    with pytest.warns(UserWarning, match="peer 1 is 11 steps behind and not asked"):
        assert ours.predict(torch.ones(2, 4)) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ours.predict(torch.ones(2, 4)) == []
        theirs.publish(net().state_dict(), 14)
        ours.refresh(16)
        assert len(ours.predict(torch.ones(2, 4))) == 1
    assert ours.learned == {1: (2, 12, 10)}


def test_ages_and_copies_are_in_the_state(both, tmp_path):
    ours, theirs = both
    theirs.publish(net(1).state_dict(), 5)
    ours.refresh(8)
    ours.predict(torch.ones(2, 4))
    torch.save(ours.state_dict(), tmp_path / "bank")
    fresh = bank_of(FolderExchange(tmp_path / "other", 0, 2))
    fresh.load_state_dict(torch.load(tmp_path / "bank", weights_only=True))
    assert same(held(fresh), held(ours))
    assert (fresh.steps, fresh.learned) == ({1: 5}, {1: (1, 3, 3)})


def test_peers_that_began_alike_are_told(tmp_path):
    for seeds, alike in (((1, 1), True), ((1, 2), False)):
        banks = [
            bank_of(FolderExchange(tmp_path / str(alike), i, 2), own={i: net(seed).state_dict()})
            for i, seed in enumerate(seeds)
        ]
        banks[1].publish(net(7).state_dict(), 3)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            banks[0].refresh(3)
        texts = [str(each.message) for each in told]
        assert texts == ["PeerBank: peers 0 and 1 began with the same weights: give each its own "
                         "seed"] * alike  # fmt: skip


def test_memory():
    bank = bank_of(MemoryExchange(3))
    states = [net(seed).state_dict() for seed in range(3)]
    for peer, state in enumerate(states):
        bank.publish(state, 4, peer)
    kept = [{name: x.clone() for name, x in state.items()} for state in states]
    for state in states:
        for x in state.values():
            x.zero_()
    bank.refresh(6)
    assert all(same(held(bank, i), kept[i]) for i in range(3))
    images = torch.randn(2, 4)
    every = bank.predict(images)
    assert [len(bank.predict(images, own=i)) for i in range(3)] == [2, 2, 2]
    assert all(map(torch.equal, bank.predict(images, own=1), (every[0], every[2])))


@pytest.mark.parametrize(
    ("peer", "peers", "error", "text"),
    [
        (2, 2, ValueError, "peer must be in 0..1, got 2"),
        (0, 0, ValueError, "peers must be >= 1, got 0"),
        (0.0, 2, TypeError, "peer must be an int"),
    ],
)
def test_numbers_of_peers(tmp_path, peer, peers, error, text):
    with pytest.raises(error, match=f"FolderExchange: {text}"):
        FolderExchange(tmp_path, peer, peers)


def test_without_a_process_group():
    with pytest.raises(RuntimeError, match="ProcessGroupExchange: group must be a process group"):
        ProcessGroupExchange()
