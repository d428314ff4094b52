"""One seed of a recipe: its teacher, its phases, what the student then gets right."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ..methods import Labels, Method
from ..recipes.schema import Phase, Recipe, Sampler, make_method
from ..samplers import GroupUniformBatchSampler, superclasses
from ..taps import Tapped, Teacher
from .batches import Batches, UniformBatchSampler
from .data import FEW, REACH, Part, Split, few, without
from .logs import Logs, Report, environment
from .loop import Progress, Settings, accuracy, fit, predict
from .nets import layers_of, make_net
from .outcome import scores
from .records import kept, write_json
from .specialists import specialize

TEACHER_LR = (
    3e-3  # at 1e-2 the teacher grows so sure that its soft targets tell little more than labels
)


@dataclass(frozen=True)
class Setting:
    """What a recipe is run on; the same for all recipes that are compared."""

    data: str = "mnist5k"
    labels: int | None = None  # that the student sees; None: few of kdops' data, all of other
    student: str = "student"
    teacher: str = "teacher"
    teacher_weights: str | None = None  # a file of them; else the teacher is trained on the pool
    teacher_steps: int = 975
    same_data_teacher: bool = False  # it sees the student's images alone
    augment: bool = True  # shift the student's images; the teacher's are always shifted
    missing: int | None = None  # a class that the student never sees
    steps: int | None = None  # in place of the recipe's, the phases' in proportion
    student_layers: dict[str, str] = field(default_factory=dict)
    teacher_layers: dict[str, str] = field(default_factory=dict)
    image_size: int | None = None
    workers: int = 0

    def __post_init__(self):
        for name in ("labels", "steps", "teacher_steps", "image_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name.replace('_', ' ')} must be at least 1, got {value}")


class Run:
    """Trains the nets of one seed in `folder`; what is already there is gone on from."""

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        setting: Setting,
        split: Split,
        seed: int,
        folder: Path,
        teachers: Path,
        report: Report,
    ):
        self.fabric, self.recipe, self.setting, self.split = fabric, recipe, setting, split
        self.seed, self.folder, self.teachers, self.report = seed, folder, teachers, report
        self.reach = REACH.get(setting.data, 0)
        self.part = student_part(split.pool, setting, seed)
        names = {"student": setting.student, "teacher": setting.teacher, **recipe.nets}
        self.nets = {name: self.net(net) for name, net in names.items()}
        self.phases: list[dict] = []
        for phase in recipe.phases:
            self.check(phase)
        if recipe.specialists and fabric.world_size > 1:
            raise ValueError(
                "specialists are trained in processes of the recipe's own, not under torchrun"
            )

    def check(self, phase: Phase) -> None:
        """Raise ValueError for what would fail only after other nets have been trained."""
        method = self.method(phase)
        for net in (phase.net, phase.teacher):
            if net is not None:
                if net not in self.nets:
                    raise ValueError(f"phase {phase.name!r}: no net {net!r} in the recipe's nets")
                Tapped(self.nets[net], self.layers(net, method.layers)).remove()
        rows = min(self.recipe.batch, len(self.part))
        if rows < method.least_rows:
            raise ValueError(
                f"{phase.method}: a batch must have at least {method.least_rows} rows, got {rows}"
            )

    def method(self, phase: Phase) -> Method:
        gather = "all" if self.fabric.world_size > 1 else None
        return make_method(phase.method, phase.options, gather=gather)

    def layers(self, net: str, wanted: tuple[str, ...]) -> dict[str, str]:
        """A net's layers for a method: what was named on the command line is the student's and the
        teacher's."""
        setting = self.setting
        named = {"student": setting.student_layers, "teacher": setting.teacher_layers}
        return layers_of(self.nets[net], wanted, named.get(net, {}))

    def net(self, name: str) -> nn.Module:
        """Its weights depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return make_net(name, self.split.classes, self.split.channels)

    def result(self) -> dict:
        """Train all that is not trained yet; returns what is written as result.json."""
        self.folder.mkdir(parents=True, exist_ok=True)
        teachers = [phase.teacher for phase in self.recipe.phases]
        if "teacher" in teachers:
            self.make_teacher()
        for phase in self.recipe.phases:
            self.train(phase)
        student = self.nets[self.recipe.phases[-1].net]
        outcome = scores(student, self.split, self.setting.missing)
        if "teacher" in teachers:
            saw = len(self.part) if self.setting.same_data_teacher else len(self.split.pool)
            labels = self.split.test.labels
            test = accuracy(predict(self.nets["teacher"], self.split.test), labels)
            outcome["teacher"] = {"test": test, "saw": saw}
        if self.recipe.specialists:
            outcome["specialists"] = self.specialize(student)
            outcome["val"], outcome["test"] = (
                outcome["specialists"][f"ensemble {part}"] for part in ("val", "test")
            )
        return self.write(outcome)

    def specialize(self, student: nn.Module) -> dict:
        config = self.recipe.specialists
        with self.report.phase("specialists and control", self.seed, 1):
            return specialize(
                student,
                self.part,
                self.split,
                config.model_copy(update={"steps": self.steps(config.steps)}),
                batch=self.recipe.batch,
                reach=self.reach * self.setting.augment,
                seed=self.seed,
                folder=self.folder,
            )

    def write(self, outcome: dict) -> dict:
        result = {
            "title": self.recipe.title,
            "seed": self.seed,
            "steps": sum(phase["steps"] for phase in self.phases),
            "seconds": sum(phase["seconds"] for phase in self.phases),
            **outcome,
            "phases": self.phases,
            "processes": self.fabric.world_size,
            "environment": environment(),
        }
        if self.fabric.is_global_zero:
            write_json(self.folder / "result.json", result)
        return result

    def make_teacher(self) -> None:
        """Give the teacher its weights: from a file, from an earlier run, or by training now."""
        net, setting = self.nets["teacher"], self.setting
        if setting.teacher_weights:
            net.load_state_dict(self.fabric.load(setting.teacher_weights, weights_only=True))
            net.requires_grad_(False)
            return
        own = setting.same_data_teacher
        part, seed = (self.part, self.seed) if own else (self.split.pool, 0)
        steps = self.steps(self.recipe.steps) if own else setting.teacher_steps
        settings = Settings(steps, TEACHER_LR, self.recipe.weight_decay)
        made_of = [setting.data, setting.image_size, setting.teacher, len(part), self.reach, seed]
        path = kept(self.teachers, *made_of, self.recipe.batch, vars(settings))
        told = Report("") if path.exists() else self.report
        with told.phase(f"teacher of {len(part)}", seed, settings.steps) as report:
            fit(
                self.fabric,
                Tapped(net),
                None,
                Labels(),
                self.batches(part, seed, self.reach),
                settings,
                val=self.split.val,
                checkpoint=path,
                report=report,
            )
        net.requires_grad_(False)

    def batches(self, part: Part, seed: int, reach: int, phase: Phase | None = None) -> Batches:
        drawn = phase.sampler if phase else None
        sampler = UniformBatchSampler(len(part), self.recipe.batch, seed)
        if drawn:
            sampler = GroupUniformBatchSampler(
                self.groups(drawn, phase), drawn.per_group, sampler.batch_size, seed=seed
            )
        return Batches(part, sampler, reach=reach, seed=seed, workers=self.setting.workers)

    def groups(self, drawn: Sampler, phase: Phase) -> Tensor:
        """Of the student's images: their classes, or k-means of the teacher's embeddings."""
        if drawn.groups == "classes":
            return self.part.labels
        with Teacher(
            self.nets[phase.teacher].eval(), self.layers(phase.teacher, ("embedding",))
        ) as teacher:
            embeddings = predict(teacher, self.part, "embedding")
        return superclasses(embeddings, drawn.superclasses, seed=self.seed)

    def steps(self, steps: int) -> int:
        """A phase's steps in this setting."""
        if self.setting.steps is None:
            return steps
        return max(1, round(steps * self.setting.steps / self.recipe.steps))

    def train(self, phase: Phase) -> None:
        """One phase: its net learns, from its own weights or from where a checkpoint ends."""
        setting, student = self.setting, self.nets[phase.net]
        method = self.method(phase)
        teacher = phase.teacher and self.nets[phase.teacher]
        settings = Settings(
            self.steps(phase.steps or self.recipe.steps),
            phase.lr or self.recipe.lr,
            self.recipe.weight_decay,
        )
        taps = Tapped(student, self.layers(phase.net, method.layers))
        answers = phase.teacher and Teacher(
            teacher.eval(), self.layers(phase.teacher, method.layers)
        )
        torch.manual_seed(self.seed)  # of the method's parts, and dropout
        logs = Logs(self.folder, phase.name, self.fabric.is_global_zero)
        with self.report.phase(phase.name, self.seed, settings.steps) as report, logs:
            progress = fit(
                self.fabric,
                taps,
                answers,
                method,
                self.batches(self.part, self.seed, self.reach * setting.augment, phase),
                settings,
                val=self.split.val,
                checkpoint=self.folder / f"{phase.name}.ckpt",
                report=lambda row: (logs.row(row), report(row)),
            )
        taps.remove()
        if answers:
            answers.remove()
        self.keep(phase, settings, progress)

    def keep(self, phase: Phase, settings: Settings, progress: Progress) -> None:
        self.phases.append(
            {
                "name": phase.name,
                "method": phase.method,
                "net": phase.net,
                "steps": settings.steps,
                "seconds": progress.seconds,
                "history": progress.history,
            }
        )


def student_part(pool: Part, setting: Setting, seed: int) -> Part:
    """The rows that the student learns from."""
    if setting.missing is not None:
        pool = without(pool, setting.missing)
    labels = FEW.get(setting.data, len(pool)) if setting.labels is None else setting.labels
    return few(pool, labels, seed)
