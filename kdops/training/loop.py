"""The one training loop: a student or peers, a method, batches; one process or several."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ..methods import Method
from ..methods.online import Online
from ..peers import Group
from ..taps import Outputs, Tapped, Teacher
from .batches import Batches, Shards
from .data import Part
from .peers import OwnNets, PeerOfProcess, turns

REPORTS = 20  # rows of the history a phase, with validation
Callback = Callable[[dict], None]  # given each row of the history


@dataclass(frozen=True)
class Settings:
    """How a net is trained: Adam with a one-cycle rate."""

    steps: int = 600
    peak_lr: float = 1e-2
    weight_decay: float = 1e-4


@dataclass
class Progress:
    """What has been done, as a checkpoint keeps it."""

    step: int = 0
    seconds: float = 0.0  # of training, validation left out
    history: list[dict] = field(default_factory=list)


class Objective(nn.Module):
    """Student or peers and method as one module, for one forward pass of all that learns."""

    def __init__(self, student: Tapped | Group, method: Method):
        super().__init__()
        self.student, self.method = student, method

    def forward(self, images: Tensor, answers: Outputs | None, labels: Tensor) -> dict[str, Tensor]:
        return self.method.terms(self.student(images), answers, labels)


def check_accelerator(accelerator: str) -> None:
    if accelerator in ("cuda", "gpu") and not torch.cuda.is_available():
        raise ValueError(
            f"accelerator must be 'cpu' or 'auto' where CUDA is not available, got {accelerator!r}"
        )


def make_fabric(
    accelerator: str = "auto",
    precision: str = "32-true",
    loggers=(),
    one_peer_a_process: bool = False,
) -> Fabric:
    """Fabric for this process, or for the processes that torchrun started.

    Raises:
        ValueError: for CUDA where it is not available; for one process for several peers.
    """
    check_accelerator(accelerator)
    local, world = (int(os.environ.get(x, 1)) for x in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    strategy = "ddp_find_unused_parameters_true" if world > 1 else "auto"
    if one_peer_a_process:
        if world < 2:
            raise ValueError("one peer a process: start the processes by torchrun, a peer each")
        strategy = OwnNets()
    fabric = Fabric(
        accelerator=accelerator,
        devices=local,
        num_nodes=world // local,
        strategy=strategy,
        precision=precision,
        loggers=list(loggers),
    )
    fabric.launch()
    return fabric


@torch.no_grad()
def predict(net: nn.Module, part: Part, layer: str | None = None, rows: int = 1000) -> Tensor:
    """A part's logits, or a tapped layer's values, in evaluation mode; the mode is put back."""
    device, training = next(net.parameters()).device, net.training
    net.eval()
    starts = range(0, len(part), rows)
    numbers = [list(range(start, min(start + rows, len(part)))) for start in starts]
    outputs = [net(part.__getitems__(batch)[0].to(device)) for batch in numbers]
    net.train(training)
    found = [x.features[layer] if layer else getattr(x, "logits", x) for x in outputs]
    return torch.cat(found).float().cpu()


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Per cent of rows whose largest logit is the label's."""
    return 100 * (logits.argmax(1) == labels).double().mean().item()


def fit(
    fabric: Fabric,
    student: Tapped | Group,
    teacher: Teacher | None,
    method: Method,
    batches: Batches | Shards,
    settings: Settings,
    *,
    val: Part | None = None,
    checkpoint: Path | None = None,
    report: Callback = lambda row: None,
) -> Progress:
    """Train the student, or the peers of an online method, in place; a checkpoint that is there is
    gone on from.

    Checkpoints are written with each row of the history, by replacing the file at once.
    """
    if isinstance(method, Online):
        method.total_steps = settings.steps
        if method.held_out and val is None:
            raise ValueError(f"fit: val must be given: {type(method).__name__} learns from it")
    student.train()
    _prepare(student, teacher, method, batches, fabric)
    objective = Objective(student, method)
    optimizer = torch.optim.Adam(
        [x for x in objective.parameters() if x.requires_grad],
        settings.peak_lr,
        weight_decay=settings.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.peak_lr, total_steps=settings.steps
    )
    objective, optimizer = fabric.setup(objective, optimizer)
    state = {"objective": objective, "optimizer": optimizer, "schedule": schedule}
    progress = _load(fabric, checkpoint, state)
    for row in progress.history:
        report(row)
    _run(fabric, state, teacher, batches, settings, progress, val, checkpoint, report)
    return progress


