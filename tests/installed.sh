#!/usr/bin/env bash
# Some of the suite on an installed package, outside the source tree: installed.sh PYTHON
set -euo pipefail
python=$1
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$root"/{tests,pyproject.toml} "$work"
cd "$work"
"$python" -m kdops info
"$python" -c 'from kdops import _native; assert "cpu" in _native.loaded, _native.errors'
OMP_NUM_THREADS=1 "$python" -m pytest -p no:cacheprovider \
  tests/test_{ops,vectors,views,upstream,security}.py
