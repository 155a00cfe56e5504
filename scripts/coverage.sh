#!/usr/bin/env bash
# Which lines of storage and replication the tests run: their unit tests, simulated lives and flipped bits, together.
# usage: coverage.sh [LIVES]      200 lives if none are given
# environment: FLOOR (default 90): fails if fewer percent of the lines of one of the two crates are run
# Lines that were not run are listed in target/coverage/missed.txt.
set -euo pipefail
[[ ${1:-} == -h* ]] && { sed -n 3,5p "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
lives=${1:-200}
out=$(realpath -m "${CARGO_TARGET_DIR:-target}")/coverage
cov=$(scripts/prepare.sh cov)
rm -rf "$out"; mkdir -p "$out"
# Only the project's own crates are instrumented: what they are built from stays as it was.
printf '#!/bin/sh\nexec "$@" -C instrument-coverage\n' > "$out/rustc"
chmod +x "$out/rustc"
export RUSTC_WORKSPACE_WRAPPER=$out/rustc LLVM_PROFILE_FILE=$out/%m-%p.profraw CARGO_TERM_COLOR=never
run() { cargo test -q --locked --profile sim "$@"; }
units=(-p flumen-storage -p flumen-replication --tests) world=(-p flumen-tests --test sim)
objects=() profiles=()
for part in units world; do
  declare -n chosen=$part
  mapfile -t -O "${#objects[@]}" objects < <(run "${chosen[@]}" --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\)".*/--object=\1/p')
done
run "${units[@]}"
FLUMEN_SEEDS=0..$lives FLUMEN_FLIPS=0..500 run "${world[@]}"
for profile in "$out"/*.profraw; do profiles+=("--instr-profile=$profile"); done
"$cov" show "${profiles[@]}" "${objects[@]}" > "$out/lines.txt"
awk -v root="$PWD/" -v missed="$out/missed.txt" -v floor="${FLOOR:-90}" -f tests/coverage/lines.awk "$out/lines.txt"
