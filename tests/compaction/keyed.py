"""The compacted topic on trial: how its broker is started, how it is filled, written to and read, and when it is cleaned.

All clients are librdkafka. Every record's value begins with its version and goes on with bytes that follow from key and
version; a tombstone has its version in a header.
"""
import functools
import itertools
import json
import os
import random
import struct
import threading
import time

import confluent_kafka as ck
import confluent_kafka.admin as cka

TOPIC = "keyed"
PATIENT = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 20,
           "topic.metadata.refresh.interval.ms": 1000, "log_level": 2}
READ_WITHIN = 900          # seconds
OVERHEAD_BYTES = 17        # of a record besides its value: lengths, deltas, its key
KEY, VERSION = struct.Struct(">Q"), struct.Struct(">I")
FILLING = random.Random(4).randbytes(16384)
PLACES = 4096              # where a filling may begin
NEVER, ALWAYS = "1.0", "0.0"  # min.cleanable.dirty.ratio: no log is dirtier than wholly, any dirt is more than none
EOF = ck.KafkaError._PARTITION_EOF


def flumen_command(overrides):
    """How to start Flumen for `Broker`, with these options besides."""
    flumen = os.environ.get("FLUMEN_BIN", "target/release/flumen")
    options = ["listeners=PLAINTEXT://127.0.0.1:{port}", "log.dirs={data}", "flumen.admin.listener=", "log.cleaner.backoff.ms=200", *overrides]
    return " ".join([flumen, "--log-format", "json", "serve", *(f"--override {option}" for option in options)])


