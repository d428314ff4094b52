"""Specialists of a trained student, and the control that takes as many steps without them."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..methods import Labels
from ..methods.specialists import (
    PredictionCovariance,
    class_clusters,
    dustbin_bias,
    specialist_labels,
    specialist_of,
    train_in_processes,
)
from ..methods.specialists import Specialists as Ensemble
from ..recipes.schema import Specialists
from ..samplers import HalfAndHalfBatchSampler
from ..taps import Tapped, classifier_of
from .batches import Batches, UniformBatchSampler
from .data import Part, Split
from .loop import Settings, accuracy, fit, make_fabric, predict


@dataclass(frozen=True)
class Job:
    """What a net needs to be trained further by labels, in whatever process."""

    net: nn.Module
    part: Part
    classes: tuple[int, ...] | None  # of a specialist; None: all of them
    settings: Settings
    batch: int
    reach: int
    seed: int
    checkpoint: Path


def train(job: Job) -> dict[str, Tensor]:
    """Train on; returns the weights."""
    part, sampler = job.part, UniformBatchSampler(len(job.part), job.batch, job.seed)
    if job.classes is not None:
        part = replace(part, labels=specialist_labels(part.labels, job.classes))
        inside = part.labels < len(job.classes)
        sampler = HalfAndHalfBatchSampler(inside, sampler.batch_size, seed=job.seed)
    batches = Batches(part, sampler, reach=job.reach, seed=job.seed)
    fabric = make_fabric("cpu")
    fit(fabric, Tapped(job.net), None, Labels(), batches, job.settings, checkpoint=job.checkpoint)
    return job.net.state_dict()


def clusters_of(generalist: nn.Module, part: Part, config: Specialists, classes: int, seed: int):
    """Sets of classes that the generalist confuses on these images; labels are not read."""
    statistics = PredictionCovariance(classes)
    statistics.update(predict(generalist, part).softmax(1))
    return class_clusters(statistics.covariance(), config.count, seed=seed, largest=config.largest)


def specialize(
    generalist: nn.Module,
    part: Part,
    split: Split,
    config: Specialists,
    *,
    batch: int,
    reach: int,
    seed: int,
    folder: Path,
) -> dict:
    """Train the specialists and the control; returns what all of them get right."""
    found = clusters_of(generalist, split.pool, config, split.classes, seed)
    if not found:
        raise ValueError("the generalist confuses no classes: there is nothing to specialise in")

    def job(name: str, net: nn.Module, classes, steps: int) -> Job:
        settings = Settings(steps, config.lr)
        return Job(net, part, classes, settings, batch, reach, seed, folder / f"{name}.ckpt")

    head = classifier_of(generalist)
    names = {f"specialist-{'-'.join(map(str, classes))}": classes for classes in found}
    jobs = {
        name: job(name, specialist_of(generalist, head, classes), classes, config.steps)
        for name, classes in names.items()
    }
    control = copy.deepcopy(generalist)
    jobs["control"] = job("control", control, None, len(found) * config.steps)
    weights = train_in_processes(train, jobs, config.processes, seed=seed)
    for name, each in jobs.items():
        each.net.load_state_dict(weights[name])
    ensemble = Ensemble(
        copy.deepcopy(generalist),
        [jobs[name].net for name in names],
        found,
        [_bias(part, classes, batch) for classes in found],
    )
    return {
        "classes": [list(classes) for classes in found],
        "steps": len(found) * config.steps,
        **_scores(generalist, "generalist", split),
        **_scores(ensemble, "ensemble", split),
        **_scores(control, "control", split),
    }


def _bias(part: Part, classes: tuple[int, ...], batch: int) -> float:
    inside = torch.isin(part.labels, torch.tensor(classes))
    sampled = HalfAndHalfBatchSampler(inside, min(batch, len(part))).share
    return dustbin_bias(inside.double().mean().item(), sampled=sampled)


def _scores(net: nn.Module, name: str, split: Split) -> dict:
    net = net.eval().requires_grad_(False)
    val, test = (accuracy(predict(net, x), x.labels) for x in (split.val, split.test))
    return {f"{name} val": val, f"{name} test": test}
