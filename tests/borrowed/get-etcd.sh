#!/usr/bin/env bash
# Builds real etcd, etcdctl and etcdutl, the servers and tools that tests and benches compare with, through Go
# modules: 3.6.16 (the reference) into bin/etcd36 and 3.7.2 into bin/etcd37. What is there already is kept.
# Needs Go and a few minutes the first time.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export CGO_ENABLED=0 GOFLAGS=-mod=mod

build() { # DIR VERSION MODULE
  local target="$1/$3" package="go.etcd.io/etcd/$3/v3"
  if [ "$3" = etcd ]; then package="go.etcd.io/etcd/server/v3"; fi
  if [ -x "$target" ]; then echo "$target is there"; return; fi
  # One module of its own per program, so that no requirement of another moves its versions.
  local work; work=$(mktemp -d)
  if (cd "$work" && go mod init borrowed && go get -tool "$package@$2" &&
      go build -trimpath -ldflags '-s -w' -o "$target.part" "$package") >"$work/log" 2>&1; then
    mv "$target.part" "$target"
    rm -rf "$work"
    echo "$target built"
  else
    tail -n 20 "$work/log" >&2
    rm -rf "$work"
    echo "$target: the build failed" >&2
    return 1
  fi
}

command -v go >/dev/null || { echo "get-etcd.sh needs Go (https://go.dev/dl)" >&2; exit 1; }
for pair in etcd36:v3.6.16 etcd37:v3.7.2; do
  dir="$here/bin/${pair%%:*}"
  mkdir -p "$dir"
  for program in etcd etcdctl etcdutl; do build "$dir" "${pair##*:}" "$program"; done
done
