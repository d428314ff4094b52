"""`python -m kdops study`: the runs behind the pages of docs/."""

import argparse
from pathlib import Path

import torch
from rich.console import Console

from ..training.command import QUICK
from ..training.setting import Setting
from . import questions, results, tuning

STUDIES = {  # and their seeds
    "results": (results.study, 5),
    "questions": (questions.study, 5),
    "tuning": (tuning.study, 2),
}
PAGES = {
    "results": results.write,
    "questions": questions.write,
}  # what is written of the results that a study returns


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kdops study", description=__doc__)
    add = parser.add_argument
    add("name", choices=STUDIES)
    add("--out", type=Path, metavar="DIR", help="default runs/NAME; goes on there")
    add("--docs", type=Path, metavar="DIR", help="where the study's page goes; default --out")
    add("--from-json", type=Path, metavar="FILE", help="write the page of these results alone")
    add("--seeds", type=int, metavar="N", help="default 5, tuning's 2; 1 with --quick")
    add("--quick", action="store_true", help="digits and few steps: a smoke test")
    add("--threads", type=int, default=1, metavar="N", help="default 1")
    return parser


def main(argv: list[str]) -> int:
    known = parser()
    options = known.parse_args(argv)
    (study, seeds), page = STUDIES[options.name], PAGES.get(options.name)
    if page is None and (options.docs or options.from_json):
        known.error(f"{options.name} has no page: neither --docs nor --from-json")
    if options.seeds is not None and options.seeds < 1:
        known.error(f"--seeds must be at least 1, got {options.seeds}")
    seeds = options.seeds or (1 if options.quick else seeds)
    out = options.out or Path("runs") / options.name
    console = Console(highlight=False, markup=False)
    torch.set_num_threads(options.threads)
    setting = Setting(**QUICK) if options.quick else Setting()
    try:
        found = options.from_json or study(out, setting, seeds, console)
        if page:
            page(found, options.docs or out)
    except ValueError as error:
        console.print(f"study: {error}")
        return 2
    return 0
