#!/usr/bin/env bash
# Compare Flumen with Apache Kafka, durable (D1) and not: Kafka's page cache (D0), Flumen's memory (D0m), which a SIGKILL may take.
# usage: bench.sh [--out DIR] NAME [OPTIONS of flumen-bench compare]
#   NAME   scenarios whose name begins so (bench-harness/scenarios): b2-throughput or b2; 8 pairs unless --pairs is given
#   all    the generator's self-test and the scenarios of bench-harness/all.plan in under 90 minutes, then RESULTS.md
#   plan   what `all` would run, and how long it takes
#   smoke  every subcommand for a few seconds; the numbers mean nothing
# environment: FLUMEN_BIN (default: the release build), BENCH_DATA (folder on the disk to be measured; 40 GB free for `all`),
#   BROKER_CPUS (0), LOAD_CPUS (1). Results lie in DIR (target/bench). Exit code 1: broken off; 3: measured, but doubted.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
target=$(realpath -m "${CARGO_TARGET_DIR:-$here/target}") out= status=0 child=
[ "${1:-}" != --out ] || { out=$(realpath -m "$2"); shift 2; }
[[ ${1:--h} != -* ]] || { sed -n 3,9p "$0" >&2; exit 2; }
what=$1 keep=${out:-$target/bench} load_cpus=${LOAD_CPUS:-1}; shift
[ "$what$out" != all ] || keep=$here/bench-harness
out=${out:-$target/bench}
bench=$target/release/flumen-bench flumen=${FLUMEN_BIN:-$target/release/flumen}
broker="$flumen serve -o listeners=PLAINTEXT://127.0.0.1:{port} -o log.dirs={data} -o flumen.admin.listener="
kafka="$here/scripts/kafka.sh {port} {data}"
declare -A systems=([f1]="flumen=D1=$broker" [f0]="flumen=D0m=$broker -o log.flush.interval.messages=1000000000"
  [k1]="kafka=D1=$kafka log.flush.interval.messages=1" [k0]="kafka=D0=$kafka"
  [n0]="null=D0m=: {data}; exec $bench null --listen 127.0.0.1:{port}") # keeps nothing
# lines of the plan with their cost: a run needs its seconds, its extra and 9 s (Kafka: 44) around; the probes need 16 s
lines() { awk '!/^#/ { n = split($2, s, ","); cost = 16 + 2 * $6 * ($4 + $5 + 9)
  for (i = 1; i <= n; i++) cost += $3 * ($4 + $5 + (s[i] ~ /^k/ ? 44 : 9)); print $1, $2, $3, $4, $6, cost }' "$here/bench-harness/all.plan"; }
# ran COMMAND…: in the background, for a signal reaches this script only while it waits, and is handed on then
ran() { local rc=0; "$bench" "$@" < /dev/null & child=$!; wait "$child" || rc=$?; child=; return "$rc"; }
stop() { trap '' INT TERM HUP; [ -z "$child" ] || { kill -TERM "$child" 2> /dev/null; wait "$child"; } || true; exit 1; }
# noted FILE COMMAND…: a result that was written belongs to the report, whatever its exit code; the worst code stays
noted() { local rc=0; rm -f "$1"; ran "${@:2}" --json "$1" || rc=$?; [ ! -e "$1" ] || files+=("$1")
  [ "$rc" = 0 ] || [ "$status" = 1 ] || status=$rc; }
# against SYSTEMS SCENARIO OPTIONS…: one comparison; a doubted one does not end the others, nor does a broken one
against() {
  local options=() system
  for system in ${1//,/ }; do options+=(--system "${systems[$system]}"); [[ $system != k* ]] || options+=(--warm-up-of kafka=30); done
  noted "$out/$2.json" compare --scenario "$here/bench-harness/scenarios/$2.toml" --data "$data" \
    --broker-cpus "${BROKER_CPUS:-0}" --load-cpus "$load_cpus" "${options[@]}" "${@:3}"
}
[ "$what" != plan ] || { lines | awk '{ all += $6; printf "%-34s %-12s %2d x %3d s, %d control  %5d s, until %3d min\n", $1, $2, $3,
  $4, $5, $6, (all + 75) / 60 + 0.5 }'; exit; } # limits and self-test need 75 s
data=${BENCH_DATA:-$out/data} files=() line=0; trap stop INT TERM HUP; mkdir -p "$data" "$keep" "$out"
(cd "$here" && cargo build -q --locked --release --bin flumen --bin flumen-bench)
if [ "$what" = smoke ]; then
  noted "$out/limits.json" limits "$data" --seconds 0.05
  against f1,f0 b1-one-in-flight-2core --quick; against f1 b11-restart-killed-2core-div10 --quick --no-control
  against n0 b2-half-load-2core --quick --no-control
elif [ "$what" = all ]; then
  noted "$out/self-test.json" load --self-test --cpu "${load_cpus%%[-,]*}"; noted "$out/limits.json" limits "$data"
  while read -r name set pairs seconds control _; do
    [ "$control" = 0 ] && control=--no-control || control=--control-pairs=$control
    against "$set" "$name" "--pairs=$pairs" "--seconds=$seconds" "$control" --first=$((line++))
  done < <(lines)
else
  for file in "$here/bench-harness/scenarios/$what"*.toml; do against f1,k1,f0,k0 "$(basename "$file" .toml)" "$@"; done
fi
"$bench" report "${files[@]}" --markdown "$keep/RESULTS.md" --html "$keep/results.html" --keep "$keep/results"
echo "$keep/RESULTS.md and $keep/results.html, from ${#files[@]} results in $out"; exit "$status"
