# Tells of skips.tsv, read first, and of the leaves read after it. Matches as -test.skip does: a name matches if its
# first elements do, one by one.
#   -v side=etcd: all ran, and each line must hold as many as it says; otherwise those of skips.tsv did not run

BEGIN { FS = "\t" }

FILENAME == ARGV[1] {
  if ($0 !~ /^#/) { pattern[++lines] = $1; promised[lines] = $2; reasons[$3] += $2 }
  next
}

{
  for (line = 1; line <= lines && !holds(pattern[line], $3); line++) ;
  held[line]++
  count[$1]++
  if ($1 == "fail") { print "FAILED " $3 " after " $2 " s"; bad++ }
}

END {
  for (reason in reasons) { skipped += reasons[reason]; list = list ", " reasons[reason] " " reason }
  if (side == "etcd") {
    for (line = 1; line <= lines; line++) if (held[line] != promised[line]) {
      print pattern[line] " holds " held[line] + 0 " tests, not " promised[line]
      bad++
    }
    skipped = 0
    list = ""
  }
  skipped += count["skip"]
  printf "etcd-common, %s: %d passed, %d failed, %d skipped%s\n", side, count["pass"], count["fail"], skipped, list
  if (count["pass"] + count["fail"] + skipped != all) {
    print count["pass"] + count["fail"] + skipped " tests, not " all
    bad++
  }
  exit bad > 0
}

function holds(pattern, name,    wanted, element, depth, at) {
  depth = split(pattern, wanted, "/")
  if (split(name, element, "/") < depth) return 0
  for (at = 1; at <= depth; at++) if (element[at] !~ wanted[at]) return 0
  return 1
}
