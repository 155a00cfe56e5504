#!/usr/bin/env bash
# Two Python clients in three versions, each with the same everyday checks.
# usage: run.sh ADDR
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
addr=${1:?usage: run.sh ADDR}
prepare=$here/../../../scripts/prepare.sh
. "$here/../report.sh"
codecs="cramjam==2.14.0 python-snappy==0.7.3 lz4==4.4.5 zstandard==0.25.0 crc32c==2.9.post0"
out=$(mktemp)
trap 'rm -f "$out"' EXIT
cd "$here"
export PYTHONDONTWRITEBYTECODE=1
for version in 2.3.3 3.0.12; do
  # shellcheck disable=SC2086 — a list of packages
  python=$("$prepare" python "kafka-python-$version" "kafka-python==$version" $codecs)
  client kafka-python "$version" "kafka-python-${version%%.*}."
  timeout 300 "$python" kafka_python.py "$addr" "kafka-python-${version%%.*}" >> "$out" || true
done
version=2.16.1
python=$("$prepare" python confluent "confluent-kafka==$version")
client confluent-kafka "$version" confluent.
timeout 300 "$python" confluent.py "$addr" confluent >> "$out" || true
verdicts "$out"