def _prepare(student, teacher, method, batches, fabric) -> None:
    """Make the method's parts to the shapes of one batch, which leaves batch norm as it is."""
    images, _ = next(batches.steps(0, 1))
    student.to(fabric.device).eval()
    if teacher is not None:
        teacher.to(fabric.device)
    with torch.no_grad():
        images = images.to(fabric.device)
        method.prepare(student(images), None if teacher is None else teacher(images))
    student.train()


def _load(fabric: Fabric, checkpoint: Path | None, state: dict) -> Progress:
    if checkpoint is None or not checkpoint.exists():
        return Progress()
    rest = fabric.load(checkpoint, state, weights_only=True)
    torch.set_rng_state(rest["random"].cpu())
    return Progress(**rest["progress"])


def _save(fabric: Fabric, checkpoint: Path | None, state: dict, progress: Progress) -> None:
    if checkpoint is None:
        return
    fresh = checkpoint.with_suffix(".new")
    rest = {"random": torch.get_rng_state(), "progress": vars(progress)}
    fabric.save(fresh, {**state, **rest})
    if fabric.is_global_zero:
        os.replace(fresh, checkpoint)
    fabric.barrier()


def _run(fabric, state, teacher, batches, settings, progress, val, checkpoint, report) -> None:
    objective, optimizer, schedule = state.values()
    method, student = objective.module.method, objective.module.student
    apart = isinstance(student, PeerOfProcess)  # and on the same rows, not on a share of them
    mine = (0, 1) if apart else (fabric.global_rank, fabric.world_size)
    every, start = max(1, settings.steps // REPORTS), time.perf_counter()
    for images, labels in batches.steps(progress.step, settings.steps, *mine):
        method.set_epoch(batches.epoch(progress.step))
        if isinstance(method, Online):
            _begin(method, student, batches, progress.step, val)
        images, labels = images.to(fabric.device), labels.to(fabric.device)
        with fabric.autocast():
            answers = None if teacher is None else teacher(images)
        terms = _update(fabric, objective, optimizer, images, answers, labels)
        schedule.step()
        progress.step += 1
        if progress.step % every == 0 or progress.step == settings.steps:
            progress.seconds += time.perf_counter() - start
            loss = torch.stack(list(terms.values())).sum()
            row = _row(fabric, progress, batches, schedule, loss, terms)
            if apart:
                student.exchange(optimizer.optimizer)
            if val is not None:
                row["val"] = accuracy(predict(student.model, val), val.labels)
            progress.history.append(row)
            _save(fabric, checkpoint, state, progress)
            report(row)
            start = time.perf_counter()


def _begin(method: Online, group: Group, batches, step: int, val: Part | None) -> None:
    """Before a step: what peers exchange, and once an epoch what they learn from held-out rows."""
    if method.held_out and (step == 0 or batches.epoch(step) > batches.epoch(step - 1)):
        if isinstance(group, PeerOfProcess):
            group.exchange_weights()
        logits = [predict(group.peer(i), val) for i in range(group.count)]
        method.fit_held_out(logits, val.labels)
    method.set_step(step, group)


def _update(fabric, objective, optimizer, images, answers, labels) -> dict[str, Tensor]:
    """A step of the optimizer, or one for each peer in its turn; the terms, summed over these."""
    sums = {}
    for _ in turns(objective.module.method, objective.module.student):
        terms = objective(images, answers, labels)
        values = [value.float() for value in terms.values()]
        optimizer.zero_grad()
        fabric.backward(torch.stack(values).sum())
        optimizer.step()
        for name, value in zip(terms, values, strict=True):
            sums[name] = sums.get(name, 0) + value.detach()
    return sums


def _row(fabric, progress, batches, schedule, loss, terms) -> dict:
    values = {"loss": loss, **terms}
    means = fabric.all_reduce(torch.stack(list(values.values())))
    if not means.isfinite().all():
        raise RuntimeError(f"the loss is not finite at step {progress.step}: {values}")
    return {
        "step": progress.step,
        "epoch": batches.epoch(progress.step - 1),
        "rate": schedule.get_last_lr()[0],
        **dict(zip(values, means.tolist(), strict=True)),
    }
