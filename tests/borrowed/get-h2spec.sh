#!/usr/bin/env bash
# Builds h2spec, the conformance tests for HTTP/2 servers, through its Go module into bin/h2spec. What is there already
# is kept. Needs Go.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target="$here/bin/h2spec"
if [ -x "$target" ]; then echo "$target is there"; exit 0; fi
command -v go >/dev/null || { echo "get-h2spec.sh needs Go (https://go.dev/dl)" >&2; exit 1; }
mkdir -p "$here/bin"
CGO_ENABLED=0 GOFLAGS=-mod=mod GOBIN="$here/bin" go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible
echo "$target built"
