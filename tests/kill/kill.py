"""Kills a broker again and again under load and sees whether what it had promised still holds.

usage: kill.py CYCLES [--seed N] [--port N] [--data FOLDER] [--command TEMPLATE] [--cores N,N…]
  --command  how to start a broker, with {port} and {data}; default: $FLUMEN_BIN serve with the overrides of a test
  --cores    every start takes one of these as its flumen.cores: partitions move, and are killed while they move

Two idempotent producers (librdkafka, acks=all) write numbered records to four partitions, two members of a group read and
commit. At random moments the broker gets SIGKILL and is started again, one time in five while it is still starting.
In the end everything is read from the start and judged by the oracles of history.py. Prints `PASS|FAIL name` and
`N passed, N failed`.
"""
import argparse
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import confluent_kafka as ck
import confluent_kafka.admin as cka

import history

PARTITIONS, PRODUCERS, MEMBERS = 4, 2, 2
PROGRESS_WITHIN = 90       # seconds a broker may take from its start to new acknowledgements
RECORDS_PER_CYCLE = 200    # acknowledged before it is killed again; every other time a commit of the group besides
TOPIC, GROUP = "kill", "kill-readers"
PATIENT = {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 500, "retry.backoff.ms": 50,
           "topic.metadata.refresh.interval.ms": 1000, "log_level": 2}


