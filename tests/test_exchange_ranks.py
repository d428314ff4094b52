"""Weights through torch.distributed: a rank that lags, and one that is killed, stop nobody."""

import datetime
import os
import signal
import time
import warnings

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from kdops.peers.exchange import Checkpoint, PeerBank, ProcessGroupExchange

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="no gloo"),
]
TIMEOUT = datetime.timedelta(seconds=1)  # a collective or a wait of ours would end with it
LAG, STEPS, DEAD = 2.0, 12, 4


def _rank(rank: int, path: str):
    """Rank 0 walks through its steps; 1 sleeps for longer than the timeout; 2 is killed."""
    torch.set_num_threads(1)
    store = f"file://{path}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=3, timeout=TIMEOUT)
    exchange = ProcessGroupExchange()
    bank = PeerBank(lambda j: nn.Linear(50, 10 + j), exchange)
    net, longest = nn.Linear(50, 10 + rank), 0.0
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for step in range(1, STEPS + 1):
            nn.init.constant_(net.weight, step)
            start = time.monotonic()
            bank.publish(net.state_dict(), step)
            bank.refresh(step)
            longest = max(longest, time.monotonic() - start)
            if rank == 2 and step == DEAD:
                exchange.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(LAG if (rank, step) == (1, 2) else 0.1)
        for _ in range(100):  # of the lagging rank the last weights are still to come
            bank.refresh(STEPS)
            if min(bank.steps.get(1 - rank, 0), bank.steps.get(2, 0) * STEPS // DEAD) == STEPS:
                break
            time.sleep(0.1)
    start = time.monotonic()
    if rank:  # with and without: a process ends either way
        exchange.close()
    found = {
        "steps": bank.steps,
        "weights": {j: float(bank.nets[str(j)].weight.detach().mean()) for j in bank.steps},
        "answers": len(bank.predict(torch.ones(1, 50))),
        "longest": longest,
        "closing": time.monotonic() - start,
        "alive": sum(thread.is_alive() for thread in exchange._threads) if rank else 0,
        "told": [str(each.message) for each in told if "PeerBank" in str(each.message)],
    }
    torch.save(found, f"{path}/{rank}")
    dist.destroy_process_group()


def test_ranks_that_lag_and_die(tmp_path):
    context = mp.get_context("spawn")
    ranks = [context.Process(target=_rank, args=(i, str(tmp_path))) for i in range(3)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(180)
    assert [process.exitcode for process in ranks] == [0, 0, -signal.SIGKILL]
    for rank in (0, 1):
        found = torch.load(tmp_path / str(rank), weights_only=True)
        assert found["steps"] == {1 - rank: STEPS, 2: DEAD}
        assert found["weights"] == found["steps"]  # whole ones, each of its own net's size
        assert found["answers"] == 2
        assert found["longest"] < LAG / 2 and found["closing"] < 3 and not found["alive"]
        assert any("peer 2 is not refreshed: its connection is lost" in x for x in found["told"])


@pytest.fixture
def one_rank():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_one_rank(one_rank):
    with ProcessGroupExchange() as exchange:
        assert exchange.readable == ()
        exchange.publish(Checkpoint(1, 0, {}))
