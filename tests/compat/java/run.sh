#!/usr/bin/env bash
# Kafka's own command line tools (the Java client) against a broker, asserted on what they print.
# usage: run.sh ADDR
# environment: COMPAT_QUICK=1   only what the everyday tools do; otherwise everything, see allow.txt
#   LIMIT (seconds for each tool, default 90), KEEP=1 (leave the topics and the outputs)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
addr=${1:?usage: run.sh ADDR}
. "$here/../report.sh"
home=$("$here/jars.sh")
client kafka-tools "${home##*-}"
dir=$(mktemp -d) id=j$(date +%s)$RANDOM
out=$dir/out
cd "$dir"
# kafka TOOL ARGS…: its output is in $out and $said (with stderr); a failing tool is for the assertions to notice
kafka() {
  local tool=$1 verb=(); shift
  [ "$tool" != cluster ] || { verb=("$1"); shift; } # the one tool that wants its verb first
  raw "$tool" "${verb[@]}" --bootstrap-server "$addr" "$@"
}
raw() {
  local tool=$1; shift
  timeout -k 5 "${LIMIT:-90}" "$here/tool.sh" "$home" "$tool" "$@" > "$out" 2> err || echo "exit $?" >> err
  said=$(cat "$out" err)
  printf '$ %s %s\n%s\n' "$tool" "$*" "$said" >> all.log
}
create() { kafka topics --create --topic "$1" --partitions "${2:-1}"; }
produce() { local t=$1; shift; kafka console-producer --topic "$t" "$@"; }
consume() { local t=$1; shift; kafka console-consumer --topic "$t" "$@"; }
# offsets TOPIC TIME: "partition:offset …"
offsets() { kafka get-offsets --topic "$1" --time "$2"; sed -n "s/^$1://p" "$out" | sort -n | xargs; }
total() { kafka get-offsets --topic "$1" --time "${2:--1}"; awk -F: -v t="$1" '$1 == t {n += $3} END {print n + 0}' "$out"; }
# committed GROUP TOPIC: "partition:offset:lag …"
committed() { kafka consumer-groups --describe --group "$1" --offsets; awk -v t="$2" '$2 == t {print $3 ":" $4 ":" $6}' "$out" | sort -n | xargs; }
# configs KIND NAME FLAGS…: alter and describe
alter() { local kind=$1 name=$2; shift 2; kafka configs --alter --entity-type "$kind" --entity-name "$name" "$@"; }
describe() { local kind=$1 name=$2; shift 2; kafka configs --describe --entity-type "$kind" --entity-name "$name" "$@"; }

cluster() {
  # one archive of classes for all the short-lived machines halves their start
  JVM_OPTIONS="-XX:ArchiveClassesAtExit=$dir/tools.jsa" kafka broker-api-versions
  export JVM_OPTIONS="-XX:SharedArchiveFile=$dir/tools.jsa -Xlog:cds=off -Xlog:cds+dynamic=off"
  node=$(sed -n 's/.*(id: \([0-9]*\) .*/\1/p' "$out" | head -n 1)
  local missing= key
  for key in 0 1 2 3 8 9 10 11 12 13 14 15 16 19 20 21 22 24 25 26 28 32 37 42 44 47; do
    grep -Eq "\($key\): [0-9].*\[usable: [0-9]" "$out" || missing+=" $key"
  done
  is api-versions.usable "$missing" ""
  kafka cluster cluster-id; has cluster.id 'Cluster ID: [A-Za-z0-9_-]+' "$said"
}

