"""`python -m kdops bench`: one loss at your own sizes, against what is used for it today."""

import argparse
import os

import torch

from ..functional._peers import MOST_PEERS
from . import measure
from .cases import KINDS, RELATED, Case
from .compare import Line, Report, compare, has_kernels
from .text import markdown, number, size

DTYPES = ("float32", "float64", "bfloat16", "float16")
GIB = 2.0**30


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message}\n")


def parser() -> Parser:
    parser = Parser(prog="python -m kdops bench", description=__doc__)
    ops = ", ".join(KINDS)
    parser.add_argument("--op", required=True, metavar="NAME", help=f"one of {ops}")
    parser.add_argument("--rows", type=int, default=256, metavar="N", help="default 256")
    parser.add_argument(
        "--cols",
        "--classes",
        type=int,
        default=512,
        metavar="D",
        help="features of a row, classes of logits; default 512",
    )
    parser.add_argument(
        "--peers", type=int, metavar="K", help="of mutual_kl, mixture_kl; default 2"
    )
    parser.add_argument("--dtype", default="float32", choices=DTYPES, help="default float32")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default cpu")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default 1")
    parser.add_argument("--forward-only", action="store_true", help="time no gradient")
    parser.add_argument("--seconds", type=float, default=5, help="for all rounds; default 5")
    parser.add_argument(
        "--memory", type=float, default=4, metavar="GIB", help="leave out what may hold more"
    )
    return parser


def _wrong(options) -> str | None:
    """What is wrong with the options, in words."""
    kind = KINDS.get(options.op)
    if kind is None:
        return f"--op must be one of {', '.join(KINDS)}, got {options.op!r}"
    related = kind in ("pairs", "map")
    least = {"rows": RELATED if related else 1, "cols": 2, "threads": 1}
    for name, low in least.items():
        if (value := getattr(options, name)) < low:
            return f"--{name} must be at least {low} for {options.op}, got {value}"
    if options.peers is not None and kind != "peers":
        return f"--peers is for mutual_kl and mixture_kl, got --op {options.op}"
    if options.peers is not None and not 2 <= options.peers <= MOST_PEERS:
        return f"--peers must be from 2 to {MOST_PEERS}, got {options.peers}"
    for name in ("seconds", "memory"):
        if not 0 < (value := getattr(options, name)) < float("inf"):
            return f"--{name} must be positive, got {value:g}"
    if options.device == "cuda" and not torch.cuda.is_available():
        return "--device cuda: torch sees no GPU"
    return None


def case_of(options) -> Case:
    dtype = getattr(torch, options.dtype)
    peers = options.peers or 2
    return Case(options.op, options.rows, options.cols, peers, dtype, options.device)


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}"


def _cells(line: Line) -> list[str]:
    time, ratio = f"{line.seconds * 1e3:.3g}", number(line.ratio, "x")
    errors = map(_error, (line.loss_error, line.gradient_error))
    return [line.name, time, ratio, size(line.memory), *errors]


def _rounds(count: int) -> str:
    return f"median of {count} rounds, all forms by turns" if count > 1 else "one round"


def text(report: Report, options) -> str:
    threads = f"{options.threads} thread{'s' * (options.threads > 1)}"
    what = "value alone" if options.forward_only else "value and gradient"
    kind = "CPU" if options.device == "cpu" and options.threads == 1 else "wall"
    head = ["", "ms", "over kdops", "peak memory", "error of value", "of gradient"]
    lines = [
        f"{report.case} on {options.device}, {threads}, torch {torch.__version__}: {what}",
        f"backend of kdops: {report.backend}",
        "",
        markdown([head, *map(_cells, report.lines)]),
        "",
        f"ms: {kind} time, {_rounds(report.rounds)}. Memory: above the inputs. Errors: relative, "
        "of value and gradient, against eager PyTorch in float64.",
    ]
    lines += [f"left out: {name}: {reason}" for name, reason in report.left_out.items()]
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Print the comparison; returns the exit status."""
    asked = parser()
    options = asked.parse_args(argv)
    if wrong := _wrong(options):
        asked.error(wrong)
    case, limit = case_of(options), options.memory * GIB
    needed = case.needed(has_kernels(options.device))
    if needed > limit:
        asked.error(f"{case} may take {needed / GIB:.1f} GiB, --memory is {options.memory:g}")
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # the profiler reports itself on stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        clock = measure.clock_of(options.device, options.threads)
        report = compare(case, options.seconds, limit, options.forward_only, clock)
    except RuntimeError as error:
        print(f"{asked.prog}: {error}")
        return 1
    finally:
        torch.set_num_threads(threads)
    print(text(report, options))
    return 0
