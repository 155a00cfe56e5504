"""confluent-kafka (librdkafka) from Python: producer, consumer, groups, codecs and admin as everyday code uses them.

usage: confluent.py ADDR PREFIX
"""
import sys
import threading
import time

import confluent_kafka as ck
import confluent_kafka.admin as cka

from report import check, each, equal, name, run, until

ADDR, PREFIX = sys.argv[1], sys.argv[2]
ADMIN = cka.AdminClient({"bootstrap.servers": ADDR})


def results(futures):
    return {k: f.result(timeout=30) for k, f in futures.items()}


def options(o):
    return {k.replace("_", "."): v for k, v in o.items()}


def topic(partitions=1, **config):
    t = name()
    results(ADMIN.create_topics([cka.NewTopic(t, partitions, 1, config=options(config))]))
    until("the topic is known", lambda: len(ADMIN.list_topics(t, timeout=10).topics[t].partitions) == partitions)
    return t


def consumer(**o):
    return ck.Consumer({"bootstrap.servers": ADDR, "group.id": name("g"), "auto.offset.reset": "earliest",
                        "topic.metadata.refresh.interval.ms": 2000, **options(o)})


def read(c, n, seconds=30):
    got, end = [], time.time() + seconds
    while len(got) < n and time.time() < end:
        for m in c.consume(n - len(got), timeout=1):
            assert m.error() is None, m.error()
            got.append(m)
    return got


def send(t, values, **o):
    """The offsets that were reported."""
    p, reports = ck.Producer({"bootstrap.servers": ADDR, **options(o)}), []
    for v in values:
        p.produce(t, v, partition=0, on_delivery=lambda e, m: reports.append((e, m.offset())))
    equal(p.flush(30), 0)
    assert not [e for e, _ in reports if e], reports[:3]
    return [offset for _, offset in reports]


def values(t, n, **o):
    c = consumer(**o)
    c.assign([ck.TopicPartition(t, 0, ck.OFFSET_BEGINNING)])
    got = [m.value() for m in read(c, n)]
    c.close()
    return got


@each("none", "gzip", "snappy", "lz4", "zstd")
def codec(which):
    t, want = topic(), [f"{which} {i} ".encode() * 20 for i in range(300)]
    equal(send(t, want, compression_type=which, linger_ms=20), list(range(300)))
    equal(values(t, 300), want)


@each("0", "1", "all")
def acks(level):
    t = topic()
    offsets = send(t, [b"x"] * 50, acks=level)
    if level != "0":
        equal(offsets, list(range(50)))
    equal(len(values(t, 50)), 50)


@check
def idempotent():
    t = topic()
    equal(send(t, [b"%d" % i for i in range(2000)], enable_idempotence=True, linger_ms=1), list(range(2000)))
    equal(values(t, 2000), [b"%d" % i for i in range(2000)])


@check
def headers_timestamps():
    t = topic()
    p = ck.Producer({"bootstrap.servers": ADDR})
    p.produce(t, b"v", b"k", 0, timestamp=1600000000123, headers=[("a", b"1"), ("a", None), ("b", b"")])
    p.produce(t, None, b"k", 0)
    equal(p.flush(30), 0)
    c = consumer()
    c.assign([ck.TopicPartition(t, 0, 0)])
    first, second = read(c, 2)
    equal((first.key(), first.value(), first.timestamp()), (b"k", b"v", (ck.TIMESTAMP_CREATE_TIME, 1600000000123)))
    equal(first.headers(), [("a", b"1"), ("a", None), ("b", b"")])
    equal(second.value(), None)
    c.close()


@check
def offsets_for_times():
    t = topic()
    p = ck.Producer({"bootstrap.servers": ADDR})
    for i in range(10):
        p.produce(t, b"x", partition=0, timestamp=1600000000000 + i * 1000)
    equal(p.flush(30), 0)
    c = consumer()
    for at, want in ((1600000003500, 4), (1500000000000, 0), (1700000000000, ck.OFFSET_END)):
        equal(c.offsets_for_times([ck.TopicPartition(t, 0, at)], timeout=30)[0].offset, want)
    equal(c.get_watermark_offsets(ck.TopicPartition(t, 0), timeout=30), (0, 10))
    c.close()


