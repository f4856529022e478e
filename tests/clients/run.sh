#!/usr/bin/env bash
# etcd's own clients against the server under test: the Go client alone, and etcdctl 3.6 and 3.7 beside real etcd.
#   run.sh [SUBJECT]     default: $KONTIKI_BIN or target/debug/kontiki
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
bin="$root/tests/borrowed/bin"
subject=${1:-${KONTIKI_BIN:-$root/target/debug/kontiki}}
mkdir -p "$root/target/tmp"
scratch=$(mktemp -d "$root/target/tmp/clients.XXXXXX")
pids=()
# Each process is ended by its own id.
finish() {
  for pid in "${pids[@]}"; do
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  rm -rf "$scratch"
}
trap finish EXIT

free_port() {
  local port
  while port=$((20000 + RANDOM % 12000)); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

start() { # PROGRAM NAME: sets `endpoint`
  local peer log="$scratch/$2.log"
  endpoint=127.0.0.1:$(free_port) peer=http://127.0.0.1:$(free_port)
  "$1" --name=m0 --data-dir="$scratch/$2" --listen-client-urls="http://$endpoint" \
    --advertise-client-urls="http://$endpoint" --listen-peer-urls="$peer" \
    --initial-advertise-peer-urls="$peer" --initial-cluster="m0=$peer" >"$log" 2>&1 &
  pids+=($!)
  for _ in $(seq 300); do
    grep -qs 'ready to serve client requests' "$log" && return
    kill -0 "${pids[-1]}" 2>/dev/null || break
    sleep 0.1
  done
  echo "$2 did not start:" >&2
  tail -n 5 "$log" >&2
  return 1
}

command -v go >/dev/null || { echo "run.sh needs Go (https://go.dev/dl)" >&2; exit 1; }
(cd "$here/go" && go build -o "$scratch/goclient" .)
start "$subject" go
# Its own log tells of every error that the checks ask for.
echo "Go client: $("$scratch/goclient" "$endpoint" 2>"$scratch/goclient.log")"
for version in 36 37; do
  start "$bin/etcd36/etcd" "reference$version"
  reference=$endpoint
  start "$subject" "subject$version"
  bash "$here/etcdctl.sh" "$reference" "$endpoint" "$bin/etcd$version/etcdctl"
done
