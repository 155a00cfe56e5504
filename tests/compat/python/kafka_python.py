"""kafka-python, versions 2 and 3: producer, consumer, groups, codecs and admin as everyday code uses them.

usage: kafka_python.py ADDR PREFIX
"""
import logging
import sys
import threading
import time
import warnings

import kafka
from kafka.admin import ConfigResource, KafkaAdminClient, NewPartitions, NewTopic
from kafka.structs import OffsetAndMetadata, TopicPartition

from report import check, each, equal, name, run, until

logging.getLogger("kafka").setLevel(logging.CRITICAL)
warnings.simplefilter("ignore")
ADDR, PREFIX = sys.argv[1], sys.argv[2]
VERSION = int(kafka.__version__.split(".")[0])


def admin():
    return KafkaAdminClient(bootstrap_servers=ADDR)


def topic(partitions=1, **config):
    t, a = name(), admin()
    a.create_topics([NewTopic(t, partitions, 1, topic_configs={k.replace("_", "."): v for k, v in config.items()})])
    until("the topic is known", lambda: t in a.list_topics())
    a.close()
    return t


def producer(**o):
    return kafka.KafkaProducer(bootstrap_servers=ADDR, **o)


def consumer(*topics, **o):
    return kafka.KafkaConsumer(*topics, **{"bootstrap_servers": ADDR, "auto_offset_reset": "earliest", **o})


def send(t, values, **o):
    p = producer(**o)
    futures = [p.send(t, v, partition=0) for v in values]
    p.flush(timeout=30)
    metas = [f.get(timeout=30) for f in futures]
    p.close()
    return metas


# Milliseconds of a poll. kafka-python 3.0.12 forgets an assignment that arrives between two polls, for ever.
POLL_MS = 3000


def poll(c, n, seconds=30):
    got, end = [], time.time() + seconds
    while len(got) < n and time.time() < end:
        for records in c.poll(timeout_ms=POLL_MS).values():
            got += records
    return got


def values(t, n, **o):
    c = consumer(**o)
    c.assign([TopicPartition(t, 0)])
    got = [r.value for r in poll(c, n)]
    c.close()
    return got


@each("none", "gzip", "snappy", "lz4", "zstd")
def codec(which):
    t, want = topic(), [f"{which} {i} ".encode() * 20 for i in range(300)]
    send(t, want, compression_type=None if which == "none" else which, linger_ms=20)
    equal(values(t, 300), want)


@each(*([0] if VERSION > 2 else []), 1, "all")  # 2.3.3 never sends what it was given with acks=0
def acks(level):
    t = topic()
    p = producer(acks=level, enable_idempotence=False)
    metas = [p.send(t, b"x", partition=0).get(30) for _ in range(50)]
    if level != 0:
        equal([m.offset for m in metas], list(range(50)))
    equal(len(values(t, 50)), 50)
    p.close()


@check
def idempotent():
    t = topic()
    equal([m.offset for m in send(t, [b"%d" % i for i in range(200)], enable_idempotence=True)], list(range(200)))
    equal(values(t, 200), [b"%d" % i for i in range(200)])


@check
def headers_timestamps():
    t = topic()
    p = producer()
    p.send(t, b"v", key=b"k", partition=0, timestamp_ms=1600000000123, headers=[("a", b"1"), ("a", b"\x00\xff"), ("b", b"")]).get(30)
    p.send(t, None, key=b"k", partition=0).get(30)
    p.close()
    c = consumer()
    c.assign([TopicPartition(t, 0)])
    first, second = poll(c, 2)
    equal((first.key, first.value, first.timestamp, first.timestamp_type), (b"k", b"v", 1600000000123, 0))
    equal(list(first.headers), [("a", b"1"), ("a", b"\x00\xff"), ("b", b"")])
    assert second.value is None and abs(second.timestamp / 1000 - time.time()) < 60
    c.close()


