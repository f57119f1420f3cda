#!/usr/bin/env bash
# Pods of a Job as processes of this machine, each process 1 of its namespaces, under the names of its manifest:
#   pods.sh FOLDER COMMAND...                          makes a network for them, and takes all away after COMMAND
#   pods.sh FOLDER --start NAME ADDRESS COMMAND...     meanwhile: a pod; its output is FOLDER/NAME.out
#   pods.sh FOLDER --signal NAME TERM                  to its process 1, as from the kubelet
#   pods.sh FOLDER --unplug NAME                       its node is gone
# FOLDER/NAME.hosts is its /etc/hosts, rewritten in place by the caller, who is DNS and the Job's controller.
set -euo pipefail
self=$(realpath "$0") folder=$(realpath -m "$1") action=$2
# shellcheck source=tests/cluster/nodes.sh
. "$(dirname "$self")/nodes.sh"

case $action in
--*) enter "$folder" "$self" "$folder" "inside$action" "${@:3}" ;;
inside--start) plug "$folder" "$3" "$4" "$folder/$3.hosts" "${@:5}" ;;
inside--signal) kill -"$4" "$(<"$folder/$3.pid")" ;;
inside--unplug) unplug "$folder" "$3" ;;
inside)
  wire kubelet 10.77.0.254
  touch "$folder/ready"
  "${@:3}"
  ;;
*)
  mkdir -p "$folder"
  cluster "$folder" "$self" "$folder" inside "${@:2}"
  ;;
esac
