"""The experiments of docs/questions.md: what the papers leave open, tried on few labels."""

from importlib import resources
from pathlib import Path

from rich.console import Console

from ..results.entries import keep, read_entries, read_measured, write_entries
from ..training.data import load
from ..training.logs import environment
from ..training.setting import Setting
from . import forks, gates
from .page import Experiment, Page
from .study import Arm, run

MEASURED = {"forks": forks.study, "gates": gates.study}  # besides the experiments
OWN = "kdops.studies.question_methods:"
# the weights below were chosen as the recipes' were, see `tuning`
EDGES = {"transforms": [], "vertex_weight": 0}
SOFT_EDGES = {"method": OWN + "SoftEdges", "options": {"weight": 30}}
RAW_DISTANCES = {"method": OWN + "RawDistances", "options": {"weight": 0.01}}
LOGITS = {"method": "LogitMatching", "options": {"weight": 0.3}}
SOFT = {"ce_weight": 1, "kd_weight": 0.9}
LONG = {"steps": 800}  # as many as FitNets' two stages
# the weight of the soft targets falls over the same share of the steps as in fitnets-annealed
SCHEDULE = {"initial": 4, "final": 1, "start": 5, "saturate": 187}
ANNEALED = {"method": "FitNets", "options": {"temperature": 3, "schedule": SCHEDULE}, **LONG}
CLASSES = {"sampler": {"groups": "classes", "per_group": 16}}
SUPERCLASSES = {"sampler": {"groups": "superclasses", "per_group": 16, "superclasses": 5}}

ARMS = {
    "labels": Arm("labels"),
    **{f"labels-{n}": Arm("labels", {"labels": n}) for n in (75, 250, 2500)},
    **{f"kd-{n}": Arm("kd", {"labels": n}) for n in (75, 250, 2500)},
    **{f"kd-{n}-own": Arm("kd", {"labels": n, "same_data_teacher": True}) for n in (75, 250)},
    "kd-long": Arm("kd", phase=LONG),
    "fitnets": Arm("fitnets"),
    "fitnets-two-hints": Arm("fitnets-two-hints"),
    "annealed-long": Arm("kd", phase=ANNEALED),
    "fitnets-annealed": Arm("fitnets-annealed"),
    "fitnets-joint-long": Arm("fitnets-joint", changes={"schedule": SCHEDULE}, phase=LONG),
    "edges": Arm("irg", changes={**EDGES, "edge_weight": 1}),
    "soft-edges": Arm("irg", phase=SOFT_EDGES),
    "logits": Arm("kd", phase=LOGITS),
    "soft-targets": Arm("kd", changes=SOFT),
    "edges-logits": Arm("irg", changes={**EDGES, "vertex_weight": 3}),
    "edges-soft-targets": Arm("irg", changes={**EDGES, "kd_weight": 3}),
    "irg": Arm("irg"),
    "irg-plain": Arm("irg", changes={"transforms": []}),
    "irg-middle": Arm("irg", changes={"transforms": [], "edges": "middle"}),
    "irg-to-many": Arm("irg-to-many"),
    "rkd": Arm("rkd"),
    "rkd-distance": Arm("rkd", changes={"angle_weight": 0}),
    "rkd-angle": Arm("rkd", changes={"distance_weight": 0}),
    "raw-distance": Arm("rkd", phase=RAW_DISTANCES),
    "cckd": Arm("cckd"),
    "cckd-classes": Arm("cckd", phase=CLASSES),
    "cckd-superclasses": Arm("cckd", phase=SUPERCLASSES),
    "pkt": Arm("pkt"),
    "pkt-classes": Arm("pkt", phase=CLASSES),
    "pkt-superclasses": Arm("pkt", phase=SUPERCLASSES),
    "hkd": Arm("hkd"),
    "hkd-narrow": Arm("hkd", nets={"auxiliary": "student"}),
    "hkd-direct": Arm("hkd", phase={"teacher": "teacher"}),
    "one": Arm("one"),
    "one-even": Arm("one", phase={"method": OWN + "EvenONE"}),
}

