#!/usr/bin/env bash
# Train on a SLURM cluster, one task a GPU, and wait for it (requeued where it has to be: tools/cluster/train.sbatch):
#   [GPUS=16 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS='--time=1-0'] \
#     tools/slurm_train.sh PARTITION JOB_NAME CONFIG [WORK_DIR] [OPTIONS OF tools/train.py]
# Machines without GPUs: SRUN_ARGS=--gres=none.
set -eo pipefail
if (($# < 3)); then sed -n '2,5s/^# //p' "$0" >&2; exit 2; fi
partition=$1 job_name=$2 config=$3
shift 3
work_dir=()
if [[ ${1--} != -* ]]; then
  work_dir=(--work-dir "$1")
  shift
fi
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
read -ra srun_args <<<"${SRUN_ARGS-}"

# A rank that fails ends all others itself, with the cause: srun must not be faster, nor interrupt a
# rank that still writes. It clears up what is left ten minutes after the first task's end.
exec srun --partition="$partition" --job-name="$job_name" --ntasks="$gpus" --ntasks-per-node="$per_node" \
  --gres=gpu:"$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=0 --wait=600 "${srun_args[@]}" \
  python -u "$(dirname "$0")/train.py" "$config" "${work_dir[@]}" "$@"
