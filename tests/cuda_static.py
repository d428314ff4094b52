"""What a compiler alone can say of the CUDA kernels: cuda_static.py [SOURCE...]

Compiles every csrc/cuda/*.cu, warnings as errors, for the oldest GPU, for Hopper and for the newest
that the toolkit knows; prints registers and shared memory of every kernel; fails on spills, on
local memory, on float64 arithmetic where it should not be, and where wide loads are missing.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import sass  # noqa: E402

import setup as build  # noqa: E402

CUDA = ROOT / "csrc" / "cuda"
OLDEST, HOPPER = "sm_80", "sm_90"


def architectures(nvcc: Path) -> list[str]:
    """The oldest that is supported, Hopper, and the toolkit's newest."""
    known = subprocess.check_output([nvcc, "--list-gpu-code"], text=True).split()
    newest = max(known, key=lambda name: int(re.sub(r"\D", "", name)))
    return list(dict.fromkeys([OLDEST, HOPPER, newest]))


def compiled(nvcc: Path, source: Path, arch: str, output: Path) -> str:
    """What ptxas reports; the newest is compiled for the host too."""
    import torch
    from torch.utils.cpp_extension import include_paths

    flags = [flag for flag in build.NVCC if flag != "-Xcompiler" and not flag.startswith("-Wall")]
    command = [nvcc, *flags, f"-arch={arch}", "-Werror", "all-warnings"]
    command += ["-Xcompiler", "-Wall,-Wextra,-Werror,-fPIC", "-Xptxas", "-v"]
    command += [part for folder in include_paths() for part in ("-isystem", folder)]
    command += ["-c" if output.suffix == ".o" else "-cubin", source, "-o", output]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(
            f"cuda-static: {source.name} for {arch} (torch {torch.__version__})\n{done.stderr}"
        )
    return done.stderr


def cuobjdump(nvcc: Path) -> Path:
    """The toolkit's, or that of the wheel nvidia-cuda-cuobjdump."""
    wheel = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin" / "cuobjdump"
    for path in (nvcc.with_name("cuobjdump"), wheel):
        if path.exists():
            return path
    raise SystemExit("cuda-static: no cuobjdump (pip install nvidia-cuda-cuobjdump)")


def demangled(names) -> dict[str, str]:
    names = list(names)
    done = subprocess.run(
        ["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True
    )
    return dict(zip(names, map(sass.short, done.stdout.splitlines()), strict=True))


def kernels(nvcc: Path, source: Path, arch: str, folder: str, host: bool) -> list[sass.Kernel]:
    output = Path(folder) / f"{source.stem}-{arch}{'.o' if host else '.cubin'}"
    found = sass.resources(compiled(nvcc, source, arch, output))
    text = subprocess.check_output([cuobjdump(nvcc), "-sass", output], text=True)
    output.unlink()
    for mangled, code in sass.instructions(text).items():
        if mangled in found:
            found[mangled].code = code
    for mangled, name in demangled(found).items():
        found[mangled].name = name
    return list(found.values())


def unreached() -> list[str]:
    """Headers that no source includes."""
    reached, left = set(), list(CUDA.glob("*.cu"))
    while left:
        for name in re.findall(r'^#include "(cuda/.*)"', left.pop().read_text(), re.MULTILINE):
            if name not in reached:
                reached.add(name)
                left.append(ROOT / "csrc" / name)
    return sorted(f.name for f in CUDA.glob("*.cuh") if f"cuda/{f.name}" not in reached)


def table(found: list[sass.Kernel], archs: list[str]) -> str:
    """A line a kernel: registers, and bytes of static shared memory, of each architecture."""
    rows: dict[str, dict[str, sass.Kernel]] = {}
    for kernel in found:
        rows.setdefault(kernel.name, {})[kernel.arch] = kernel
    lines = [f"{'registers, shared memory, spills':64}" + "".join(f"{arch:>16}" for arch in archs)]
    for name, by_arch in sorted(rows.items()):
        cells = ((by_arch[a].registers, by_arch[a].shared, by_arch[a].spills) for a in archs)
        lines.append(f"{name[:63]:64}" + "".join(f"{r:>5}{s:>7}{p:>4}" for r, s, p in cells))
    return "\n".join(lines)


def main(chosen: list[str]) -> int:
    home = build.cuda_home()
    if home is None:
        print("cuda-static: left out, no nvcc is found (set CUDA_HOME)")
        return 0
    nvcc = home / "bin" / "nvcc"
    archs = architectures(nvcc)
    sources = [path for path in sorted(CUDA.glob("*.cu")) if not chosen or path.stem in chosen]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        work = [(source, arch) for source in sources for arch in archs]
        jobs = [pool.submit(kernels, nvcc, s, a, folder, a == archs[-1]) for s, a in work]
        found = [kernel for job in jobs for kernel in job.result()]
    print(table(found, archs))
    faults = [f"{k.name} ({k.arch}): {fault}" for k in found for fault in sass.faults(k)]
    faults += [] if chosen else sass.missing_packs(found)
    faults += [f"{name}: no source includes it" for name in unreached()]
    print(f"cuda-static: {len(sources)} sources, {len(found)} kernels, {len(faults)} faults")
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
