"""Builds C++ over the emulator, plain or with a sanitizer, where its text or the flags are new.

module = build.load("kernels")              # tests/simt/kernels.cpp, a pybind11 module
build.pytest("thread", "tests/simt/test_kernels.py")   # whose build.load() loads that build
"""

import functools
import hashlib
import importlib.machinery
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = ROOT / "build" / "simt"
INCLUDE = (ROOT / "csrc", HERE)

# -O0: checks of addresses take longer to optimise than to run.
SANITIZE = {
    "plain": [],
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-O0"],
    "thread": ["-fsanitize=thread"],
}
DEFINE = {
    "plain": [],
    "address": ["-DSIMT_SANITIZE_ADDRESS"],
    "thread": ["-DSIMT_SANITIZE_THREAD"],
}
# Python is not instrumented: the runtime comes first, and ThreadSanitizer leaves Python alone.
RUNTIME = {"address": ["libasan.so", "libubsan.so"], "thread": ["libtsan.so"]}
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0 exitcode=66",
    "UBSAN_OPTIONS": "print_stacktrace=1 exitcode=66",
    "TSAN_OPTIONS": "exitcode=66 ignore_noninstrumented_modules=1",
}
MODES = tuple(SANITIZE)
COMPILE = [
    *("-std=c++17", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-fno-omit-frame-pointer"),
    *("-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"),
    *(part for folder in INCLUDE for part in ("-iquote", str(folder))),
]


def missing() -> str | None:
    """Why nothing can be built here."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "the emulator is tested on x86-64 Linux alone"
    if shutil.which("g++") is None:
        return "g++ is missing"
    return None if importlib.util.find_spec("pybind11") else "pybind11 is missing"


@functools.cache
def texts(path: Path) -> bytes:
    """The text of a source and of all it includes from here."""
    text = path.read_bytes()
    included = [text]
    for name in re.findall(rb'^#include "(.*)"', text, re.MULTILINE):
        places = (folder / os.fsdecode(name) for folder in (path.parent, *INCLUDE))
        included += [texts(place) for place in places if place.exists()][:1]
    return b"".join(included)


def made(stem: str, inputs: bytes, command: list[str]) -> Path:
    """What the command writes behind -o, from the cache if the same inputs were there before.

    Of two processes at once both compile, and either's file is whole.
    """
    digest = hashlib.sha256(repr(command).encode() + inputs).hexdigest()[:16]
    target = CACHE / f"{stem}-{digest}"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            output = Path(folder) / "output"
            done = subprocess.run([*command, "-o", str(output)], capture_output=True, text=True)
            if done.returncode != 0:
                raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
            output.replace(target)
    return target


def compiled(source: Path, mode: str, flags: list[str]) -> Path:
    command = ["g++", *COMPILE, *flags, "-c", str(source)]
    return made(f"{source.stem}.o", texts(source), command)


def build(name: str, mode: str = "plain", module: bool = True) -> Path:
    """The module or program of tests/simt/NAME.cpp."""
    python = []
    if module:
        import pybind11

        folders = (sysconfig.get_path("include"), pybind11.get_include())
        python = [part for folder in folders for part in ("-isystem", folder)]
    objects = [
        compiled(HERE / f"{name}.cpp", mode, [*SANITIZE[mode], *python]),
        # What a sanitizer must know of the scheduler it is told: see fiber.cpp.
        compiled(HERE / "scheduler.cpp", mode, DEFINE[mode]),
        compiled(HERE / "fiber.cpp", mode, DEFINE[mode]),
    ]
    link = ["g++", *SANITIZE[mode], *(["-shared"] if module else []), *map(str, objects)]
    return made(f"{name}-{mode}", b"", link)


@functools.cache
def load(name: str):
    """The module NAME, in the mode that this process is for."""
    path = build(name, os.environ.get("SIMT_MODE", "plain"))
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def environment(mode: str, preload: bool) -> dict[str, str]:
    """That of a process that runs code built in the mode."""
    names = [*RUNTIME[mode], "libstdc++.so"] if preload and mode in RUNTIME else []
    ask = (["g++", f"-print-file-name={name}"] for name in names)
    paths = [subprocess.check_output(command, text=True).strip() for command in ask]
    preloaded = {"LD_PRELOAD": " ".join(paths)} if paths else {}
    return {**os.environ, **OPTIONS, **preloaded, "SIMT_MODE": mode, "OMP_NUM_THREADS": "1"}


def python(mode: str, *arguments: str, **chosen: str) -> subprocess.CompletedProcess:
    """Runs Python in a process of the mode, `chosen` in its environment."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**environment(mode, preload=True), **chosen},
        capture_output=True,
        text=True,
        timeout=1800,
    )


def pytest(mode: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs tests of this folder in a process of the mode; torch and the suite stay out of it."""
    options = [f"--confcutdir={HERE}", "-p", "no:cacheprovider", "-x"]
    return python(mode, "-m", "pytest", *options, *arguments)
