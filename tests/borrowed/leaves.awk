# The leaves of a Go test program's output with -test.v=test2json, one "RESULT<tab>SECONDS<tab>NAME" each; RESULT is
# pass, fail or skip. A test that began and never ended (its program crashed or ran out of time) has failed.

/^\026?=== RUN / { began[$3] = 1 }

match($0, /\026 *--- (PASS|FAIL|SKIP): /) {
  split(substr($0, RSTART + RLENGTH), word, " ")
  result[word[1]] = tolower(substr($0, RSTART + RLENGTH - 6, 4))
  seconds[word[1]] = substr(word[2], 2, length(word[2]) - 3)
}

END {
  for (name in began) {
    parent = name
    while (match(parent, /\/[^\/]*$/)) {
      parent = substr(parent, 1, RSTART - 1)
      branch[parent] = 1
    }
  }
  for (name in began) {
    if (name in branch) continue
    printf "%s\t%s\t%s\n", name in result ? result[name] : "fail", seconds[name], name
  }
}
