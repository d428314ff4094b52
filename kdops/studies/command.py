"""`python -m kdops study`: the runs behind the pages of docs/."""

import argparse
from pathlib import Path

import torch
from rich.console import Console

from ..training.command import QUICK
from ..training.run import Setting
from . import tuning

STUDIES = {"tuning": tuning.study}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m kdops study", description=__doc__)
    parser.add_argument("name", choices=STUDIES)
    parser.add_argument("--out", type=Path, metavar="DIR", help="default runs/NAME; goes on there")
    parser.add_argument("--quick", action="store_true", help="digits and few steps: a smoke test")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default 1")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    out, console = (
        options.out or Path("runs") / options.name,
        Console(highlight=False, markup=False),
    )
    setting = Setting(**QUICK) if options.quick else Setting()
    STUDIES[options.name](out, setting, console)
    return 0
