#!/usr/bin/env bash
# Attack what reads foreign bytes with inputs that coverage guides: libFuzzer, on the stable toolchain.
# usage: fuzz.sh TARGET SECONDS | --all SECONDS | --replay FILE | --seed | --list
#   --all     every target for so many seconds, as many side by side as there are cores; 0 only builds
#   --replay  one input again, with all it has to say; the target is the name of the file's folder
#   --seed    write the inputs to begin with anew (tests/fuzz/corpus/TARGET/seed-*)
# Inputs that panic are named and kept in TARGET_DIR/fuzzing/found, what leads on in TARGET_DIR/fuzzing/corpus.
# The last line is `N passed, N failed`.
set -euo pipefail
[[ ${1:-} ]] || { sed -n 3,8p "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
here=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzzing
host=$(rustc -vV | sed -n 's/^host: //p')
mkdir -p "$here"/{programs,corpus,found,logs}

build() { # one program for each TARGET: nothing else is linked whose counters would slow it down
  scripts/prepare.sh debian g++
  # stable options all of them; with --target they do not reach build scripts and macros
  local flags=-Cpasses=sancov-module option
  for option in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=" -Cllvm-args=-sanitizer-coverage-$option"
  done
  for name in "$@"; do
    FLUMEN_FUZZ_TARGET=$name RUSTFLAGS=$flags cargo build -q --locked --profile fuzz --target "$host" \
      -p flumen-fuzz --features engine --bin fuzz
    cp "$here/../$host/fuzz/fuzz" "$here/programs/$name"
  done
}

attack() { # TARGET SECONDS
  local name=$1 log=$here/logs/$1.log verdict=ok stat
  mkdir -p "$here/corpus/$name" "$here/found/$name"
  "$here/programs/$name" -max_total_time="$2" -max_len=4096 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$here/found/$name/" "$here/corpus/$name" "tests/fuzz/corpus/$name" > "$log" 2>&1 || verdict=FAILED
  stat=$(sed -n 's/^stat::number_of_executed_units: *//p; s/^stat::average_exec_per_sec: */at /p' "$log" | tr '\n' ' ')
  echo "$name $verdict: ${stat:-no} executions per second, $(grep -o 'cov: [0-9]*' "$log" | tail -1 || true) in $2 s"
  [ $verdict = ok ] || { grep -A4 -m1 'panicked at\|ERROR: libFuzzer' "$log" || tail -5 "$log"; grep 'Test unit written' "$log" || true; }
  [ $verdict = ok ]
}

targets=$(sed -n 's/^    target("\([a-z0-9]*\)".*/\1/p' tests/fuzz/src/targets.rs)
case $1 in
  --list) echo "$targets" ;;
  --seed) FLUMEN_REGENERATE=1 cargo test -q --locked -p flumen-fuzz --test corpus every_target_has ;;
  --replay) name=$(basename "$(dirname "$(realpath "$2")")"); build "$name"; exec "$here/programs/$name" "$2" ;;
  --attack) attack "$2" "$3" ;; # of a program that is there
  --all)
    build $targets
    [ "$2" = 0 ] && exit 0
    echo "$targets" | xargs -P "$(nproc)" -I{} sh -c '"$0" --attack {} "$1" || echo "{} is broken"' "$0" "$2" | tee "$here/logs/all"
    failed=$(grep -c ' is broken$' "$here/logs/all" || true)
    echo "$(($(echo "$targets" | wc -l) - failed)) passed, $failed failed"; [ "$failed" = 0 ] ;;
  *) build "$1"; attack "$1" "${2:-60}" && echo "1 passed, 0 failed" || { echo "0 passed, 1 failed"; exit 1; } ;;
esac
