#!/usr/bin/env bash
# All that takes a GPU, with the machine's own Python and without network:
#
#   gpu.sh [build] [suite] [device] [sanitizer] [examples] [bench]     without a name: all of them
#
#   build      both libraries into the source tree, for this card (or for TORCH_CUDA_ARCH_LIST)
#   suite      the suite's tests of the functions, on the CUDA kernels
#   device     tests/gpu: what a GPU alone shows, from streams to rows of more than 2^31 classes
#   sanitizer  compute-sanitizer's memcheck, racecheck and initcheck over tests of every kernel
#   examples   those of examples/ whose packages are there, and which were skipped and why
#   bench      benchmarks/results/<card>.json and a table, in what is left of LIMIT seconds
#
# PYTHON (python3), OUT (runs/gpu) for the logs, WHEELS: a folder with Liger-Kernel's wheel.
# Ends with 1 where a part failed, with 2 where there is no GPU.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=${OUT:-runs/gpu}
limit=${LIMIT:-470}
failed=()

ask() {
  "$python" -c "$1" 2>/dev/null
}

# together NAME...: functions, all at once; of each the last lines, the whole in $out/NAME.log
together() {
  local name begin=$SECONDS
  for name in "$@"; do
    rm -f "$out/$name".{log,seconds}
    { $name &>"$out/$name.log" && echo $((SECONDS - begin)) >"$out/$name.seconds"; } &
  done
  wait
  for name in "$@"; do
    grep -E "^(FAILED|ERROR|SKIPPED|=====)|passed|failed|rror:" "$out/$name.log" | tail -12 | cut -c1-180
    if [ -e "$out/$name.seconds" ]; then
      echo "gpu: $name passed in $(<"$out/$name.seconds") s"
    else
      echo "gpu: $name FAILED, see $out/$name.log"
      failed+=("$name")
    fi
  done
}

libraries() {
  TORCH_CUDA_ARCH_LIST=$card MAX_JOBS=${MAX_JOBS:-$(nproc)} KDOPS_BUILD=cuda \
    "$python" setup.py -q build_ext --inplace &&
    "$python" -c 'from kdops import _native; assert not _native.errors, _native.errors' &&
    "$python" -m kdops info
}

tests() {
  KDOPS_TEST_BACKENDS=cuda "$python" -m pytest -p no:cacheprovider "$@"
}

accuracy() { tests tests/test_{accuracy,sizes}.py; }
edges() { tests tests/test_{logits_edges,feature_edges,upstream,views}.py; }
numbers() { tests tests/test_{vectors,gradients,one_to_many,row_invariances,pair_invariances}.py; }
peers() { tests tests/test_peer_losses.py; }
on_device() { tests tests/gpu; }
examples() { tests tests/test_examples.py -rs; }

# sanitized TOOL OPTION...: every kernel, lists of students, unaligned views, sizes round the ends
# of blocks
sanitized() {
  local home
  home=$(ask 'import setup; print(setup.cuda_home())')
  PATH="$PATH:$home/bin:$home/compute-sanitizer" PYTORCH_NO_CUDA_MEMORY_CACHING=1 \
    KDOPS_TEST_BACKENDS=cuda compute-sanitizer --tool "$@" --error-exitcode 9 \
    --report-api-errors no "$python" -m pytest -p no:cacheprovider \
    tests/test_{vectors,one_to_many,views,sizes,peer_losses}.py \
    -k "vectors or one_to_many or (views and misaligned and float32) or (sizes and float32) or flows"
}
memcheck() { sanitized memcheck --port 49200; }
racecheck() { sanitized racecheck --port 49300 --kernel-name kernel_substring=kdops; }
initcheck() { sanitized initcheck --port 49400; }

bench() {
  local left=$((limit - SECONDS)) mark
  mark=$(mktemp)
  "$python" -m benchmarks.gpu --budget $((left > 60 ? left : 60)) ${WHEELS:+--wheels "$WHEELS"} |
    tee "$out/bench.log"
  [ "${PIPESTATUS[0]}" = 0 ] || failed+=(bench)
  find benchmarks/results -name "*.json" -newer "$mark" -exec cp {} "$out" \;
  rm "$mark"
}

[ $# -gt 0 ] || set -- build suite device sanitizer examples bench
card=$(ask 'import torch; print("%d.%d" % torch.cuda.get_device_capability())')
[ "$*" != build ] || card=${TORCH_CUDA_ARCH_LIST:-$card}
if [ -z "$card" ]; then
  echo "gpu: torch of $python sees no GPU here (to build alone: TORCH_CUDA_ARCH_LIST=9.0 $0 build)"
  exit 2
fi
mkdir -p "$out"
for part in "$@"; do
  case $part in
    build) together libraries ;;
    suite) together accuracy edges numbers peers ;;
    device) together on_device ;;
    sanitizer) together memcheck racecheck initcheck ;;
    examples) together examples ;;
    bench) bench ;;
    *) echo "gpu: there is no part '$part'" && exit 2 ;;
  esac
  [ "${failed[*]}" != libraries ] || break
done
echo "gpu: $SECONDS s${failed[*]:+, FAILED: ${failed[*]}}"
[ ${#failed[@]} = 0 ]
