#!/usr/bin/env bash
# franz-go's own pkg/kgo tests against a broker: groups chained over all assignors, regex, purge, pause, large records.
# usage: run.sh ADDR
# environment: KGO_TEST_RECORDS (default 20000; upstream 500000), KGO_RUN (a pattern as of go test)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
addr=${1:?usage: run.sh ADDR}
. "$here/../report.sh"
version=v1.21.5
client franz-go "${version#v}"
build=${FLUMEN_CACHE:-$HOME/.cache/flumen}/kgo-$version
if [ ! -x "$build/kgo.test" ]; then
  mkdir -p "$build"
  (cd "$build" && printf 'module suite\n\ngo 1.24\n' > go.mod &&
    go get -t "github.com/twmb/franz-go/pkg/kgo@$version" &&
    go test -c -o kgo.test github.com/twmb/franz-go/pkg/kgo) >&2
fi
# Only these talk to a broker.
broker='^(TestAddRemovePartitions|TestClient_Produce|TestClient_ProduceLargeMessages|TestConsumeRegex|TestConsumeTopicRetrieval.*|TestDirectPartitionPurge|TestGroupETL|TestGroupSimple|TestHookPollStart|TestIssue[0-9]+|TestIssueProduceSync.*|TestPauseIssue.*|TestPing|TestPooling|TestTxnEtl|TestSCRAMAuth.*|TestShareGroup.*|TestUnknownGroupOffsetFetchPinned)$'
export KGO_SEEDS=$addr KGO_TEST_RF=1 KGO_TEST_RECORDS=${KGO_TEST_RECORDS:-20000} KGO_TEST_STABLE_FETCH=true
log=$build/last.log
(cd "$build" && timeout 600 ./kgo.test -test.v -test.timeout 9m -test.run "${KGO_RUN:-$broker}") > "$log" 2>&1 || true
# `--- VERDICT: name`; the reason of a skip or failure is the last line that its test logged
awk '
  /^=== (RUN|CONT|NAME) / { now=$3; if ($2 == "RUN") seen[now]=1; next }
  /^ +[a-z_0-9]+\.go:[0-9]+: / { sub(/^ +[a-z_0-9]+\.go:[0-9]+: /, ""); said[now]=$0; next }
  /^ *--- (PASS|FAIL|SKIP): / { v=$2; sub(":", "", v); verdict[$3]=v; if (v != "PASS") why[$3]=said[$3] }
  END { for (n in seen) if (!(n in verdict)) print "FAIL " n " no verdict (stopped early)"
        for (n in verdict) print verdict[n] " " n (n in why ? " " why[n] : "") }' "$log" | sort -k2 > "$log.verdicts"
verdicts "$log.verdicts"
