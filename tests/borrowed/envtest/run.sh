#!/usr/bin/env bash
# A real kube-apiserver on the server under test, started by controller-runtime's envtest. The API server is built from
# its Go module: no binaries of others are downloaded. Eight minutes the first time, and 2 GiB of build cache.
#   run.sh [--reference | SUBJECT]     real etcd 3.6, or default $KONTIKI_BIN or target/release/kontiki
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
bin="$root/tests/borrowed/bin"

subject=${1:-${KONTIKI_BIN:-$root/target/release/kontiki}}
if [ "$subject" = --reference ]; then
  subject="$bin/etcd36/etcd"
  bash "$root/tests/borrowed/get-etcd.sh"
fi
command -v go >/dev/null || { echo "run.sh needs Go (https://go.dev/dl)" >&2; exit 1; }
[ -x "$subject" ] || { echo "$subject is no program: cargo build --release -p kontiki" >&2; exit 1; }
subject=$(realpath "$subject")

cd "$here"
built="$bin/envtest/$(go list -m -f '{{.Version}}' k8s.io/kubernetes)"
mkdir -p "$built" "$root/target/tmp"
[ -x "$built/kube-apiserver" ] ||
  go build -trimpath -ldflags '-s -w' -o "$built/kube-apiserver" k8s.io/kubernetes/cmd/kube-apiserver
scratch=$(mktemp -d "$root/target/tmp/envtest.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
go test -c -o "$scratch/envtest.test" .
ln -s "$subject" "$scratch/etcd"
ln -s "$built/kube-apiserver" "$scratch/kube-apiserver"
log="$root/target/tmp/envtest.log"
if ! TMPDIR="$scratch" KUBEBUILDER_ASSETS="$scratch" "$scratch/envtest.test" -test.v -test.timeout 5m >"$log" 2>&1; then
  grep -E '^ *(---|[a-z_]+\.go:)' "$log" || tail -n 20 "$log"
  echo "log: $log" >&2
  exit 1
fi
echo "envtest: $(grep -c '^ *--- PASS' "$log") passed"
