"""One seed of a recipe: its teacher, its phases, what the student then gets right."""

import copy
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ..methods import Labels, Method
from ..methods.online import Online
from ..peers import Group
from ..recipes.schema import Phase, Recipe, Sampler, make_method
from ..samplers import GroupUniformBatchSampler, superclasses
from ..taps import Tapped, Teacher
from .batches import Batches, Shards, UniformBatchSampler, disjoint, generator_of
from .data import REACH, Part, Split
from .logs import Logs, Report, environment
from .loop import Progress, Settings, accuracy, fit, predict
from .nets import layers_of, make_net
from .outcome import peer_scores, scores
from .peers import OwnNets, assemble
from .records import kept, write_json
from .setting import Setting, student_part
from .specialists import specialize

TEACHER_LR = (
    3e-3  # at 1e-2 the teacher grows so sure that its soft targets tell little more than labels
)


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
        self.names = {"student": setting.student, "teacher": setting.teacher, **recipe.nets}
        self.nets = {name: self.net(net) for name, net in self.names.items()}
        self.phases: list[dict] = []
        self.group: Group | None = None  # of the phase that was trained last
        self.ensemble: nn.Module | None = None
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
        rows = len(self.part)
        if isinstance(method, Online):
            with torch.random.fork_rng(devices=[]):
                group = self.assemble(phase, method)
            rows //= group.count if group.own_rows else 1
        elif isinstance(self.fabric.strategy, OwnNets):
            raise ValueError(f"one peer a process: {phase.method} has no peers")
        rows = min(self.recipe.batch, rows)
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

    def net(self, name: str, peer: int = 0) -> nn.Module:
        """Its weights depend on the seed alone, and on the number among peers."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator_of(self.seed, peer).initial_seed() if peer else self.seed)
            return make_net(name, self.split.classes, self.split.channels)

    def assemble(self, phase: Phase, method: Online) -> Group:
        """Peer 0 has the phase's net with the weights that it has; the others have fresh ones."""

        def make(peer: int) -> nn.Module:
            net = self.nets[phase.net]
            return self.net(self.names[phase.net], peer) if peer else copy.deepcopy(net)

        return assemble(self.fabric, method, make, self.layers(phase.net, method.layers))

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
        if self.group:
            outcome["peers"] = self.peer_outcome()
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

    def peer_outcome(self) -> dict:
        return peer_scores(self.group, self.ensemble, self.split)

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

    def batches(
        self,
        part: Part,
        seed: int,
        reach: int,
        phase: Phase | None = None,
        views: int | None = None,
    ) -> Batches:
        drawn = phase.sampler if phase else None
        sampler = UniformBatchSampler(len(part), self.recipe.batch, seed)
        if drawn:
            sampler = GroupUniformBatchSampler(
                self.groups(part, drawn, phase), drawn.per_group, sampler.batch_size, seed=seed
            )
        more = {"reach": reach, "seed": seed, "workers": self.setting.workers, "views": views}
        return Batches(part, sampler, **more)

    def peer_batches(self, group: Group, reach: int, phase: Phase) -> Batches | Shards:
        """Of the student's images: for each peer the same, a view of its own, or other ones."""
        if not group.own_rows:
            views = group.count if group.own_images else None
            return self.batches(self.part, self.seed, reach, phase, views)
        parts = disjoint(self.part, group.count, self.seed)
        return Shards([self.batches(part, self.seed, reach, phase) for part in parts])

    def groups(self, part: Part, drawn: Sampler, phase: Phase) -> Tensor:
        """Of the student's images: their classes, or k-means of the teacher's embeddings."""
        if drawn.groups == "classes":
            return part.labels
        with Teacher(
            self.nets[phase.teacher].eval(), self.layers(phase.teacher, ("embedding",))
        ) as teacher:
            embeddings = predict(teacher, part, "embedding")
        return superclasses(embeddings, drawn.superclasses, seed=self.seed)

    def steps(self, steps: int) -> int:
        """A phase's steps in this setting."""
        if self.setting.steps is None:
            return steps
        return max(1, round(steps * self.setting.steps / self.recipe.steps))

    def train(self, phase: Phase) -> None:
        """One phase: its net learns, from its own weights or from where a checkpoint ends."""
        method, reach = self.method(phase), self.reach * self.setting.augment
        teacher = phase.teacher and self.nets[phase.teacher]
        settings = Settings(
            self.steps(phase.steps or self.recipe.steps),
            phase.lr or self.recipe.lr,
            self.recipe.weight_decay,
        )
        answers = phase.teacher and Teacher(
            teacher.eval(), self.layers(phase.teacher, method.layers)
        )
        torch.manual_seed(self.seed)  # of the method's parts, and dropout
        if isinstance(method, Online):
            self.group = student = self.assemble(phase, method)
            self.ensemble = method.ensemble(student)
            batches = self.peer_batches(student, reach, phase)
        else:
            self.group = None
            student = Tapped(self.nets[phase.net], self.layers(phase.net, method.layers))
            batches = self.batches(self.part, self.seed, reach, phase)
        logs = Logs(self.folder, phase.name, self.fabric.is_global_zero)
        with self.report.phase(phase.name, self.seed, settings.steps) as report, logs:
            progress = fit(
                self.fabric,
                student,
                answers,
                method,
                batches,
                settings,
                val=self.split.val,
                checkpoint=self.folder / f"{phase.name}.ckpt",
                report=lambda row: (logs.row(row), report(row)),
            )
        self.nets[phase.net] = student.model
        if not self.group:
            student.remove()
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
