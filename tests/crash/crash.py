"""Crashes a broker again and again under load and sees whether what it had promised still holds.

usage: crash.py CYCLES [--mode MODE,…] [--seed N] [--port N] [--copy-port N] [--data FOLDER] [--command TEMPLATE] [--cores N,N…] [--kgo PROGRAM]
  --mode     what happens in a cycle; of several, one by chance (default kill):
             kill    SIGKILL, one time in five once more while it is starting
             copy    its data is copied between two instants of it, and the copy must serve what it had promised, beside it
             cut     its file system goes down without writing what it still owes, then is mounted again (root, loop devices)
             freeze  SIGSTOP for 2 to 20 s, then SIGCONT
  --command  how to start a broker, with {port} and {data}; default: $FLUMEN_BIN serve with the overrides of a test
  --cores    every start takes one of these as its flumen.cores: partitions move, and are killed while they move
  --kgo      the last reading is done by this program too

Two idempotent producers (librdkafka, acks=all) write numbered records to four partitions, two members of a group read and
commit. Every ten cycles what is new is read by somebody else, in the end everything, and all is judged by the oracles of
history.py. Prints `PASS|FAIL name` and `N passed, N failed`.
"""
import argparse
import os
import random
import shutil
import sys
import tempfile
import time

import confluent_kafka.admin as cka

import clients as c
import history
from broker import ENDS_WITHIN, PROGRESS_WITHIN, Broker, Disk, copy_frozen, flumen_command

RECORDS_PER_CYCLE = 500    # acknowledged before the next crash; every third time a commit of the group besides
READ_EVERY = 10            # cycles from one sitting of the auditor to the next
DISK_MIB = 6144            # of the file system that is cut off; sparse


class Scene:
    """One run: the broker, its clients and what they were told."""

    def __init__(self, options):
        self.options, self.dice = options, random.Random(options.seed)
        scratch = os.environ.get("FLUMEN_SCRATCH")
        self.disk, log = None, None
        self.own = not options.data
        if "cut" in options.mode:
            handle, image = tempfile.mkstemp(prefix="crash-", suffix=".img", dir=scratch)
            os.close(handle)
            self.disk, log = Disk(image, DISK_MIB), image + ".log"
            data = os.path.join(self.disk.folder, "data")
        else:
            data = options.data or tempfile.mkdtemp(prefix="crash-", dir=scratch)
        self.broker = Broker(options.command, options.port, data, options.cores, options.seed, log)
        self.book = history.History(c.PARTITIONS, c.PRODUCERS)
        self.clients = c.Clients(self.broker.address, self.book, options.seed)
        self.audit = history.Audit(self.book, "read by and by")
        self.unread, self.readings, self.done = [], 0, 0

    def wait_until(self, done):
        """Why the condition did not come true in time; None where it did."""
        end = time.time() + PROGRESS_WITHIN
        while not done():
            if self.clients.errors or self.broker.ended() is not None or time.time() > end:
                return f"no progress (broker exit {self.broker.ended()}, see {self.broker.log})"
            time.sleep(0.01)
        return None

    def gets_on(self, n):
        counts = self.book.counts
        acked, commits = counts["acknowledged"] + RECORDS_PER_CYCLE, counts["commits"] + (n % 3 == 2)
        return self.wait_until(lambda: counts["acknowledged"] >= acked and counts["commits"] >= commits)

    def cycles(self):
        """Crashes until all is done, or the clients or the broker do not get on."""
        modes = self.options.mode
        for n in range(self.options.cycles):
            why = self.gets_on(n)
            if not why:
                time.sleep(self.dice.random() ** 2 * 1.5)  # rather early: much is new just after a start
                why = MODES[self.dice.choice(modes)](self)
            if not why and n % READ_EVERY == READ_EVERY - 1:
                why = self.read(self.broker.address, self.audit, self.book.promised())
            if why:
                self.clients.errors.append(f"cycle {n}: {why}")
                return
            self.done += 1
            if self.done % 100 == 0:
                print(f"{self.done} cycles, {self.book.counts['acknowledged']} acknowledged", flush=True)

    def read(self, address, audit, promised, to_the_end=False):
        self.readings += 1
        why = c.read_on(address, audit, promised, to_the_end)
        if why:
            self.unread.append(why)
        return why

    def run(self):
        self.broker.serve()
        admin = cka.AdminClient({"bootstrap.servers": self.broker.address, **c.PATIENT})
        admin.create_topics([cka.NewTopic(c.TOPIC, c.PARTITIONS, 1)])[c.TOPIC].result(60)
        self.clients.start()
        self.cycles()
        self.clients.stop_producing.set()
        self.clients.join("producer")
        ends = self.book.promised().acked
        behind = self.wait_until(lambda: all(said >= end for said, end in zip(self.book.committed, ends)))
        self.clients.stop_reading.set()
        self.clients.join("reader")
        self.broker.kill()  # the last word is that of a broker that remembers only what is on its disk
        self.broker.serve()
        promised = self.book.promised()
        self.read(self.broker.address, history.Audit(self.book, "read at the end"), promised, to_the_end=True)
        if self.options.kgo:
            self.readings += 1
            why = c.read_by_kgo(self.options.kgo, self.broker.address, history.Audit(self.book, "read by kgo"), promised)
            self.unread += [why] if why else []
        c.ask_commits(self.broker.address, self.book, promised.committed)
        self.book.worth()
        return [f"{behind}: {self.book.committed} of {ends} committed"] if behind else []

    def clean_up(self, failed):
        self.broker.kill()
        if failed:
            print(f"data: {self.disk.image if self.disk else self.broker.data}, log: {self.broker.log}")
            if self.disk:
                self.disk.unmount()
            return
        if self.disk:
            self.disk.remove()
        elif self.own:
            shutil.rmtree(self.broker.data, ignore_errors=True)
        os.unlink(self.broker.log)


