// Sarama as everyday code uses it: sync and async producers, idempotence, codecs, a consumer group, admin.
//
// usage: suite ADDR
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

var (
	addr   string
	run    = fmt.Sprintf("s%x", time.Now().UnixNano())
	number int
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: suite ADDR")
		os.Exit(2)
	}
	addr = os.Args[1]
	checks := []struct {
		name string
		work func() error
	}{
		{"sync.offsets", syncOffsets},
		{"sync.headers-timestamp", headers},
		{"sync.batch", batch},
		{"async.idempotent", idempotent},
		{"codec.none", codec(sarama.CompressionNone)},
		{"codec.gzip", codec(sarama.CompressionGZIP)},
		{"codec.snappy", codec(sarama.CompressionSnappy)},
		{"codec.lz4", codec(sarama.CompressionLZ4)},
		{"codec.zstd", codec(sarama.CompressionZSTD)},
		{"version.1.0", oldVersion(sarama.V1_0_0_0)},
		{"version.2.1", oldVersion(sarama.V2_1_0_0)},
		{"offsets.by-time", offsetsByTime},
		{"group.read-resume", groupReadResume},
		{"group.two-members", groupTwoMembers},
		{"admin.topics", adminTopics},
		{"admin.configs", adminConfigs},
		{"admin.groups", adminGroups},
		{"admin.delete-records", adminDeleteRecords},
		{"transaction.commit", transaction(true)},
		{"transaction.abort", transaction(false)},
		{"transaction.offsets", transactionOffsets},
	}
	passed, failed := 0, 0
	for _, c := range checks {
		if err := c.work(); err != nil {
			failed++
			fmt.Printf("FAIL %s %.250s\n", c.name, strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			passed++
			fmt.Printf("PASS %s\n", c.name)
		}
	}
	fmt.Printf("%d passed, %d failed, 0 skipped\n", passed, failed)
}

func name(what string) string {
	number++
	return fmt.Sprintf("%s-%s%d", run, what, number)
}

func config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.V2_8_0_0
	c.Producer.Return.Successes = true
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	c.Consumer.Group.Session.Timeout = 6 * time.Second
	c.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	return c
}

func want[T comparable](what string, got, wanted T) error {
	if got != wanted {
		return fmt.Errorf("%s: got %v, wanted %v", what, got, wanted)
	}
	return nil
}

func until(what string, condition func() bool) error {
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if condition() {
			return nil
		}
	}
	return fmt.Errorf("not within 60 s: %s", what)
}

// topic creates one with an admin client of its own and waits until it is known.
func topic(partitions int32) (string, error) {
	t := name("t")
	a, err := sarama.NewClusterAdmin([]string{addr}, config())
	if err != nil {
		return "", err
	}
	defer a.Close()
	if err := a.CreateTopic(t, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false); err != nil {
		return "", err
	}
	return t, until("the topic is known", func() bool { all, err := a.ListTopics(); _, ok := all[t]; return err == nil && ok })
}

func send(c *sarama.Config, t string, values []string) error {
	p, err := sarama.NewSyncProducer([]string{addr}, c)
	if err != nil {
		return err
	}
	defer p.Close()
	for i, v := range values {
		_, offset, err := p.SendMessage(&sarama.ProducerMessage{Topic: t, Value: sarama.StringEncoder(v)})
		if err != nil {
			return err
		}
		if err := want("offset", offset, int64(i)); err != nil {
			return err
		}
	}
	return nil
}

// read takes n records of partition 0 from the start.
func read(c *sarama.Config, t string, n int) ([]*sarama.ConsumerMessage, error) {
	consumer, err := sarama.NewConsumer([]string{addr}, c)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	p, err := consumer.ConsumePartition(t, 0, sarama.OffsetOldest)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	var got []*sarama.ConsumerMessage
	limit := time.After(30 * time.Second)
	for len(got) < n {
		select {
		case m := <-p.Messages():
			got = append(got, m)
		case <-limit:
			return got, fmt.Errorf("only %d of %d records", len(got), n)
		}
	}
	return got, nil
}

