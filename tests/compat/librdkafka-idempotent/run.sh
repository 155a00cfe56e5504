#!/usr/bin/env bash
# librdkafka's own test-runner, with every producer idempotent.
# usage: run.sh ADDR
set -euo pipefail
IDEMPOTENT=1 exec "$(dirname "$0")/../librdkafka/run.sh" "$@"
