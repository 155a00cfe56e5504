#!/usr/bin/env bash
# librdkafka and its test-runner, from the sources inside the crate rdkafka-sys; prints the folder.
# usage: build.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
crate=4.10.0 version=2.12.1
cache=${FLUMEN_CACHE:-$HOME/.cache/flumen}
build=$cache/librdkafka-$version
if [ ! -e "$build/complete" ]; then
  "$here/../../../scripts/prepare.sh" debian build-essential zlib1g-dev libssl-dev libzstd-dev libcurl4-openssl-dev rapidjson-dev
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/src" "$cache"
  : > "$work/src/lib.rs"
  printf '[package]\nname="get"\nversion="0.0.0"\nedition="2021"\n[dependencies]\nrdkafka-sys="=%s"\n' "$crate" > "$work/Cargo.toml"
  (cd "$work" && cargo vendor -q vendor > /dev/null)
  rm -rf "$build"
  cp -r "$work/vendor/rdkafka-sys/librdkafka" "$build"
  # four tests ask for three replicas; one node has one
  sed -i -E '/create_topic/s/, 3(, 5000)?\)/, 1\1)/' "$build"/tests/{0098,0103,0107,0111}-*.c*
  (cd "$build" && chmod +x configure && ./configure --disable-gssapi && make -j2 libs && make -j2 -C tests build) > "$build.log" 2>&1 ||
    { echo "build failed, see $build.log" >&2; exit 1; }
  # two tests start a Java peer, whose sources lie next to them
  javac -nowarn -d "$build/tests/java" -cp "$("$here/../java/jars.sh")/libs/*" "$build"/tests/java/*.java >> "$build.log" 2>&1
  touch "$build/complete"
fi
# some tests call Kafka's tools by the names they have in Kafka's own layout; written each time, since the cache outlives
# the folder that filled it
mkdir -p "$build/kafka/bin"
printf '#!/usr/bin/env bash\nexec java -cp "${CLASSPATH:+$CLASSPATH:}%s/libs/*" "$@"\n' "$("$here/../java/jars.sh")" > "$build/kafka/bin/kafka-run-class.sh"
for tool in topics configs acls consumer-groups; do
  printf '#!/usr/bin/env bash\nexec "%s/tool.sh" "%s" %s "$@"\n' "$here/../java" "$("$here/../java/jars.sh")" "$tool" > "$build/kafka/bin/kafka-$tool.sh"
done
chmod +x "$build"/kafka/bin/*
echo "$build"