topics() {
  local t=$id-topic
  kafka topics --create --topic "$t" --partitions 3 --replication-factor 1 --config retention.ms=3600000
  has topics.create "Created topic $t" "$said"
  kafka topics --describe --topic "$t"
  has topics.describe.header "PartitionCount: 3.ReplicationFactor: 1.Configs: .*retention.ms=3600000" "$said"
  is topics.describe.partitions "$(grep -c "Partition: [0-2].Leader: $node.Replicas: $node.Isr: $node" "$out" || true)" 3
  kafka topics --list; has topics.list "^$t\$" "$said"
  create "$t"; has topics.create.existing "already exists" "$said"
  kafka topics --create --topic "$id-bad" --config no.such.config=1; has topics.create.unknown-config "[Uu]nknown topic config" "$said"
  kafka topics --create --topic "$id/bad"; has topics.create.bad-name "illegal|InvalidTopicException|invalid" "$said"
  kafka topics --alter --topic "$t" --partitions 6; kafka topics --describe --topic "$t"
  has topics.alter.more "PartitionCount: 6" "$said"
  kafka topics --alter --topic "$t" --partitions 2; has topics.alter.fewer "InvalidPartitions|would not be an increase|decrease" "$said"
  kafka topics --describe --topic "$id-none"; has topics.describe.unknown "does not exist" "$said"
  alter topics "$t" --add-config max.message.bytes=2000000
  describe topics "$t"
  has configs.topic.set 'max.message.bytes=2000000 sensitive=false synonyms=\{DYNAMIC_TOPIC_CONFIG:max.message.bytes=2000000' "$said"
  alter topics "$t" --delete-config max.message.bytes
  describe topics "$t"; hasnt configs.topic.unset 'max.message.bytes' "$said"; has configs.topic.kept 'retention.ms=3600000' "$said"
  describe topics "$t" --all; has configs.topic.all 'max.message.bytes=[0-9]+ .*DEFAULT_CONFIG:message.max.bytes' "$said"
  alter topics "$t" --add-config retention.ms=soon; has configs.topic.invalid 'Invalid value soon' "$said"
  describe brokers "$node" --all; has configs.broker.all 'message.max.bytes=[0-9]+' "$said"
  kafka topics --delete --topic "$t"; kafka topics --list; hasnt topics.delete "^$t\$" "$said"
  create "$t"; kafka topics --describe --topic "$t"; has topics.recreate "PartitionCount: 1" "$said"
  kafka topics --delete --topic "$id-none"; has topics.delete.unknown 'does not exist' "$said"
}

console() {
  local c=$id-console codec
  create "$c"
  printf 'h1:a,h2:b\tk1|v1\nh1:c\tk2|v2\n' | produce "$c" --property parse.key=true --property key.separator='|' --property parse.headers=true
  consume "$c" --from-beginning --max-messages 2 --property print.key=true --property print.headers=true --property print.offset=true
  is console.round-trip "$(tr '\t\n' '^ ' < "$out")" "Offset:0^h1:a,h2:b^k1^v1 Offset:1^h1:c^k2^v2 "
  for codec in gzip snappy lz4 zstd; do seq -f "$codec-%g" 1000 | produce "$c" --compression-codec $codec; done
  consume "$c" --partition 0 --offset 2 --max-messages 4000
  for codec in gzip snappy lz4 zstd; do is "console.codec.$codec" "$(grep -c "^$codec-[0-9]*$" "$out" || true)" 1000; done
  consume "$c" --partition 0 --offset 4001 --max-messages 1; is console.from-offset "$(cat "$out")" zstd-1000
}

offset_queries() {
  local o=$id-offsets before middle
  create "$o" 2
  seq 10 | produce "$o"
  sleep 1; middle=$(date +%s%3N); sleep 1; before=$(total "$o")
  echo late | produce "$o"
  is offsets.latest "$(total "$o")" 11
  is offsets.earliest "$(offsets "$o" -2)" "0:0 1:0"
  is offsets.by-time "$(offsets "$o" "$middle" | tr ' ' '\n' | grep -Ec '^[01]:[0-9]+$' || true)" 1
  is offsets.by-time.value "$([ "$(total "$o" "$middle")" -le "$before" ] && echo yes)" yes
}

verifiable() { # verifiable PROTOCOL
  local v=$id-verify-$1
  create "$v" 4
  kafka verifiable-producer --topic "$v" --max-messages 1000 --acks -1 --value-prefix 7 --repeating-keys 20
  has "verifiable.$1.producer" '"sent":1000,"acked":1000' "$said"
  kafka verifiable-consumer --topic "$v" --group-id "$v" --max-messages 1000 --group-protocol "$1" --reset-policy earliest --verbose
  is "verifiable.$1.values" "$(grep -o '"value":"7\.[0-9]*"' "$out" | sort -u | wc -l)" 1000
  is "verifiable.$1.no-duplicates" "$(grep -c '"name":"record_data"' "$out" || true)" 1000
  has "verifiable.$1.committed" '"name":"offsets_committed".*"success":true' "$said"
  is "verifiable.$1.lag" "$(committed "$v" "$v" | tr ' ' '\n' | awk -F: '{n += $2; l += $3} END {print n + 0, l + 0}')" "1000 0"
}

