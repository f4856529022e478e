#!/usr/bin/env bash
# The same etcdctl commands against a reference and a subject, both with new stores, comparing all they print and
# how they exit. What each server chooses for itself (ids, terms, sizes, addresses) is masked. LEASE among the
# arguments stands for the lease that `grant` had each server give.
#   etcdctl.sh REFERENCE_HOST:PORT SUBJECT_HOST:PORT ETCDCTL
set -euo pipefail
reference=${1:?usage: etcdctl.sh REFERENCE SUBJECT ETCDCTL} subject=${2:?} etcdctl=${3:?}

mask() { # ENDPOINT
  # Ids have 15 digits now and then, and tables grow with them: borders and runs of spaces count once.
  sed -E -e 's/─+/─/g' -e 's/-{3,}/---/g' -e 's/ +/ /g' -e "s#(http://)?${1//./\\.}#ENDPOINT#g" -e 's#http://127\.0\.0\.1:[0-9]+#URL#g' \
    -e 's/"(cluster_id|member_id|raft_term|leader|raftIndex|raftTerm|raftAppliedIndex|dbSize|dbSizeInUse|ID|memberID)":[0-9]+/"\1":N/g' \
    -e 's/"(ClusterID|MemberID|RaftTerm|Leader|RaftIndex|RaftAppliedIndex|DBSize|DBSizeInUse|DBSizeQuota|ID)" : [0-9]+/"\1" : N/g' \
    -e 's/\b[0-9a-f]{13,16}\b/HEX/g' -e 's/memberID:[0-9]+/memberID:N/g' \
    -e 's/"(id|lease|Lease)"( ?):( ?)[1-9][0-9]+/"\1"\2:\3N/g' -e 's/\b99[0-9]{2}\b/99NN/g' \
    -e 's/took( = | |":")[0-9.]+(µs|ms|s)/took\1T/g' -e 's/[0-9.]+ [kMG]?B/SIZE/g' -e '/"ts":|"logger":/d'
}

declare -A lease=([$reference]='' [$subject]='')

run() { # ENDPOINT ARGUMENT...: stdout, stderr and exit code, masked
  local endpoint=$1 code=0
  shift
  "$etcdctl" --endpoints="$endpoint" --command-timeout=10s "${@//LEASE/${lease[$endpoint]}}" </dev/stdin 2>&1 |
    mask "$endpoint" || code=${PIPESTATUS[0]}
  echo "exit $code"
}

# What a command that does not end by itself prints first.
begin() { # ENDPOINT LINES ARGUMENT...
  local endpoint=$1 lines=$2 output command
  shift 2
  exec {output}< <(exec timeout 10 "$etcdctl" --endpoints="$endpoint" "${@//LEASE/${lease[$endpoint]}}" 2>&1)
  command=$!
  head -n "$lines" <&"$output" | mask "$endpoint"
  # It ends in good order, giving back what it holds.
  kill "$command" 2>/dev/null || true
  cat <&"$output" >/dev/null
  exec {output}<&-
}

count=0 differences=0
compare() { # EXPECTED FOUND ARGUMENT...
  local expected=$1 found=$2
  shift 2
  count=$((count + 1))
  if [ "$expected" != "$found" ]; then
    differences=$((differences + 1))
    echo "DIFFERENCE etcdctl $*"
    diff <(echo "$expected") <(echo "$found") || true
  fi
}

same() { # ARGUMENT...; stdin is given to both
  local input
  input=$(cat)
  compare "$(run "$reference" "$@" <<<"$input")" "$(run "$subject" "$@" <<<"$input")" "$@"
}
cmd() { same "$@" </dev/null; }

begins() { # LINES ARGUMENT...
  compare "$(begin "$reference" "$@")" "$(begin "$subject" "$@")" "${@:2}"
}

grant() { # TTL
  local endpoint text
  for endpoint in "$reference" "$subject"; do
    text=$("$etcdctl" --endpoints="$endpoint" lease grant "$1")
    lease[$endpoint]=$(cut -d ' ' -f 2 <<<"$text")
  done
}

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

# Watches: what is past from a revision on, then what comes, until so many lines are there.
for format in simple json fields; do
  case $format in simple) lines=12 ;; json) lines=4 ;; fields) lines=60 ;; esac
  begins $lines watch --rev=9 --prefix "" -w $format
done
begins 6 watch --rev=9 --prefix "" --prev-kv
begins 4 watch --rev=9 a z
begins 2 watch --rev=9 --prefix "" -- sh -c 'echo $ETCD_WATCH_REVISION $ETCD_WATCH_KEY'
begins 1 watch --rev=2 a

# Leases. 99NN stands for what is left of one.
cmd lease grant 9999
cmd lease grant 9999 -w json
cmd lease grant 9999 -w fields
cmd lease grant 0
cmd lease grant 99999999999
cmd lease list
cmd lease list -w json
grant 9999
for key in kept with/1 with/2; do cmd put $key v --lease=LEASE; done
cmd put kept w --ignore-lease
# The order of a lease's keys is open, so there is one only.
for key in with/1 with/2; do cmd put $key w; done
for format in simple json fields; do
  cmd get kept -w $format
  cmd lease timetolive LEASE -w $format
  cmd lease timetolive LEASE --keys -w $format
  cmd lease keep-alive --once LEASE -w $format
done
begins 1 lease keep-alive LEASE
same txn <<<$'ver("kept") > "0"\n\nput t v --lease=1234\n\nget t\n'
cmd put with/1 again --lease=LEASE
cmd lease revoke LEASE
cmd lease revoke LEASE
cmd get with/ --prefix
cmd get kept
cmd lease timetolive LEASE -w json
cmd lease keep-alive --once LEASE
cmd lease keep-alive 1234
cmd lease timetolive 1234
cmd lease revoke nonsense
cmd put x v --lease=1234
grant 2
cmd put short v --lease=LEASE
begins 6 watch --rev=9 short
cmd get short
cmd lock l echo held
cmd lock l sh -c 'echo $ETCD_LOCK_REV; exit 3'
cmd lock l --ttl 2 true
begins 2 elect e proposal
cmd get e --prefix --count-only -w fields
cmd put e/1 leader
begins 2 elect e --listen

cmd put last one
cmd get "" --from-key -w json
echo "etcdctl: $count commands, $differences differences"
[ "$differences" = 0 ]
