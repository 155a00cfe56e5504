#!/usr/bin/env bash
# One of Kafka's command line tools, by its usual name, without an address: the caller gives all arguments.
# usage: tool.sh HOME NAME ARGUMENTS…      HOME as printed by jars.sh, NAME such as topics or console-producer
set -euo pipefail
home=$1 name=$2
shift 2
tools=org.apache.kafka.tools
case $name in
  topics) class=$tools.TopicCommand ;;
  console-producer) class=$tools.ConsoleProducer ;;
  console-consumer) class=$tools.consumer.ConsoleConsumer ;;
  consumer-groups) class=$tools.consumer.group.ConsumerGroupCommand ;;
  groups) class=$tools.GroupsCommand ;;
  configs) class=kafka.admin.ConfigCommand ;;
  acls) class=$tools.AclCommand ;;
  transactions) class=$tools.TransactionsCommand ;;
  get-offsets) class=$tools.GetOffsetShell ;;
  delete-records) class=$tools.DeleteRecordsCommand ;;
  log-dirs) class=$tools.LogDirsCommand ;;
  leader-election) class=$tools.LeaderElectionCommand ;;
  reassign-partitions) class=$tools.reassign.ReassignPartitionsCommand ;;
  features) class=$tools.FeatureCommand ;;
  metadata-quorum) class=$tools.MetadataQuorumCommand ;;
  cluster) class=$tools.ClusterTool ;;
  broker-api-versions) class=$tools.BrokerApiVersionsCommand ;;
  producer-perf-test) class=$tools.ProducerPerformance ;;
  consumer-perf-test) class=$tools.ConsumerPerformance ;;
  e2e-latency) class=$tools.EndToEndLatency ;;
  verifiable-producer) class=$tools.VerifiableProducer ;;
  verifiable-consumer) class=$tools.VerifiableConsumer ;;
  transactional-message-copier) class=$tools.TransactionalMessageCopier ;;
  client-compatibility-test) class=$tools.ClientCompatibilityTest ;;
  *) echo "no tool $name" >&2; exit 2 ;;
esac
# shellcheck disable=SC2086 — options, split on purpose
exec java -Xmx256M -XX:+UseSerialGC -XX:TieredStopAtLevel=1 ${JVM_OPTIONS:-} \
  -Dlog4j2.configurationFile="$home/log4j2.xml" -cp "$home/libs/*" "$class" "$@"
