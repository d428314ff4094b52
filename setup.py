"""Build kdops: one native library a device, or none at all.

KDOPS_BUILD=auto (default) builds what the machine can build: kdops._cpu where CXX (c++) is found,
and kdops._cuda where torch has CUDA and nvcc is found. `cpu` demands the first alone, `cuda` both;
`none` installs the pure-PyTorch reference and does not import torch. TORCH_CUDA_ARCH_LIST chooses
the GPU architectures; no device is asked.
"""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent.resolve()
TORCH_TARGET_VERSION = "0x020a000000000000"  # the stable ABI of torch 2.10 and every later one
MODES = ("auto", "cpu", "cuda", "none")
# Of the oldest supported GPU on, each line of compatible ones; PTX for those that come later.
ARCHITECTURES = "8.0;9.0+PTX"
BLACKWELL = "10.0;12.0"  # from CUDA 12.8 on

DEFINES = [f"-I{ROOT / 'csrc'}", f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}"]
HOST = [
    "-g0",
    "-fvisibility=hidden",
    "-fstack-protector-strong",
    "-U_FORTIFY_SOURCE",  # a distribution's compiler may have set it
    "-D_FORTIFY_SOURCE=2",
    f"-ffile-prefix-map={ROOT}/=",
]
CXX = [
    "-O3",
    "-std=c++17",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    *HOST,
    *DEFINES,
]
NVCC = ["-O3", "-std=c++17", "-Xcompiler", ",".join(["-Wall", *HOST]), "-DUSE_CUDA", *DEFINES]
LINK = ["-Wl,-z,relro,-z,now"] if os.uname().sysname == "Linux" else []


def sources(folder: str, *suffixes: str) -> list[str]:
    return sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "csrc" / folder).glob("*")
        if path.suffix in suffixes
    )


def headers() -> list[str]:
    return sorted(str(path) for path in (ROOT / "csrc").rglob("*") if path.suffix in (".h", ".cuh"))


def without_compiler() -> str | None:
    """Why no C++ can be compiled; torch takes CXX, else c++."""
    named = os.environ.get("CXX", "c++")
    if any(shutil.which(word) for word in shlex.split(named)[:1]):
        return None
    return f"the C++ compiler {named!r} is not found, set CXX"


def cuda_home() -> Path | None:
    """The toolkit: CUDA_HOME, else the newest of /usr/local. An nvcc on PATH may be a wrapper."""

    def version(path: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", path.name)]

    named = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    installed = sorted(Path("/usr/local").glob("cuda*"), key=version, reverse=True)
    homes = [Path(named)] if named else installed
    return next((home for home in homes if (home / "bin/nvcc").is_file()), None)


def architectures(cuda: str) -> list[str]:
    """What to build for, as torch spells it: 9.0, 9.0a, 9.0+PTX."""
    default = ARCHITECTURES
    if tuple(map(int, cuda.split("."))) >= (12, 8):
        default += f";{BLACKWELL}"
    chosen = os.environ.get("TORCH_CUDA_ARCH_LIST") or default
    found = [name for name in re.split("[; ]", chosen) if name]
    if not found or not all(re.fullmatch(r"[1-9]\d?\.\d[af]?(\+PTX)?", name) for name in found):
        raise SystemExit(
            "TORCH_CUDA_ARCH_LIST must be like '8.0;9.0+PTX' (N.N, N.Na or N.Nf, each with or "
            f"without +PTX, joined by ; or a space), got {chosen!r}"
        )
    return found


def code_of(architecture: str) -> list[str]:
    name = architecture.removesuffix("+PTX").replace(".", "")
    kinds = ["sm", "compute"] if architecture.endswith("+PTX") else ["sm"]
    return [f"-gencode=arch=compute_{name},code={kind}_{name}" for kind in kinds]


def without_cuda(cuda: str | None) -> str | None:
    """Why the CUDA library cannot be built for a torch of this CUDA version."""
    if cuda is None:
        return "this torch is built without CUDA"
    home = cuda_home()
    if home is None:
        return "no nvcc is found, set CUDA_HOME"
    told = subprocess.run([home / "bin/nvcc", "--version"], capture_output=True, text=True).stdout
    release = re.search(r"release ([\d.]+)", told)
    if release is None or release[1].partition(".")[0] != cuda.partition(".")[0]:
        return f"torch has CUDA {cuda}, nvcc in {home} {release[1] if release else 'no release'}"
    return None


def extensions(chosen: list[str]) -> dict:
    """The CPU library, and the CUDA library where architectures are chosen."""
    from torch.utils.cpp_extension import (
        BuildExtension,
        CppExtension,
        CUDAExtension,
        include_paths,
    )

    torch_headers = [flag for path in include_paths() for flag in ("-isystem", path)]
    where = f"-ffile-prefix-map={Path(include_paths()[0]).parent}/="
    host, nvcc = [*CXX, *torch_headers, where], [*NVCC, *torch_headers, "-Xcompiler", where]
    common = {"depends": headers(), "extra_link_args": LINK, "py_limited_api": True}
    built = [
        CppExtension(
            "kdops._cpu",
            sources("cpu", ".cpp"),
            extra_compile_args=host,
            **common,
        )
    ]
    if chosen:
        names = f"-DKDOPS_CUDA_ARCHITECTURES={' '.join(chosen)}"
        code = [flag for name in chosen for flag in code_of(name)]
        flags = {"cxx": [*host, names], "nvcc": [*nvcc, *code]}
        built.append(
            CUDAExtension(
                "kdops._cuda", sources("cuda", ".cu", ".cpp"), extra_compile_args=flags, **common
            )
        )
    return {
        "ext_modules": built,
        "cmdclass": {"build_ext": BuildExtension.with_options(no_python_abi_suffix=False)},
        "options": {"bdist_wheel": {"py_limited_api": "cp310"}},
    }


def without_native() -> str | None:
    """Why no library at all can be built."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        return f"torch cannot be imported ({error}): pip install --no-build-isolation ."
    return without_compiler()


def build_options() -> dict:
    mode = os.environ.get("KDOPS_BUILD", "auto")
    if mode not in MODES:
        raise SystemExit(f"KDOPS_BUILD must be one of {', '.join(MODES)}, got {mode!r}")
    if mode == "none":
        return {}
    reason = without_native()
    if reason is not None:
        if mode == "auto":
            print(f"kdops: no native library is built, {reason}")
            return {}
        raise SystemExit(f"KDOPS_BUILD={mode}: {reason}")
    import torch

    if mode == "cpu":
        return extensions([])
    reason = without_cuda(torch.version.cuda)
    if reason is None:
        os.environ["CUDA_HOME"] = str(cuda_home())  # torch reads it when the import below is run
        return extensions(architectures(torch.version.cuda))
    if mode == "cuda":
        raise SystemExit(f"KDOPS_BUILD=cuda: {reason}")
    print(f"kdops: the CPU library alone is built, {reason}")
    return extensions([])


if __name__ == "__main__":
    setup(**build_options())
