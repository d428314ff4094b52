#!/usr/bin/env bash
# The CPU kernels under AddressSanitizer with UBSan, then ThreadSanitizer: sanitize.sh PYTHON
set -euo pipefail
python=$1
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PATH="$(dirname "$python"):$PATH"

# build NAME FLAGS: the package with an instrumented library, in $work/NAME
build() {
  mkdir -p "$work/$1"
  cp -r "$root"/{setup.py,pyproject.toml,README.md,LICENSE,csrc,kdops,tests} "$work/$1"
  rm -f "$work/$1"/kdops/*.so
  (cd "$work/$1" && CFLAGS="$2" LDFLAGS="$2" KDOPS_BUILD=cpu "$python" setup.py -q build_ext --inplace)
}

# check NAME RUNTIME TESTS...: the tests with the runtime in front of python's libraries
check() {
  local name=$1 runtime
  runtime="$(g++ -print-file-name="$2.so") $(g++ -print-file-name=libstdc++.so)"
  shift 2
  (cd "$work/$name" && LD_PRELOAD="$runtime" "$python" -m pytest -x -p no:cacheprovider -k native "$@")
}

export OMP_NUM_THREADS=2
build address "-fsanitize=address,undefined -fno-sanitize-recover=undefined"
ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 check address libasan \
  tests/test_accuracy.py tests/test_vectors.py tests/test_views.py \
  tests/test_logits_edges.py tests/test_feature_edges.py

build thread "-fsanitize=thread"
TSAN_OPTIONS="ignore_noninstrumented_modules=1 exitcode=66" check thread libtsan \
  tests/test_determinism.py
