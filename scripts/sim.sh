#!/usr/bin/env bash
# Simulated lives of a node, its clients and its faults: replay one, or live many. Or bits that flip in its files.
# usage: sim.sh SEED | --seeds FROM..TO | --seeds COUNT | --flips FROM..TO | --flips COUNT
# A failing life says its seed and what is wrong; the same seed fails the same way. So do flips. Many go side by side.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=FLUMEN_SEEDS story=swarm::what_is_promised
case $#:${1:-} in
  2:--seeds) range=$2 ;;
  2:--flips) range=$2 wanted=FLUMEN_FLIPS story=flips::no_flipped_bit ;;
  1:[0-9]*) range=$1..$(($1 + 1)) ;;
  *) sed -n 3,4p "$0" >&2; exit 2 ;;
esac
case $range in *..*) ;; *) range=0..$range ;; esac
from=${range%%..*} to=${range##*..}
test=$(cargo test -q --locked --profile sim -p flumen-tests --test sim --no-run --message-format=json |
  sed -n '/"kind":\["test"\]/s/.*"executable":"\([^"]*\)".*/\1/p')
workers=$(nproc)
[ $((to - from)) -ge "$workers" ] || workers=1
pids=()
for worker in $(seq 0 $((workers - 1))); do
  env "$wanted=$((from + (to - from) * worker / workers))..$((from + (to - from) * (worker + 1) / workers))" \
    "$test" "$story" --nocapture &
  pids+=($!)
done
failed=0
for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
exit $failed
