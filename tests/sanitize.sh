#!/usr/bin/env bash
# The CPU kernels under AddressSanitizer with UBSan, then ThreadSanitizer: sanitize.sh PYTHON
set -euo pipefail
python=$1
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PATH="$(dirname "$python"):$PATH"

# build NAME FLAGS SOURCES...: the package with an instrumented library, in $work/NAME
build() {
  local name=$1 flags=$2
  shift 2
  mkdir -p "$work/$name"
  cp -r "$root"/{setup.py,pyproject.toml,README.md,LICENSE,csrc,kdops,tests} "$work/$name"
  rm -f "$work/$name"/kdops/*.so
  [ $# = 0 ] || cp "$@" "$work/$name/csrc/cpu"
  # -O1: a third of the compile time. Fortified calls would go past the sanitizer's own.
  sed -i 's/"-O3"/"-O1"/; s/"-g0"/"-g1"/; /-D_FORTIFY_SOURCE=2/d' "$work/$name/setup.py"
  (cd "$work/$name" && CFLAGS="$flags" LDFLAGS="$flags" KDOPS_BUILD=cpu \
    "$python" setup.py -q build_ext --inplace)
}

# check NAME RUNTIME ARGUMENTS...: pytest with the runtime in front of python's libraries, which
# writes its reports past pytest's capture
check() {
  local name=$1 runtime
  runtime="$(g++ -print-file-name="$2.so") $(g++ -print-file-name=libstdc++.so)"
  shift 2
  (
    cd "$work/$name"
    export LD_PRELOAD="$runtime"
    "$python" -c 'from kdops import _native; assert "cpu" in _native.loaded, _native.errors'
    "$python" -m pytest -x -p no:cacheprovider --capture=sys "$@"
  )
}

export OMP_NUM_THREADS=2
build address "-fsanitize=address,undefined -fno-sanitize-recover=undefined"
for level in base v3 v4; do
  KDOPS_CPU_LEVEL=$level ASAN_OPTIONS=detect_leaks=0 check address libasan -k "not reference" \
    tests/test_{sizes,vectors,views,logits_edges,feature_edges}.py
done

# A process that has threads may not fork under ThreadSanitizer.
build thread "-fsanitize=thread" "$root/tests/parallel_for.cpp"
TSAN_OPTIONS="halt_on_error=1 ignore_noninstrumented_modules=1" check thread libtsan \
  -k "not processes and not workers" tests/test_determinism.py
