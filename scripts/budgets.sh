#!/usr/bin/env bash
# What each unit of work costs in instructions and allocations, against the baseline and the budget; 1 % more fails.
# usage: budgets.sh [--bless [UNIT…]]
#   --bless  writes the baseline (broker/benches/baseline.tsv): what became cheaper, and the units named, which may be dearer
# The runs are kept in $CARGO_TARGET_DIR/budgets, one folder each. Where instructions go:
#   callgrind_annotate --inclusive=yes target/budgets/budgets/units/durable_produce.kib_1/callgrind.*.out
set -euo pipefail
case ${1:-} in '' | --bless) ;; *) sed -n 2,6p "$0" >&2; exit 2 ;; esac
cd "$(dirname "$0")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
scripts/prepare.sh debian valgrind libc6-dbg python3
PATH=$(dirname "$(scripts/prepare.sh gungraun)"):$PATH
cargo build -q --locked --release -p flumen-broker --example budgets
rm -rf "$target/budgets"
"$target/release/examples/budgets" --test=false --parallel="$(nproc)" --home="$target/budgets" \
  > "$target/budgets.log" 2>&1 || { cat "$target/budgets.log" >&2; exit 1; }
exec python3 broker/benches/judge.py "$target/budgets" "$@"
