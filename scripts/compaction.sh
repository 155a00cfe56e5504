#!/usr/bin/env bash
# Clean a large compacted topic under load: is every last value there after SIGKILLs in the middle, and what does cleaning cost?
# usage: compaction.sh GIB KEYS KILLS [--seed N] [further options of tests/compaction/kills.py]
#        compaction.sh pace GIB KEYS [--pairs N] [--seconds N] [further options of tests/compaction/pace.py]
#   GIB, KEYS  what is written beforehand, and how many keys it has; the project's promise is about 2 and 10000000
#   KILLS      SIGKILLs that hit a cleaning
#   pace       memory above base, and the p99 of producers with cleaning and without: a quiet machine with two CPUs
# environment: FLUMEN_BIN (default: the release build, made when missing)
set -euo pipefail
[[ "${1:-} ${2:-} ${3:-}" =~ ^(pace )?[0-9.]+\ [0-9.]+ ]] || { sed -n 2,7p "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
[ -n "${FLUMEN_BIN:-}" ] || cargo build -q --release --bin flumen
export FLUMEN_BIN=${FLUMEN_BIN:-$target/release/flumen}
export FLUMEN_SCRATCH=$target/scratch # a real disk: a temporary folder may be memory
mkdir -p "$FLUMEN_SCRATCH"
python=$(scripts/prepare.sh python confluent confluent-kafka==2.16.1)
port=$(scripts/prepare.sh port)
[ "$1" = pace ] || exec "$python" tests/compaction/kills.py "$@" --port "$port"
cargo build -q --release --bin flumen-bench
exec "$python" tests/compaction/pace.py "${@:2}" --bench "$target/release/flumen-bench" --port "$port"
