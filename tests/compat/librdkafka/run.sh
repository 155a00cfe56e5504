#!/usr/bin/env bash
# librdkafka's own test-runner: every test that talks to a broker, in quick mode, one process for each number.
# usage: run.sh ADDR
# environment: TESTS="0001 0113" (default: all), FULL=1 (no quick mode), GROUP_PROTOCOL=consumer, IDEMPOTENT=1 (every producer),
#   SCENARIO=noautocreate (for a broker that creates no topics by itself), JOBS (default 3), LIMIT (seconds for each number, default 600)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
addr=${1:?usage: run.sh ADDR}
. "$here/../report.sh"
build=$("$here/build.sh")
client librdkafka "${build##*-}"
out=$(mktemp -d)
printf 'bootstrap.servers=%s\nbroker.address.family=v4\ntest.timeout.multiplier=2\n' "$addr" > "$out/test.conf"
export RDKAFKA_TEST_CONF=$out/test.conf TEST_CONSUMER_GROUP_PROTOCOL=${GROUP_PROTOCOL:-classic} BROKERS=$addr
export KAFKA_PATH=$build/kafka TEST_KAFKA_VERSION=4.1.0 LD_LIBRARY_PATH=$build/src:$build/src-cpp
export out build limit=${LIMIT:-600} flags="-p1 -K -L -E"
[ -n "${FULL:-}" ] || flags+=" -Q"
[ -z "${IDEMPOTENT:-}" ] || flags+=" -P"
[ -z "${SCENARIO:-}" ] || flags+=" -s $SCENARIO"
# numbers of the tests that are neither local nor manual, from the table in test.c
every=$(sed -n '/^struct test tests\[\]/,/^};/p' "$build/tests/test.c" | tr -d '\n' | sed 's/_TEST(/\n&/g' |
  grep '^_TEST(' | grep -v -e LOCAL -e MANUAL | sed 's/_TEST(\([0-9]*\)_.*/\1/' | sort -u)
reason() { grep -a -A1 "^### Test \"$1.*failed" "$2" | sed -n 2p | cut -c1-160; }
one() { # one number -> $out/NUMBER.verdict
  set +e
  local n=$1 log=$out/$1.log rc name state why
  (cd "$build/tests" && TESTS=$n timeout -k 10 "$limit" ./test-runner $flags) > "$log" 2>&1
  rc=$?
  sed -i 's/\x1b\[[0-9;]*m//g' "$log"
  # verdicts stand in the table at the end, the reason of a failure where it happened
  grep -a '^|' "$log" | grep -av '<MAIN>' | while IFS='|' read -r _ name state why; do
    name=${name// /} why=$(tr -s ' |' ' ' <<< "$why" | sed 's/^ *//; s/ *$//; s/^[0-9.]*s *//')
    case $state in
      *PASSED*) echo "PASS $name" ;;
      *SKIPPED*) case "$name $why" in *_mock\ * | *_local\ * | *"negative test flags"*) ;; *) echo "SKIP $name ${why:-not in this scenario}" ;; esac ;;
      *) echo "FAIL $name $(reason "$name" "$log")" ;;
    esac
  done > "$out/$n.verdict"
  grep -q . "$out/$n.verdict" && return 0
  name=$(grep -a '^### Test "' "$log" | grep -av '<MAIN>' | head -n 1 | sed 's/^### Test "\([^" ]*\).*/\1/')
  if [ $rc = 124 ] || [ $rc = 137 ]; then echo "FAIL ${name:-$n} no verdict within $limit s"
  elif [ $rc != 0 ]; then echo "FAIL ${name:-$n} $(reason "${name:-.}" "$log")"; fi > "$out/$n.verdict"
}
export -f one reason
printf '%s\n' ${TESTS:-$every} | xargs -P "${JOBS:-3}" -I{} bash -c 'one {}'
sort -k2 "$out"/*.verdict > "$out/verdicts"
echo "logs: $out" >&2
verdicts "$out/verdicts"