groups() {
  local g=$id-group r=$id-reset how want lag
  create "$r"
  seq 20 | produce "$r"
  consume "$r" --group "$g" --from-beginning --max-messages 10
  is groups.committed "$(committed "$g" "$r")" 0:10:10
  kafka consumer-groups --list --state; has groups.list.state "$g +Empty" "$said"
  kafka consumer-groups --describe --group "$g" --state; has groups.describe.state "$g .*Empty +0" "$said"
  while IFS='|' read -r how want lag; do
    # shellcheck disable=SC2086 — a flag and its value
    kafka consumer-groups --group "$g" --topic "$r" --reset-offsets --$how --execute < /dev/null
    is "groups.reset.${how%% *}" "$(committed "$g" "$r" < /dev/null)" "0:$want:$lag"
  done <<< 'to-earliest|0|20
to-latest|20|0
to-offset 5|5|15
shift-by 2|7|13
to-datetime 2020-01-01T00:00:00.000|0|20'
  kafka consumer-groups --group "$g" --topic "$r" --delete-offsets; has groups.delete-offsets "$r +0 +Successful" "$said"
  kafka consumer-groups --delete --group "$g"; has groups.delete "Deletion of requested consumer groups \('$g'\) was successful" "$said"
  kafka consumer-groups --list; hasnt groups.deleted "^$g\$" "$said"
  kafka consumer-groups --describe --group "$g"; has groups.describe.unknown "does not exist|not found" "$said"
  echo "{\"partitions\":[{\"topic\":\"$r\",\"partition\":0,\"offset\":5}],\"version\":1}" > delete.json
  kafka delete-records --offset-json-file delete.json; has delete-records "partition: $r-0.low_watermark: 5" "$said"
  is delete-records.earliest "$(offsets "$r" -2)" 0:5
  consume "$r" --from-beginning --max-messages 15; is delete-records.rest "$(xargs < "$out")" "$(seq 6 20 | xargs)"
}

live_group() { # live_group PROTOCOL: a member that stays
  local m=$id-live-$1 r=$id-live-topic-$1 live
  create "$r"
  seq 20 | produce "$r"
  "$here/tool.sh" "$home" console-consumer --bootstrap-server "$addr" --topic "$r" --group "$m" \
    --consumer-property "group.protocol=$1" --from-beginning --timeout-ms 120000 > live.out 2> live.err & live=$!
  for _ in $(seq 60); do [ "$(wc -l < live.out)" != 20 ] || break; sleep 0.5; done
  is "groups.$1.live.read" "$(wc -l < live.out)" 20
  kafka consumer-groups --describe --group "$m" --members --verbose; has "groups.$1.members" "$m +.*console-consumer.* 1 .*$r" "$said"
  kafka consumer-groups --describe --group "$m" --state; has "groups.$1.state" "Stable +1" "$said"
  kafka consumer-groups --delete --group "$m"; has "groups.$1.delete-nonempty" "GroupNotEmpty|not empty" "$said"
  kafka groups --list; has "groups.$1.list" "$m +(Classic|Consumer) +consumer" "$said"
  kill $live 2> /dev/null || true # it may have ended by itself
  wait $live 2> /dev/null || true
  kafka consumer-groups --describe --group "$m" --state; has "groups.$1.left" "Empty +0" "$said"
}

load() {
  local p=$id-perf
  create "$p" 4
  raw producer-perf-test --topic "$p" --num-records 20000 --record-size 200 --throughput -1 \
    --producer-props "bootstrap.servers=$addr" acks=all compression.type=lz4
  has perf.producer '20000 records sent, [0-9.]+ records/sec' "$said"
  is perf.offsets "$(total "$p")" 20000
  kafka consumer-perf-test --topic "$p" --messages 20000 --timeout 30000 --group "$id-perf"
  is perf.consumer "$(awk -F', ' 'NR > 1 && $5 + 0 >= 20000' "$out" | wc -l)" 1
  raw e2e-latency "$addr" "$p" 200 all 100; has perf.end-to-end 'Avg latency: [0-9.]+ ms' "$said"
}

