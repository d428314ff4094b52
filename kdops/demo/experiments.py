"""The two experiments: the gain with few labels, and a class that the student never saw."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import models, objectives
from .data import REACH, Part, Split, few, without
from .display import Display
from .objectives import Objective
from .training import STUDENT_LR, TEACHER_LR, TrainingSet, accuracy, predict, train

MISSING = 3
ALL_LABELS = "all labels"
BIASES = torch.linspace(0, 20, 201)
BASELINE, CONTROL = "baseline", "KD (control)"


@dataclass(frozen=True)
class Config:
    data: str = "mnist5k"
    seeds: int = 3
    labels: int = 300  # of the few-label students
    steps: int = 600
    teacher_steps: int = 975
    threads: int = 1

    @property
    def runs(self) -> int:
        few_labels = 1 + len(objectives.DISTILLED) + 2  # baseline, methods, the control's two nets
        return 1 + self.seeds * (few_labels + 2)


@dataclass(frozen=True)
class Run:
    experiment: str  # 'teacher', 'gains' or 'missing class'
    method: str
    seed: int
    steps: int
    seconds: float
    val: float
    test: float
    per_digit: list[float]  # test accuracy of each class
    bias: float = 0.0  # added to the missing class's logit


def best_bias(logits: Tensor, labels: Tensor, digit: int) -> float:
    """The smallest bias of the digit's logit with the highest accuracy on these rows."""
    accuracies = [accuracy(biased(logits, digit, bias), labels) for bias in BIASES.tolist()]
    return BIASES[accuracies.index(max(accuracies))].item()


def biased(logits: Tensor, digit: int, bias: float) -> Tensor:
    shift = torch.zeros(logits.shape[1])
    shift[digit] = bias
    return logits + shift


def per_digit(logits: Tensor, labels: Tensor) -> list[float]:
    return [accuracy(logits[labels == d], labels[labels == d]) for d in range(logits.shape[1])]


class Bench:
    """Trains one net after the other and keeps a Run of each."""

    def __init__(self, config: Config, split: Split, display: Display):
        self.config, self.split, self.display = config, split, display
        self.runs: list[Run] = []

    def fit(
        self,
        experiment: str,
        method: str,
        make_net: Callable[[], nn.Module],
        data: TrainingSet,
        objective: Objective,
        seed: int,
        *,
        steps: int = 0,
        peak_lr: float = STUDENT_LR,
    ) -> nn.Module:
        steps, val = steps or self.config.steps, self.split.val
        with self.display.run(f"{experiment}: {method}", seed, steps) as progress:
            trained = train(
                make_net,
                data,
                objective,
                steps=steps,
                seed=seed,
                peak_lr=peak_lr,
                val=val,
                progress=progress,
            )
        self.keep(experiment, method, trained.net, seed, steps, trained.seconds)
        return trained.net

    def keep(self, experiment, method, net, seed, steps, seconds, bias: float = 0.0) -> None:
        """Test accuracy is read here, after training, and leads to no choice."""
        val, test = (
            biased(predict(net, part.images), MISSING, bias)
            for part in (self.split.val, self.split.test)
        )
        self.runs.append(
            Run(
                experiment,
                method,
                seed,
                steps,
                seconds,
                accuracy(val, self.split.val.labels),
                accuracy(test, self.split.test.labels),
                per_digit(test, self.split.test.labels),
                bias,
            )
        )

    def teacher(self, name: str, part: Part, seed: int, steps: int) -> nn.Module:
        data = TrainingSet.of(part, REACH[self.config.data])
        return self.fit(
            "teacher",
            name,
            models.teacher,
            data,
            objectives.hard,
            seed,
            steps=steps,
            peak_lr=TEACHER_LR,
        )


def gains(bench: Bench, teacher: nn.Module) -> None:
    """Few labels, shifted images for all: labels alone, each method, and KD from a teacher that
    saw no more labels than its student."""
    config, reach = bench.config, REACH[bench.config.data]
    for seed in range(config.seeds):
        part = few(bench.split.pool, config.labels, seed)
        data = TrainingSet.of(part, reach, teacher)
        methods = {BASELINE: objectives.hard, **objectives.DISTILLED}
        for name, objective in methods.items():
            bench.fit("gains", name, models.student, data, objective, seed)
        peer = bench.teacher(f"the same {config.labels} labels", part, seed, config.steps)
        control = TrainingSet.of(part, reach, peer)
        bench.fit("gains", CONTROL, models.student, control, objectives.kd, seed)


def missing_class(bench: Bench, teacher: nn.Module) -> None:
    """Labels or the teacher's soft targets, on a pool without one digit; then a bias from val."""
    experiment, val = "missing class", bench.split.val
    data = TrainingSet.of(without(bench.split.pool, MISSING), 0, teacher)
    for seed in range(bench.config.seeds):
        for name, objective in {"hard": objectives.hard, "soft": objectives.soft}.items():
            net = bench.fit(experiment, name, models.missing_class_student, data, objective, seed)
            run = bench.runs[-1]
            bias = best_bias(predict(net, val.images), val.labels, MISSING)
            bench.keep(experiment, f"{name} + bias", net, seed, run.steps, run.seconds, bias)
