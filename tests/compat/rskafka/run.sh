#!/usr/bin/env bash
# The integration tests inside the crate rskafka, for a broker that creates no topics by itself, which broker.txt sees to.
# usage: run.sh ADDR
set -euo pipefail
CRATE=rskafka exec "$(dirname "$0")/../rdkafka/run.sh" "$@"