administration() {
  local f t=$id-admin
  create "$t"
  kafka features describe
  for f in metadata.version group.version transaction.version; do has "features.$f" "$f.*FinalizedVersionLevel: [1-9]" "$said"; done
  kafka metadata-quorum describe --status; has quorum.status "LeaderId: +[0-9]+" "$said"
  kafka metadata-quorum describe --replication; has quorum.replication "Leader" "$said"
  alter topics "$t" --add-config cleanup.policy=compact; describe topics "$t"; has compaction.policy 'cleanup.policy=compact ' "$said"
  kafka configs --alter --entity-type brokers --entity-default --add-config message.max.bytes=1048999
  kafka configs --describe --entity-type brokers --entity-default; has configs.broker.default.set 'message.max.bytes=1048999' "$said"
  kafka configs --alter --entity-type brokers --entity-default --delete-config message.max.bytes
  alter clients "$id" --add-config producer_byte_rate=123456; describe clients "$id"; has quotas.set 'producer_byte_rate=123456' "$said"
  alter users "$id" --add-config 'SCRAM-SHA-256=[iterations=4096,password=pw]'; describe users "$id"
  has security.scram 'SCRAM-SHA-256=iterations=4096' "$said"
  kafka acls --add --allow-principal User:nobody --operation Read --topic "$id-acl" --resource-pattern-type prefixed
  kafka acls --list; has security.acls 'principal=User:nobody, host=\*, operation=READ' "$said"
  kafka log-dirs --describe --topic-list "$t"; has log-dirs "\"partition\":\"$t-0\",\"size\":[0-9]+" "$said"
  kafka leader-election --election-type preferred --topic "$t" --partition 0; has leader-election 'already elected|Successfully|Valid replica' "$said"
  kafka reassign-partitions --list; has reassign.list '[Nn]o partition reassignments found' "$said"
  kafka topics --delete --topic newtopic; sleep 1 # the name that this test always creates
  kafka client-compatibility-test --topic "$id-compat" --num-cluster-nodes 1 --offsets-for-times-supported true \
    --cluster-id-supported true --expect-record-too-large-exception false --create-topics-supported true \
    --describe-acls-supported true --describe-configs-supported true --idempotent-producer-supported true
  has client-compatibility-test '^SUCCESS' "$said"
}

transactions() {
  local x=$id-txn
  create "$x"
  raw producer-perf-test --topic "$x" --num-records 2000 --record-size 100 --throughput 2000 --transactional-id "$id-tid" \
    --transaction-duration-ms 200 --producer-props "bootstrap.servers=$addr"
  has transactions.perf '2000 records sent' "$said"
  consume "$x" --from-beginning --isolation-level read_committed --max-messages 2000 --timeout-ms 30000
  is transactions.read-committed "$(wc -l < "$out")" 2000
  kafka transactions list; has transactions.list "$id-tid.*CompleteCommit" "$said"
  kafka transactions describe --transactional-id "$id-tid"; has transactions.describe "$id-tid.*CompleteCommit" "$said"
  kafka transactions describe-producers --topic "$x" --partition 0; is transactions.producers "$(grep -Ec '^[0-9]+' "$out" || true)" 1
  kafka transactions find-hanging --broker-id "$node" --max-transaction-timeout 0
  has transactions.find-hanging 'Topic.*Partition.*ProducerId' "$said"; hasnt transactions.hanging "$x" "$said"
}

# a producer is killed in the middle of a transaction, which an operator ends
hanging() {
  local x=$id-hanging producer start
  create "$x"
  "$here/tool.sh" "$home" producer-perf-test --topic "$x" --num-records 100000 --record-size 100 --throughput 200 --transactional-id "$id-hung" \
    --transaction-duration-ms 50000 --producer-props "bootstrap.servers=$addr" > hanging.out 2>&1 & producer=$!
  for _ in $(seq 20); do [ "$(total "$x")" -gt 0 ] && break; sleep 0.5; done
  kill -9 $producer; wait $producer 2> /dev/null || true
  echo later | produce "$x"
  kafka transactions list; has hanging.list "$id-hung.*Ongoing" "$said"
  kafka transactions describe-producers --topic "$x" --partition 0; start=$(awk '/^[0-9]/ && $NF != "None" {print $NF; exit}' "$out")
  is hanging.start "$start" 0
  kafka transactions abort --topic "$x" --partition 0 --start-offset "${start:-0}"
  kafka transactions describe-producers --topic "$x" --partition 0; is hanging.aborted "$(awk '/^[0-9]/ {print $NF}' "$out" | sort -u | xargs)" None
  consume "$x" --from-beginning --isolation-level read_committed --max-messages 1 --timeout-ms 20000; is hanging.later "$(cat "$out")" later
  kafka transactions forceTerminateTransaction --transactionalId "$id-hung"
  kafka transactions list; has hanging.terminated "$id-hung.*(Empty|CompleteAbort)" "$said"
}

cluster; topics; console; offset_queries; verifiable classic; groups; live_group classic; load
if [ -z "${COMPAT_QUICK:-}" ]; then
  administration; verifiable consumer; live_group consumer; transactions; hanging
fi
if [ -z "${KEEP:-}" ]; then kafka topics --delete --topic "$id-.*"; cd /; rm -rf "$dir"; else echo "outputs: $dir" >&2; fi
summary
