#!/usr/bin/env bash
# Everything that must hold before a change may land, in the order of what is quickest to fail.
# usage: check.sh [STEP…]      all steps, or only these: fmt clippy unit tidy sim planted doc deny release budgets process bench crash attack diskfull compat
#   fuzz       only where it is named: its instrumented build takes long. What fuzzing found is replayed by `unit` all the same
# environment: CRASH_CYCLES (default 20), FLUMEN_CACHE (tools and client suites, default ~/.cache/flumen)
# Needs Rust, Go 1.24, Java 17 with Maven, Python 3.11 and root (to install Debian packages and to mount a small disk).
# A step that fails does not hide what the later ones have to say. The last line is `N passed, N failed`.
set -euo pipefail
[[ ${1:-} == -h* ]] && { sed -n 2,7p "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export FLUMEN_BIN=$target/release/flumen
logs=$target/check
rm -rf "$logs"; mkdir -p "$logs"
scripts/prepare.sh debian build-essential pkg-config
declare -A commands=(
  [fmt]='cargo fmt --all --check'
  [clippy]='cargo clippy -q --locked --workspace --all-targets -- -D warnings'
  [unit]='cargo test -q --locked --no-fail-fast --workspace --exclude flumen-tests'
  [tidy]='cargo test -q --locked -p flumen-tests --lib --test tidy --test planted && python3 tests/crash/history.py && python3 tests/exactly_once/ledger.py && python3 tests/compaction/values.py && python3 tests/compat/judge.py self-test && python3 tests/compat/matrix.py self-test'
  [sim]='FLUMEN_SEEDS=0..200 cargo test -q --locked --profile sim -p flumen-tests --test sim'
  [planted]='PLANTED_SEEDS=200 scripts/planted.sh acks_before_durable frees_unsettled_journal cuts_one_frame_too_many start_not_recorded forgets_producers_at_restart time_is_found_too_late retention_takes_the_tail messages_overtake'
  [fuzz]='scripts/fuzz.sh --all 5'
  [doc]='RUSTDOCFLAGS="-D warnings" cargo doc -q --locked --workspace --no-deps'
  [deny]='"$(scripts/prepare.sh deny)" --workspace check bans licenses sources'
  [release]='cargo build -q --locked --release --bin flumen'
  [budgets]='scripts/budgets.sh'
  [process]='cargo test -q --locked --no-fail-fast -p flumen-tests --test "process_*"'
  [bench]='scripts/bench.sh smoke'
  [crash]='scripts/crash.sh "${CRASH_CYCLES:-20}" && scripts/crash.sh 3 --mode copy && scripts/exactly-once.sh 1000 2 --size 10 && scripts/compaction.sh 0.03 100000 5'
  [attack]='scripts/attack.sh 40'
  [diskfull]='scripts/diskfull.sh'
  [compat]='scripts/compat.sh quick'
)
declare -A limits=([clippy]=1800 [unit]=1800 [sim]=1800 [planted]=1800 [fuzz]=1800 [release]=1800 [bench]=1800 [deny]=1800 [attack]=1800 [compat]=3600) # seconds; 900 where none is given
steps=${*:-fmt clippy unit tidy sim planted doc deny release budgets process bench crash attack diskfull compat}
passed=0 failed=0 broken=
for step in $steps; do
  echo "== $step"
  began=$SECONDS verdict=ok
  # a step that hangs must not take the others' verdicts with it
  timeout --kill-after 30 "${limits[$step]:-900}" bash -euo pipefail -c "${commands[$step]}" < /dev/null 2>&1 |
    tee "$logs/$step.log" || verdict=FAILED
  # cargo's closing lines and the plain one; a step without either counts as one
  read -r p f < <(awk '
    /^test result: / { p += $4; f += $6; n++ }
    /^[0-9]+ passed, [0-9]+ failed/ { p += $1; f += $3; n++ }
    END { print p + 0, f + 0, n + 0 }' "$logs/$step.log" | awk -v verdict=$verdict '{
      if (verdict == "ok" && $3 == 0) $1 = 1
      if (verdict != "ok" && $2 == 0) $2 = 1
      print $1, $2 }')
  passed=$((passed + p)) failed=$((failed + f))
  [ "$verdict" = ok ] || broken+=" $step"
  echo "== $step $verdict: $p passed, $f failed in $((SECONDS - began)) s"
done
[ -z "$broken" ] || echo "broken steps:$broken; their output is in $logs"
echo "$passed passed, $failed failed"
[ -z "$broken" ] && [ "$failed" = 0 ]