class Broker:
    """The process under test; its output goes to a file beside the data."""

    def __init__(self, command, port, data, cores, seed):
        self.command = shlex.split(command.format(port=port, data=shlex.quote(data)))
        self.cores, self.dice = cores, random.Random(seed)
        self.port, self.log, self.process = port, data.rstrip("/") + ".log", None

    def start(self):
        with open(self.log, "ab") as out:
            # a session of its own: the command may be a script with the broker as its child
            cores = ["--override", f"flumen.cores={self.dice.choice(self.cores)}"] if self.cores else []
            self.process = subprocess.Popen(self.command + cores, stdout=out, stderr=out, start_new_session=True)

    def kill(self):
        """False where there was nothing left to kill: the broker had ended by itself."""
        alive = self.process is not None and self.process.poll() is None
        if alive:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return alive

    def serve(self):
        """Starts and waits until the port answers."""
        self.start()
        end = time.time() + PROGRESS_WITHIN
        while time.time() < end:
            if self.process.poll() is not None:
                sys.exit(f"the broker ended with {self.process.returncode}, see {self.log}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        sys.exit(f"the broker does not answer, see {self.log}")


class Clients:
    """Producers and group members, each in a thread, until they are told to stop."""

    def __init__(self, address, book, seed):
        self.address, self.book, self.seed = address, book, seed
        self.stop_producing, self.stop_reading = threading.Event(), threading.Event()
        self.errors, self.threads = [], []

    def start(self):
        for n in range(PRODUCERS):
            self.threads.append(threading.Thread(target=self.guard, args=(self.produce, f"p{n}"), name="producer", daemon=True))
        for n in range(MEMBERS):
            self.threads.append(threading.Thread(target=self.guard, args=(self.read, n), name="reader", daemon=True))
        for t in self.threads:
            t.start()

    def guard(self, work, who):
        try:
            work(who)
        except Exception as e:  # a client that gives up is a finding, not a crash of the test
            self.errors.append(f"{who}: {e!r}")

    def join(self, name):
        for t in self.threads:
            if t.name == name:
                t.join(150)
                if t.is_alive():
                    self.errors.append(f"a {name} does not end")

    def produce(self, who):
        p = ck.Producer({"bootstrap.servers": self.address, "enable.idempotence": True, "linger.ms": 5,
                         "delivery.timeout.ms": 120000, "queue.buffering.max.messages": 2000, **PATIENT})
        dice, sequence = random.Random(f"{self.seed}{who}"), [0] * PARTITIONS

        def answered(error, message):
            if error:
                self.errors.append(f"{who}: not delivered: {error}")
                return
            record = tuple(json.loads(message.value())[:2])
            with self.book.lock:
                self.book.acked.append((message.partition(), message.offset(), record))

        while not self.stop_producing.is_set() and not self.errors:
            partition = dice.randrange(PARTITIONS)
            record = (who, sequence[partition])
            value = json.dumps([*record, "x" * dice.randrange(300)])
            try:
                p.produce(TOPIC, value, partition=partition, on_delivery=answered)
            except BufferError:
                p.poll(0.1)
                continue
            self.book.sent[partition].add(record)
            sequence[partition] += 1
            p.poll(0)
            if dice.random() < 0.02:  # some 5,000 records a second: readers written in Python must keep up
                time.sleep(0.02)
        left = p.flush(130)
        if left:
            self.errors.append(f"{who}: {left} records without an answer")

    def read(self, who):
        c = ck.Consumer({"bootstrap.servers": self.address, "group.id": GROUP, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "session.timeout.ms": 6000, "heartbeat.interval.ms": 500, **PATIENT})
        c.subscribe([TOPIC])
        while not self.stop_reading.is_set():
            messages = [m for m in c.consume(500, timeout=0.3) if not m.error()]
            if not messages:
                continue
            with self.book.lock:
                for m in messages:
                    self.book.read.append((m.partition(), m.offset(), tuple(json.loads(m.value())[:2])))
                before = {p: self.book.highest_commit(p) for p in range(PARTITIONS)}
            try:
                done = c.commit(asynchronous=False)
                with self.book.lock:
                    for t in done:
                        if not t.error and t.offset >= 0:
                            self.book.confirm(t.partition, t.offset)
                # what a successor would be told now
                for t in c.committed(c.assignment(), timeout=5):
                    with self.book.lock:
                        self.book.observe(t.partition, before[t.partition], t.offset)
            except ck.KafkaException:
                pass  # not confirmed, so nothing was promised
        c.close()


def wait_until(done, broker, clients):
    """Why the condition did not come true in time; None where it did."""
    end = time.time() + PROGRESS_WITHIN
    while not done():
        if clients.errors or broker.process.poll() is not None or time.time() > end:
            return f"no progress (broker exit {broker.process.poll()}, see {broker.log})"
        time.sleep(0.01)
    return None


def cycles(broker, book, clients, count, dice):
    """Kills and restarts; the number of cycles done before the clients stopped getting on."""
    for n in range(count):
        acked, commits = len(book.acked) + RECORDS_PER_CYCLE, len(book.committed) + n % 2
        stuck = wait_until(lambda: len(book.acked) >= acked and len(book.committed) >= commits, broker, clients)
        if stuck:
            clients.errors.append(f"cycle {n}: {stuck}")
            return n
        time.sleep(dice.random() * 1.5)
        alive = broker.kill()
        while alive and dice.random() < (0.6 if broker.cores else 0.2):  # and once more while it is starting
            broker.start()
            time.sleep(dice.random() * (0.8 if broker.cores else 0.4))
            alive = broker.kill()
        if not alive:
            clients.errors.append(f"cycle {n}: the broker ended by itself with {broker.process.returncode}, see {broker.log}")
            return n
        time.sleep(dice.random() * 0.3)
        broker.start()
    return count


def read_all(address, book):
    """The whole log of each partition, by a client that belongs to nobody, and the group's last word."""
    c = ck.Consumer({"bootstrap.servers": address, "group.id": "kill-auditor", "enable.auto.commit": False,
                     "enable.partition.eof": True, **PATIENT})
    c.assign([ck.TopicPartition(TOPIC, p, 0) for p in range(PARTITIONS)])
    ended, limit = set(), time.time() + PROGRESS_WITHIN
    while len(ended) < PARTITIONS and time.time() < limit:
        for m in c.consume(1000, timeout=1):
            if not m.error():
                book.log[m.partition()].append((m.offset(), tuple(json.loads(m.value())[:2])))
            elif m.error().code() == ck.KafkaError._PARTITION_EOF:
                ended.add(m.partition())
    c.close()
    g = ck.Consumer({"bootstrap.servers": address, "group.id": GROUP, **PATIENT})
    for t in g.committed([ck.TopicPartition(TOPIC, p) for p in range(PARTITIONS)], timeout=30):
        book.observe(t.partition, book.highest_commit(t.partition), t.offset)
    g.close()
    return [] if len(ended) == PARTITIONS else [f"only partitions {sorted(ended)} could be read to their end"]


def run(options):
    data = options.data or tempfile.mkdtemp(prefix="kill-", dir=os.environ.get("FLUMEN_SCRATCH"))
    address = f"127.0.0.1:{options.port}"
    broker, book = Broker(options.command, options.port, data, options.cores, options.seed), history.History()
    try:
        broker.serve()
        admin = cka.AdminClient({"bootstrap.servers": address, **PATIENT})
        admin.create_topics([cka.NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(60)
        clients = Clients(address, book, options.seed)
        clients.start()
        done = cycles(broker, book, clients, options.cycles, random.Random(options.seed))
        clients.stop_producing.set()
        clients.join("producer")
        ends = {p: max((o + 1 for q, o, _ in book.acked if q == p), default=0) for p in range(PARTITIONS)}
        behind = wait_until(lambda: all(book.highest_commit(p) >= end for p, end in ends.items()), broker, clients)
        clients.stop_reading.set()
        clients.join("reader")
        broker.kill()  # the last word is that of a broker that remembers only what is on its disk
        broker.serve()
        unread = read_all(address, book)
    finally:
        broker.kill()
    verdicts = {"all_cycles_ran": [] if done == options.cycles else [f"{done} of {options.cycles} cycles"],
                "clients_got_on": clients.errors,
                "the_group_reads_to_the_end": [f"{behind}: {book.highest} of {ends} committed"] if behind else [],
                "everything_can_be_read": unread, **history.judge(book)}
    print(f"seed {options.seed}: {done} kills, {len(book.acked)} acknowledged, {len(book.read)} read, "
          f"{len(book.committed)} commits")
    if not any(verdicts.values()) and not options.data:
        shutil.rmtree(data, ignore_errors=True)
        os.unlink(broker.log)
    else:
        print(f"data: {data}, log: {broker.log}")
    return verdicts


def main():
    flumen = os.environ.get("FLUMEN_BIN", "target/release/flumen")
    default = f"{flumen} serve --override listeners=PLAINTEXT://127.0.0.1:{{port}} --override log.dirs={{data}} --override flumen.admin.listener= --override group.initial.rebalance.delay.ms=0"
    # so small that files are recycled, the window fills and segments roll within seconds
    default += " --override flumen.journal.file.bytes=5242880 --override flumen.journal.window.bytes=15728640 --override log.segment.bytes=1048576"
    parser = argparse.ArgumentParser()
    parser.add_argument("cycles", type=int)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--port", type=int, default=23092)
    parser.add_argument("--data")
    parser.add_argument("--command", default=default)
    parser.add_argument("--cores", type=lambda text: [int(n) for n in text.split(",")], default=[])
    planted = history.self_test()
    print(f"the oracles find {planted} planted faults")
    verdicts = run(parser.parse_args())
    for name, complaints in verdicts.items():
        print("FAIL" if complaints else "PASS", name, *complaints[:3], f"({len(complaints)})" if complaints else "")
    failed = sum(bool(c) for c in verdicts.values())
    print(f"{len(verdicts) - failed} passed, {failed} failed")
    sys.exit(bool(failed))


main()
