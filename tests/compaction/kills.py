"""Kills a broker again and again in the middle of cleaning a compacted topic, under load, and sees whether the last values are there.

usage: kills.py GIB KEYS KILLS [--seed N] [--rate N] [--port N] [--data FOLDER] [--command TEMPLATE]
  GIB, KEYS  how much is written beforehand, and of how many keys, each twice
  KILLS      SIGKILLs that must hit a cleaning; those that do not are made up for
  --rate     records per second that are written meanwhile, one in twenty a tombstone; default 5000
  --command  how to start a broker, with {port} and {data}; default: $FLUMEN_BIN serve with the overrides of this test

After the last kill what was begun is cleaned to its end, twice, so that tombstones may go; then everything is read from the
start and judged by the oracles of values.py. Prints `PASS|FAIL name` and `N passed, N failed`.
"""
import argparse
import os
import random
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "crash"))
import keyed
import values
from broker import Broker

PARTITIONS = 2
BASE_SECONDS = 3           # of load without cleaning, for the base of memory
DELETE_RETENTION_MS = 3000
PROGRESS_WITHIN = 120      # seconds without a cleaning that begins, or an acknowledgement
CLEANED_WITHIN = 600       # seconds for the cleaning of everything
IDLE = 1.5                 # seconds in which no cleaning begins: five looks
MEMORY_MAX = 128 << 20


