#!/usr/bin/env bash
# The integration tests inside two Rust client crates, sources unchanged: rdkafka (librdkafka) and rskafka.
# usage: run.sh ADDR
# environment: LIMIT (seconds for each test program, default 280)
# rdkafka asks for node id 0 and three partitions, see broker.txt.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
addr=${1:?usage: run.sh ADDR}
. "$here/../report.sh"
"$here/../../../scripts/prepare.sh" debian pkg-config libclang-dev
library=$("$here/../librdkafka/build.sh")/src
cache=${FLUMEN_CACHE:-$HOME/.cache/flumen}/rust-clients
mkdir -p "$cache"
cd "$cache"
if [ ! -e complete ]; then
  rm -rf get rdkafka rskafka
  mkdir -p get/src
  : > get/src/lib.rs
  printf '[package]\nname="get"\nversion="0.0.0"\nedition="2021"\n[dependencies]\nrdkafka="=0.39.0"\nrskafka="=0.6.0"\n' > get/Cargo.toml
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
one() { # CRATE SOURCE PROGRAM: verdict lines of one test program
  local crate=$1 n rc=0 name verdict
  n=$(basename "$2" .rs)
  (cd "$crate" && timeout -k 5 "${LIMIT:-280}" "$3" --test-threads=2 < /dev/null) > "$out/$crate.$n.log" 2>&1 || rc=$?
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
for crate in rdkafka rskafka; do
  feature=dynamic-linking; [ $crate = rdkafka ] || feature=rdkafka/$feature
  (cd $crate && CARGO_TARGET_DIR=$cache/target-$crate cargo test --tests --no-run --features $feature) > "$out/$crate.build" 2>&1 ||
    { bad "$crate.build" "see $out/$crate.build"; continue; }
  while read -r source program; do
    case $(basename "$source" .rs) in utils | test_helpers | *_helper | test_topic_partition_list) continue ;; esac
    one $crate "$source" "${program:1:-1}"
  done < <(grep -o 'tests/[a-z_]*.rs (.*)' "$out/$crate.build")
done | sort -u -k2 > "$out/verdicts"
echo "logs: $out" >&2
verdicts "$out/verdicts"
