#!/usr/bin/env bash
# Evaluate on the GPUs of this machine, or of several where it is started on each:
#   [NNODES=2 NODE_RANK=0 MASTER_ADDR=node0 PORT=29500] tools/dist_test.sh CONFIG CHECKPOINT GPUS [OPTIONS OF tools/test.py]
set -euo pipefail
if (($# < 3)); then sed -n '2,3s/^# //p' "$0" >&2; exit 2; fi
config=$1 checkpoint=$2 gpus=$3
shift 3

if ((${NNODES:-1} == 1)) && [[ -z ${PORT-} ]]; then
  rendezvous=(--standalone)  # by a port that is free: two runs share a machine
else
  # as in dist_train.sh
  rendezvous=(--nnodes="${NNODES:-1}" --rdzv-backend=c10d --rdzv-id="${PORT:-29500}"
    --rdzv-endpoint="${MASTER_ADDR:-127.0.0.1}:${PORT:-29500}"
    --rdzv-conf=is_host="$((${NODE_RANK:-0} == 0))")
fi
exec torchrun "${rendezvous[@]}" --nproc-per-node="$gpus" "$(dirname "$0")/test.py" "$config" "$checkpoint" "$@"
