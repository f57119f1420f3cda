#!/usr/bin/env bash
# What only a GPU can tell: are the kernels right there, how fast are they, does training wait?
#
#   benchmarks/gpu_check.sh pack               # here: images, and packages that may be missing there
#   benchmarks/gpu_check.sh first  [FOLDER]    # there: kernels, PSA's cost, the training step
#   benchmarks/gpu_check.sh second [FOLDER]    # whole epochs, evaluation, waits, the same losses
#   benchmarks/gpu_check.sh third  [FOLDER]    # compiled with PSA, CUDA graphs, larger maps and batches
#
# A part ends within 10 minutes, the most valuable comes first; FOLDER gets its JSON files and its log.
# $PYTHON names the interpreter. DRY=1 runs all of it on a CPU, on sizes that say nothing of speed.
#
# For a machine that is lent for half an hour and has no network, with a tool `run` that takes the
# working tree there, and of the folders that git ignores those in `carry`, and brings $OUT back:
#
#   run(carry=['work_dirs/carry'], timeout_s=600, command='benchmarks/gpu_check.sh first $OUT')
#
# and likewise second and third, one after the other; pack once more after a commit.
set -uo pipefail
cd "$(dirname "$0")/.."
part=${1:-}
out=${2:-work_dirs/gpu_check}
carry=work_dirs/carry
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
data=../shared/data/coco_mini
LIMIT=580 # seconds of a part
failed=0

pack() { # what a machine with PyTorch, Lightning and OpenCV still lacks: 25 MB
  set -e
  rm -rf "$carry"
  mkdir -p "$carry/wheels"
  cp -rL --no-preserve=mode "$data" "$carry/coco_mini"
  git describe --always --dirty --exclude '*' > "$carry/commit"
  # Pure Python, one of them from its source; then what is compiled, for the Python that is there.
  "$python" -m pip wheel -q --no-deps -c constraints.txt -w "$carry/wheels" \
    onedl-mmengine onedl-mmcv addict termcolor yapf platformdirs
  "$python" -m pip download -q --no-deps -c constraints.txt -d "$carry/wheels" \
    --only-binary=:all: --python-version 3.12 --implementation cp --platform manylinux_2_28_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 pycocotools faster-coco-eval
  du -sh "$carry"
}

prepare() {
  export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
  if ! "$python" -c 'import mmengine, mmcv, pycocotools, faster_coco_eval' 2> /dev/null; then
    site=$(mktemp -d)
    "$python" -m pip install -q --no-index --no-deps --target "$site" "$carry"/wheels/*.whl || return
    PYTHONPATH=$PYTHONPATH:$site
  fi
  [ -d "$carry/coco_mini" ] && data=$carry/coco_mini
  [ -d "$data" ] || { echo "no images, neither in $carry/coco_mini nor in $data"; return 1; }
  [ -e .git ] || { read -r COMMIT < "$carry/commit" && export COMMIT; }
  mkdir -p "$out"
}

try() { # SECONDS COMMAND...: one that fails, or takes longer, leaves the next ones their turn
  local start=$SECONDS seconds=$1
  shift
  ((seconds = seconds < LIMIT - start ? seconds : LIMIT - start))
  echo "--- at $start s: $*"
  if ((seconds <= 0)) || ! timeout -k 5 "$seconds" "$@"; then
    echo "*** failed, or no time was left: $*"
    failed=1
  fi
}

bench() { # SECONDS NAME SCRIPT ARGUMENTS...: of an option that comes twice the later one counts
  local small=()
  if [ -n "${DRY:-}" ]; then
    case $3 in
      psa_block) small=(--shapes 32x8x6 --batch 2) ;;
      train_step) small=(--networks simplebaseline_r50 --contestants none psa_p --batch 1) ;;
      train_speed) small=(--networks hrnet_tiny --contestants plain --batch 8 --steps 10 --repeat 2 --workers 1) ;;
      evaluation_gpu) small=(--networks hrnet_tiny --split dev --repeat 1) ;;
    esac
    small+=(--device cpu --rounds 2)
  fi
  try "$1" "$python" "benchmarks/$3.py" --device cuda --json "$out/$2.json" "${@:4}" "${small[@]}"
}

tests() { # SECONDS ARGUMENTS...
  try "$1" "$python" -m pytest -p no:cacheprovider "${@:2}" ${DRY:+--collect-only -q -n 0}
}

first() {
  tests 150 -n 12 tests/models/attention/kernel_checks.py
  bench 150 psa_block psa_block --shapes w32-256x192 --batch 64 --dtype bfloat16 float32
  bench 200 train_step train_step --batch 64 --rounds 5 --dtype bfloat16 float32
  bench 300 steps train_speed steps --data "$data" --contestants plain default compiled --batch 64
}

second() {
  bench 200 epoch train_speed epoch --data "$data" --contestants default plain --batch 64 --workers 12
  bench 150 evaluation evaluation_gpu --data "$data"
  tests 150 -n 4 tests/engine/test_no_waits.py
  bench 200 curve train_speed curve --data "$data" --batch 32
}

third() {
  tests 150 -n 4 tests/models/attention/operator_checks.py
  bench 250 compiled train_step --networks hrnet_w32 --contestants none psa_p --compile --batch 64 --dtype bfloat16
  bench 250 graphs train_speed steps --data "$data" --contestants default captured graphs --batch 64
  bench 120 train_step_128 train_step --batch 128 --rounds 5 --dtype bfloat16
  bench 150 psa_block_w48 psa_block --shapes w48-384x288 --batch 32 --dtype bfloat16
}

case $part in
  pack) pack ;;
  first | second | third)
    prepare || exit
    { "$part"; echo "--- $SECONDS s"; exit "$failed"; } 2>&1 | tee "$out/$part.log"
    ;;
  *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac
