"""Build kdops: one native library a device, or none at all.

KDOPS_BUILD=auto (default) builds what the machine can build, `cpu` and `cuda` demand that library,
`none` installs the pure-PyTorch reference alone and does not import torch.
"""

import os
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent.resolve()
TORCH_TARGET_VERSION = "0x020a000000000000"  # the stable ABI of torch 2.10 and every later one
MODES = ("auto", "cpu", "cuda", "none")

COMPILE = [
    "-O3",
    "-g0",
    "-std=c++17",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    "-fvisibility=hidden",
    "-fstack-protector-strong",
    f"-ffile-prefix-map={ROOT}/=",
    f"-I{ROOT / 'csrc'}",
    f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}",
]
LINK = ["-Wl,-z,relro,-z,now"] if os.uname().sysname == "Linux" else []


def sources(folder: str, *suffixes: str) -> list[str]:
    return sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "csrc" / folder).glob("*")
        if path.suffix in suffixes
    )


def headers() -> list[str]:
    return sorted(str(path) for path in (ROOT / "csrc").rglob("*") if path.suffix in (".h", ".cuh"))


def build_options() -> dict:
    mode = os.environ.get("KDOPS_BUILD", "auto")
    if mode not in MODES:
        raise SystemExit(f"KDOPS_BUILD must be one of {', '.join(MODES)}, got {mode!r}")
    if mode == "none":
        return {}
    if mode == "cuda":
        raise SystemExit(
            "KDOPS_BUILD=cuda: this version has no CUDA kernels, use auto, cpu or none"
        )
    try:
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except ImportError as error:
        if mode == "auto":
            print(f"kdops: no native library is built, torch cannot be imported ({error})")
            return {}
        raise SystemExit(
            "KDOPS_BUILD=cpu needs torch at build time: pip install --no-build-isolation ."
        ) from error
    cpu = CppExtension(
        "kdops._cpu",
        sources("cpu", ".cpp"),
        depends=headers(),
        extra_compile_args=COMPILE,
        extra_link_args=LINK,
        py_limited_api=True,
    )
    return {
        "ext_modules": [cpu],
        "cmdclass": {"build_ext": BuildExtension.with_options(no_python_abi_suffix=False)},
        "options": {"bdist_wheel": {"py_limited_api": "cp310"}},
    }


if __name__ == "__main__":
    setup(**build_options())
