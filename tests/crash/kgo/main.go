// Reads partitions from their start with franz-go and writes what it finds to its standard output.
//
// usage: reader ADDR TOPIC END…      reads partition 0 up to the first END, partition 1 up to the second, and so on
//
// One record is 17 bytes: partition (4), offset (8), and the first five of its value; big-endian, as crash.py wrote them.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	patience   = 10 * time.Minute
	valueBytes = 5
)

func fail(why any) {
	fmt.Fprintln(os.Stderr, "kgo:", why)
	os.Exit(1)
}

func main() {
	if len(os.Args) < 4 {
		fail("usage: reader ADDR TOPIC END…")
	}
	topic, ends, left := os.Args[2], []int64{}, 0
	starts := map[int32]kgo.Offset{}
	for partition, text := range os.Args[3:] {
		end, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			fail(err)
		}
		ends = append(ends, end)
		if end > 0 {
			left++
			starts[int32(partition)] = kgo.NewOffset().At(0)
		}
	}
	if left == 0 {
		return
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(os.Args[1]), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}))
	if err != nil {
		fail(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	for left > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			fail(ctx.Err())
		}
		fetches.EachError(func(_ string, partition int32, err error) {
			fail(fmt.Sprintf("partition %d: %v", partition, err))
		})
		fetches.EachRecord(func(record *kgo.Record) {
			end := ends[record.Partition]
			if record.Offset >= end {
				return
			}
			if len(record.Value) < valueBytes {
				fail(fmt.Sprintf("partition %d, offset %d: a value of %d bytes", record.Partition, record.Offset, len(record.Value)))
			}
			var head [12]byte
			binary.BigEndian.PutUint32(head[:], uint32(record.Partition))
			binary.BigEndian.PutUint64(head[4:], uint64(record.Offset))
			out.Write(head[:])
			out.Write(record.Value[:valueBytes])
			if record.Offset == end-1 {
				left--
			}
		})
	}
	if err := out.Flush(); err != nil {
		fail(err)
	}
}
