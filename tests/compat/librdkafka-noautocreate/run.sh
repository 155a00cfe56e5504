#!/usr/bin/env bash
# librdkafka's own test-runner, the tests for a broker that creates no topics by itself, which broker.txt sees to.
# usage: run.sh ADDR
set -euo pipefail
SCENARIO=noautocreate TESTS="0045 0107 0111" exec "$(dirname "$0")/../librdkafka/run.sh" "$@"