func numbered(n int) []string {
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprint(i)
	}
	return values
}

func roundTrip(c *sarama.Config, n int) error {
	t, err := topic(1)
	if err != nil {
		return err
	}
	if err := send(c, t, numbered(n)); err != nil {
		return err
	}
	got, err := read(c, t, n)
	if err != nil {
		return err
	}
	for i, m := range got {
		if err := errors.Join(want("value", string(m.Value), fmt.Sprint(i)), want("offset", m.Offset, int64(i))); err != nil {
			return err
		}
	}
	return nil
}

func syncOffsets() error { return roundTrip(config(), 100) }

func codec(which sarama.CompressionCodec) func() error {
	return func() error {
		c := config()
		c.Producer.Compression = which
		return roundTrip(c, 50)
	}
}

func oldVersion(v sarama.KafkaVersion) func() error {
	return func() error {
		c := config()
		c.Version = v
		return roundTrip(c, 50)
	}
}

func headers() error {
	t, err := topic(1)
	if err != nil {
		return err
	}
	p, err := sarama.NewSyncProducer([]string{addr}, config())
	if err != nil {
		return err
	}
	defer p.Close()
	at := time.UnixMilli(1600000000123)
	_, _, err = p.SendMessage(&sarama.ProducerMessage{Topic: t, Key: sarama.StringEncoder("k"), Value: sarama.StringEncoder("v"),
		Timestamp: at, Headers: []sarama.RecordHeader{{Key: []byte("a"), Value: []byte{0, 255}}}})
	if err != nil {
		return err
	}
	got, err := read(config(), t, 1)
	if err != nil {
		return err
	}
	m := got[0]
	return errors.Join(want("key", string(m.Key), "k"), want("time", m.Timestamp.UnixMilli(), at.UnixMilli()),
		want("headers", len(m.Headers), 1), want("header", string(m.Headers[0].Value), "\x00\xff"))
}

func batch() error {
	t, err := topic(1)
	if err != nil {
		return err
	}
	p, err := sarama.NewSyncProducer([]string{addr}, config())
	if err != nil {
		return err
	}
	defer p.Close()
	var messages []*sarama.ProducerMessage
	for _, v := range numbered(1000) {
		messages = append(messages, &sarama.ProducerMessage{Topic: t, Value: sarama.StringEncoder(v)})
	}
	if err := p.SendMessages(messages); err != nil {
		return err
	}
	got, err := read(config(), t, 1000)
	if err != nil {
		return err
	}
	return want("last", string(got[999].Value), "999")
}

func idempotent() error {
	t, err := topic(1)
	if err != nil {
		return err
	}
	c := config()
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
	p, err := sarama.NewAsyncProducer([]string{addr}, c)
	if err != nil {
		return err
	}
	go func() {
		for _, v := range numbered(2000) {
			p.Input() <- &sarama.ProducerMessage{Topic: t, Value: sarama.StringEncoder(v)}
		}
	}()
	for i := 0; i < 2000; i++ {
		select {
		case m := <-p.Successes():
			if err := want("offset", m.Offset, int64(i)); err != nil {
				return err
			}
		case e := <-p.Errors():
			return e
		}
	}
	return p.Close()
}

func offsetsByTime() error {
	t, err := topic(1)
	if err != nil {
		return err
	}
	client, err := sarama.NewClient([]string{addr}, config())
	if err != nil {
		return err
	}
	defer client.Close()
	p, err := sarama.NewSyncProducerFromClient(client)
	if err != nil {
		return err
	}
	for i := int64(0); i < 10; i++ {
		m := &sarama.ProducerMessage{Topic: t, Value: sarama.StringEncoder("x"), Timestamp: time.UnixMilli(1600000000000 + i*1000)}
		if _, _, err := p.SendMessage(m); err != nil {
			return err
		}
	}
	for at, wanted := range map[int64]int64{1600000003500: 4, 1500000000000: 0, sarama.OffsetNewest: 10, sarama.OffsetOldest: 0} {
		got, err := client.GetOffset(t, 0, at)
		if err := errors.Join(err, want(fmt.Sprint("offset at ", at), got, wanted)); err != nil {
			return err
		}
	}
	return nil
}

