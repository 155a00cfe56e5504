#!/usr/bin/env bash
# Copy numbers through three of Kafka's own transactional copiers while they and the broker are killed: each arrives once.
# usage: exactly-once.sh [NUMBERS [KILLS]] [--seed N] [further options of tests/exactly_once/chain.py]
#   NUMBERS  distinct numbers that go input -> t1 -> t2 -> output (default 100000)
#   KILLS    SIGKILLs on the way, half of them of the broker (default 20); a fifth as many copiers become zombies besides
# environment: FLUMEN_BIN (default: the release build, made when missing), FLUMEN_CACHE. Needs Java 17 and, once, Maven.
set -euo pipefail
case ${1:-} in '' | [0-9]* | --seed) ;; *) sed -n 2,6p "$0" >&2; exit 2 ;; esac
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
[ -n "${FLUMEN_BIN:-}" ] || cargo build -q --release --bin flumen
export FLUMEN_BIN=${FLUMEN_BIN:-$target/release/flumen}
export FLUMEN_SCRATCH=$target/scratch # a real disk: a temporary folder may be memory
mkdir -p "$FLUMEN_SCRATCH"
home=$(tests/compat/java/jars.sh)
python=$(scripts/prepare.sh python confluent confluent-kafka==2.16.1)
exec "$python" tests/exactly_once/chain.py "$@" --tool "tests/compat/java/tool.sh $home" --port "$(scripts/prepare.sh port)"
