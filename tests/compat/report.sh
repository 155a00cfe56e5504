#!/usr/bin/env bash
# Verdict lines for the suites that are shell scripts: source it, then client, ok, bad, skip, is, has, and summary at the end.
# usage: . report.sh
set -euo pipefail
passed=0 failed=0 skipped=0
ok() { passed=$((passed + 1)); echo "PASS $1"; }
bad() { failed=$((failed + 1)); echo "FAIL $1 $(tr '\n' ' ' <<< "${2:-}" | cut -c1-300)"; }
skip() { skipped=$((skipped + 1)); echo "SKIP $1 $2"; }
# client NAME VERSION [PREFIX]: who is tried here, for the matrix; with a prefix, by the checks whose names begin with it
client() { echo "CLIENT $1 $2 ${3:-}"; }
# is NAME GOT WANTED
is() { if [ "$2" = "$3" ]; then ok "$1"; else bad "$1" "got '$2', wanted '$3'"; fi; }
# has NAME PATTERN TEXT
has() { if grep -Eq -- "$2" <<< "$3"; then ok "$1"; else bad "$1" "no '$2' in: $3"; fi; }
hasnt() { if grep -Eq -- "$2" <<< "$3"; then bad "$1" "'$2' in: $3"; else ok "$1"; fi; }
summary() { echo "$passed passed, $failed failed, $skipped skipped"; [ "$failed" = 0 ]; }
# verdicts FILE: the totals of a file of verdict lines
verdicts() {
  passed=$(grep -c ^PASS "$1" || true) failed=$(grep -c ^FAIL "$1" || true) skipped=$(grep -c ^SKIP "$1" || true)
  cat "$1"
  summary
}
