#!/usr/bin/env bash
# A throwaway SLURM on this machine, with a login node, two nodes n1 and n2 of two CPUs and two pretended GPUs:
#   slurm.sh FOLDER COMMAND...          makes it, runs COMMAND on the login node, and takes it away
#   slurm.sh FOLDER --enter COMMAND...  meanwhile: another command
#   slurm.sh FOLDER --unplug n2         the node is gone; --plug n2: it is back
# For root, with SLURM 22.05 (Debian: slurm-wlm). All of it is in FOLDER and in namespaces of its own.
# SLURM_GRACE, SLURM_NODE_TIMEOUT: the partition's GraceTime and SlurmdTimeout, in seconds.
set -euo pipefail
self=$(realpath "$0") folder=$(realpath -m "$1") action=$2
# shellcheck source=tests/cluster/nodes.sh
. "$(dirname "$self")/nodes.sh"
export SLURM_CONF=$folder/slurm.conf
node() { plug "$folder" "$1" "10.77.0.${1#n}" "$folder/hosts" slurmd -D; }

case $action in
--enter) enter "$folder" "${@:3}" ;;
--plug | --unplug) enter "$folder" "$self" "$folder" "inside$action" "$3" ;;
inside--plug) node "$3" ;;
inside--unplug) unplug "$folder" "$3" ;;
inside)
  mount --bind "$folder/hosts" /etc/hosts
  wire login 10.77.0.254
  slurmctld -D -c >>"$folder/slurmctld.out" 2>&1 &
  node n1
  node n2
  until [[ $(sinfo --noheader --partition=low --format=%D/%T 2>/dev/null) == 2/idle ]]; do sleep 0.1; done
  "${@:3}"
  ;;
*)
  mkdir -p "$folder"/{state,n1,n2}
  printf '%s\n' '127.0.0.1 localhost' '10.77.0.254 login' '10.77.0.1 n1' '10.77.0.2 n2' >"$folder/hosts"
  echo 'Name=gpu File=/dev/null,/dev/zero' >"$folder/gres.conf"
  cat >"$SLURM_CONF" <<END
ClusterName=throwaway
SlurmctldHost=login
SlurmUser=root
AuthType=auth/none
# What a requeued job waits; by default 120, and less than 5 is taken for 120.
AuthInfo=cred_expire=5
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/%n/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/%n.log
SlurmdTimeout=${SLURM_NODE_TIMEOUT:-300}
ReturnToService=2
KillWait=8
SchedulerParameters=batch_sched_delay=0,sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=n[1-2] CPUs=2 RealMemory=4000 Gres=gpu:2
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=${SLURM_GRACE:-0}
PartitionName=high Nodes=ALL PriorityTier=2 PreemptMode=OFF
END
  cluster "$folder" "$self" "$folder" inside "${@:2}"
  ;;
esac
