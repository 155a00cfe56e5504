"""Numbers go through a chain of transactional copiers that are killed, as is their broker; each must arrive exactly once.

usage: chain.py [NUMBERS [KILLS]] --tool COMMAND [--seed N] [--port N] [--data FOLDER] [--command TEMPLATE] [--cores N,N…] [--size N]
  --tool     starts a tool of Kafka's by its name (tests/compat/java/tool.sh with its folder)
  --seed     decides what is killed and how far the chain is then; processes are never twice alike
  --command  how to start a broker, with {port} and {data}; default: $FLUMEN_BIN serve with the overrides of a test
  --cores    every start takes one of these as its flumen.cores
  --size     records in a transaction; default 100, fewer where there are few numbers

input -> t1 -> t2 -> output, each arrow a TransactionalMessageCopier in a group of its own, which aborts a third of its
transactions. Half of KILLS hit the broker, the others a copier; besides, some copiers are frozen until their successor is
at work, and thawed. In the end the broker is killed once more, and every topic is read by librdkafka (committed and not),
the output also by the Java client; all is judged by the oracles of ledger.py. Prints `PASS|FAIL name` and `N passed, N failed`.
"""
import argparse
import dataclasses
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import confluent_kafka as ck
import confluent_kafka.admin as cka

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "crash"))
import ledger
from broker import Broker, flumen_command
from copiers import TRANSACTION_TIMEOUT, Stage

TOPICS, PARTITIONS = ["input", "t1", "t2", "output"], 2
PROGRESS_WITHIN = 120      # seconds without a committed record anywhere
SETTLED_WITHIN = TRANSACTION_TIMEOUT + 10
READ_WITHIN = 300
THAWED_WITHIN = 12         # seconds after the successor; the group counts a frozen member out after 10
NOTICED_WITHIN = 5         # seconds that zombies get in the end
TRY_AGAIN = 0.5            # seconds before it is asked again whether a stage has work
BEHIND = 0.9               # of all records, those that copiers will at least have come to say they committed
PATIENT = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 20, "log_level": 2}
EOF = ck.KafkaError._PARTITION_EOF
OVER = ("CompleteCommit", "CompleteAbort", "Empty")


def consumer(address, committed, group="readers"):
    return ck.Consumer({"bootstrap.servers": address, "group.id": group, "enable.auto.commit": False, "fetch.wait.max.ms": 50,
                        "enable.partition.eof": True, "isolation.level": "read_committed" if committed else "read_uncommitted", **PATIENT})


def take(reading, messages):
    """Adds the records to the reading; the partitions that are at their end."""
    ended = set()
    for m in messages:
        if not m.error():
            reading[m.partition()].append((m.offset(), int(m.value())))
        elif m.error().code() == EOF:
            ended.add(m.partition())
    return ended


