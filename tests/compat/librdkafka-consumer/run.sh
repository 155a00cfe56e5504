#!/usr/bin/env bash
# librdkafka's own test-runner, with every group of the new kind (KIP-848).
# usage: run.sh ADDR
set -euo pipefail
GROUP_PROTOCOL=consumer exec "$(dirname "$0")/../librdkafka/run.sh" "$@"
