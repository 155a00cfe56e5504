#!/usr/bin/env bash
# Fill the disk of a broker, a small ext4 file system in a file, and see that it refuses, reads on and recovers.
# usage: diskfull.sh [--size MIB] [further options of tests/diskfull/diskfull.py]
#   --size  of the file system, default 300
# environment: FLUMEN_BIN (default: the release build, made when missing)
# Needs root and loop devices.
set -euo pipefail
size=300
[ "${1:-}" = --size ] && { size=$2; shift 2; }
[[ ${1:-} == -h* ]] && { sed -n 2,6p "$0" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "FAIL diskfull: only root can mount a file system" >&2; exit 1; }
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
[ -n "${FLUMEN_BIN:-}" ] || cargo build -q --release --bin flumen
export FLUMEN_BIN=${FLUMEN_BIN:-$target/release/flumen}
export FLUMEN_SCRATCH=$target/scratch
mkdir -p "$FLUMEN_SCRATCH"
scripts/prepare.sh debian e2fsprogs mount
python=$(scripts/prepare.sh python kafka-python-3 kafka-python==3.0.12 crc32c==2.9.post0)
image=$(mktemp "$FLUMEN_SCRATCH/disk-XXXXXX.img") folder=$(mktemp -d)
clean() { # the mount may be busy for a moment after its user was killed
  for _ in 1 2 3 4 5; do umount "$folder" 2> /dev/null && break || sleep 1; done
  rm -f "$image"
  rmdir "$folder"
}
trap clean EXIT
truncate -s "${size}M" "$image"
mkfs.ext4 -q -m 0 "$image"
mount -o loop "$image" "$folder" || { echo "FAIL diskfull: no loop device, see /dev/loop-control" >&2; exit 1; }
"$python" tests/diskfull/diskfull.py "$folder" "$@" --port "$(scripts/prepare.sh port)"
