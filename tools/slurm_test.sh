#!/usr/bin/env bash
# Evaluate on a SLURM cluster, one task a GPU, and wait for it:
#   [GPUS=16 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS='--time=1:00:00'] \
#     tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [OPTIONS OF tools/test.py]
# Machines without GPUs: SRUN_ARGS=--gres=none.
set -euo pipefail
if (($# < 4)); then sed -n '2,5s/^# //p' "$0" >&2; exit 2; fi
partition=$1 job_name=$2 config=$3 checkpoint=$4
shift 4
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
read -ra srun_args <<<"${SRUN_ARGS-}"

exec srun --partition="$partition" --job-name="$job_name" --ntasks="$gpus" --ntasks-per-node="$per_node" \
  --gres=gpu:"$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=0 --wait=600 "${srun_args[@]}" \
  python -u "$(dirname "$0")/test.py" "$config" "$checkpoint" "$@"