// member is a group handler that counts what it reads and remembers what it owns.
type member struct {
	mutex sync.Mutex
	seen  []string
	owns  int
}

func (m *member) Setup(s sarama.ConsumerGroupSession) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.owns = 0
	for _, partitions := range s.Claims() {
		m.owns += len(partitions)
	}
	return nil
}
func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (m *member) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			m.mutex.Lock()
			m.seen = append(m.seen, string(message.Value))
			m.mutex.Unlock()
			s.MarkMessage(message, "")
		case <-s.Context().Done():
			return nil
		}
	}
}
func (m *member) read() int  { m.mutex.Lock(); defer m.mutex.Unlock(); return len(m.seen) }
func (m *member) owned() int { m.mutex.Lock(); defer m.mutex.Unlock(); return m.owns }

// join runs a member until the returned function is called.
func join(group, t string, m *member) (func() error, error) {
	g, err := sarama.NewConsumerGroup([]string{addr}, group, config())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = g.Consume(ctx, []string{t}, m)
		}
	}()
	return func() error { cancel(); <-done; return g.Close() }, nil
}

func groupReadResume() error {
	t, err := topic(1)
	if err != nil {
		return err
	}
	if err := send(config(), t, numbered(50)); err != nil {
		return err
	}
	group, first := name("g"), &member{}
	leave, err := join(group, t, first)
	if err != nil {
		return err
	}
	err = until("50 records", func() bool { return first.read() == 50 })
	if err := errors.Join(err, leave()); err != nil {
		return err
	}
	p, err := sarama.NewSyncProducer([]string{addr}, config())
	if err != nil {
		return err
	}
	defer p.Close()
	if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: t, Value: sarama.StringEncoder("last")}); err != nil {
		return err
	}
	second := &member{}
	leave, err = join(group, t, second)
	if err != nil {
		return err
	}
	err = until("the last record", func() bool { return second.read() == 1 })
	return errors.Join(err, leave())
}

func groupTwoMembers() error {
	t, err := topic(4)
	if err != nil {
		return err
	}
	group, a, b := name("g"), &member{}, &member{}
	leaveA, err := join(group, t, a)
	if err != nil {
		return err
	}
	if err := until("one member owns all", func() bool { return a.owned() == 4 }); err != nil {
		return err
	}
	leaveB, err := join(group, t, b)
	if err != nil {
		return err
	}
	err = until("two members share", func() bool { return a.owned() == 2 && b.owned() == 2 })
	if err := errors.Join(err, leaveA()); err != nil {
		return err
	}
	err = until("the one that is left owns all", func() bool { return b.owned() == 4 })
	return errors.Join(err, leaveB())
}

func withAdmin(work func(sarama.ClusterAdmin) error) error {
	a, err := sarama.NewClusterAdmin([]string{addr}, config())
	if err != nil {
		return err
	}
	defer a.Close()
	return work(a)
}

func adminTopics() error {
	t, err := topic(2)
	if err != nil {
		return err
	}
	return withAdmin(func(a sarama.ClusterAdmin) error {
		if err := a.CreatePartitions(t, 3, nil, false); err != nil {
			return err
		}
		err := until("three partitions", func() bool {
			d, err := a.DescribeTopics([]string{t})
			return err == nil && len(d[0].Partitions) == 3
		})
		if err := errors.Join(err, a.DeleteTopic(t)); err != nil {
			return err
		}
		return until("gone", func() bool { all, err := a.ListTopics(); _, ok := all[t]; return err == nil && !ok })
	})
}

func adminConfigs() error {
	t, err := topic(1)
	if err != nil {
		return err
	}
	return withAdmin(func(a sarama.ClusterAdmin) error {
		value := "7200000"
		set := map[string]sarama.IncrementalAlterConfigsEntry{"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}}
		if err := a.IncrementalAlterConfig(sarama.TopicResource, t, set, false); err != nil {
			return err
		}
		return until("altered", func() bool {
			entries, err := a.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: t, ConfigNames: []string{"retention.ms"}})
			return err == nil && len(entries) == 1 && entries[0].Value == value
		})
	})
}

