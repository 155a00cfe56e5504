"""Fills the disk of a broker through its own front door and sees whether it behaves.

usage: diskfull.py FOLDER [--port N] [--command TEMPLATE]
  FOLDER     lies on a small file system that may be filled; the broker's data goes there
  --command  how to start a broker, with {port} and {data}; default: $FLUMEN_BIN serve with the overrides of a test

A full disk must cost writers a retriable error and nobody anything else; when room is made, writing must go on without a restart.
Prints `PASS|FAIL name` and `N passed, N failed`.
"""
import argparse
import errno
import os
import shlex
import signal
import subprocess
import sys
import time

import kafka
import kafka.admin
import kafka.errors

START_WITHIN, RESUME_WITHIN, REFUSED_WITHIN = 60, 60, 10  # seconds
RESERVE = "flumen.disk.reserve.bytes=67108864"  # the default is larger than the whole disk of the test
RECORD = os.urandom(100_000)


class Broker:
    def __init__(self, command, port, data, log):
        self.address, self.log = f"127.0.0.1:{port}", log
        self.command = shlex.split(command.format(port=port, data=shlex.quote(data)))
        self.process = None

    def launch(self):
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(self.command, stdout=out, stderr=out, start_new_session=True)

    def start(self):
        self.launch()
        self.answers()

    def answers(self):
        end = time.time() + START_WITHIN
        while time.time() < end:
            try:
                return kafka.KafkaConsumer(bootstrap_servers=self.address).close()
            except kafka.errors.KafkaError:
                assert self.process.poll() is None, f"the broker ended with {self.process.returncode}, see {self.log}"
                time.sleep(0.2)
        raise AssertionError(f"no answer within {START_WITHIN} s, see {self.log}")

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def alive(self):
        assert self.process.poll() is None, f"the broker ended with {self.process.returncode}, see {self.log}"


def producer(address):
    return kafka.KafkaProducer(bootstrap_servers=address, acks="all", retries=0, enable_idempotence=False,
                               request_timeout_ms=30000, max_block_ms=30000, max_request_size=2_000_000)


def create(address, topic):
    a = kafka.admin.KafkaAdminClient(bootstrap_servers=address)
    a.create_topics([kafka.admin.NewTopic(topic, 1, 1, topic_configs={"segment.bytes": "4194304"})])
    a.close()


def count(address, topic):
    """Records that can be read from the start to the end of the topic's only partition."""
    c = kafka.KafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest", fetch_max_bytes=4_000_000)
    tp = kafka.TopicPartition(topic, 0)
    c.assign([tp])
    c.seek_to_beginning(tp)
    end, n, limit = c.end_offsets([tp])[tp], 0, time.time() + 60
    while c.position(tp) < end and time.time() < limit:
        n += sum(len(r) for r in c.poll(timeout_ms=500).values())
    c.close()
    return n


def fill(address, topic, limit):
    """Writes until refused: (records acknowledged, the refusal, seconds that it took)."""
    p = producer(address)
    try:
        for n in range(limit):
            asked = time.time()
            try:
                p.send(topic, RECORD, partition=0).get(60)
            except kafka.errors.KafkaError as e:
                return n, e, time.time() - asked
        raise AssertionError(f"{limit} records were acknowledged: more than the disk holds")
    finally:
        p.close(timeout=1)


def resumes(address, topic):
    """Seconds until a write is acknowledged again."""
    start, last = time.time(), None
    while time.time() < start + RESUME_WITHIN:
        p = producer(address)
        try:
            p.send(topic, b"again", partition=0).get(30)
            return time.time() - start
        except kafka.errors.KafkaError as e:
            last = e
            time.sleep(0.5)
        finally:
            p.close(timeout=1)
    raise AssertionError(f"still refused after {RESUME_WITHIN} s: {last!r}")


def delete_topic(address, topic):
    a = kafka.admin.KafkaAdminClient(bootstrap_servers=address)
    a.delete_topics([topic])
    a.close()


def delete_records(address, topic):
    tp = kafka.TopicPartition(topic, 0)
    c = kafka.KafkaConsumer(bootstrap_servers=address)
    end = c.end_offsets([tp])[tp]
    c.close()
    a = kafka.admin.KafkaAdminClient(bootstrap_servers=address)
    a.delete_records({tp: end})
    a.close()


class Report:
    def __init__(self):
        self.passed = self.failed = 0

    def step(self, name, work):
        """Runs one check; later ones go on after a failure and say what they see."""
        try:
            said = work()
            self.passed += 1
            print("PASS", name, said if isinstance(said, str) else "", flush=True)
        except Exception as e:
            self.failed += 1
            print("FAIL", name, repr(e)[:300], flush=True)


def one_round(report, broker, how, make_room, limit):
    address, kept, filler = broker.address, f"kept-{how}", f"filler-{how}"
    seen = {"acked": 0}

    def prepare():
        create(address, kept)
        create(address, filler)
        p = producer(address)
        for n in range(500):
            p.send(kept, b"%d" % n, partition=0)
        p.flush(60)
        p.close()
        assert count(address, kept) == 500

    def refused():
        seen["acked"], error, seconds = fill(address, filler, limit)
        assert getattr(error, "retriable", False), f"not retriable: {error!r}"
        assert seconds < REFUSED_WITHIN, f"refused only after {seconds:.1f} s"
        return f"{type(error).__name__} after {seen['acked']} records, in {seconds:.2f} s"

    def readable():
        assert count(address, kept) == 500
        got = count(address, filler)
        assert got >= seen["acked"] > 0, f"{seen['acked']} acknowledged, {got} readable"

    report.step(f"{how}.prepare", prepare)
    report.step(f"{how}.a-full-disk-is-a-retriable-error", refused)
    report.step(f"{how}.the-broker-lives", broker.alive)
    report.step(f"{how}.everything-acknowledged-can-be-read", readable)
    report.step(f"{how}.room-can-be-made", lambda: make_room(address, filler))
    report.step(f"{how}.writing-resumes-by-itself", lambda: f"after {resumes(address, kept):.1f} s")

    def survives():
        broker.kill()
        broker.start()
        got = count(address, kept)
        assert got >= 501, f"{got} of 501 records left"

    report.step(f"{how}.nothing-kept-is-lost-in-a-crash", survives)