@check
def log_append_time():
    t = topic(message_timestamp_type="LogAppendTime")
    p = producer()
    meta = p.send(t, b"v", partition=0, timestamp_ms=1600000000123).get(30)
    p.close()
    c = consumer()
    c.assign([TopicPartition(t, 0)])
    r, = poll(c, 1)
    equal((r.timestamp_type, r.timestamp), (1, meta.timestamp))
    c.close()


@check
def offsets_for_times():
    t = topic()
    p = producer()
    for i in range(10):
        p.send(t, b"x", partition=0, timestamp_ms=1600000000000 + i * 1000).get(30)
    p.close()
    tp, c = TopicPartition(t, 0), consumer()
    c.assign([tp])
    for at, want in ((1500000000000, 0), (1600000003500, 4), (1600000009000, 9)):
        found = c.offsets_for_times({tp: at})[tp]
        equal((found.offset, found.timestamp), (want, 1600000000000 + want * 1000))
    equal(c.offsets_for_times({tp: 1700000000000})[tp], None)
    equal((c.beginning_offsets([tp])[tp], c.end_offsets([tp])[tp]), (0, 10))
    c.close()


@check
def seek_pause_reset():
    t = topic()
    send(t, [b"%d" % i for i in range(20)])
    tp, c = TopicPartition(t, 0), consumer()
    c.assign([tp])
    c.seek(tp, 15)
    equal([r.offset for r in poll(c, 5)], [15, 16, 17, 18, 19])
    c.seek_to_end(tp)
    equal(c.position(tp), 20)
    c.seek(tp, 0)
    c.pause(tp)
    equal(c.poll(timeout_ms=POLL_MS), {})
    c.resume(tp)
    equal(len(poll(c, 20)), 20)
    c.seek(tp, 1000)  # out of range: back to the earliest
    equal(poll(c, 20)[0].offset, 0)
    c.close()


@check
def group_keys_resume():
    t, g = topic(4), name("g")
    p = producer(acks="all", linger_ms=20)
    for i in range(200):
        p.send(t, b"%d" % i, key=b"user-%d" % (i % 7))
    p.flush(timeout=30)
    c = consumer(t, group_id=g, enable_auto_commit=False)
    got = poll(c, 200)
    equal(sorted(int(r.value) for r in got), list(range(200)))
    for key in {r.key for r in got}:  # one partition per key, in order
        mine = [r for r in got if r.key == key]
        equal(len({r.partition for r in mine}), 1)
        equal([int(r.value) for r in mine], sorted(int(r.value) for r in mine))
    c.commit()
    c.close()
    p.send(t, b"201").get(30)
    p.close()
    c = consumer(t, group_id=g)
    equal([r.value for r in poll(c, 1)], [b"201"])
    c.close()


@check
def commit_metadata():
    t, g = topic(), name("g")
    send(t, [b"x"] * 30)
    tp, c = TopicPartition(t, 0), consumer(group_id=g, enable_auto_commit=False)
    c.assign([tp])
    c.commit({tp: OffsetAndMetadata(12, "where I was", -1)})
    got = c.committed(tp, metadata=True)
    equal((got.offset, got.metadata), (12, "where I was"))
    c.close()


@check
def two_members():
    t, g = topic(4), name("g")
    owned, stop = {}, {"a": threading.Event(), "b": threading.Event()}

    def member(who):
        c = consumer(t, group_id=g, session_timeout_ms=6000, heartbeat_interval_ms=500, metadata_max_age_ms=2000)
        while not stop[who].is_set():
            c.poll(timeout_ms=POLL_MS)
            owned[who] = {p.partition for p in c.assignment()}
        c.close()

    threads = [threading.Thread(target=member, args=(w,), daemon=True) for w in "ab"]
    threads[0].start()
    until("one member owns all", lambda: owned.get("a") == {0, 1, 2, 3})
    threads[1].start()
    until("two members share", lambda: len(owned.get("a") or ()) == 2 and len(owned.get("b") or ()) == 2)
    equal(owned["a"] | owned["b"], {0, 1, 2, 3})
    stop["a"].set()
    until("the one that is left owns all", lambda: owned.get("b") == {0, 1, 2, 3})
    stop["b"].set()
    for th in threads:
        th.join(20)


