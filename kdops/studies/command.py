"""`python -m kdops study`: the runs behind the pages of docs/."""

import argparse
from pathlib import Path

import torch
from rich.console import Console

from ..training.command import QUICK
from ..training.run import Setting
from . import results, tuning

STUDIES = {"results": results.study, "tuning": tuning.study}
PAGES = {"results": results.write_page}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m kdops study", description=__doc__)
    parser.add_argument("name", choices=STUDIES)
    parser.add_argument("--out", type=Path, metavar="DIR", help="default runs/NAME; goes on there")
    parser.add_argument("--quick", action="store_true", help="digits and few steps: a smoke test")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default 1")
    parser.add_argument("--page", type=Path, metavar="FILE", help="where the page is written")
    parser.add_argument(
        "--from-json", type=Path, metavar="FILE", help="the page alone, no training"
    )
    options = parser.parse_args(argv)
    if options.from_json and not (options.page and options.name in PAGES):
        parser.error(f"--from-json takes --page, and one of {', '.join(PAGES)}")
    if options.from_json:
        PAGES[options.name](options.from_json, options.page)
        return 0
    torch.set_num_threads(options.threads)
    out, console = (
        options.out or Path("runs") / options.name,
        Console(highlight=False, markup=False),
    )
    setting = Setting(**QUICK) if options.quick else Setting()
    more = {"page": options.page} if options.name in PAGES else {}
    STUDIES[options.name](out, setting, console, **more)
    return 0
