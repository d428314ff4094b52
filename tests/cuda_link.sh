#!/usr/bin/env bash
# One wheel with both libraries, built against a CUDA build of torch, and used without a GPU, there
# and on the CPU build of a newer torch, PYTHON's: cuda_link.sh PYTHON
set -euo pipefail
python=$1
root=$(cd "$(dirname "$0")/.." && pwd)
home=$(cd "$root" && "$python" -c "import setup; print(setup.cuda_home() or '')")
if [ -z "$home" ]; then
  echo "cuda-link: left out, no nvcc is found (set CUDA_HOME)"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m venv "$work/env"
export PATH="$work/env/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1
# This torch takes no setuptools from 82 on.
pip install --quiet torch==2.11.0 setuptools==81.0.0 \
  $(grep -E "^(numpy|ninja|wheel|packaging|pytest|pytest-benchmark|hypothesis)==" "$root/requirements.txt")

mkdir "$work/source"
cp -r "$root"/{setup.py,pyproject.toml,README.md,LICENSE,csrc,kdops} "$work/source"
rm -f "$work"/source/kdops/*.so
CFLAGS=-Werror NVCC_APPEND_FLAGS="-Werror all-warnings" KDOPS_BUILD=cuda \
  TORCH_CUDA_ARCH_LIST="${TORCH_CUDA_ARCH_LIST:-9.0+PTX}" \
  pip wheel --quiet --no-build-isolation --no-deps --wheel-dir "$work" "$work/source"
pip install --quiet --no-deps "$work"/kdops-*-cp310-abi3-*.whl

cd "$work"
for library in env/lib/python*/site-packages/kdops/_cuda*.so; do
  needed=$(readelf -d "$library" | grep NEEDED)
  grep -q "libcudart\.so" <<<"$needed"
  if grep -q "libcuda\.so" <<<"$needed"; then
    echo "cuda-link: $library needs the driver"
    exit 1
  fi
  if grep -qaF -e "$work" -e "$root" "$library"; then
    echo "cuda-link: $library names the folder that it was built in"
    exit 1
  fi
done
CUDA_VISIBLE_DEVICES="" python "$root/tests/cuda_link.py"
"$root/tests/installed.sh" "$work/env/bin/python"

"$python" -m pip install --quiet --no-deps --target "$work/other" "$work"/kdops-*.whl
export PYTHONPATH=$work/other
# Which library is missing first depends on what else the machine has.
"$python" -m kdops info | grep "cuda library: not loaded: .*cannot open"
"$root/tests/installed.sh" "$python"
