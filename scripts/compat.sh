#!/usr/bin/env bash
# Run real clients and their own test suites, unchanged, against the broker, and compare with what is expected.
# usage: compat.sh NAME…|quick|all     names are the folders of tests/compat; quick is what check.sh runs
#        compat.sh matrix              writes tests/compat/MATRIX.md from the last whole run of every suite, all of one commit
# environment: FLUMEN_TEST_ADDR=host:port   a broker that is already there; default: one is started for each suite
#   COMPAT_REFERENCE=1   that broker is Apache Kafka: it may pass what tests/compat/NAME/allow.txt excuses
#   FLUMEN_BIN, FLUMEN_CACHE, as for check.sh
# Fails where a check fails or skips without being listed in allow.txt, or is listed and passes.
set -euo pipefail
[ $# -ge 1 ] || { sed -n 2,8p "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
quick="kcat python franz-go sarama java"
all="$quick librdkafka librdkafka-consumer librdkafka-idempotent librdkafka-noautocreate rdkafka rskafka"
said=$target/compat # what the suites said in their last whole runs, for the matrix
names=$*
case $names in
  quick) names=$quick; export COMPAT_QUICK=1 ;;
  all) names=$all ;;
  matrix) exec python3 tests/compat/matrix.py "$said" $all ;;
esac
scratch=$target/scratch/compat-$$ broker=
mkdir -p "$scratch" "$said"
commit=$(git describe --always --dirty --abbrev=10 --exclude '*')
stop() { [ -z "$broker" ] || { kill "$broker" 2> /dev/null; wait "$broker" || true; }; broker=; }
trap stop EXIT
if [ -z "${FLUMEN_TEST_ADDR:-}" ] && [ -z "${FLUMEN_BIN:-}" ]; then
  cargo build -q --release --bin flumen
  FLUMEN_BIN=$target/release/flumen
fi
passed=0 failed=0 skipped=0
for name in $names; do
  addr=${FLUMEN_TEST_ADDR:-}
  if [ -z "$addr" ]; then
    addr=127.0.0.1:$(scripts/prepare.sh port) options=()
    while read -r option; do options+=(--override "$option"); done < <(grep -sv '^#' "tests/compat/$name/broker.txt" || true)
    "$FLUMEN_BIN" serve --override "listeners=PLAINTEXT://$addr" --override "log.dirs=$scratch/$name-data" --override flumen.admin.listener= \
      --override num.partitions=4 --override group.initial.rebalance.delay.ms=0 "${options[@]}" > "$scratch/$name-broker.log" 2>&1 &
    broker=$!
    for _ in $(seq 150); do (exec 3<> "/dev/tcp/${addr/:/\/}") 2> /dev/null && break || sleep 0.2; done
  fi
  echo "-- $name against $addr"
  began=$SECONDS
  "tests/compat/$name/run.sh" "$addr" > "$scratch/$name.out" || true # the judge below knows what may fail
  if [ -z "${FLUMEN_TEST_ADDR:-}${COMPAT_QUICK:-}" ]; then
    { echo "BROKER $commit $(date -u +%F)"; cat "$scratch/$name.out"; } > "$said/$name.out"
  fi
  verdict=$(python3 tests/compat/judge.py "$name" "tests/compat/$name/allow.txt" "$scratch/$name.out") || true
  echo "$verdict"
  echo "-- $name took $((SECONDS - began)) s, its output: $scratch/$name.out"
  read -r p f s <<< "$(tail -n 1 <<< "$verdict" | sed -E "s/^$name: ([0-9]+) as expected, ([0-9]+) not, ([0-9]+) excused\$/\1 \2 \3/")"
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  stop
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