@check
def partition_eof():
    t = topic()
    send(t, [b"x"] * 3)
    c = consumer(enable_partition_eof=True)
    c.assign([ck.TopicPartition(t, 0, 0)])
    seen = []
    until("the end is told", lambda: (m := c.poll(1)) and (seen.append(m) or m.error()))
    equal([m.error().code() for m in seen if m.error()], [ck.KafkaError._PARTITION_EOF])
    equal(len(seen), 4)
    c.close()


@check
def commit_resume():
    t, g = topic(), name("g")
    send(t, [b"%d" % i for i in range(20)])
    c = consumer(group_id=g, enable_auto_commit=False)
    c.subscribe([t])
    equal(len(read(c, 20)), 20)
    c.commit(offsets=[ck.TopicPartition(t, 0, 12, metadata="half")], asynchronous=False)
    got = c.committed([ck.TopicPartition(t, 0)], timeout=30)[0]
    equal((got.offset, got.metadata), (12, "half"))
    c.close()
    c = consumer(group_id=g)
    c.subscribe([t])
    equal([m.offset() for m in read(c, 8)], list(range(12, 20)))
    c.close()


@each("range", "roundrobin", "cooperative-sticky", "consumer-protocol")
def two_members(strategy):
    t, g = topic(4), name("g")
    how = {"group_protocol": "consumer"} if strategy == "consumer-protocol" else {
        "partition_assignment_strategy": strategy, "session_timeout_ms": 6000, "heartbeat_interval_ms": 500}
    owned, stop = {}, {"a": threading.Event(), "b": threading.Event()}

    def member(who):
        c = consumer(group_id=g, **how)
        c.subscribe([t])
        while not stop[who].is_set():
            c.poll(0.2)
            owned[who] = {p.partition for p in c.assignment()}
        c.close()

    threads = [threading.Thread(target=member, args=(w,), daemon=True) for w in "ab"]
    try:
        threads[0].start()
        until("one member owns all", lambda: owned.get("a") == {0, 1, 2, 3}, 30)
        threads[1].start()
        until("two members share", lambda: len(owned["a"]) == 2 and len(owned.get("b") or ()) == 2)
        equal(owned["a"] | owned["b"], {0, 1, 2, 3})
        stop["a"].set()
        until("the one that is left owns all", lambda: owned["b"] == {0, 1, 2, 3})
    finally:
        for s in stop.values():
            s.set()
        for th in threads:
            th.ident and th.join(20)


@check
def static_member():
    t, g = topic(2), name("g")
    ids = []
    for _ in range(2):  # the same name comes back to the same seat
        c = consumer(group_id=g, group_instance_id="seat-1", session_timeout_ms=10000)
        c.subscribe([t])
        until("assigned", lambda: (c.poll(0.2), len(c.assignment()) == 2)[1])
        ids.append(c.memberid())
        c.close()
    assert all(ids), ids


@check
def auto_create():
    t = name()
    equal(send(t, [b"first"]), [0])
    equal(values(t, 1), [b"first"])


@check
def unknown_topic():
    c = consumer(allow_auto_create_topics=False)
    c.subscribe([name("none")])
    m = until("an error", lambda: c.poll(1), 30)
    equal(m.error().code(), ck.KafkaError.UNKNOWN_TOPIC_OR_PART)
    c.close()


@check
def large_message():
    t = topic(max_message_bytes="3000000")
    send(t, [b"x" * 2_000_000], message_max_bytes=3_000_000)
    equal([len(v) for v in values(t, 1)], [2_000_000])


@check
def admin_cluster_configs():
    assert ADMIN.list_topics(timeout=30).cluster_id
    t = topic(retention_ms="7200000")
    resource = cka.ConfigResource(cka.ResourceType.TOPIC, t)
    equal(results(ADMIN.describe_configs([resource]))[resource]["retention.ms"].value, "7200000")
    change = cka.ConfigResource(cka.ResourceType.TOPIC, t, incremental_configs=[
        cka.ConfigEntry("max.message.bytes", "2000000", incremental_operation=cka.AlterConfigOpType.SET)])
    results(ADMIN.incremental_alter_configs([change]))
    until("altered", lambda: results(ADMIN.describe_configs([resource]))[resource]["max.message.bytes"].value == "2000000")
    equal(results(ADMIN.describe_configs([resource]))[resource]["retention.ms"].value, "7200000")


