#!/usr/bin/env bash
# Crash the broker again and again under load and verify that nothing promised is lost.
# usage: crash.sh CYCLES [--mode kill|copy|cut|freeze|MODE,MODE…] [--seed N] [further options of tests/crash/crash.py]
#   kill    SIGKILL and start again (the default)
#   copy    the data folder as it is at one instant, copied and started beside the broker
#   cut     the file system goes down without writing what it still owes (root and loop devices)
#   freeze  SIGSTOP for some seconds
# environment: FLUMEN_BIN (default: the release build, made when missing)
# With Go 1.25 or newer the last reading is also done by franz-go.
set -euo pipefail
[[ ${1:-} =~ ^[0-9]+$ ]] || { sed -n 2,9p "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target} cache=${FLUMEN_CACHE:-$HOME/.cache/flumen} kgo=()
[ -n "${FLUMEN_BIN:-}" ] || cargo build -q --release --bin flumen
export FLUMEN_BIN=${FLUMEN_BIN:-$target/release/flumen}
export FLUMEN_SCRATCH=$target/scratch # a real disk: a temporary folder may be memory
mkdir -p "$FLUMEN_SCRATCH"
if [[ " $* " == *cut* ]]; then
  [ "$(id -u)" = 0 ] || { echo "FAIL crash: only root can mount a file system" >&2; exit 1; }
  scripts/prepare.sh debian e2fsprogs mount
fi
if command -v go > /dev/null; then
  mkdir -p "$cache"
  (cd tests/crash/kgo && go build -o "$cache/kgo-reader" .)
  kgo=(--kgo "$cache/kgo-reader")
fi
python=$(scripts/prepare.sh python confluent confluent-kafka==2.16.1)
exec "$python" tests/crash/crash.py "$@" --port "$(scripts/prepare.sh port)" --copy-port "$(scripts/prepare.sh port)" "${kgo[@]}"
