#!/usr/bin/env bash
# etcd's own tests/common, its end-to-end way: the server under test as bin/etcd, driven by real etcdctl. skips.tsv
# names what one member without TLS and auth cannot pass. Tests left out only because their cluster has three members
# run a second time from a copy in which it has one.
#   run.sh [--reference | SUBJECT]     real etcd 3.6, or default $KONTIKI_BIN or target/release/kontiki
# Ports 20000 and up are fixed, so it all runs in a network namespace of its own where the system allows one.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
bin="$root/tests/borrowed/bin"
module=go.etcd.io/etcd/tests/v3

isolated() { # COMMAND ARGUMENT...
  local unshare=(unshare --net --map-root-user)
  if [ "$(id -u)" = 0 ]; then unshare=(unshare --net); fi
  if "${unshare[@]}" ip link set lo up 2>/dev/null; then
    "${unshare[@]}" bash -c 'ip link set lo up && exec "$@"' isolated "$@"
  else
    echo "no network namespace: the tests take ports of this system"
    "$@"
  fi
}

side=kontiki subject=${1:-${KONTIKI_BIN:-$root/target/release/kontiki}}
bash "$root/tests/borrowed/get-etcd.sh"
if [ "$subject" = --reference ]; then side=etcd subject="$bin/etcd36/etcd"; fi
[ -x "$subject" ] || { echo "$subject is no program: cargo build --release -p kontiki" >&2; exit 1; }
subject=$(realpath "$subject")

# The folder that the tests run in, and with it the copy for one member.
cd "$here"
go mod download "$module"
read -r version source < <(go list -m -f '{{.Version}} {{.Dir}}' "$module")
built="$bin/etcd-common/$version"
if [ ! -d "$built/tests" ]; then
  mkdir -p "$built"
  rm -rf "$built/part"
  cp -r "$source" "$built/part"
  chmod -R u+w "$built/part"
  sed -i 's/ClusterSize: .*3,/ClusterSize: 1,/' "$built/part/framework/config/cluster.go"
  mv "$built/part" "$built/tests"
fi
build() { go test -c -tags e2e -o "$1" "${@:2}" "$module/common"; }
[ -x "$built/common.test" ] || build "$built/common.test"
if [ ! -x "$built/one-member.test" ]; then
  cp go.sum "$built/one-member.sum"
  go mod edit -print -replace="$module=$built/tests" >"$built/one-member.mod"
  build "$built/one-member.test" -modfile="$built/one-member.mod"
fi

logs="$root/target/tmp/etcd-common-$side"
mkdir -p "$logs"
scratch=$(mktemp -d "$root/target/tmp/etcd-common.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/bin"
ln -s "$subject" "$scratch/bin/etcd"
ln -s "$bin/etcd36/etcdctl" "$bin/etcd36/etcdutl" "$scratch/bin"
export TMPDIR="$scratch"
run() { # PROGRAM ARGUMENT...: its leaves in LOGS/PROGRAM.leaves
  (cd "$built/tests/common" && isolated "$built/$1.test" -bin-dir "$scratch/bin" -test.v=test2json \
    -test.timeout 30m "${@:2}") >"$logs/$1.log" 2>&1 || true
  awk -f "$root/tests/borrowed/leaves.awk" "$logs/$1.log" | sort -k 3 >"$logs/$1.leaves"
}
patterns() { awk -F '\t' '!/^#/ { print $1 }' skips.tsv | paste -sd '|'; }

if [ "$side" = etcd ]; then run common; else run common -test.skip "$(patterns)"; fi
run one-member -test.run "^Test(Compact|DefragOnline|Endpoint(Status|Health))$"
bad=0
awk -v side="$side" -v all=250 -f skips.awk skips.tsv "$logs/common.leaves" || bad=1
awk -v side="$side, one member" -v all=5 -f skips.awk /dev/null "$logs/one-member.leaves" || bad=1
[ "$bad" = 0 ] || { echo "logs: $logs" >&2; exit 1; }
