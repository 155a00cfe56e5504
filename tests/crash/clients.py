"""Clients of a broker that keeps crashing: idempotent producers, members of a group, and readers that belong to nobody.

All of them are librdkafka, but the last: `read_by_kgo` runs franz-go (kgo/main.go).
"""
import random
import struct
import subprocess
import threading
import time

import confluent_kafka as ck

import history

TOPIC, GROUP = "crash", "crash-readers"
PARTITIONS, PRODUCERS, MEMBERS = 4, 2, 2
PATIENT = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 20,
           "topic.metadata.refresh.interval.ms": 1000, "log_level": 2}
READ_WITHIN = 600          # seconds for the longest reading
VALUE = struct.Struct(">BI")         # producer, sequence; what comes after is filling
FROM_KGO = struct.Struct(">IqBI")    # partition and offset before them
# Mostly small, so that there are many; now and then one that lies across many sectors.
FILLING = [b"x" * n for n in (0, 3, 20, 60, 150)] * 40 + [b"x" * n for n in (700, 5000, 30000)]
EOF = ck.KafkaError._PARTITION_EOF


def record_in(message):
    return history.record_of(*VALUE.unpack_from(message.value()))


class Clients:
    """Producers and group members, each in a thread, until they are told to stop."""

    def __init__(self, address, book, seed):
        self.address, self.book, self.seed = address, book, seed
        self.stop_producing, self.stop_reading = threading.Event(), threading.Event()
        self.errors, self.threads = [], []

    def start(self):
        for n in range(PRODUCERS):
            self.threads.append(threading.Thread(target=self.guard, args=(self.produce, n), name="producer", daemon=True))
        for n in range(MEMBERS):
            self.threads.append(threading.Thread(target=self.guard, args=(self.read, n), name="reader", daemon=True))
        for t in self.threads:
            t.start()

    def guard(self, work, who):
        try:
            work(who)
        except Exception as e:  # a client that gives up is a finding, not a crash of the test
            self.errors.append(f"{work.__name__} {who}: {e!r}")

    def join(self, name):
        for t in self.threads:
            if t.name == name:
                t.join(150)
                if t.is_alive():
                    self.errors.append(f"a {name} does not end")

    def produce(self, who):
        p = ck.Producer({"bootstrap.servers": self.address, "enable.idempotence": True, "linger.ms": 5,
                         "delivery.timeout.ms": 120000, "queue.buffering.max.messages": 4000, **PATIENT})
        dice, sent = random.Random(f"{self.seed}/{who}"), self.book.sent

        def answered(error, message):
            if error:
                self.errors.append(f"producer {who}: not delivered: {error}")
            else:
                self.book.acknowledge(message.partition(), message.offset(), record_in(message))

        while not self.stop_producing.is_set() and not self.errors:
            partition = dice.randrange(PARTITIONS)
            value = VALUE.pack(who, sent[partition][who]) + dice.choice(FILLING)
            sent[partition][who] += 1  # before: a reader may see it before the call returns
            while True:
                try:
                    p.produce(TOPIC, value, partition=partition, on_delivery=answered)
                    break
                except BufferError:
                    p.poll(0.1)
            p.poll(0)
            if dice.random() < 0.01:  # some 10,000 records a second: readers written in Python must keep up
                time.sleep(0.02)
        left = p.flush(130)
        if left:
            self.errors.append(f"producer {who}: {left} records without an answer")

    def read(self, _):
        book = self.book
        c = ck.Consumer({"bootstrap.servers": self.address, "group.id": GROUP, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "session.timeout.ms": 6000, "heartbeat.interval.ms": 500, **PATIENT})
        c.subscribe([TOPIC])
        while not self.stop_reading.is_set():
            messages = [m for m in c.consume(2000, timeout=0.3) if not m.error()]
            if not messages:
                continue
            with book.lock:
                for m in messages:
                    book.see(m.partition(), m.offset(), record_in(m))
                book.counts["read"] += len(messages)
                before = list(book.committed)
            try:
                for t in c.commit(asynchronous=False):
                    if not t.error and t.offset >= 0:
                        book.confirm(t.partition, t.offset)
                # what a successor would be told now
                for t in c.committed(c.assignment(), timeout=5):
                    book.observe(t.partition, before[t.partition], t.offset)
            except ck.KafkaException:
                pass  # not confirmed, so nothing was promised
        c.close()


def read_on(address, audit, promised, to_the_end):
    """Reads from where the audit stands to what was promised, or to the end of every partition; why it could not, or None.

    The end is where the broker says so, even if that is before what was promised: that is for the audit to judge.
    """
    c = ck.Consumer({"bootstrap.servers": address, "group.id": "crash-auditor", "enable.auto.commit": False,
                     "enable.partition.eof": True, "fetch.wait.max.ms": 50, **PATIENT})
    c.assign([ck.TopicPartition(TOPIC, p, audit.next[p]) for p in range(PARTITIONS)])
    ended, limit = set(), time.time() + READ_WITHIN
    while len(ended) < PARTITIONS and time.time() < limit:
        if not to_the_end and audit.reached(promised):
            break
        count = 0
        for m in c.consume(5000, timeout=1):
            if not m.error():
                audit.take(m.partition(), m.offset(), record_in(m))
                count += 1
            elif m.error().code() == EOF:
                ended.add(m.partition())
        audit.history.counts["verified"] += count
    c.close()
    if len(ended) < PARTITIONS and (to_the_end or not audit.reached(promised)):
        return f"{audit.of}: only {audit.next} of {promised.acked} could be read within {READ_WITHIN} s"
    audit.end(promised)
    return None


def read_by_kgo(program, address, audit, promised):
    """As `read_on` from the beginning to what was promised, with franz-go."""
    command = [program, address, TOPIC, *(str(max(a, r)) for a, r in zip(promised.acked, promised.read))]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE)
    while block := reader.stdout.read(FROM_KGO.size * 10_000):
        whole = len(block) - len(block) % FROM_KGO.size  # of a reader that died in the middle of one
        for partition, offset, producer, sequence in FROM_KGO.iter_unpack(block[:whole]):
            audit.take(partition, offset, history.record_of(producer, sequence))
        audit.history.counts["verified"] += whole // FROM_KGO.size
    if reader.wait():
        return f"{audit.of}: the reader ended with {reader.returncode}, at {audit.next} of {promised.acked}"
    audit.end(promised)
    return None


def ask_commits(address, book, before):
    """What the group's coordinator says is committed, with `before` known to be."""
    g = ck.Consumer({"bootstrap.servers": address, "group.id": GROUP, **PATIENT})
    for t in g.committed([ck.TopicPartition(TOPIC, p) for p in range(PARTITIONS)], timeout=60):
        book.observe(t.partition, before[t.partition], t.offset)
    g.close()
