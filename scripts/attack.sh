#!/usr/bin/env bash
# Attack a broker that has 512 MiB and one processor in every way there is, while a client that behaves well is served.
# usage: attack.sh SECONDS [--ratio-max N] [--only WORD,…]      at least 20 seconds; an hour is what the goal asks for
#   --ratio-max  fail where the good client's p99 of writes or of reads under attack is more than N times that without; always printed
#   --only       attacks whose names have one of these words: slow, idle, storm, protocols, forged, half, consumers, listings,
#                fetches, piece, bombs, ids, producers, groups, go, impossible
# environment: FLUMEN_BIN (default: the release build, made when missing), BROKER_CPUS (0), ATTACK_CPUS (the last), CLIENT_CPUS
# The broker's processor should be the one that the disk's interrupts come to (/proc/interrupts): where the attackers have it, what
# the disk answers waits behind their system calls. The good client shares the attackers' processor and waits for it: see the column
# "late p99". With CLIENT_CPUS it goes elsewhere, before all others there; on two processors that is the broker's.
# The limit of memory needs root and cgroups; without, it is only compared with.
set -euo pipefail
[[ ${1:-} =~ ^[0-9]+$ ]] || { sed -n 2,11p "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
[ -n "${FLUMEN_BIN:-}" ] || cargo build -q --release --bin flumen
export FLUMEN_BIN=${FLUMEN_BIN:-$target/release/flumen}
cargo build -q --release --locked -p flumen-tests --bin flumen-attack
# crowds of connections need descriptors; the processors are told apart so that an attacker's work is not taken for the broker's
ulimit -n "$(ulimit -Hn)"
exec taskset -c "${ATTACK_CPUS:-$(($(nproc) - 1))}" \
  "$target/release/flumen-attack" "$@" --broker-cpus "${BROKER_CPUS:-0}" ${CLIENT_CPUS:+--client-cpus "$CLIENT_CPUS"}