@check
def large_record():
    t = topic(max_message_bytes="3000000")
    send(t, [b"x" * 2_000_000], max_request_size=3_000_000)
    equal([len(v) for v in values(t, 1)], [2_000_000])


@check
def admin_topics():
    a, t = admin(), name()
    a.create_topics([NewTopic(t, 2, 1, topic_configs={"retention.ms": "7200000"})])
    until("listed", lambda: t in a.list_topics())
    a.create_partitions({t: 3 if VERSION > 2 else NewPartitions(3)})
    until("three partitions", lambda: len(a.describe_topics([t])[0]["partitions"]) == 3)
    assert a.describe_cluster()["cluster_id"]
    a.delete_topics([t])
    until("gone", lambda: t not in a.list_topics())
    a.close()


@check
def admin_configs():
    a, t = admin(), topic(retention_ms="7200000")
    said = str(a.describe_configs([ConfigResource("TOPIC", t)]))
    assert "retention.ms" in said and "7200000" in said, said
    a.alter_configs([ConfigResource("TOPIC", t, {"max.message.bytes": "2000000"})])
    until("altered", lambda: "2000000" in str(a.describe_configs([ConfigResource("TOPIC", t)])))
    a.close()


@check
def admin_groups():
    a, t, g = admin(), topic(), name("g")
    send(t, [b"x"] * 3)
    c = consumer(t, group_id=g)
    equal(len(poll(c, 3)), 3)
    c.close()
    list_groups = getattr(a, "list_groups", None) or a.list_consumer_groups
    describe = getattr(a, "describe_groups", None) or a.describe_consumer_groups
    delete = getattr(a, "delete_groups", None) or a.delete_consumer_groups
    assert g in str(list_groups())
    assert "Empty" in str(describe([g]))
    delete([g])
    until("deleted", lambda: g not in str(list_groups()))
    a.close()


@check
def admin_delete_records():
    a, t = admin(), topic()
    tp = TopicPartition(t, 0)
    send(t, [b"%d" % i for i in range(10)])
    a.delete_records({tp: 4})
    a.close()
    c = consumer()
    equal((c.beginning_offsets([tp])[tp], c.end_offsets([tp])[tp]), (4, 10))
    c.close()
    equal(values(t, 6), [b"%d" % i for i in range(4, 10)])


@each("commit", "abort")
def transaction(how):
    t = topic()
    p = producer(transactional_id=name("tid"))
    p.init_transactions()
    p.begin_transaction()
    for _ in range(10):
        p.send(t, b"one", partition=0)
    p.flush()
    p.commit_transaction() if how == "commit" else p.abort_transaction()
    p.begin_transaction()
    p.send(t, b"two", partition=0)
    p.commit_transaction()
    p.close()
    want = [b"one"] * (10 if how == "commit" else 0) + [b"two"]
    equal(values(t, len(want), isolation_level="read_committed"), want)


@each("commit", "abort")
def transaction__offsets(how):
    t, copy, g = topic(), topic(), name("g")
    send(t, [b"x"] * 10)
    c = consumer(t, group_id=g, enable_auto_commit=False)
    equal(len(poll(c, 10)), 10)
    p = producer(transactional_id=name("tid"))
    p.init_transactions()
    p.begin_transaction()
    p.send(copy, b"y", partition=0)
    tp = TopicPartition(t, 0)
    p.send_offsets_to_transaction({tp: OffsetAndMetadata(10, "", -1)}, c.group_metadata() if VERSION > 2 else g)
    p.flush()  # 2.3.3 spins for ever where it aborts while a batch is on its way: it looks for it among those that are not
    p.commit_transaction() if how == "commit" else p.abort_transaction()
    p.close()
    # a transaction is answered once it is decided; its offsets count when its marker is written, a moment later
    until("what is committed", lambda: c.committed(tp) == (10 if how == "commit" else None))
    c.close()


run(PREFIX)
