#!/usr/bin/env bash
# What only a GPU can tell, in one command: are the kernels right there, and how fast?
# usage: [PYTHON=python3] benchmarks/gpu_check.sh [FOLDER FOR THE JSON FILES]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-work_dirs/gpu_check}
python=${PYTHON:-.venv/bin/python}
export PYTHONPATH=.
mkdir -p "$out"
"$python" -m pytest -p no:cacheprovider tests/models/attention/test_polarize_triton.py -s
"$python" benchmarks/psa_block.py --device cuda --batch 32 --dtype float32 bfloat16 --json "$out/psa_block.json"
"$python" benchmarks/train_step.py --device cuda --batch 32 --dtype float32 bfloat16 --json "$out/train_step.json"
"$python" benchmarks/train_step.py --device cuda --batch 32 --dtype bfloat16 --compile
# The training step: no waits, then its speed beside the plain one, the same losses, whole epochs.
"$python" -m pytest -p no:cacheprovider tests/engine/test_no_waits.py -s
for batch in 32 64; do
  "$python" benchmarks/train_speed.py steps --device cuda --batch "$batch" --json "$out/steps_$batch.json"
done
"$python" benchmarks/train_speed.py curve --device cuda --batch 32 --json "$out/curve.json"
"$python" benchmarks/train_speed.py epoch --device cuda --batch 64 --workers 16 --epochs 40 \
  --contestants default compiled plain --json "$out/epoch.json"
