"""Codistillation with each peer in a process of its own, that nobody waits for."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from torch import nn

from ..methods.online import Codistillation
from ..peers import CodistilledGroup
from ..peers.exchange import FolderExchange
from ..recipes.schema import Phase, Recipe, method_class
from .batches import Batches, Shards, disjoint, generator_of
from .data import Split
from .loop import accuracy, check_accelerator, predict
from .outcome import mean_churn
from .records import write_json
from .run import Run

PARTS = ("val", "test")


@dataclass(frozen=True)
class Place:
    """Which of how many peers a process trains."""

    peer: int
    peers: int

    def __post_init__(self):
        if not 0 <= self.peer < self.peers:
            raise ValueError(f"peer must be in 0..{self.peers - 1}, of --peers, got {self.peer}")


def codistills(recipe: Recipe) -> bool:
    """Whether every phase is Codistillation, so that each peer may have a process of its own."""
    return all(issubclass(method_class(x.method), Codistillation) for x in recipe.phases)


def between(recipe: Recipe, peers: int) -> Recipe:
    """The recipe with this number of peers.

    Raises:
        ValueError: for one with other phases than Codistillation.
    """
    if not codistills(recipe):
        raise ValueError(f"--peers: all phases must be Codistillation, not so: {recipe.title}")
    phases = [
        phase.model_copy(update={"options": {**phase.options, "count": peers}})
        for phase in recipe.phases
    ]
    return recipe.model_copy(update={"phases": phases})


def place_of(peer: int | None, peers: int | None, recipe: Recipe) -> Place | None:
    """The place that was asked for, or under torchrun the rank's; None: all peers are here."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if peer is None and world > 1 and codistills(recipe):
        peer = int(os.environ["RANK"])
        peers = world if peers is None else peers
        if peers != world:
            raise ValueError(f"--peers must be the number of processes, {world}, got {peers}")
    if peer is None:
        return None
    if peers is None:
        raise ValueError("--peer: give --peers too, how many there are")
    return Place(peer, peers)


def fabric_alone(accelerator: str, precision: str) -> Fabric:
    """Fabric for this process, of no group also where torchrun started it."""
    check_accelerator(accelerator)
    environment = LightningEnvironment()
    environment.set_global_rank(0)
    devices = 1
    if accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available():
        devices = [int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()]
    fabric = Fabric(
        accelerator=accelerator, devices=devices, precision=precision, plugins=[environment]
    )
    fabric.launch()
    return fabric


class PeerRun(Run):
    """One peer of a seed: its shard, its checkpoints and results in a folder of its own, and the
    others' weights through the seed's folder `exchange`."""

    def __init__(self, place: Place, fabric, recipe, setting, split, seed, folder: Path, *rest):
        self.place, self.shared = place, folder
        own = folder / f"peer{place.peer}"
        super().__init__(fabric, recipe, setting, split, seed, own, *rest)

    def method(self, phase: Phase) -> Codistillation:
        method = super().method(phase)
        folder = self.shared / "exchange" / phase.name
        method.exchange = FolderExchange(folder, self.place.peer, self.place.peers)
        return method

    def peer_batches(self, group: CodistilledGroup, reach: int, phase: Phase) -> Batches | Shards:
        own = generator_of(self.seed, self.place.peer).initial_seed()
        if not group.own_rows:
            return self.batches(self.part, own, reach, phase)
        part = disjoint(self.part, self.place.peers, self.seed)[self.place.peer]
        return Shards([self.batches(part, own, reach, phase)])

    def train(self, phase: Phase) -> None:
        super().train(phase)
        self.group.publish(self.phases[-1]["steps"])  # for those that are still at it

    def result(self) -> dict:
        self.folder.mkdir(parents=True, exist_ok=True)
        with alone_in(self.folder, f"peer {self.place.peer}"):
            return super().result()

    def peer_outcome(self) -> dict:
        save_answers(self.folder / "answers.npz", self.group.model, self.split)
        return {"peer": self.place.peer, "of": self.place.peers, **self.group.record()}


@contextmanager
def alone_in(folder: Path, who: str) -> Iterator[None]:
    """Keep a second process out; the lock ends with the process, however it ends.

    Raises:
        ValueError: where another process is at it. Nothing, where files cannot be locked.
    """
    with (folder / "lock").open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process trains {who} in {folder}") from None
        except (ImportError, OSError):
            pass
        yield


def save_answers(path: Path, net: nn.Module, split: Split) -> None:
    """The logits of val and test, whole or not there."""
    fresh = path.with_name("answers.new.npz")
    np.savez(fresh, **{part: predict(net, getattr(split, part)).numpy() for part in PARTS})
    os.replace(fresh, path)


def joint_result(folder: Path, place: Place, split: Split) -> dict | None:
    """Once all peers of a seed are done: peer 0's result with what all answer, written for all.

    Raises:
        OSError: where a peer's files cannot be read.
    """
    folders = [folder / f"peer{i}" for i in range(place.peers)]
    if not all((each / "result.json").exists() for each in folders):
        return None
    results = [json.loads((each / "result.json").read_text("utf-8")) for each in folders]
    peers = {"ensemble": {}}
    for name in PARTS:
        labels, logits = getattr(split, name).labels, []
        for each in folders:
            with np.load(each / "answers.npz") as answers:
                logits.append(torch.from_numpy(answers[name]))
        peers[name] = [accuracy(x, labels) for x in logits]
        together = torch.stack([x.log_softmax(-1) for x in logits]).logsumexp(0)
        peers["ensemble"][name] = accuracy(together, labels)
    peers |= {"churn": mean_churn(logits), "ages": [each["peers"]["ages"] for each in results]}
    result = {**results[0], "peers": peers, "processes": place.peers}
    write_json(folder / "result.json", result)
    return result
