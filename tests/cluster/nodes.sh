# shellcheck shell=bash
# Nodes on one machine, for the scripts beside: namespaces of their own for network, mounts, host name and
# processes. Root only. Traffic stays in them, and all processes end with the first one's process namespace.
namespaces=(--net --mount --uts --pid)

cluster() {  # FOLDER COMMAND...: a first namespace, in which there will be nodes
  echo $$ >"$1/pid"
  exec unshare "${namespaces[@]}" --fork --kill-child --mount-proc "${@:2}"
}

enter() {  # FOLDER COMMAND...: in that namespace
  exec nsenter "${namespaces[@]}" --wd="$PWD" --target "$(pgrep --parent "$(<"$1/pid")")" "${@:2}"
}

wire() {  # NAME ADDRESS: of this namespace, with a switch for the nodes
  hostname "$1"
  ip link set lo up
  ip link add switch type bridge
  ip address add "$2/24" dev switch
  ip link set switch up
}

plug() {  # FOLDER NAME ADDRESS HOSTS COMMAND...: a node whose process 1 is COMMAND and whose /etc/hosts is HOSTS
  local folder=$1 name=$2 address=$3 holder pid
  rm -f "$folder/$name".{cable,status}
  mkfifo "$folder/$name.cable"
  {
    # shellcheck disable=SC2016
    unshare "${namespaces[@]}" --fork --kill-child --mount-proc bash -c '
      mount --bind "$3" /etc/hosts
      hostname "$2"; ip link set lo up
      read -r <"$1/$2.cable"
      exec "${@:4}"' bash "$folder" "$name" "${@:4}" && status=0 || status=$?
    echo "$status" >"$folder/$name.status"
  } </dev/null >>"$folder/$name.out" 2>&1 &
  until holder=$(pgrep --parent $!) && pid=$(pgrep --parent "$holder"); do sleep 0.02; done
  echo "$pid" >"$folder/$name.pid"
  ip link add "cable$pid" type veth peer name eth0 netns "$pid"
  ip link set "cable$pid" master switch up
  nsenter --net --target "$pid" ip address add "$address/24" dev eth0
  nsenter --net --target "$pid" ip link set eth0 up
  echo >"$folder/$name.cable"
}

unplug() {  # FOLDER NAME: its cable and its power at once
  local pid
  pid=$(<"$1/$2.pid")
  ip link delete "cable$pid"
  kill -KILL "$pid"
}
