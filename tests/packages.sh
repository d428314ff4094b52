#!/usr/bin/env bash
# What `make wheel sdist` left in dist/, used as a stranger would: packages.sh PYTHON TORCH
#
# The sdist builds the same wheel, byte by byte, in another folder; the wheel is installed into a new
# environment and passes tests there; without a compiler the sdist gives the pure-Python package.
set -euo pipefail
python=$1 torch=$2
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
pinned() { grep -E "^($1)==" "$root/requirements.txt"; }

wheel=$(ls "$root"/dist/kdops-*-cp310-abi3-*.whl)
mkdir "$work/deeper"
tar xzf "$root"/dist/kdops-*.tar.gz -C "$work/deeper"
(
  cd "$work"/deeper/kdops-*
  PATH="$(dirname "$python"):$PATH" "$python" -m pip wheel --quiet --no-build-isolation --no-deps \
    --wheel-dir "$work/dist" .
)
cmp "$wheel" "$work/dist/$(basename "$wheel")"
echo "packages: the sdist gives the same $(basename "$wheel")"

"$python" -m venv "$work/env"
export PATH="$work/env/bin:$PATH"
pip install --quiet "$torch" $(pinned "numpy|setuptools|wheel|ninja|packaging|pytest|pytest-benchmark|hypothesis")
pip install --quiet --no-deps "$wheel"
"$root/tests/installed.sh" "$work/env/bin/python"

cd "$work"/deeper/kdops-*
rm -rf build
if said=$(CXX=/nowhere/c++ KDOPS_BUILD=cpu pip wheel --no-build-isolation --no-deps -w "$work" . 2>&1) ||
  ! grep -q "KDOPS_BUILD=cpu: the C++ compiler '/nowhere/c++' is not found" <<<"$said"; then
  echo "packages: KDOPS_BUILD=cpu does not fail as it should: $said"
  exit 1
fi
said=$(CXX=/nowhere/c++ pip install -v --no-build-isolation --no-deps --force-reinstall . 2>&1)
grep -q "kdops: no native library is built, the C++ compiler '/nowhere/c++' is not found" <<<"$said"
cd "$work"
[ "$(python -m kdops info | grep -c "not loaded: not built")" = 2 ]
echo "packages: fine"
