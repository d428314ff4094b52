"""The page of results: every recipe under one protocol, with its controls."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ..results import compare
from ..results.compare import Entry
from ..results.entries import keep, read_entries, read_environment, write_entries
from ..results.pictures import plot_gains
from ..results.statistics import paired_gains
from ..results.tables import Table, probability, seeds_text, spread
from ..training.data import SPLITS, load
from ..training.logs import environment
from ..training.setting import Setting
from . import missing, online
from .page import PICTURES
from .study import Arm, run

BASELINE, CONTROL = "labels", "kd-control"
METHODS = (
    "kd",
    "fitnets",
    "fitnets-annealed",
    "fitnets-joint",
    "irg",
    "irg-to-many",
    "rkd",
    "cckd",
    "cckd-sampled",
    "pkt",
    "hkd",
    "sp",
    "at",
    "dkd",
    "dist",
    "logit-standardization",
    "vid",
    "fsp",
)
FEW = {BASELINE: Arm("labels"), **{name: Arm(name) for name in METHODS}}
FEW[CONTROL] = Arm("kd", {"same_data_teacher": True})
COMBINED = {name: Arm(name) for name in ("rkd-kd", "pkt-kd")}
LONGER = {
    "labels-800": Arm("labels", {"steps": 800}),
    "kd-800": Arm("kd", {"steps": 800}),
}
PLAIN = {"labels-unshifted": Arm("labels", {"augment": False})}
MISSING = {f"missing-{name}": arm for name, arm in missing.ARMS.items()}
ALL_LABELS = {"specialists": Arm("specialists")}


def study(out: Path, setting: Setting, seeds: int, console: Console) -> Path:
    """Train what is missing; returns the file of all results."""
    split = load(setting.data)
    everything = replace(setting, labels=len(split.pool))
    few = {**FEW, **COMBINED, **LONGER, **PLAIN, **online.ARMS}
    entries = run(few, setting, range(seeds), out, split, console)
    entries |= run({**MISSING, **ALL_LABELS}, everything, range(seeds), out, split, console)
    path = out / "results.json"
    write_entries(path, entries, environment())
    return path


def write(results: Path, docs: Path) -> None:
    """The page DOCS/results.md, its pictures, and the results beside it."""
    entries = read_entries(results)
    few = {name: entries[name] for name in FEW}
    unseen = {name: entries[f"missing-{name}"] for name in missing.ARMS}
    gains, missed = (f"{PICTURES}/results-{name}.svg" for name in ("gains", "missing-class"))
    plot_gains(docs / gains, compare.gains_of(list(few.values())), "Gain with few labels")
    missing.plot_missing_class(docs / missed, unseen)
    parts = [
        _head(few, read_environment(results)),
        f"![Gain with few labels]({gains})",
        _few_table(few, entries).markdown(),
        _longer_table(entries).markdown(),
        _combined_table(entries).markdown(),
        *online.sections(entries),
        missing.missing_table(unseen).markdown(),
        f"![A class that the student never saw]({missed})",
        _specialists_table(entries["specialists"]).markdown(),
    ]
    text = "\n".join(part.rstrip() + "\n" for part in parts)
    (docs / "results.md").write_text(text, encoding="utf-8")
    keep(results, docs)


def _head(few: dict[str, Entry], environment: dict) -> str:
    setting = few[BASELINE].setting
    pool, val, test = SPLITS[setting["data"]]
    teacher = few["kd"].results[0]["teacher"]
    versions = ", ".join(f"{name} {version}" for name, version in environment.items() if version)
    return f"""# What it showed

Written by `python -m kdops study results --out runs/study --docs docs`; from the same runs again,
without training, by `--from-json docs/results/results.json --docs docs`.

**Protocol.** {setting["data"]}, split once: {pool} images to learn from, {val} for every choice,
{test} for the test, which led to no choice. One teacher learned from the {teacher["saw"]} labels
and gets {teacher["test"]:.2f} % of the test right; a student, 31 times smaller, sees
{few[CONTROL].results[0]["teacher"]["saw"]} images, drawn anew for each of
{len(few[BASELINE].seeds)} seeds. A seed fixes images, initial weights, batches and shifts for all
methods alike. All nets, the baseline too, learn from randomly shifted images. Weights of the losses
were chosen on validation images with other seeds (`python -m kdops study tuning`) and earlier work;
the baseline's rate and steps were not tuned. Gains are paired by seed.

Runs on {versions}."""


def _few_table(few: dict[str, Entry], entries: dict[str, Entry]) -> Table:
    plain, shifted = entries["labels-unshifted"], few[BASELINE]
    shifts = paired_gains(plain.test, {BASELINE: shifted.test})[BASELINE]
    gains = compare.gains_of(list(few.values()))
    named = {
        verdict: ", ".join(name for name, gain in gains.items() if gain.verdict == verdict)
        for verdict in dict.fromkeys(gain.verdict for gain in gains.values())
    }
    return compare.table(
        list(few.values()),
        "Few labels",
        [
            "; ".join(f"{verdict}: {names}" for verdict, names in named.items()) + ".",
            f"The baseline without shifts has {spread(plain.test)} %. Shifts alone are worth "
            f"{spread(shifts.points, '+')} points, which is why everybody gets them here.",
            f"{CONTROL}: a teacher of the student's own images. What it gains is the method's; the "
            "rest of KD's gain is the other labels that its teacher saw.",
            "FitNets and FSP train in two phases, HKD an auxiliary net first: see the steps, and "
            "the controls with more steps below.",
            "Two-sided paired t test, Holm's correction for all rows. One split, one teacher; no "
            "ranking among the methods is claimed.",
        ],
    )


def _longer_table(entries: dict[str, Entry]) -> Table:
    names = ("labels-800", "kd-800", "fitnets", "fitnets-annealed", "fsp")
    return compare.table(
        [entries[name] for name in names],
        "The same number of steps as FitNets",
        ["Gains over the labels alone with as many steps in all."],
    )


def _combined_table(entries: dict[str, Entry]) -> Table:
    names = ("kd", *COMBINED)
    return compare.table(
        [entries[name] for name in names],
        "A relation beside soft targets",
        ["Gains over KD alone: what the relation adds to it."],
    )


def _specialists_table(entry: Entry) -> Table:
    found = [result["specialists"] for result in entry.results]
    scores = {
        name: [each[f"{name} test"] for each in found]
        for name in ("generalist", "ensemble", "control")
    }
    gains = paired_gains(scores["control"], {"ensemble": scores["ensemble"]})["ensemble"]
    sets = ["; ".join("".join(map(str, classes)) for classes in each["classes"]) for each in found]
    rows = [[name, spread(values)] for name, values in scores.items()]
    return Table(
        f"Specialists ({entry.setting['labels']} labels, {seeds_text(len(found))}, mean ± sd)",
        ["net", "test %"],
        rows,
        [
            "The control is the generalist trained as many steps longer as the specialists took "
            f"together ({found[0]['steps']} for the first seed). The ensemble less the control: "
            f"{spread(gains.points, '+')}, p = {probability(gains.p)}: {gains.verdict}.",
            f"Classes of the specialists, seed by seed: {' | '.join(sets)}.",
        ],
    )
