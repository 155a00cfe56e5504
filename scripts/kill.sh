#!/usr/bin/env bash
# Kill the broker again and again under load and verify that nothing promised is lost.
# usage: kill.sh CYCLES [--seed N] [further options of tests/kill/kill.py]
# environment: FLUMEN_BIN (default: the release build, made when missing)
set -euo pipefail
[ $# -ge 1 ] || { sed -n 2,4p "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
[ -n "${FLUMEN_BIN:-}" ] || cargo build -q --release --bin flumen
export FLUMEN_BIN=${FLUMEN_BIN:-$target/release/flumen}
export FLUMEN_SCRATCH=$target/scratch # a real disk: a temporary folder may be memory
mkdir -p "$FLUMEN_SCRATCH"
python=$(scripts/prepare.sh python confluent confluent-kafka==2.16.1)
exec "$python" tests/kill/kill.py "$@" --port "$(scripts/prepare.sh port)"