EXPERIMENTS = {
    "regularisation": Experiment(
        "Soft targets at 3 %, 10 % and 100 % of the labels",
        (
            *((f"kd-{n}", f"labels-{n}") for n in (75, 250, 2500)),
            *((f"kd-{n}-own", f"labels-{n}") for n in (75, 250)),
        ),
    ),
    "joint": Experiment(
        "A hint first, or beside the soft targets",
        (
            ("fitnets-annealed", "annealed-long"),
            ("fitnets-joint-long", "annealed-long"),
            ("fitnets-joint-long", "fitnets-annealed"),
        ),
    ),
    "hints": Experiment(
        "One hint and two",
        (
            ("fitnets", "kd-long"),
            ("fitnets-two-hints", "kd-long"),
            ("fitnets-two-hints", "fitnets"),
        ),
    ),
    "edges": Experiment(
        "IRG's edges by squares, or by softmax and cross-entropy",
        (("edges", "labels"), ("soft-edges", "labels"), ("soft-edges", "edges"), ("pkt", "edges")),
    ),
    "vertices": Experiment(
        "Raw logits or soft targets",
        (
            ("logits", "labels"),
            ("soft-targets", "labels"),
            ("logits", "soft-targets"),
            ("edges-logits", "edges-soft-targets"),
        ),
    ),
    "layers": Experiment(
        "Which layers' edges",
        (("irg-middle", "irg-plain"), ("irg-to-many", "irg-plain")),
    ),
    "transformations": Experiment(
        "IRG with its transformations and without",
        (("irg", "labels"), ("irg", "irg-plain")),
    ),
    "distances": Experiment(
        "Distances over their mean, or as they are",
        (
            ("rkd-distance", "labels"),
            ("raw-distance", "labels"),
            ("rkd-distance", "raw-distance"),
        ),
    ),
    "angles": Experiment(
        "Distances, angles, and both",
        (
            ("rkd-distance", "labels"),
            ("rkd-angle", "labels"),
            ("rkd", "labels"),
            ("rkd", "rkd-distance"),
            ("rkd", "rkd-angle"),
        ),
    ),
    "samplers": Experiment(
        "Random batches, and batches by class and by superclass",
        (
            ("cckd-classes", "cckd"),
            ("cckd-superclasses", "cckd"),
            ("pkt-classes", "pkt"),
            ("pkt-superclasses", "pkt"),
        ),
    ),
    "auxiliary": Experiment(
        "HKD by an auxiliary teacher, or by the teacher itself",
        (
            ("hkd", "labels"),
            ("hkd-direct", "labels"),
            ("hkd", "hkd-direct"),
            ("hkd", "hkd-narrow"),
        ),
    ),
    "gate": Experiment(
        "ONE with its gate, and with equal weights",
        (("one", "labels"), ("one-even", "labels"), ("one", "one-even")),
    ),
}


def the_page(measured: dict) -> Page:
    template = resources.files(__package__) / "questions.md"
    tables = {
        "gradients": forks.gradient_table(measured["forks"]),
        "training": forks.training_table(measured["forks"]),
        "gates": gates.table(measured["gates"]),
    }
    return Page("questions", template.read_text(encoding="utf-8"), EXPERIMENTS, tables)


def study(out: Path, setting: Setting, seeds: int, console: Console) -> Path:
    """Train what is missing; returns the file of all results."""
    split = load(setting.data)
    entries = run(ARMS, setting, range(seeds), out, split, console)
    measured = {name: study(out, split, setting, seeds) for name, study in MEASURED.items()}
    path = out / "questions.json"
    write_entries(path, entries, environment(), measured)
    return path


def write(results: Path, docs: Path) -> None:
    """The page DOCS/questions.md, its pictures, and the results beside it."""
    entries = read_entries(results)
    the_page({name: read_measured(results, name) for name in MEASURED}).write(docs, entries)
    keep(results, docs)
