"""`python -m kdops distill`: train students by a recipe, a seed after the other."""

import argparse
import json
from contextlib import nullcontext
from dataclasses import fields
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from ..recipes import reading
from ..recipes.schema import Recipe
from ..results.curves import plot_curves
from ..results.tables import spread
from .apart import PeerRun, Place, between, fabric_alone, joint_result, place_of
from .data import Split, load
from .display import Display
from .logs import Report
from .loop import make_fabric
from .records import claim
from .run import Run
from .setting import Setting

QUICK = {"data": "digits", "steps": 60, "teacher_steps": 120}


def _layers(text: str) -> tuple[str, str]:
    name, _, layer = text.partition("=")
    if not (name and layer):
        raise argparse.ArgumentTypeError(f"must be NAME=LAYER, got {text!r}")
    return name, layer


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kdops distill", description=__doc__)
    add = parser.add_argument
    add("--recipe", required=True, metavar="NAME|FILE", help=", ".join(reading.names()))
    add("--out", type=Path, required=True, metavar="DIR", help="an interrupted run goes on there")
    add("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1; default 1")
    add("--data", metavar="NAME", help="mnist5k (default), digits, a folder, package.module:name")
    add("--labels", type=int, metavar="N", help="labels the student sees")
    add(
        "--student",
        metavar="NET",
        help="student (default), wide, resnet, or of timm, torchvision, Python",
    )
    add("--teacher", metavar="NET", help="teacher (default), or as --student")
    add("--teacher-weights", metavar="FILE", help="a state dict; else the teacher is trained")
    add("--teachers", type=Path, metavar="DIR", help="trained ones; default DIR/../teachers")
    add("--same-data-teacher", action="store_true", default=None, help="it sees no more labels")
    add(
        "--student-layer",
        type=_layers,
        action="append",
        metavar="NAME=LAYER",
        dest="student_layers",
    )
    add(
        "--teacher-layer",
        type=_layers,
        action="append",
        metavar="NAME=LAYER",
        dest="teacher_layers",
    )
    add("--missing", type=int, metavar="CLASS", help="a class the student never sees")
    add("--no-augment", action="store_false", default=None, dest="augment")
    add("--steps", type=int, metavar="N", help="in place of the recipe's")
    add("--teacher-steps", type=int, metavar="N")
    add("--image-size", type=int, metavar="N", help="of a folder's images")
    add("--workers", type=int, metavar="N", help="processes that load data; default 0")
    add("--threads", type=int, default=1, metavar="N", help="default 1")
    add("--accelerator", default="cpu", help="cpu (default), cuda, auto: Fabric's")
    add("--precision", default="32-true", help="32-true (default), bf16-mixed, 16-mixed: Fabric's")
    add(
        "--one-peer-a-process",
        action="store_true",
        help="under torchrun: each process trains a peer of its own on the same images",
    )
    add("--peers", type=int, metavar="K", help="of codistillation; default the recipe's")
    add("--peer", type=int, metavar="I", help="train this one of them alone, in 0..K-1")
    add("--quick", action="store_true", help="digits and few steps: a smoke test")
    return parser


def setting_of(options: argparse.Namespace) -> Setting:
    """What was given on the command line, over --quick's, over the defaults."""
    given = vars(options)
    values = dict(QUICK) if options.quick else {}
    for each in fields(Setting):
        if given.get(each.name) is not None:
            values[each.name] = given[each.name]
    for side in ("student_layers", "teacher_layers"):
        values[side] = dict(values.get(side, ()))
    return Setting(**values)


def distill(
    recipe: Recipe,
    setting: Setting,
    seeds: range,
    out: Path,
    *,
    split: Split | None = None,
    teachers: Path | None = None,
    accelerator: str = "cpu",
    precision: str = "32-true",
    one_peer_a_process: bool = False,
    place: Place | None = None,
    console: Console | None = None,
    label: str | None = None,
) -> list[dict]:
    """Train the seeds that have no result in `out` yet; returns the results of all.

    With a `place` that peer alone is trained, and its own results are returned until all peers'
    are there.

    Raises:
        ValueError: for a setting that cannot be, before anything is trained or written.
    """
    split = split or load(setting.data, setting.image_size)
    if place:
        fabric = fabric_alone(accelerator, precision)
    else:
        fabric = make_fabric(accelerator, precision, one_peer_a_process=one_peer_a_process)
    teachers = teachers or out.parent / "teachers"
    shown = console is not None and fabric.is_global_zero
    display = Display(console, len(seeds)) if shown else None
    results = []
    with display or nullcontext():
        report = Report(label or recipe.title, display)
        for seed in seeds:
            folder = out / f"seed{seed}"
            make = partial(PeerRun, place) if place else Run
            run = make(fabric, recipe, setting, split, seed, folder, teachers, report)
            if fabric.is_global_zero:
                claim(out, {"recipe": recipe.model_dump(), "setting": vars(setting)})
            fabric.barrier()
            path = run.folder / "result.json"
            result = json.loads(path.read_text()) if path.exists() else run.result()
            results.append((place and joint_result(folder, place, split)) or result)
    if fabric.is_global_zero:
        plot_curves(out / "curves.png", results)
    return results


def main(argv: list[str]) -> int:
    options = parser().parse_args(argv)
    console = Console(highlight=False, markup=False)
    torch.set_num_threads(options.threads)
    try:
        recipe = reading.read(options.recipe)
        place = place_of(options.peer, options.peers, recipe)
        peers = place.peers if place else options.peers
        results = distill(
            recipe if peers is None else between(recipe, peers),
            setting_of(options),
            range(options.seeds),
            options.out,
            teachers=options.teachers,
            accelerator=options.accelerator,
            precision=options.precision,
            one_peer_a_process=options.one_peer_a_process,
            place=place,
            console=console,
        )
    except ValueError as error:
        console.print(f"distill: {error}")
        return 2
    test = spread([result["test"] for result in results])
    console.print(f"{results[0]['title']}: test {test} %, {len(results)} seeds; {options.out}")
    return 0