func adminGroups() error {
	t, err := topic(1)
	if err != nil {
		return err
	}
	if err := send(config(), t, numbered(5)); err != nil {
		return err
	}
	group, m := name("g"), &member{}
	leave, err := join(group, t, m)
	if err != nil {
		return err
	}
	err = until("5 records", func() bool { return m.read() == 5 })
	if err := errors.Join(err, leave()); err != nil {
		return err
	}
	return withAdmin(func(a sarama.ClusterAdmin) error {
		groups, err := a.ListConsumerGroups()
		if err != nil {
			return err
		}
		if _, ok := groups[group]; !ok {
			return errors.New("the group is not listed")
		}
		offsets, err := a.ListConsumerGroupOffsets(group, map[string][]int32{t: {0}})
		if err != nil {
			return err
		}
		return errors.Join(want("committed", offsets.GetBlock(t, 0).Offset, 5), a.DeleteConsumerGroup(group))
	})
}

func adminDeleteRecords() error {
	t, err := topic(1)
	if err != nil {
		return err
	}
	if err := send(config(), t, numbered(10)); err != nil {
		return err
	}
	if err := withAdmin(func(a sarama.ClusterAdmin) error { return a.DeleteRecords(t, map[int32]int64{0: 4}) }); err != nil {
		return err
	}
	got, err := read(config(), t, 6)
	if err != nil {
		return err
	}
	return want("first", string(got[0].Value), "4")
}

func transactional() (sarama.SyncProducer, error) {
	c := config()
	c.Producer.Idempotent = true
	c.Producer.Transaction.ID = name("tid")
	c.Producer.Transaction.Retry.Max = 5
	c.Net.MaxOpenRequests = 1
	c.Metadata.Retry.Max = 1
	return sarama.NewSyncProducer([]string{addr}, c)
}

// within sends a value and whatever else in a transaction, which it ends.
func within(p sarama.SyncProducer, t, value string, also func() error, end func() error) error {
	if err := p.BeginTxn(); err != nil {
		return err
	}
	if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: t, Value: sarama.StringEncoder(value)}); err != nil {
		return err
	}
	if err := also(); err != nil {
		return err
	}
	return end()
}

func nothing() error { return nil }

func transaction(commit bool) func() error {
	return func() error {
		t, err := topic(1)
		if err != nil {
			return err
		}
		p, err := transactional()
		if err != nil {
			return err
		}
		defer p.Close()
		end, wanted := p.AbortTxn, []string{"second"}
		if commit {
			end, wanted = p.CommitTxn, []string{"first", "second"}
		}
		if err := within(p, t, "first", nothing, end); err != nil {
			return err
		}
		if err := within(p, t, "second", nothing, p.CommitTxn); err != nil {
			return err
		}
		reader := config()
		reader.Consumer.IsolationLevel = sarama.ReadCommitted
		got, err := read(reader, t, len(wanted))
		if err != nil {
			return err
		}
		for i, m := range got {
			if err := want("value", string(m.Value), wanted[i]); err != nil {
				return err
			}
		}
		return nil
	}
}

func transactionOffsets() error {
	t, err := topic(1)
	if err != nil {
		return err
	}
	p, err := transactional()
	if err != nil {
		return err
	}
	defer p.Close()
	g := name("g")
	moves := func(offset int64) func() error {
		return func() error {
			return p.AddOffsetsToTxn(map[string][]*sarama.PartitionOffsetMetadata{t: {{Partition: 0, Offset: offset}}}, g)
		}
	}
	if err := within(p, t, "counts", moves(7), p.CommitTxn); err != nil {
		return err
	}
	if err := within(p, t, "does not", moves(9), p.AbortTxn); err != nil {
		return err
	}
	return withAdmin(func(a sarama.ClusterAdmin) error {
		found, err := a.ListConsumerGroupOffsets(g, map[string][]int32{t: {0}})
		if err != nil {
			return err
		}
		return want("committed", found.GetBlock(t, 0).Offset, int64(7))
	})
}
