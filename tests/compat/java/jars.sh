#!/usr/bin/env bash
# Kafka's jars in the version that pom.xml pins; prints the folder, in which libs/ holds them.
# usage: jars.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's:.*<kafka>\(.*\)</kafka>.*:\1:p' "$here/pom.xml")
home=${FLUMEN_CACHE:-$HOME/.cache/flumen}/kafka-tools-$version
if [ ! -e "$home/complete" ]; then
  command -v mvn > /dev/null || "$here/../../../scripts/prepare.sh" debian maven
  command -v javac > /dev/null || "$here/../../../scripts/prepare.sh" debian openjdk-17-jdk-headless
  work=$(mktemp -d) # Maven writes beside the pom
  trap 'rm -rf "$work"' EXIT
  cp "$here/pom.xml" "$work"
  (cd "$work" && mvn -q -B dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$home/libs") >&2
  cat > "$home/log4j2.xml" << 'LOG'
<Configuration status="warn">
  <Appenders><Console name="err" target="SYSTEM_ERR"><PatternLayout pattern="%p %m%n"/></Console></Appenders>
  <Loggers><Root level="warn"><AppenderRef ref="err"/></Root></Loggers>
</Configuration>
LOG
  touch "$home/complete"
fi
echo "$home"
