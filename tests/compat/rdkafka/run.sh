#!/usr/bin/env bash
# The integration tests inside a Rust client crate, sources unchanged: rdkafka (librdkafka), or rskafka.
# usage: run.sh ADDR
# environment: CRATE=rskafka (default rdkafka), LIMIT (seconds for each test program, default 280)
# rdkafka asks for node id 0 and three partitions, rskafka for no topics by themselves: see their broker.txt.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
addr=${1:?usage: run.sh ADDR}
. "$here/../report.sh"
crate=${CRATE:-rdkafka} rdkafka=0.39.0 rskafka=0.6.0
client "$crate" "${!crate}"
"$here/../../../scripts/prepare.sh" debian pkg-config libclang-dev
library=$("$here/../librdkafka/build.sh")/src
cache=${FLUMEN_CACHE:-$HOME/.cache/flumen}/rust-clients
mkdir -p "$cache"
cd "$cache"
if [ ! -e complete ]; then
  rm -rf get rdkafka rskafka
  mkdir -p get/src
  : > get/src/lib.rs
  printf '[package]\nname="get"\nversion="0.0.0"\nedition="2021"\n[dependencies]\nrdkafka="=%s"\nrskafka="=%s"\n' $rdkafka $rskafka > get/Cargo.toml
  (cd get && cargo vendor -q vendor > /dev/null)
  mv get/vendor/rdkafka get/vendor/rskafka .
  rm -rf get rskafka/rust-toolchain.toml # it asks for an older compiler,
  (cd rskafka && cargo update -q -p rsasl --precise 2.3.1) >&2 # with a newer one its locked rsasl does not compile
  printf 'Name: rdkafka\nDescription: C client\nVersion: 2.12.1\nLibs: -L%s -lrdkafka\nCflags: -I%s\n' "$library" "$library" > rdkafka.pc
  touch complete
fi
export PKG_CONFIG_PATH=$cache LD_LIBRARY_PATH=$library
export KAFKA_HOST=$addr KAFKA_VERSION=4.1.0                          # rdkafka
export TEST_INTEGRATION=1 TEST_BROKER_IMPL=kafka KAFKA_CONNECT=$addr # rskafka
out=$(mktemp -d)
one() { # SOURCE PROGRAM: verdict lines of one test program
  local n rc=0 name verdict
  n=$(basename "$1" .rs)
  (cd "$crate" && timeout -k 5 "${LIMIT:-280}" "$2" --test-threads=2 < /dev/null) > "$out/$crate.$n.log" 2>&1 || rc=$?
  sed -n 's/^test \(\S*\).* \.\.\. \(.*\)$/\1 \2/p' "$out/$crate.$n.log" | while read -r name verdict; do
    # these return early, with success, unless the environment offers what they need
    case $crate/$name in
      rskafka/test_sasl) verdict="skip no SASL listener" ;;
      rskafka/test_socks5) verdict="skip no SOCKS proxy" ;;
      rskafka/*java*) verdict="skip no Java bridge" ;;
      rdkafka/test_metadata | rdkafka/test_future_producer_send | rdkafka/test_future_producer_send_fail)
        [ "${addr##*:}" = 9092 ] || verdict="skip asks for port 9092 whatever the address" ;;
    esac
    case $verdict in
      ok*) echo "PASS $crate.$n.$name" ;;
      ignored*) echo "SKIP $crate.$n.$name ignored upstream" ;;
      skip*) echo "SKIP $crate.$n.$name ${verdict#skip }" ;;
      *) echo "FAIL $crate.$n.$name" ;;
    esac
  done
  if [ $rc = 124 ] || [ $rc = 137 ]; then echo "FAIL $crate.$n no end within ${LIMIT:-280} s"; fi
}
feature=dynamic-linking; [ "$crate" = rdkafka ] || feature=rdkafka/$feature
if (cd "$crate" && CARGO_TARGET_DIR=$cache/target-$crate cargo test --tests --no-run --features $feature) > "$out/$crate.build" 2>&1; then
  while read -r source program; do
    case $(basename "$source" .rs) in utils | test_helpers | *_helper | test_topic_partition_list) continue ;; esac
    one "$source" "${program:1:-1}"
  done < <(grep -o 'tests/[a-z_]*.rs (.*)' "$out/$crate.build")
else
  bad "$crate.build" "see $out/$crate.build"
fi | sort -u -k2 > "$out/verdicts"
echo "logs: $out" >&2
verdicts "$out/verdicts"