@check
def admin_topics():
    t = topic(2)
    results(ADMIN.create_partitions([cka.NewPartitions(t, 3)]))
    until("three partitions", lambda: len(ADMIN.list_topics(t, timeout=10).topics[t].partitions) == 3)
    results(ADMIN.delete_topics([t]))
    until("gone", lambda: t not in ADMIN.list_topics(timeout=10).topics)


@check
def admin_groups():
    t, g = topic(), name("g")
    send(t, [b"x"] * 5)
    c = consumer(group_id=g)
    c.subscribe([t])
    equal(len(read(c, 5)), 5)
    c.close()
    assert g in [x.group_id for x in ADMIN.list_consumer_groups().result(30).valid]
    offsets = results(ADMIN.list_consumer_group_offsets([ck.ConsumerGroupTopicPartitions(g)]))[g]
    equal([(p.partition, p.offset) for p in offsets.topic_partitions], [(0, 5)])
    results(ADMIN.delete_consumer_groups([g]))
    assert g not in [x.group_id for x in ADMIN.list_consumer_groups().result(30).valid]


@check
def admin_delete_records():
    t = topic()
    send(t, [b"%d" % i for i in range(10)])
    results(ADMIN.delete_records([ck.TopicPartition(t, 0, 4)]))
    equal(values(t, 6), [b"%d" % i for i in range(4, 10)])


def transactional(tid=None):
    p = ck.Producer({"bootstrap.servers": ADDR, "transactional.id": tid or name("tid")})
    p.init_transactions(30)
    p.begin_transaction()
    return p


@each("commit", "abort")
def transaction(how):
    t, p = topic(), transactional()
    for _ in range(10):
        p.produce(t, b"one", partition=0)
    p.flush(30)
    p.commit_transaction(30) if how == "commit" else p.abort_transaction(30)
    p.begin_transaction()
    p.produce(t, b"two", partition=0)
    p.commit_transaction(30)
    want = [b"one"] * (10 if how == "commit" else 0) + [b"two"]
    equal(values(t, len(want)), want)


@each("commit", "abort")
def transaction__offsets(how):
    t, copy = topic(), topic()
    send(t, [b"x"] * 10)
    c = consumer(enable_auto_commit=False)
    c.subscribe([t])
    equal(len(read(c, 10)), 10)
    p = transactional()
    p.produce(copy, b"y", partition=0)
    p.send_offsets_to_transaction(c.position(c.assignment()), c.consumer_group_metadata(), 30)
    p.commit_transaction(30) if how == "commit" else p.abort_transaction(30)
    equal([at.offset for at in c.committed([ck.TopicPartition(t, 0)], timeout=30)], [10 if how == "commit" else ck.OFFSET_INVALID])
    c.close()


@check
def transaction__open_is_hidden():
    t, p = topic(), transactional()
    p.produce(t, b"open", partition=0)
    equal(p.flush(30), 0)
    send(t, [b"later"])
    equal(values(t, 2, isolation_level="read_uncommitted"), [b"open", b"later"])
    c = consumer()
    c.assign([ck.TopicPartition(t, 0, ck.OFFSET_BEGINNING)])
    equal(read(c, 1, seconds=2), [])
    p.commit_transaction(30)
    equal([m.value() for m in read(c, 2)], [b"open", b"later"])
    c.close()


@check
def transaction__zombie_is_fenced():
    t, tid = topic(), name("tid")
    zombie = transactional(tid)
    zombie.produce(t, b"zombie", partition=0)
    equal(zombie.flush(30), 0)
    heir = transactional(tid)
    heir.produce(t, b"heir", partition=0)
    heir.commit_transaction(30)
    try:
        zombie.commit_transaction(30)
        raise AssertionError("the zombie could commit")
    except ck.KafkaException as e:
        assert e.args[0].fatal(), e
    equal(values(t, 1), [b"heir"])


run(PREFIX)
