#!/usr/bin/env bash
# Clients of others against the server under test, each with a new store; etcdctl runs beside real etcd.
#   run.sh [SUBJECT [CLIENT...]]     default: $KONTIKI_BIN or target/debug/kontiki, and every client
# A client whose tools are not here is left out, and said to be; one that is asked for by name then fails.
#
# A client is given HOST:PORT. A line "restart" on its output has the server killed and started again on the same
# data, which a line on its input tells; "ok" is the last line of a good run.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
bin="$root/tests/borrowed/bin"
subject=${1:-${KONTIKI_BIN:-$root/target/debug/kontiki}}
shift || true
# What package managers fetch and what is built stays here from run to run.
built="$root/target/clients"
client_max=120
mkdir -p "$root/target/tmp" "$built"
scratch=$(mktemp -d "$root/target/tmp/clients.XXXXXX")
pids=()
# Each process is ended by its own id.
finish() {
  for pid in "${pids[@]}"; do end "$pid"; done
  rm -rf "$scratch"
}
trap finish EXIT

end() { # PID
  kill -9 "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

free_port() {
  local port
  while port=$((20000 + RANDOM % 12000)); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

start() { # PROGRAM NAME: sets `endpoint`
  endpoint=127.0.0.1:$(free_port) peer=http://127.0.0.1:$(free_port)
  serve "$1" "$2"
}

serve() { # PROGRAM NAME: at `endpoint`, with the data that NAME has; sets `server`
  local log="$scratch/$2.log"
  "$1" --name=m0 --data-dir="$scratch/$2" --listen-client-urls="http://$endpoint" \
    --advertise-client-urls="http://$endpoint" --listen-peer-urls="$peer" \
    --initial-advertise-peer-urls="$peer" --initial-cluster="m0=$peer" >"$log" 2>&1 &
  server=$!
  pids+=("$server")
  for _ in $(seq 300); do
    grep -qs 'ready to serve client requests' "$log" && return
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  echo "$2 did not start:" >&2
  tail -n 5 "$log" >&2
  return 1
}

check() { # NAME COMMAND...: runs a client against a new server, which it may have restarted
  local name=$1 began=$SECONDS line result=''
  shift
  start "$subject" "$name"
  mkfifo "$scratch/$name.in" "$scratch/$name.out"
  # Its standard error tells of every failure that the checks ask for, so it is shown only if something is wrong.
  timeout "$client_max" "$@" "$endpoint" <"$scratch/$name.in" >"$scratch/$name.out" 2>"$scratch/$name.err" &
  local client=$!
  pids+=("$client")
  exec 3>"$scratch/$name.in" 4<"$scratch/$name.out"
  while read -r line <&4; do
    if [ "$line" = restart ]; then
      end "$server"
      serve "$subject" "$name"
      echo started >&3
    else
      result=$line
      [ "$line" = ok ] || echo "$name: $line"
    fi
  done
  exec 3>&- 4<&-
  if ! wait "$client" || [ "$result" != ok ]; then
    tail -n 20 "$scratch/$name.err" >&2
    echo "$name: failed (ended after $((SECONDS - began)) s, $client_max at most)" >&2
    return 1
  fi
  echo "$name: ok, $((SECONDS - began)) s"
}

needs() { # PROGRAM...: whether all are here
  local program
  for program; do command -v "$program" >/dev/null || return 1; done
}

go_tools="Go (https://go.dev/dl)"
has_go() { needs go; }
run_go() {
  (cd "$here/go" && go build -o "$built/go" .)
  check go "$built/go"
}

etcdctl_tools="tests/borrowed/get-etcd.sh to have been run"
has_etcdctl() { needs "$bin"/etcd{36,37}/etcdctl "$bin/etcd36/etcd"; }
run_etcdctl() {
  local version reference
  for version in 36 37; do
    start "$bin/etcd36/etcd" "reference$version"
    reference=$endpoint
    start "$subject" "subject$version"
    bash "$here/etcdctl.sh" "$reference" "$endpoint" "$bin/etcd$version/etcdctl"
  done
}

python_tools="Python 3.9 or newer with venv (apt-get install python3-venv)"
has_python() { python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; }
run_python() {
  local python="$built/python/bin/python" stubs="$built/python/stubs"
  [ -x "$python" ] || python3 -m venv "$built/python"
  "$python" -m pip install --quiet --requirement "$here/python/requirements.txt"
  mkdir -p "$stubs"
  "$python" -m grpc_tools.protoc -I "$root/net/proto" --python_out="$stubs" --grpc_python_out="$stubs" \
    kv.proto auth.proto rpc.proto
  PYTHONPATH="$stubs" check python "$python" "$here/python/client.py"
}

node_tools="Node 18 or newer with npm (apt-get install nodejs npm)"
has_node() { needs node npm && [ "$(node -p 'parseInt(process.versions.node) >= 18')" = true ]; }
run_node() {
  mkdir -p "$built/node"
  cp "$here"/node/package{,-lock}.json "$built/node"
  npm ci --prefix "$built/node" --ignore-scripts --no-audit --no-fund --silent
  NODE_PATH="$built/node/node_modules" check node node "$here/node/client.js"
}

java_tools="a Java 11 development kit and Maven (apt-get install default-jdk-headless maven)"
has_java() { needs java javac mvn; }
run_java() {
  local classpath="$built/java/classpath"
  mkdir -p "$built/java"
  mvn --batch-mode --quiet --file "$here/java/pom.xml" dependency:build-classpath -Dmdep.outputFile="$classpath" \
    >"$built/java/log" 2>&1 || { cat "$built/java/log" >&2; return 1; }
  check java java -cp "$(cat "$classpath")" "$here/java/Client.java"
}

rust_tools="Rust (https://rustup.rs)"
has_rust() { needs cargo; }
run_rust() {
  CARGO_TARGET_DIR="$built/rust" cargo build --quiet --locked --manifest-path "$here/rust/Cargo.toml"
  check rust "$built/rust/debug/kontiki-client-check"
}

clients=(go etcdctl python node java rust)
left_out=()
if [ $# -gt 0 ]; then
  clients=("$@")
fi
for client in "${clients[@]}"; do
  declare -F "run_$client" >/dev/null || { echo "run.sh: no client is called $client" >&2; exit 2; }
  tools="${client}_tools"
  if "has_$client"; then
    "run_$client"
  elif [ $# -gt 0 ] || [ "$client" = go ]; then
    echo "$client: needs ${!tools}" >&2
    exit 1
  else
    left_out+=("$client: LEFT OUT, needs ${!tools}")
  fi
done
[ ${#left_out[@]} = 0 ] || printf '%s\n' "${left_out[@]}"