def kill(scene):
    broker, dice = scene.broker, scene.dice
    alive = broker.kill()
    while alive and dice.random() < (0.6 if broker.cores else 0.2):  # and once more while it is starting
        broker.start()
        time.sleep(dice.random() * (0.8 if broker.cores else 0.4))
        alive = broker.kill()
    if not alive:
        return f"the broker ended by itself with {broker.ended()}, see {broker.log}"
    time.sleep(dice.random() ** 2 * 0.3)
    broker.start()
    return None


def copy(scene):
    broker, target = scene.broker, scene.broker.data.rstrip("/") + ".copy"
    promised = copy_frozen(broker, target, scene.book.promised)
    second = Broker(scene.options.command, scene.options.copy_port, target, broker.cores, scene.options.seed)
    try:
        second.serve()
        why = scene.read(second.address, history.Audit(scene.book, f"the copy of cycle {scene.done}"), promised, to_the_end=True)
        c.ask_commits(second.address, scene.book, promised.committed)
    finally:
        second.kill()
    if not why and not scene.book.complained.total():
        shutil.rmtree(target)
        os.unlink(second.log)
    return why


def cut(scene):
    broker = scene.broker
    scene.disk.cut()
    end = time.time() + ENDS_WITHIN
    while broker.ended() is None and time.time() < end:
        time.sleep(0.01)
    if broker.kill():
        return f"it went on for {ENDS_WITHIN} s although every write failed, see {broker.log}"
    scene.disk.remount()
    broker.start()
    return None


def freeze(scene):
    scene.broker.freeze()
    time.sleep(2 + 18 * scene.dice.random() ** 2)
    scene.broker.thaw()
    return None


MODES = {"kill": kill, "copy": copy, "cut": cut, "freeze": freeze}


def parsed():
    parser = argparse.ArgumentParser()
    parser.add_argument("cycles", type=int)
    parser.add_argument("--mode", type=lambda text: text.split(","), default=["kill"])
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--port", type=int, default=23092)
    parser.add_argument("--copy-port", type=int, default=23094)
    parser.add_argument("--data")
    parser.add_argument("--command", default=flumen_command())
    parser.add_argument("--cores", type=lambda text: [int(n) for n in text.split(",")], default=[])
    parser.add_argument("--kgo")
    options = parser.parse_args()
    if unknown := set(options.mode) - set(MODES):
        parser.error(f"no mode {', '.join(unknown)}: there are {', '.join(MODES)}")
    return options


def main():
    options = parsed()
    print(f"the oracles find {history.self_test()} planted faults")
    scene, began, behind, failed = Scene(options), time.time(), [], True
    try:
        behind = scene.run()
        book = scene.book
        verdicts = {"all_cycles_ran": [] if scene.done == options.cycles else [f"{scene.done} of {options.cycles} cycles"],
                    "clients_got_on": scene.clients.errors, "the_group_reads_to_the_end": behind,
                    "everything_can_be_read": scene.unread,
                    **{oracle: book.complaints[oracle] for oracle in history.ORACLES}}
        failed = any(verdicts.values())
    finally:
        scene.clean_up(failed)
    counts, wrong = book.counts, book.complained
    print(f"seed {options.seed}: {scene.done} cycles ({','.join(options.mode)}) in {time.time() - began:.0f} s, "
          f"{counts['acknowledged']} acknowledged, {counts['read']} read by the group, {counts['verified']} verified in "
          f"{scene.readings} readings, {counts['commits']} commits; "
          f"lost {wrong['acknowledged_records_are_there']}, duplicates {wrong['no_record_is_there_twice']}, "
          f"reordered {wrong['each_producer_keeps_its_order']}; "
          f"oracles {sum(not book.complained[o] for o in history.ORACLES)}/{len(history.ORACLES)}")
    for name, complaints in verdicts.items():
        print("FAIL" if complaints else "PASS", name, *complaints[:3], f"({max(len(complaints), wrong[name])})" if complaints else "")
    count = sum(bool(c) for c in verdicts.values())
    print(f"{len(verdicts) - count} passed, {count} failed")
    sys.exit(bool(count))


main()
