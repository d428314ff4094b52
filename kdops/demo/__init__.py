"""`python -m kdops demo`: what distillation does, measured on small images in a few minutes."""

import argparse
from pathlib import Path

INSTALL = 'python -m pip install "kdops[train]"'


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kdops demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="DIR")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="default 3")
    parser.add_argument("--data", choices=("mnist5k", "digits"), default="mnist5k")
    parser.add_argument(
        "--quick", action="store_true", help="digits, 1 seed, few steps: a smoke test"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default 1")
    return parser


def main(argv: list[str]) -> int:
    """Run the demo; returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if min(arguments.seeds, arguments.threads) < 1:
        parser.error("--seeds and --threads must be at least 1")
    from .job import run  # the extras are imported below this line only

    run(arguments.out, arguments.data, arguments.seeds, arguments.quick, arguments.threads)
    return 0
