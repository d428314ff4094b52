"""python -m kdops: what is installed (info), and the demonstration (demo)."""

import argparse
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


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m kdops", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="versions, libraries, processor level")
    commands.add_parser("demo", help="train students from a teacher on real images", add_help=False)
    options, rest = parser.parse_known_args(arguments)
    if options.command == "demo":
        from . import demo

        return demo.main(rest)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    for name, value in info().items():
        print(f"{name:>18}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
