#!/usr/bin/env bash
# Make sure that something the checks need is there, and print where.
# usage: prepare.sh debian PACKAGE… | python NAME REQUIREMENT… | deny | gungraun | cov | port
#   debian  installs the Debian packages that are missing (prints nothing)
#   python  a virtual environment NAME with exactly these pinned packages; prints its interpreter
#   deny, gungraun, cov  cargo-deny, gungraun-runner, a reader of coverage profiles; prints the program
#   port    prints a free TCP port
# Everything is kept in $FLUMEN_CACHE (default ~/.cache/flumen).
set -euo pipefail
cache=${FLUMEN_CACHE:-$HOME/.cache/flumen}
mkdir -p "$cache"
what=${1:-}; shift || true
case $what in
  debian)
    missing=()
    for package in "$@"; do
      [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && exit 0
    sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
    if [ ! -e "$cache/apt-updated" ] || [ -n "$(find "$cache/apt-updated" -mtime +0)" ]; then
      $sudo apt-get update -qq >&2
      touch "$cache/apt-updated"
    fi
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -qq -y --no-install-recommends "${missing[@]}" >&2
    ;;
  python)
    name=$1; shift
    folder=$cache/python-$name
    if [ "$(cat "$folder/.pins" 2> /dev/null)" != "$*" ]; then
      rm -rf "$folder"
      python3 -c 'import venv, ensurepip' 2> /dev/null || "$0" debian python3 python3-venv
      python3 -m venv "$folder" >&2
      "$folder/bin/pip" install -q --disable-pip-version-check "$@" >&2
      echo "$*" > "$folder/.pins"
    fi
    echo "$folder/bin/python"
    ;;
  deny | gungraun | cov)
    case $what in
      deny) program=cargo-deny crate=cargo-deny version=0.20.2 speed=1 features=--no-default-features ;;
      gungraun) program=gungraun-runner crate=gungraun-runner version=0.20.0 speed=0 features= ;; # the crate's version, exactly
      cov) program=cov crate=llvm_profparser version=0.13.1 speed=2 features= ;; # Debian's LLVM is older than rustc's
    esac
    # compiled once; their code need not be fast
    root=$cache/$program
    if ! grep -qs "\"$crate $version " "$root/.crates.toml"; then
      CARGO_TARGET_DIR=$root-build CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=$speed \
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo install -q --force --locked $features --root "$root" "$crate@$version" >&2
      rm -rf "$root-build"
    fi
    echo "$root/bin/$program"
    ;;
  port)
    python3 "$(dirname "$0")/../tests/free_port.py"
    ;;
  *) sed -n 2,8p "$0" >&2; exit 2 ;;
esac
