#!/usr/bin/env bash
# Trains on real people and prints the AP: learnt by heart on coco_mini, held-out athletes on lspet.
# About 15 minutes on two CPU cores; see docs/results.md.
# usage: benchmarks/real_data.sh [DATA]     (default ../shared/data; logs and weights in work_dirs/)
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:-../shared/data}
for name in coco_mini lspet; do
  config=configs/$name/hrnet_tiny_psa_p_128x96.py
  work_dir=work_dirs/real_$name
  roots="train_dataloader.dataset.data_root=$data/$name val_dataloader.dataset.data_root=$data/$name"
  rm -rf "$work_dir"
  # One thread for the network leaves the other core to the data workers.
  OMP_NUM_THREADS=1 .venv/bin/python tools/train.py "$config" --work-dir "$work_dir" --cfg-options $roots
  OMP_NUM_THREADS=1 .venv/bin/python tools/test.py "$config" "$work_dir/checkpoints/last.ckpt" \
    --metrics "$work_dir/metrics.json" --show-dir "$work_dir/pictures" --cfg-options $roots
done
