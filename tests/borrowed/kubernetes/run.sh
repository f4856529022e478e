#!/usr/bin/env bash
# Kubernetes' own tests of its storage layer (etcd3, the watch cache, and what is built on them), each test on a new
# server under test. known.tsv names the tests that may fail; a test in it that passes is an error too.
#   run.sh [--reference | SUBJECT]     real etcd 3.6, or default $KONTIKI_BIN or target/release/kontiki
# ONLY=REGEX runs the tests whose names match (-test.run), and then known.tsv may list more than fails.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
bin="$root/tests/borrowed/bin"
packages=(storage/etcd3 storage/cacher storage/storagebackend/factory reconcilers registry/generic/registry)

side=kontiki subject=${1:-${KONTIKI_BIN:-$root/target/release/kontiki}}
if [ "$subject" = --reference ]; then
  side=etcd subject="$bin/etcd36/etcd"
  bash "$root/tests/borrowed/get-etcd.sh"
fi
command -v go >/dev/null || { echo "run.sh needs Go (https://go.dev/dl)" >&2; exit 1; }
[ -x "$subject" ] || { echo "$subject is no program: cargo build --release -p kontiki" >&2; exit 1; }
subject=$(realpath "$subject")

# A copy of the module, with our server in the place of the embedded one.
read -r version source < <(cd "$here" && go mod download k8s.io/apiserver &&
  go list -m -f '{{.Version}} {{.Dir}}' k8s.io/apiserver)
built="$bin/kubernetes/$version"
replaced="$built/apiserver/pkg/storage/etcd3/testserver/test_server.go"
if [ ! -d "$built/apiserver" ]; then
  mkdir -p "$built"
  rm -rf "$built/part"
  cp -r "$source" "$built/part"
  chmod -R u+w "$built/part"
  mv "$built/part" "$built/apiserver"
fi
if ! cmp -s "$here/testserver/testserver.go" "$replaced"; then
  cp "$here/testserver/testserver.go" "$replaced"
  rm -f "$built"/*.test
fi

mkdir -p "$root/target/tmp"
scratch=$(mktemp -d "${KONTIKI_TEST_DIR:-$root/target/tmp}/kubernetes.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
logs="$root/target/tmp/kubernetes-$side"
mkdir -p "$logs"
export TMPDIR="$scratch" ETCD_UNDER_TEST="$subject"
for package in "${packages[@]}"; do
  program="$built/${package//\//-}.test" log="$logs/${package//\//-}"
  [ -x "$program" ] || (cd "$built/apiserver" && go test -c -o "$program" "./pkg/$package")
  started=$SECONDS
  (cd "$built/apiserver/pkg/$package" &&
    "$program" -test.v=test2json -test.timeout 15m -test.run "${ONLY:-.}") >"$log.log" 2>&1 || true
  awk -f "$root/tests/borrowed/leaves.awk" "$log.log" | sort -k 3 |
    awk -v package="$package" '{ print package "\t" $0 }' >"$log.leaves"
  echo "$package: $(wc -l <"$log.leaves") tests in $((SECONDS - started)) s"
done

cat "$logs"/*.leaves | awk -F '\t' -v side="$side" -v some="${ONLY:+1}" '
  NR == FNR { if ($0 !~ /^#/ && ($1 == "both" || $1 == side)) known[$2 "\t" $3] = $4; next }
  { test = $1 "\t" $4; count[$2]++; found[test] = $2 }
  $2 == "fail" && !(test in known) { print "FAILED " test " after " $3 " s"; bad++ }
  $2 != "fail" && test in known { print "PASSED " test ", which is known to fail: " known[test]; bad++ }
  $2 == "fail" && test in known { allowed++ }
  END {
    for (test in known) if (!some && !(test in found)) { print "MISSING " test; bad++ }
    printf "kubernetes, %s: %d passed, %d failed (%d of them known), %d skipped\n",
      side, count["pass"], count["fail"], allowed, count["skip"]
    exit bad > 0 || count["pass"] == 0
  }' "$here/known.tsv" - || { echo "logs: $logs" >&2; exit 1; }
