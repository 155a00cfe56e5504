#!/usr/bin/env bash
# Build the broker as it is released and run it in the foreground.
# usage: run.sh [ARGUMENTS of flumen serve]      e.g. run.sh --override listeners=PLAINTEXT://127.0.0.1:9092
# Its data lies in ./flumen-data unless log.dirs says otherwise. Stop it with Ctrl-C.
set -euo pipefail
[[ ${1:-} == -h ]] && { sed -n 2,4p "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
command -v cc > /dev/null || "$here/scripts/prepare.sh" debian build-essential
cargo build --manifest-path "$here/Cargo.toml" --release --bin flumen
target=${CARGO_TARGET_DIR:-$here/target}
exec "$target/release/flumen" serve --override "log.dirs=$here/flumen-data" "$@"
