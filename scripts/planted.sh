#!/usr/bin/env bash
# Do simulated lives notice bugs? Plants some (tests/planted/bugs.toml) in a copy of the tree and says how soon each is found.
# usage: planted.sh NAME… | --all
# environment: PLANTED_SEEDS (default 2000), the lives in which a bug must be noticed
# The copy is compiled once, below the build folder, with every bug in it and one switched on at a time.
set -euo pipefail
[[ $# = 0 || $1 == -h* ]] && { sed -n 2,5p "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
plant=$PWD/tests/planted/plant.py
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
python3 "$plant" copy "$target/planted"
cd "$target/planted"
test=$(CARGO_TARGET_DIR=$target cargo test -q --locked --profile sim -p flumen-tests --test sim --no-run --message-format=json |
  sed -n '/"kind":\["test"\]/s/.*"executable":"\([^"]*\)".*/\1/p')
exec python3 "$plant" hunt "$test" "$@"
