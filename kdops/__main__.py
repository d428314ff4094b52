"""python -m kdops: what is installed, losses timed, a demonstration, training by recipes."""

import argparse
import importlib
import platform
import sys

import torch

from . import __version__, _native


def info() -> dict[str, str]:
    """Versions, native libraries or why they are missing, and what they were built for."""
    lines = {
        "kdops": __version__,
        "torch": torch.__version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "threads": str(torch.get_num_threads()),
    }
    for device in _native.DEVICES:
        lines[f"{device} library"] = (
            "loaded" if device in _native.loaded else f"not loaded: {_native.errors[device]}"
        )
    lines["processor level"] = _native.level("cpu") or "none: no cpu library"
    lines["CUDA architectures"] = _native.level("cuda") or "none: no cuda library"
    return lines


# Each a module with main(arguments), the package that it needs, and what it is.
COMMANDS = {
    "bench": (".bench.command", "one loss at your own sizes, against what is used today"),
    "demo": (".demo", "train students from a teacher on real images"),
    "distill": (".training.command", "train students by a recipe"),
    "compare": (".results.compare", "tables and pictures of what recipes gained"),
    "study": (".studies.command", "the runs behind the pages of docs"),
}
EXTRA = 'python -m pip install "kdops[train]"'


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m kdops", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="versions, libraries, processor level")
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    options, rest = parser.parse_known_args(arguments)
    if options.command in COMMANDS:
        return _run(options.command, rest)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    for name, value in info().items():
        print(f"{name:>18}: {value}")
    return 0


def _run(command: str, arguments: list[str]) -> int:
    """A command whose packages are an extra; they are imported for it alone."""
    try:
        module = importlib.import_module(COMMANDS[command][0], __package__)
    except ModuleNotFoundError as error:
        print(f"python -m kdops {command} needs {error.name}: {EXTRA}")
        return 1
    return module.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
