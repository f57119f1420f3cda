#!/usr/bin/env bash
# Train on the GPUs of this machine, or of several where it is started on each:
#   [NNODES=2 NODE_RANK=0 MASTER_ADDR=node0 PORT=29500] tools/dist_train.sh CONFIG GPUS [OPTIONS OF tools/train.py]
# torchrun's own options go by its PET_ variables: PET_MAX_RESTARTS=3 tools/dist_train.sh CONFIG 8 --resume auto
set -euo pipefail
if (($# < 2)); then sed -n '2,4s/^# //p' "$0" >&2; exit 2; fi
config=$1 gpus=$2
shift 2

if ((${NNODES:-1} == 1)) && [[ -z ${PORT-} ]]; then
  rendezvous=(--standalone)  # by a port that is free: two runs share a machine
else
  # c10d, as the static one knows no restart of several nodes. A store of its own at each of them, as
  # in torchrun's shared one remains what was written before (pytorch/pytorch#135712).
  export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
  rendezvous=(--nnodes="${NNODES:-1}" --rdzv-backend=c10d --rdzv-id="${PORT:-29500}"
    --rdzv-endpoint="${MASTER_ADDR:-127.0.0.1}:${PORT:-29500}"
    --rdzv-conf=is_host="$((${NODE_RANK:-0} == 0))")
fi
exec torchrun "${rendezvous[@]}" --nproc-per-node="$gpus" "$(dirname "$0")/train.py" "$config" "$@"
