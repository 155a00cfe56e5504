#!/usr/bin/env bash
# Sarama (Go): a program written with it, main.go beside this file.
# usage: run.sh ADDR
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
addr=${1:?usage: run.sh ADDR}
. "$here/../report.sh"
client sarama "$(sed -n 's/.*IBM.sarama v//p' "$here/go.mod")"
program=${FLUMEN_CACHE:-$HOME/.cache/flumen}/sarama-suite
(cd "$here" && go build -o "$program" .) >&2
timeout 300 "$program" "$addr"
