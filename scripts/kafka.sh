#!/usr/bin/env bash
# Run Apache Kafka as one node (broker and controller in one process) in the foreground, as stock as one node can be.
# usage: kafka.sh PORT DATA [KEY=VALUE…]      any broker property, e.g. log.flush.interval.messages=1
#        kafka.sh --version
# PORT is the clients', PORT+1 the controller's; DATA is made and formatted when it is empty. Ready when a record is
# acknowledged, ends on SIGTERM. As it is, an acknowledged record lies in the page cache (durability class D0); with
# log.flush.interval.messages=1 it lies on the disk (D1). G1 and the options of Kafka's own start scripts, heap 1 GiB.
# environment: KAFKA_HEAP (default 1G), FLUMEN_CACHE (jars, default ~/.cache/flumen). Needs Java 17 and, once, Maven.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
usage() { sed -n 3,8p "$0" >&2; exit 2; }
pins=$here/../tests/compat/java/pom.xml
[ "${1:-}" != --version ] || { sed -n 's:.*<kafka>\(.*\)</kafka>.*:Apache Kafka \1:p' "$pins"; exit 0; }
[ $# -ge 2 ] && [[ $1 =~ ^[0-9]+$ ]] || usage
port=$1 data=$2; shift 2
for property in "$@"; do [[ $property == ?*=* ]] || usage; done
home=$("$here/../tests/compat/java/jars.sh")
mkdir -p "$data"
data=$(cd "$data" && pwd)

# settings FOLDER PORT: what a single node needs to differ in, nothing else
settings() {
  cat << END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$(($2 + 1))
listeners=PLAINTEXT://127.0.0.1:$2,CONTROLLER://127.0.0.1:$(($2 + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$2
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=$1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
END
}

# Formatted once and copied ever after: formatting starts a JVM of its own, which is no part of starting a broker.
if [ ! -e "$home/formatted/meta.properties" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  settings "$work/logs" 9092 > "$work/properties"
  java -cp "$home/libs/*" kafka.tools.StorageTool format -t "$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | tr -d =)" \
    -c "$work/properties" >&2
  mv -T "$work/logs" "$home/formatted" 2> /dev/null || [ -e "$home/formatted/meta.properties" ]
fi
[ -e "$data/logs/meta.properties" ] || cp -r "$home/formatted" "$data/logs"
{ settings "$data/logs" "$port"; [ $# = 0 ] || printf '%s\n' "$@"; } > "$data/properties"
exec java "-Xms${KAFKA_HEAP:-1G}" "-Xmx${KAFKA_HEAP:-1G}" -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 \
  -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true \
  -Dlog4j2.configurationFile="$home/log4j2.xml" -cp "$home/libs/*" kafka.Kafka "$data/properties"
