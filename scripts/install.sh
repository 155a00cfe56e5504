#!/usr/bin/env bash
# Install the broker on this machine: program, user, configuration, data folder and systemd unit. Run again to upgrade.
# usage: install.sh [--root FOLDER]
#   --root  install below FOLDER instead of /, and make no user (for packaging and for a look at what would be done)
# environment: FLUMEN_BIN (default: the release build, made when missing)
set -euo pipefail
root=
case ${1:-} in --root) root=${2%/} ;; '') ;; *) sed -n 2,5p "$0" >&2; exit 2 ;; esac
here=$(cd "$(dirname "$0")/.." && pwd)
if [ -z "${FLUMEN_BIN:-}" ]; then
  cargo build --manifest-path "$here/Cargo.toml" --release --locked --bin flumen
  FLUMEN_BIN=${CARGO_TARGET_DIR:-$here/target}/release/flumen
fi
[ -n "$root" ] || [ "$(id -u)" = 0 ] || { echo "only root can install; see --root" >&2; exit 1; }
if [ -z "$root" ] && ! getent passwd flumen > /dev/null; then
  useradd --system --user-group --home-dir /var/lib/flumen --shell /usr/sbin/nologin flumen
fi
install -D -m 755 "$FLUMEN_BIN" "$root/usr/bin/flumen"
install -D -m 644 "$here/scripts/flumen.service" "$root/usr/lib/systemd/system/flumen.service"
install -D -m 644 "$here/LICENSE" "$root/usr/share/doc/flumen/LICENSE"
[ ! -e "$here/README.md" ] || install -D -m 644 "$here/README.md" "$root/usr/share/doc/flumen/README.md"
properties=$root/etc/flumen/server.properties
if [ ! -e "$properties" ]; then # an operator's file is never touched again
  install -d -m 755 "$root/etc/flumen"
  cat > "$properties" << 'PROPERTIES'
# Kafka's names and meanings. What clients are told to connect to is advertised.listeners.
listeners=PLAINTEXT://127.0.0.1:9092
log.dirs=/var/lib/flumen
PROPERTIES
  chmod 644 "$properties"
fi
if [ -z "$root" ] && [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl enable flumen.service
  systemctl restart flumen.service
  systemctl --no-pager --lines 0 status flumen.service
else
  echo "installed; start it with: systemctl enable --now flumen.service"
fi