def foreign_round(report, broker, folder, limit):
    """Somebody else takes the last block, and no reserve warns: the broker itself runs into the full disk."""
    address, topic, foreign = broker.address, "kept-foreign", os.path.join(folder, "foreign")
    filler = "filler-foreign"
    seen = {}

    def takes_the_rest():
        """In ever smaller pieces, until not one block is left. Written ones would leave what the file system sets aside for them."""
        with open(foreign, "ab") as f:
            for piece in (1 << 20, 1 << 16, 1 << 12):
                try:
                    while True:
                        os.posix_fallocate(f.fileno(), os.fstat(f.fileno()).st_size, piece)
                except OSError as e:
                    assert e.errno == errno.ENOSPC, e
        disk = os.statvfs(folder)
        return f"{disk.f_bavail * disk.f_frsize} bytes are free"

    def prepare():
        broker.kill()
        broker.command = [o.replace(RESERVE, "flumen.disk.reserve.bytes=0") for o in broker.command]
        broker.start()
        create(address, topic)
        p = producer(address)
        p.send(topic, b"before", partition=0).get(30)
        create(address, filler)
        for _ in range(300):
            p.send(filler, RECORD, partition=0).get(30)
        p.close()
        time.sleep(5)  # most of it goes into segments, and what can be made ready for a full disk is
        takes_the_rest()

    def refused():
        seen["acked"], error, seconds = fill(address, topic, limit)
        assert getattr(error, "retriable", False), f"not retriable: {error!r}"
        assert seconds < REFUSED_WITHIN, f"refused only after {seconds:.1f} s"
        return f"{type(error).__name__} after {seen['acked']} records, in {seconds:.2f} s"

    def readable():
        got = count(address, topic)
        assert got >= seen["acked"] + 1, f"{seen['acked'] + 1} acknowledged, {got} readable"

    def stays_refused():
        """Settling goes on trying; none of that may end the broker or let records in."""
        end = time.time() + 5
        while time.time() < end:
            p = producer(address)
            try:
                p.send(topic, RECORD, partition=0).get(30)
                raise AssertionError("a record was taken although not a block is free")
            except kafka.errors.KafkaError as e:
                assert getattr(e, "retriable", False), f"not retriable: {e!r}"
            finally:
                p.close(timeout=1)
            time.sleep(0.5)

    def gives_room_back():
        """What says which files go must be written before they go, although not a block is free."""
        delete_topic(address, filler)
        end = time.time() + 30
        while time.time() < end:
            disk = os.statvfs(folder)
            if disk.f_bavail * disk.f_frsize > 20 << 20:
                return
            time.sleep(0.5)
        raise AssertionError("a deleted topic of 30 MB gave less than 20 MiB back within 30 s")

    report.step("foreign.prepare", prepare)
    report.step("foreign.a-full-disk-is-a-retriable-error", refused)
    report.step("foreign.it-stays-one", stays_refused)
    report.step("foreign.the-broker-lives", broker.alive)
    report.step("foreign.everything-acknowledged-can-be-read", readable)

    time.sleep(7)  # what was given up for a record is made again, if it can be
    report.step("foreign.is-full-still", takes_the_rest)
    report.step("foreign.a-deletion-without-a-free-block-gives-its-room-back", gives_room_back)
    report.step("foreign.and-is-full-again", takes_the_rest)

    def waits():
        """A start needs a few KiB, its own ballast if there is one; without them it waits, so that nobody has to start it again."""
        broker.kill()
        broker.launch()
        time.sleep(3)
        broker.alive()
        os.unlink(foreign)
        broker.answers()

    report.step("foreign.a-start-without-a-free-block-waits-for-room", waits)
    report.step("foreign.writing-resumes-by-itself", lambda: f"after {resumes(address, topic):.1f} s")
    report.step("foreign.everything-acknowledged-is-still-there", readable)


def main():
    flumen = os.environ.get("FLUMEN_BIN", "target/release/flumen")
    default = f"{flumen} serve --override listeners=PLAINTEXT://127.0.0.1:{{port}} --override log.dirs={{data}} --override flumen.admin.listener= " \
        f"--override {RESERVE} --override flumen.disk.reserve.percent=0 --override group.initial.rebalance.delay.ms=0"
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--port", type=int, default=23192)
    parser.add_argument("--command", default=default)
    options = parser.parse_args()
    disk = os.statvfs(options.folder)
    limit = 2 * disk.f_blocks * disk.f_frsize // len(RECORD)
    log = os.path.join(os.environ.get("FLUMEN_SCRATCH", "/tmp"), f"diskfull-{os.getpid()}.log")
    broker, report = Broker(options.command, options.port, os.path.join(options.folder, "data"), log), Report()
    report.step("start", broker.start)
    try:
        one_round(report, broker, "delete-topic", delete_topic, limit)
        one_round(report, broker, "delete-records", delete_records, limit)
        foreign_round(report, broker, options.folder, limit)
    finally:
        broker.kill()
    if report.failed:
        print("log:", log)
    print(f"{report.passed} passed, {report.failed} failed")
    sys.exit(bool(report.failed))


main()