def read(address, topic, committed):
    """All that such a reader sees of a topic."""
    c, reading, ended, limit = consumer(address, committed), [[] for _ in range(PARTITIONS)], set(), time.time() + READ_WITHIN
    c.assign([ck.TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    while len(ended) < PARTITIONS:
        if time.time() > limit:
            raise TimeoutError(f"{topic} could not be read within {READ_WITHIN} s")
        ended |= take(reading, c.consume(5000, timeout=1))
    c.close()
    return reading


class Watcher:
    """Reads what is committed to the output while all the others come and go."""

    def __init__(self, address):
        self.reading, self.stop = [[] for _ in range(PARTITIONS)], threading.Event()
        self.thread = threading.Thread(target=self.watch, args=(address,), daemon=True)
        self.thread.start()

    def watch(self, address):
        c = consumer(address, committed=True)
        c.assign([ck.TopicPartition(TOPICS[-1], p, 0) for p in range(PARTITIONS)])
        while not self.stop.is_set():
            take(self.reading, c.consume(5000, timeout=0.2))
        c.close()

    def count(self):
        return sum(map(len, self.reading))

    def end(self):
        self.stop.set()
        self.thread.join(30)


@dataclasses.dataclass(eq=False)
class Thaw:
    """A frozen copier, which goes on `patience` seconds after a successor has taken its transactional id."""
    stage: Stage
    zombie: object
    takeovers: int
    patience: float
    due: float | None = None


class Scene:
    """One run: the broker, the stages of the chain, and what is still to happen to them."""

    def __init__(self, options):
        self.options, self.dice = options, random.Random(options.seed)
        self.own = not options.data
        data = options.data or tempfile.mkdtemp(prefix="exactly-once-", dir=os.environ.get("FLUMEN_SCRATCH"))
        self.broker = Broker(options.command, options.port, data, options.cores, options.seed)
        self.address, self.tool = self.broker.address, shlex.split(options.tool)
        self.stages = [Stage(self.tool, self.address, source, target, options.size, f"{data}.{target}.log")
                       for source, target in zip(TOPICS, TOPICS[1:])]
        # consumers, as librdkafka's admin client does not survive requests that time out
        self.askers = {stage: consumer(self.address, committed=False, group=stage.group) for stage in self.stages}
        self.tried = dict.fromkeys(self.stages, 0.0)
        self.ledger, self.done = ledger.Ledger(), {"broker": 0, "copier": 0, "zombie": 0}
        self.plan, self.thaws, self.stuck, self.aborted = self.schedule(), [], [], 0

    def schedule(self):
        """(after how many copied records, what is hit), in order."""
        kills = self.options.kills
        kinds = ["broker"] * -(-kills // 2) + ["copier"] * (kills // 2) + ["zombie"] * -(-kills // 5)
        self.dice.shuffle(kinds)
        all_of_it = BEHIND * len(self.stages) * self.options.numbers
        return [((n + self.dice.random()) / len(kinds) * all_of_it, kind) for n, kind in enumerate(kinds)]

    def run(self):
        self.broker.serve()
        admin = self.admin()
        for made in admin.create_topics([cka.NewTopic(t, PARTITIONS, 1) for t in TOPICS]).values():
            made.result(60)
        self.fill()
        watcher = Watcher(self.address)
        self.copy(watcher)
        watcher.end()
        self.stop()
        for asker in self.askers.values():
            asker.close()
        self.broker.kill()  # the last word is that of a broker that remembers only what is on its disk
        self.broker.serve()
        hanging = self.settle()
        self.judge(watcher)
        return hanging + self.hanging()

    def admin(self):
        return cka.AdminClient({"bootstrap.servers": self.address, **PATIENT})

    def fill(self):
        p = ck.Producer({"bootstrap.servers": self.address, "enable.idempotence": True, "linger.ms": 20,
                         "queue.buffering.max.messages": 1_000_000, **PATIENT})
        for number in range(self.options.numbers):
            p.produce(TOPICS[0], str(number), partition=number % PARTITIONS)
            p.poll(0)
        if p.flush(120):
            sys.exit("the input could not be written")

    def copied(self):
        return sum(stage.copied for stage in self.stages)

    def copy(self, watcher):
        """Keeps the chain going until all has arrived and nobody is frozen, or nothing moves any more."""
        last, since = None, time.time()
        while self.thaws or watcher.count() < self.options.numbers:
            self.tend()
            copied = self.copied()
            if self.plan and copied >= self.plan[0][0]:
                self.hit(self.plan.pop(0)[1])
            progress = (copied, watcher.count(), len(self.plan), len(self.thaws))
            if progress != last:
                last, since = progress, time.time()
            if self.broker.ended() is not None or time.time() > since + PROGRESS_WITHIN:
                self.stuck.append(f"{watcher.count()} of {self.options.numbers} arrived, copied {[s.copied for s in self.stages]}, "
                                  f"{len(self.plan)} still to be hit, broker's exit {self.broker.ended()}, see {self.broker.log}")
                return
            time.sleep(0.02)

    def tend(self):
        """Starts copiers where there is work, and lets zombies go on."""
        for stage in self.stages:
            stage.reap()
            if stage.copier is None and time.time() > self.tried[stage] + TRY_AGAIN:
                self.tried[stage] = time.time()
                if self.has_work(stage):
                    stage.start()
        for thaw in [t for t in self.thaws if t.stage.takeovers > t.takeovers]:
            if thaw.due is None:
                thaw.due = time.time() + thaw.patience
            elif time.time() > thaw.due:
                self.thaws.remove(thaw)
                thaw.zombie.thaw()

    def stop(self):
        """Ends all copiers; zombies may first notice what they are."""
        limit = time.time() + NOTICED_WITHIN
        while any(stage.zombies for stage in self.stages) and time.time() < limit:
            time.sleep(0.1)
            for stage in self.stages:
                stage.reap()
        for stage in self.stages:
            stage.stop()

    def has_work(self, stage):
        """Whether the input holds more than the group has committed; False where nobody answers just now.

        One that is frozen needs a successor in any case.
        """
        if any(thaw.stage is stage for thaw in self.thaws):
            return True
        asker = self.askers[stage]
        try:
            at = asker.committed([ck.TopicPartition(stage.source, p) for p in range(PARTITIONS)], timeout=3)
            return any(asker.get_watermark_offsets(s, timeout=3)[1] > max(s.offset, 0) for s in at if not s.error)
        except ck.KafkaException:
            return False

    def hit(self, kind):
        time.sleep(self.dice.random() ** 2 * 0.3)
        if kind == "broker":
            self.kill_broker()
        else:
            at_work = [s for s in self.stages if s.copier and s.copier.ended() is None and s.copier.spoke]
            if not at_work:
                self.plan.insert(0, (0, kind))  # as soon as somebody is
                return
            stage = self.dice.choice(at_work)
            if kind == "copier":
                stage.kill()
            else:
                self.thaws.append(Thaw(stage, stage.freeze(), stage.takeovers, self.dice.random() * THAWED_WITHIN))
        self.done[kind] += 1

    def kill_broker(self):
        alive = self.broker.kill()
        while alive and self.dice.random() < 0.2:  # and once more while it is starting
            self.broker.start()
            time.sleep(self.dice.random() * 0.4)
            alive = self.broker.kill()
        if not alive:
            self.stuck.append(f"the broker ended by itself with {self.broker.ended()}, see {self.broker.log}")
        time.sleep(self.dice.random() ** 2 * 0.3)
        self.broker.start()

    def ends(self, level):
        spots = [ck.TopicPartition(t, p) for t in TOPICS for p in range(PARTITIONS)]
        admin = self.admin()
        asked = admin.list_offsets({s: cka.OffsetSpec.latest() for s in spots}, isolation_level=level, request_timeout=20)
        return {f"{s.topic}-{s.partition}": end.result(20).offset for s, end in asked.items()}

    def settle(self):
        """What keeps readers of committed records from the end of a partition, once every transaction had its time."""
        limit = time.time() + SETTLED_WITHIN
        while True:
            try:
                stable, all_of_it = self.ends(ck.IsolationLevel.READ_COMMITTED), self.ends(ck.IsolationLevel.READ_UNCOMMITTED)
                behind = [f"{spot} is stable up to {stable[spot]} of {end}" for spot, end in all_of_it.items() if stable[spot] != end]
            except (ck.KafkaException, TimeoutError) as e:
                behind = [f"the ends cannot be asked for: {e}"]
            if not behind or time.time() > limit:
                return behind
            time.sleep(0.3)

    def hanging(self):
        """What the tools of both houses find."""
        listed = subprocess.run([os.environ["FLUMEN_BIN"], "transactions", "list", "--bootstrap", self.address, "--json"],
                                capture_output=True, text=True, check=True)
        found = json.loads(listed.stdout)
        open_ones = [f"{t['transactional_id']} is {t['state']}" for t in found if t["state"] not in OVER]
        if len(found) != len(self.stages):
            open_ones.append(f"{len(found)} transactional ids are listed, {len(self.stages)} were used")
        hung = self.java("transactions", "--bootstrap-server", self.address, "find-hanging", "--broker-id", "1", "--max-transaction-timeout", "0")
        if not re.search(r"^Topic\s+Partition\s+ProducerId", hung, re.M):
            open_ones.append(f"find-hanging says {hung!r}")
        return open_ones + [line for line in hung.splitlines() if re.match(r"(input|t1|t2|output|__consumer_offsets)\s", line)]

    def java(self, *command):
        """What one of Kafka's tools prints."""
        with open(f"{self.broker.data}.tools.log", "ab") as errors:
            return subprocess.run([*self.tool, *command], stdout=subprocess.PIPE, stderr=errors, text=True, timeout=READ_WITHIN).stdout

    def read_by_java(self):
        lines = self.java("console-consumer", "--bootstrap-server", self.address, "--topic", TOPICS[-1], "--from-beginning",
                          "--isolation-level", "read_committed", "--timeout-ms", "5000",
                          "--property", "print.partition=true", "--property", "print.offset=true")
        reading = [[] for _ in range(PARTITIONS)]
        for partition, offset, number in re.findall(r"^Partition:(\d+)\tOffset:(\d+)\t(\d+)$", lines, re.M):
            reading[int(partition)].append((int(offset), int(number)))
        return reading

    def judge(self, watcher):
        book, source = self.ledger, read(self.address, TOPICS[0], committed=True)
        if sorted(ledger.numbers(source)) != list(range(self.options.numbers)):
            sys.exit("the input is not what was written")
        for topic in TOPICS[1:]:
            committed, raw = read(self.address, topic, committed=True), read(self.address, topic, committed=False)
            book.note(topic, ledger.compare(source, committed))
            book.note(f"{topic}, committed and not", ledger.agree(committed, raw, part_of=True))
            self.aborted += len(ledger.numbers(raw)) - len(ledger.numbers(committed))
        book.note("output, then and now", ledger.agree(watcher.reading, committed, part_of=True))
        java = self.read_by_java()
        book.note("output read by Java", ledger.compare(source, java))
        book.note("output, both clients", ledger.agree(committed, java))

    def clean_up(self, failed):
        for stage in self.stages:
            stage.stop()
        self.broker.kill()
        logs = [self.broker.log, *(stage.log for stage in self.stages), f"{self.broker.data}.tools.log"]
        if failed:
            print(f"data: {self.broker.data}, logs: {' '.join(filter(os.path.exists, logs))}")
            return
        if self.own:
            shutil.rmtree(self.broker.data, ignore_errors=True)
        for log in filter(os.path.exists, logs):
            os.unlink(log)


def parsed():
    parser = argparse.ArgumentParser()
    parser.add_argument("numbers", type=int, nargs="?", default=100_000)
    parser.add_argument("kills", type=int, nargs="?", default=20)
    parser.add_argument("--tool", required=True)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--port", type=int, default=23096)
    parser.add_argument("--data")
    parser.add_argument("--command", default=flumen_command())
    parser.add_argument("--cores", type=lambda text: [int(n) for n in text.split(",")], default=[])
    parser.add_argument("--size", type=int)
    options = parser.parse_args()
    options.size = options.size or max(5, min(100, options.numbers // 200))
    return options


def main():
    options = parsed()
    print(f"the oracles find {ledger.self_test()} planted faults")
    scene, began, hanging, failed = Scene(options), time.time(), [], True
    planned = len(scene.plan)
    try:
        hanging = scene.run()
        hits = sum(scene.done.values())
        verdicts = {"all_was_hit": [] if hits == planned else [f"{hits} of {planned}"],
                    "the_chain_got_on": scene.stuck,
                    "copiers_end_only_when_done_or_fenced": [death for stage in scene.stages for death in stage.deaths],
                    "transactions_were_aborted": [] if scene.aborted else ["none was"],
                    "no_transaction_hangs": hanging, **scene.ledger.complaints}
        failed = any(verdicts.values())
    finally:
        scene.clean_up(failed)
    for name, complaints in verdicts.items():
        print("FAIL" if complaints else "PASS", name, *complaints[:3], f"({max(len(complaints), scene.ledger.counts[name])})" if complaints else "")
    done, stages = scene.done, scene.stages
    print(f"seed {options.seed}: {options.numbers} numbers in transactions of {options.size}, {time.time() - began:.0f} s; killed: broker "
          f"{done['broker']} times, copiers {done['copier']}; zombies {done['zombie']}, of which {sum(s.fenced for s in stages)} noticed; "
          f"{sum(s.starts for s in stages)} copiers, {scene.aborted} records aborted")
    count = sum(bool(c) for c in verdicts.values())
    if count:
        print(f"again: scripts/exactly-once.sh {options.numbers} {options.kills} --seed {options.seed} --size {options.size}")
    print(f"{len(verdicts) - count} passed, {count} failed")
    sys.exit(bool(count))


main()