class Shape:
    """How large everything is."""

    def __init__(self, gib, keys, partitions):
        self.keys, self.partitions = keys, partitions
        self.bytes = int(gib * (1 << 30))
        self.value_bytes = max(8, min(PLACES, self.bytes // (2 * keys) - OVERHEAD_BYTES))
        # some dozens of segments, so that there is always something to clean behind the one that grows
        self.segment_bytes = max(1 << 20, min(64 << 20, self.bytes // 32))
        # a quarter of the keys has room at once, within what is the default
        self.table_bytes = max(1 << 20, min(64 << 20, 24 * keys // 4))

    def record(self, key, version):
        """What to give to a producer."""
        return {"key": KEY.pack(key), "value": VERSION.pack(version) + self.filling(key, version)}

    def filling(self, key, version):
        place = (key * 31 + version) % PLACES
        return FILLING[place:place + self.value_bytes - VERSION.size]

    def record_bytes(self):
        return self.value_bytes + OVERHEAD_BYTES

    def growing(self):
        """Records of two segments for each partition: the one that grows is not cleaned, nor compared with what is before it."""
        return 2 * self.partitions * self.segment_bytes // self.record_bytes()


def admin(address):
    return cka.AdminClient({"bootstrap.servers": address, **PATIENT})


def create(address, shape, ratio, delete_retention_ms):
    config = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": ratio, "segment.bytes": str(shape.segment_bytes),
              "delete.retention.ms": str(delete_retention_ms)}
    client = admin(address)  # it must live until the answer is there
    client.create_topics([cka.NewTopic(TOPIC, shape.partitions, 1, config=config)])[TOPIC].result(60)


def clean_from(address, ratio):
    """Lets the cleaner go, or holds it: what is under way goes on."""
    entry = cka.ConfigEntry("min.cleanable.dirty.ratio", ratio, incremental_operation=cka.AlterConfigOpType.SET)
    change = cka.ConfigResource(cka.ResourceType.TOPIC, TOPIC, incremental_configs=[entry])
    client = admin(address)
    for done in client.incremental_alter_configs([change]).values():
        done.result(60)


def write_once(address, shape, values, keys):
    """Writes the keys in this order, as fast as it goes; when it returns, all of it is acknowledged."""
    errors, before = [], values.counts["acknowledged"]
    p = ck.Producer({"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 20, "batch.size": 262144,
                     "queue.buffering.max.messages": 500000, "queue.buffering.max.kbytes": 131072,
                     "delivery.report.only.error": True, "on_delivery": lambda error, _: errors.append(error), **PATIENT})
    keys = iter(keys)
    while some := list(itertools.islice(keys, 4000)):
        for partition in range(shape.partitions):
            batch = [shape.record(key, values.next(key)) for key in some if key % shape.partitions == partition]
            while batch:
                p.produce_batch(TOPIC, batch, partition=partition)
                batch = [left for left in batch if left.pop("_error", None)]
                p.poll(0.05 if batch else 0)
        values.counts["acknowledged"] += len(some)
    if p.flush(300) or errors:
        values.counts["acknowledged"] = before
        raise RuntimeError(f"not all of it could be written: {errors[:3]}")
    values.acked[:] = values.sent


def fill(address, shape, values):
    """Writes every key twice, the second time in another order."""
    stride = next(n for n in (7919, 7927, 7933, 7937) if shape.keys % n)  # a prime that is no factor: every key once
    write_once(address, shape, values, itertools.chain(range(shape.keys), (n * stride % shape.keys for n in range(shape.keys))))


class Writer:
    """An idempotent producer that writes random keys at a steady rate, and deletes one time in twenty, until it is told to stop."""

    def __init__(self, address, shape, values, per_second, seed):
        self.address, self.shape, self.values, self.per_second = address, shape, values, per_second
        self.errors, self.stopped = [], threading.Event()
        self.dice = random.Random(f"writer {seed}")  # with the bare seed its keys would be those that the same seed draws elsewhere
        self.thread = threading.Thread(target=self.guard, daemon=True)
        self.thread.start()

    def guard(self):
        try:
            self.write()
        except Exception as e:  # a client that gives up is a finding, not a crash of the test
            self.errors.append(f"the writer: {e!r}")

    def answered(self, key, version, error, _):
        if error:
            self.errors.append(f"not delivered: {error}")
        else:
            self.values.acknowledge(key, version)

    def write(self):
        p = ck.Producer({"bootstrap.servers": self.address, "enable.idempotence": True, "linger.ms": 5, "delivery.timeout.ms": 120000,
                         "queue.buffering.max.messages": 20000, **PATIENT})
        while not self.stopped.wait(0.02) and not self.errors:
            for _ in range(self.per_second // 50):
                key, tombstone = self.dice.randrange(self.shape.keys), self.dice.random() < 0.05
                version = self.values.next(key, tombstone)
                record = self.shape.record(key, version) | {"on_delivery": functools.partial(self.answered, key, version)}
                if tombstone:
                    record.update(value=None, headers={"version": VERSION.pack(version)})
                while True:
                    try:
                        p.produce(TOPIC, partition=key % self.shape.partitions, **record)
                        break
                    except BufferError:
                        p.poll(0.1)
            p.poll(0)
        left = p.flush(130)
        if left:
            self.errors.append(f"{left} records without an answer")

    def stop(self):
        self.stopped.set()
        self.thread.join(150)


def read(address, shape, reading):
    """Reads every partition from its start to its end; why it could not, or None."""
    c = ck.Consumer({"bootstrap.servers": address, "group.id": "reader", "enable.auto.commit": False, "enable.partition.eof": True,
                     "queued.max.messages.kbytes": 65536, "fetch.wait.max.ms": 50, **PATIENT})
    c.assign([ck.TopicPartition(TOPIC, p, 0) for p in range(shape.partitions)])
    ended, limit = set(), time.time() + READ_WITHIN
    while len(ended) < shape.partitions and time.time() < limit:
        for m in c.consume(10000, timeout=1):
            if m.error():
                ended |= {m.partition()} if m.error().code() == EOF else set()
                continue
            key, value = KEY.unpack(m.key())[0], m.value()
            if value is None:
                reading.take(m.partition(), m.offset(), key, VERSION.unpack(m.headers()[0][1])[0])
            else:
                version = VERSION.unpack_from(value)[0]
                reading.take(m.partition(), m.offset(), key, version, value[VERSION.size:] == shape.filling(key, version))
    c.close()
    return None if len(ended) == shape.partitions else f"{reading.of}: only {reading.next} could be read within {READ_WITHIN} s"


class Cleaner:
    """What the broker says in its log about cleaning, and what lies in its folder."""

    def __init__(self, broker):
        self.broker, self.position = broker, 0
        self.under_way, self.begun, self.reports = set(), 0, []
        self.idle_since = time.monotonic()

    def look(self):
        """Reads on; whether a cleaning is under way."""
        with open(self.broker.log, encoding="utf-8", errors="replace") as file:
            file.seek(self.position)
            for line in iter(file.readline, ""):
                if not line.endswith("\n"):
                    break  # of a broker that was killed while it wrote, or writes it now
                self.position += len(line.encode())
                self.note(line)
        return bool(self.under_way)

    def note(self, line):
        if '"clean' not in line:
            return
        fields = json.loads(line)
        if fields["message"] == "cleaning":
            self.under_way.add(fields["log"])
            self.begun += 1
        elif fields["message"] == "cleaned":
            self.under_way.discard(fields["log"])
            self.reports.append(fields)
            self.idle_since = time.monotonic()

    def forget(self):
        """The broker has ended; whether it was cleaning."""
        was = self.look()
        self.under_way.clear()
        return was

    def has_unfinished(self):
        """Whether two generations of one segment lie side by side: one is being written, or about to be removed."""
        names = [os.path.join(folder, name.split(".")[0]) for folder, _, files in os.walk(os.path.join(self.broker.data, "partitions"))
                 for name in files if name.endswith(".log")]
        return len(names) > len(set(names))

    def wait(self, done, within):
        """Whether it came true in time."""
        end = time.monotonic() + within
        while time.monotonic() < end and self.broker.ended() is None:
            self.look()
            if done():
                return True
            time.sleep(0.02)
        return False


def bytes_on_disk(data):
    """What the files of all partitions take."""
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, files in os.walk(os.path.join(data, "partitions")) for name in files)


def serve(broker):
    """Starts the broker. What counts as its memory begins here: a start takes the whole journal into memory, which is as long
    as what was written before the kill and has nothing to do with cleaning."""
    broker.serve()
    admin(broker.address).list_topics(timeout=READ_WITHIN)  # the port is open before the start is over
    for pid in family(broker.process):
        with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # the kernel's word for: forget the peak


def family(process):
    """The process and its children."""
    found = [process.pid]
    for pid in found:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            found += map(int, file.read().split())
    return found


def memory(process, what="VmHWM"):
    """Bytes of memory of a process and its children; VmHWM: the most since `serve`, as the kernel keeps it."""
    found = 0
    for pid in family(process):
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            found += next(int(line.split()[1]) << 10 for line in file if line.startswith(what))
    return found