class Scene:
    """One run."""

    def __init__(self, options):
        self.options, self.dice = options, random.Random(options.seed)
        self.shape = keyed.Shape(options.gib, options.keys, PARTITIONS)
        self.values = values.Values(options.keys)
        self.longest = 1 + 10 * min(1, options.gib)  # seconds that a cleaning is let alone
        self.own = not options.data
        folder = options.data or tempfile.mkdtemp(prefix="compaction-", dir=os.environ.get("FLUMEN_SCRATCH"))
        command = options.command or keyed.flumen_command([f"log.cleaner.dedupe.buffer.size={self.shape.table_bytes}"])
        self.broker = Broker(command, options.port, os.path.join(folder, "data"))
        self.folder, self.writer = folder, None
        self.cleaner = keyed.Cleaner(self.broker)
        self.hits = self.misses = self.halfway = self.most = self.base = 0

    def write(self):
        self.writer = keyed.Writer(self.broker.address, self.shape, self.values, self.options.rate, self.options.seed)

    def stop_writing(self):
        self.writer.stop()
        return self.writer.errors

    def kill(self):
        if not self.broker.kill():
            raise RuntimeError(f"the broker ended by itself with {self.broker.ended()}, see {self.broker.log}")

    def prepare(self):
        """Fills the topic and learns what the broker takes for the load alone."""
        keyed.serve(self.broker)
        keyed.create(self.broker.address, self.shape, keyed.NEVER, DELETE_RETENTION_MS)
        began = time.time()
        keyed.fill(self.broker.address, self.shape, self.values)
        print(f"{2 * self.shape.keys} records in {time.time() - began:.0f} s, {keyed.bytes_on_disk(self.broker.data)} bytes on disk", flush=True)
        self.kill()
        keyed.serve(self.broker)
        self.write()
        time.sleep(BASE_SECONDS)
        self.base = keyed.memory(self.broker.process)
        keyed.clean_from(self.broker.address, keyed.ALWAYS)

    def kills(self):
        while self.hits < self.options.kills and self.misses <= self.options.kills:
            begun, acked = self.cleaner.begun, self.values.counts["acknowledged"]
            gets_on = self.cleaner.wait(lambda: self.writer.errors or self.cleaner.begun > begun and self.cleaner.under_way
                                        and self.values.counts["acknowledged"] > acked, PROGRESS_WITHIN)
            if not gets_on or self.writer.errors:
                return self.writer.errors or [f"kill {self.hits}: no progress, broker exit {self.broker.ended()}, see {self.broker.log}"]
            time.sleep(self.dice.random() ** 2 * self.longest)
            # only here: what is written as fast as it goes, before and after, is another load
            self.most = max(self.most, keyed.memory(self.broker.process))
            self.kill()
            hit = self.cleaner.forget()
            self.hits, self.misses = self.hits + hit, self.misses + (not hit)
            self.halfway += self.cleaner.has_unfinished()
            keyed.serve(self.broker)
        return [] if self.hits == self.options.kills else [f"{self.misses} kills did not hit a cleaning"]

    def settle(self):
        """Has everything cleaned but what grows; then again, when tombstones may go."""
        why = self.stop_writing()
        for turn in range(2):
            if why:
                return why
            # so much that all that was there before lies behind the segment that grows
            keyed.write_once(self.broker.address, self.shape, self.values,
                             (self.dice.randrange(self.shape.keys) for _ in range(self.shape.growing())))
            begun = self.cleaner.begun
            if not self.cleaner.wait(lambda: self.cleaner.begun > begun and self.is_clean(), CLEANED_WITHIN):
                return [f"not clean within {CLEANED_WITHIN} s, broker exit {self.broker.ended()}, see {self.broker.log}"]
            time.sleep(0 if turn else DELETE_RETENTION_MS / 1000)
        return []

    def is_clean(self):
        return not self.cleaner.under_way and time.monotonic() - self.cleaner.idle_since > IDLE

    def audit(self):
        """What a reader finds who knows nothing but the topic, of a broker that remembers only what is on its disk."""
        keyed.clean_from(self.broker.address, keyed.NEVER)
        self.kill()
        self.cleaner.forget()
        keyed.serve(self.broker)
        reading = values.Reading(self.values, PARTITIONS)
        why = keyed.read(self.broker.address, self.shape, reading)
        if why:
            return reading, {"everything_can_be_read": [why]}
        reading.end(self.shape.growing())
        v, shape = self.values, self.shape
        v.worth({"acknowledged": 2 * shape.keys + 1, "keys deleted without a trace": 1, "read": shape.keys // 2})
        on_disk, most = keyed.bytes_on_disk(self.broker.data), (shape.keys + shape.growing()) * shape.record_bytes() * 1.15
        return reading, {"everything_can_be_read": [], "the_log_is_small": [f"{on_disk} bytes, not {most:.0f}"] if on_disk > most else [],
                         "nothing_is_left_behind": ["a segment is there in two generations"] if self.cleaner.has_unfinished() else [],
                         **{oracle: v.complaints[oracle] for oracle in values.ORACLES}}

    def run(self):
        """Complaints by name."""
        self.prepare()
        print(f"base memory {self.base / (1 << 20):.1f} MiB", flush=True)
        verdicts = {"all_kills_hit_a_cleaning": self.kills()}
        print(f"{self.hits} kills hit a cleaning, {self.misses} did not; {self.halfway} left a segment in two generations", flush=True)
        verdicts["the_writer_got_on"] = self.settle() if not any(verdicts.values()) else self.stop_writing()
        if any(verdicts.values()):
            return verdicts
        reading, found = self.audit()
        above = self.most - self.base
        verdicts["memory_is_bounded"] = [f"{above} bytes above base"] if above > MEMORY_MAX else []
        written = sum(version // 2 for version in self.values.sent)
        dropped = sum(int(report["records_dropped"]) for report in self.cleaner.reports)
        print(f"{written} records written, {self.values.counts['acknowledged']} acknowledged, {reading.records} read, of which {reading.superseded} superseded and "
              f"{reading.tombstones} last of their key and a tombstone; {self.values.counts['keys deleted without a trace']} keys deleted without a trace; "
              f"{keyed.bytes_on_disk(self.broker.data)} bytes on disk; {len(self.cleaner.reports)} cleanings ended, which dropped {dropped} records; "
              f"memory {above / (1 << 20):+.1f} MiB")
        return verdicts | found

    def clean_up(self, failed):
        if self.writer:
            self.writer.stopped.set()
        self.broker.kill()
        if failed:
            print(f"data: {self.broker.data}, log: {self.broker.log}")
        elif self.own:
            shutil.rmtree(self.folder, ignore_errors=True)


def parsed():
    parser = argparse.ArgumentParser()
    parser.add_argument("gib", type=float)
    parser.add_argument("keys", type=int)
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--port", type=int, default=23098)
    parser.add_argument("--data")
    parser.add_argument("--command")
    return parser.parse_args()


def main():
    options = parsed()
    print(f"the oracles find {values.self_test()} planted faults")
    scene, began, failed = Scene(options), time.time(), True
    try:
        verdicts = scene.run()
        failed = any(verdicts.values())
    finally:
        scene.clean_up(failed)
    print(f"seed {options.seed}: {scene.hits} kills in the middle of a cleaning in {time.time() - began:.0f} s")
    for name, complaints in verdicts.items():
        print("FAIL" if complaints else "PASS", name, *complaints[:3], f"({max(len(complaints), scene.values.complained[name])})" if complaints else "")
    count = sum(bool(c) for c in verdicts.values())
    print(f"{len(verdicts) - count} passed, {count} failed")
    sys.exit(bool(count))


main()
