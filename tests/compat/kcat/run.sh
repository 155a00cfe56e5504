#!/usr/bin/env bash
# kcat (Debian's package, librdkafka): what an operator types to look at a topic.
# usage: run.sh ADDR
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
addr=${1:?usage: run.sh ADDR}
"$here/../../../scripts/prepare.sh" debian kcat
. "$here/../report.sh"
client kcat "$(kcat -V | sed -n 's/^Version \([0-9.]*\).*/\1/p')"
id=kcat$(date +%s)$RANDOM
k() { timeout 60 kcat -q -b "$addr" "$@" 2>&1 || echo "exit $?"; }
produce() { timeout 60 kcat -q -b "$addr" -P "$@" 2>&1 || echo "exit $?"; }

t=$id-plain
is produce "$(seq 100 | produce -t "$t" -p 0)" ""
has list "topic \"$t\" with [0-9]+ partitions" "$(timeout 60 kcat -b "$addr" -L -t "$t" 2>&1)"
is consume "$(k -C -t "$t" -p 0 -o beginning -e | tr '\n' ' ')" "$(seq -s' ' 100) "
is consume.from-offset "$(k -C -t "$t" -p 0 -o 98 -e | tr '\n' ' ')" "99 100 "
is consume.tail "$(k -C -t "$t" -p 0 -o -3 -e | tr '\n' ' ')" "98 99 100 "
is query.latest "$(timeout 60 kcat -b "$addr" -Q -t "$t:0:-1" | grep -o 'offset.*')" "offset 100"
is query.earliest "$(timeout 60 kcat -b "$addr" -Q -t "$t:0:-2" | grep -o 'offset.*')" "offset 0"

t=$id-shape
printf 'k1|v1\nk2|v2\n' | produce -t "$t" -p 0 -K '|' -H a=1 -H b=two > /dev/null
is keys-headers "$(k -C -t "$t" -p 0 -o beginning -e -f '%k=%s %h;')" "k1=v1 a=1,b=two;k2=v2 a=1,b=two;"
printf 'gone|\n' | produce -t "$t" -p 0 -K '|' -Z > /dev/null
is tombstone "$(k -C -t "$t" -p 0 -o -1 -e -Z -f '%k=%s %S')" "gone=NULL -1"

for codec in none gzip snappy lz4 zstd; do
  t=$id-$codec
  seq -f "$codec %g" 500 | produce -t "$t" -p 0 -z "$codec" > /dev/null
  is "codec.$codec" "$(k -C -t "$t" -p 0 -o beginning -e | tail -n 1) $(k -C -t "$t" -p 0 -o beginning -e | wc -l)" "$codec 500 500"
done

t=$id-group
seq 200 | produce -t "$t" > /dev/null
# -c counts messages; a group reads them once, and a second member of it finds nothing left
is group.all "$(k -G "$id-g" -c 200 -X auto.offset.reset=earliest "$t" | sort -n | tail -n 1)" 200
echo last | produce -t "$t" > /dev/null
is group.resumes "$(k -G "$id-g" -c 1 -X auto.offset.reset=earliest "$t")" last

is idempotent "$(seq 50 | produce -t "$id-idem" -p 0 -X enable.idempotence=true; k -C -t "$id-idem" -p 0 -o beginning -e | wc -l)" 50
head -c 900000 /dev/zero | tr '\0' x > "${TMPDIR:-/tmp}/$id.big"
produce -t "$id-big" -p 0 "${TMPDIR:-/tmp}/$id.big" > /dev/null
is large "$(k -C -t "$id-big" -p 0 -o beginning -e -f '%S')" 900000
rm -f "${TMPDIR:-/tmp}/$id.big"
summary
