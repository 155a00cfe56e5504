#!/usr/bin/env bash
# Measure groups of consumers on Flumen and Apache Kafka, one after the other, each durable (D1), and Kafka as it is (D0).
# usage: groups.sh rebalance [OPTIONS of flumen-bench groups rebalance]   both protocols; --kind is given by this script
#        groups.sh lag [OPTIONS of flumen-bench groups lag]               Kafka has no such metrics: Flumen only
# environment: FLUMEN_BIN (default: the release build), BENCH_DATA (folder on the disk to be measured), BROKER_CPU (0),
#   LOAD_CPU (1), SYSTEMS ("f1 k1 k0"), KINDS ("classic consumer"). Results lie in target/bench/groups, one JSON per run.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
[[ ${1:--h} != -* ]] || { sed -n 3,6p "$0" >&2; exit 2; }
what=$1; shift
target=$(realpath -m "${CARGO_TARGET_DIR:-$here/target}")
bench=$target/release/flumen-bench flumen=${FLUMEN_BIN:-$target/release/flumen} out=$target/bench/groups
data=${BENCH_DATA:-$out/data} load_cpu=${LOAD_CPU:-1} broker=
mkdir -p "$out"
stop() { [ -z "$broker" ] || { kill -TERM "$broker" 2> /dev/null && wait "$broker"; } || true; broker=; rm -rf "$data"; }
trap stop EXIT; trap 'exit 1' INT TERM HUP
# started SYSTEM: a fresh broker on its own CPU, ready when it names its topics
started() {
  local command; port=$("$here/scripts/prepare.sh" port) admin=$("$here/scripts/prepare.sh" port)
  rm -rf "$data"; mkdir -p "$data"
  case $1 in
    f1) command=("$flumen" serve -o "listeners=PLAINTEXT://127.0.0.1:$port" -o "log.dirs=$data" -o "flumen.admin.listener=127.0.0.1:$admin") ;;
    k1) command=("$here/scripts/kafka.sh" "$port" "$data" log.flush.interval.messages=1) ;;
    k0) command=("$here/scripts/kafka.sh" "$port" "$data") ;;
    *) echo "groups.sh: there is no system $1" >&2; exit 2 ;;
  esac
  taskset -c "${BROKER_CPU:-0}" "${command[@]}" > "$out/$1.log" 2>&1 &
  broker=$!
  for _ in $(seq 240); do
    ! "$flumen" topics list -b "127.0.0.1:$port" > /dev/null 2>&1 || return 0
    kill -0 "$broker" 2> /dev/null || { tail -n 5 "$out/$1.log" >&2; exit 1; }
    sleep 0.25
  done
  echo "groups.sh: $1 does not serve" >&2; exit 1
}
(cd "$here" && cargo build -q --locked --release --bin flumen --bin flumen-bench)
if [ "$what" = lag ]; then
  started f1
  "$bench" groups lag --bootstrap "127.0.0.1:$port" --metrics "127.0.0.1:$admin" --cpu "$load_cpu" --json "$out/lag.json" "$@"
  for command in "groups list" "groups describe lag-000000"; do
    for _ in 1 2 3; do
      # shellcheck disable=SC2086 # the words of a command
      /usr/bin/time -f "flumen $command: %e s" taskset -c "$load_cpu" "$flumen" $command -b "127.0.0.1:$port" > /dev/null
    done
  done
else
  for system in ${SYSTEMS:-f1 k1 k0}; do
    started "$system"
    for kind in ${KINDS:-classic consumer}; do
      # a group that is not told of: a JVM has compiled none of this yet
      "$bench" groups rebalance --bootstrap "127.0.0.1:$port" --kind "$kind" --cpu "$load_cpu" --members 50 --rounds 5 \
        --heartbeat-ms 100 > /dev/null
      "$bench" groups rebalance --bootstrap "127.0.0.1:$port" --kind "$kind" --system "$system" --cpu "$load_cpu" \
        --json "$out/rebalance-$system-$kind.json" "$@"
    done
    stop
  done
fi
