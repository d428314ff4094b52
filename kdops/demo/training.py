"""The one training loop, used by teachers and students alike."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .data import Part, shifted
from .models import Outputs
from .objectives import Objective

BATCH = 64
STUDENT_LR = 1e-2
TEACHER_LR = (
    3e-3  # at 1e-2 the teacher grows so sure that its soft targets tell little more than labels
)
WEIGHT_DECAY = 1e-4
REPORTS = 10  # validations per run, for the display alone

ProgressCallback = Callable[[int, float], None]  # (steps done, validation accuracy)


@dataclass(frozen=True)
class TrainingSet:
    """Images at all their shifts, their labels, and the teacher's outputs for each image and shift.

    Shifts are whole pixels, so a frozen teacher has finitely many inputs: it answers each once, and
    still sees the very batch the student sees.
    """

    views: Tensor  # (rows, 1, k, k, height, width)
    labels: Tensor
    teacher: Outputs | None = None  # logits (rows, k, k, classes), embedding (rows, k, k, hidden)

    @classmethod
    def of(cls, part: Part, reach: int, teacher: nn.Module | None = None) -> "TrainingSet":
        views = shifted(part.images, reach)
        return cls(views, part.labels, None if teacher is None else _answers(teacher, views))

    def batches(self, steps: int, seed: int) -> Iterator[tuple[Tensor, Outputs | None, Tensor]]:
        """`steps` batches of (images, teacher's outputs, labels), the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        rows, shifts = len(self.labels), self.views.shape[2]
        epochs = -(-steps * BATCH // rows)
        order = torch.cat([torch.randperm(rows, generator=generator) for _ in range(epochs)])
        for row in order[: steps * BATCH].view(steps, BATCH):
            down, right = torch.randint(shifts, (2, BATCH), generator=generator)
            images = self.views[row, 0, down, right].unsqueeze(1)
            answers = self.teacher and Outputs(*(table[row, down, right] for table in self.teacher))
            yield images, answers, self.labels[row]


@torch.no_grad()
def _answers(teacher: nn.Module, views: Tensor) -> Outputs:
    teacher.eval()
    shifts = views.shape[2]
    places = [(down, right) for down in range(shifts) for right in range(shifts)]
    each = [teacher(views[:, :, down, right]) for down, right in places]
    stacked = (torch.stack(part, 1) for part in zip(*each, strict=True))
    return Outputs(*(part.unflatten(1, (shifts, shifts)) for part in stacked))


@torch.no_grad()
def predict(net: nn.Module, images: Tensor) -> Tensor:
    """Logits in evaluation mode."""
    net.eval()
    return net(images).logits


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Per cent of rows whose largest logit is the label's."""
    return 100 * (logits.argmax(1) == labels).double().mean().item()


@dataclass(frozen=True)
class Trained:
    net: nn.Module
    seconds: float  # wall time of the training steps, validation left out


def train(
    make_net: Callable[[], nn.Module],
    data: TrainingSet,
    objective: Objective,
    *,
    steps: int,
    seed: int,
    peak_lr: float,
    val: Part,
    progress: ProgressCallback,
) -> Trained:
    """Adam with a one-cycle rate; the seed fixes initial weights, batches and shifts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = make_net()
    optimizer = torch.optim.Adam(net.parameters(), peak_lr, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_lr, total_steps=steps)
    report_every = max(1, steps // REPORTS)
    seconds, start = 0.0, time.perf_counter()
    net.train()
    for step, (images, answers, labels) in enumerate(data.batches(steps, seed), 1):
        loss = objective(net(images), answers, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % report_every == 0 or step == steps:
            seconds += time.perf_counter() - start
            progress(step, accuracy(predict(net, val.images), val.labels))
            net.train()
            start = time.perf_counter()
    return Trained(net, seconds)
