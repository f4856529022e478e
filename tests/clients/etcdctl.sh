#!/usr/bin/env bash
# The same etcdctl commands against a reference and a subject, both with new stores, comparing all they print and
# how they exit. What each server chooses for itself (ids, terms, sizes, addresses) is masked.
#   etcdctl.sh REFERENCE_HOST:PORT SUBJECT_HOST:PORT ETCDCTL
set -euo pipefail
reference=${1:?usage: etcdctl.sh REFERENCE SUBJECT ETCDCTL} subject=${2:?} etcdctl=${3:?}

mask() { # ENDPOINT
  # Ids have 15 digits now and then, and tables grow with them: borders and runs of spaces count once.
  sed -E -e 's/─+/─/g' -e 's/-{3,}/---/g' -e 's/ +/ /g' -e "s#(http://)?${1//./\\.}#ENDPOINT#g" -e 's#http://127\.0\.0\.1:[0-9]+#URL#g' \
    -e 's/"(cluster_id|member_id|raft_term|leader|raftIndex|raftTerm|raftAppliedIndex|dbSize|dbSizeInUse|ID|memberID)":[0-9]+/"\1":N/g' \
    -e 's/"(ClusterID|MemberID|RaftTerm|Leader|RaftIndex|RaftAppliedIndex|DBSize|DBSizeInUse|DBSizeQuota|ID)" : [0-9]+/"\1" : N/g' \
    -e 's/\b[0-9a-f]{13,16}\b/HEX/g' -e 's/memberID:[0-9]+/memberID:N/g' \
    -e 's/took( = | |":")[0-9.]+(µs|ms|s)/took\1T/g' -e 's/[0-9.]+ [kMG]?B/SIZE/g' -e '/"ts":|"logger":/d'
}

run() { # ENDPOINT ARGUMENT...: stdout, stderr and exit code, masked
  local endpoint=$1 code=0
  shift
  "$etcdctl" --endpoints="$endpoint" --command-timeout=10s "$@" </dev/stdin 2>&1 | mask "$endpoint" ||
    code=${PIPESTATUS[0]}
  echo "exit $code"
}

count=0 differences=0
same() { # ARGUMENT...; stdin is given to both
  local input expected found
  input=$(cat)
  expected=$(run "$reference" "$@" <<<"$input")
  found=$(run "$subject" "$@" <<<"$input")
  count=$((count + 1))
  if [ "$expected" != "$found" ]; then
    differences=$((differences + 1))
    echo "DIFFERENCE etcdctl $*"
    diff <(echo "$expected") <(echo "$found") || true
  fi
}
cmd() { same "$@" </dev/null; }

for key in a b c d/1 d/2 d/3; do cmd put $key "value of $key"; done
cmd put a new --prev-kv
cmd put a --ignore-value
cmd put none --ignore-value
cmd put a x --ignore-lease
cmd put a y --lease=1234
same put piped <<<"from stdin"
cmd put "" empty
for format in simple json fields; do
  cmd get a -w $format
  cmd get d/ --prefix -w $format
  cmd get none -w $format
done
cmd get a --hex
cmd get a c
cmd get b --from-key
cmd get d/ --prefix --limit=2
cmd get d/ --prefix --limit=2 -w json
cmd get d/ --prefix --keys-only
cmd get d/ --prefix --count-only -w fields
cmd get d/ --prefix --print-value-only
for by in CREATE KEY MODIFY VALUE VERSION; do
  cmd get a z --sort-by=$by --order=DESCEND
  cmd get a z --sort-by=$by
done
cmd get a --rev=2
cmd get a --rev=99999
cmd get a --consistency=s
for bound in --min-mod-rev --max-mod-rev --min-create-rev --max-create-rev; do cmd get a z $bound=4; done
same txn <<<$'mod("a") > "0"\n\nput t yes\nget t\n\nput t no\n'
same txn -w json <<<$'value("a") = "nothing"\n\nput t yes\n\nget a\ndel d/1\n'
same txn <<<$'create("never") = "0"\n\nput t 1\nput t 2\n\n\n'
cmd del b
cmd del b
cmd del d/2 --prev-kv
cmd del d/ --prefix --prev-kv -w json
cmd del a c --range
cmd compaction 5
cmd compaction 5
cmd compaction 99999
cmd compaction 8 --physical
cmd get a --rev=4
cmd endpoint health
cmd endpoint health -w json
cmd endpoint status -w json
cmd endpoint status -w fields
cmd alarm list
cmd alarm disarm
cmd defrag
cmd member list
cmd member list -w json
cmd member list -w table
cmd put last one
cmd get "" --from-key -w json
echo "etcdctl: $count commands, $differences differences"
[ "$differences" = 0 ]
