"""What clients were told by a broker that kept crashing, and what must hold about it.

A History collects, in eight bytes for each acknowledgement and each offset read, so that ten million records fit into memory.
An Audit is one reading of the log from its start, possibly in several sittings; it judges record by record. Every complaint
goes to an oracle, named for what it promises. `python history.py` plants faults for each oracle and fails if one is not found,
or if a clean history is accused.

A record is a number: its producer times 2**32 and its sequence, counted per producer and partition from zero.
"""
import array
import collections
import random
import sys
import threading

NONE = -1     # no record, no offset committed
SHOWN = 5     # complaints kept for each oracle; all are counted
PRODUCER_SHIFT = 32

ORACLES = ["acknowledged_records_are_there", "no_record_is_there_twice", "each_producer_keeps_its_order",
           "no_producer_has_a_hole", "offsets_have_no_holes", "nothing_is_invented", "what_was_read_stays",
           "commits_never_go_back", "the_run_was_worth_it"]

Promised = collections.namedtuple("Promised", "acked read committed")  # a list each, by partition


def record_of(producer, sequence):
    return producer << PRODUCER_SHIFT | sequence


def name(record):
    return f"p{record >> PRODUCER_SHIFT}/{record & 0xffffffff}" if record != NONE else "nothing"


def put(cells, offset, record):
    """Notes the record at its offset unless there is one; the one that was there."""
    if offset >= len(cells):
        cells.extend([NONE] * (offset + 1 - len(cells)))
    before = cells[offset]
    if before == NONE:
        cells[offset] = record
    return before


class History:
    """Everything the clients were told, by many threads."""

    def __init__(self, partitions, producers):
        self.lock = threading.RLock()
        self.partitions, self.producers = partitions, producers
        self.sent = [[0] * producers for _ in range(partitions)]         # records given to the client library
        self.acked = [array.array("q") for _ in range(partitions)]       # offset -> record acknowledged there
        self.read = [array.array("q") for _ in range(partitions)]        # offset -> record that somebody read there
        self.committed = [NONE] * partitions                             # the highest commit that was confirmed
        self.counts = collections.Counter()
        self.complaints = collections.defaultdict(list)
        self.complained = collections.Counter()

    def complain(self, oracle, text, times=1):
        assert oracle in ORACLES, oracle
        with self.lock:
            self.complained[oracle] += times
            if len(self.complaints[oracle]) < SHOWN:
                self.complaints[oracle].append(text)

    def acknowledge(self, partition, offset, record):
        with self.lock:
            before = put(self.acked[partition], offset, record)
            self.counts["acknowledged"] += 1
        if before not in (NONE, record):
            self.complain("acknowledged_records_are_there",
                          f"{name(record)} and {name(before)} were both acknowledged at {partition}@{offset}")

    def see(self, partition, offset, record):
        """Whoever read it: all must see the same."""
        with self.lock:
            before = put(self.read[partition], offset, record)
        if before not in (NONE, record):
            self.complain("what_was_read_stays", f"{partition}@{offset} was {name(before)}, now it is {name(record)}")

    def confirm(self, partition, offset):
        with self.lock:
            self.counts["commits"] += 1
            self.committed[partition] = max(offset, self.committed[partition])

    def observe(self, partition, before, said):
        """What the broker says is committed, asked after `before` was confirmed; below zero where it knows of none."""
        with self.lock:
            self.counts["observed"] += 1
        if max(said, NONE) < before:
            self.complain("commits_never_go_back", f"partition {partition}: {before} was committed, later the broker said {said}")

    def promised(self):
        """What must be there from now on: by partition, where the acknowledged and the read records end, and the commit."""
        with self.lock:
            return Promised([len(a) for a in self.acked], [len(r) for r in self.read], list(self.committed))

    def worth(self):
        """Guards against a run that proves nothing because nothing happened."""
        for what in ("acknowledged", "read", "commits", "observed", "verified"):
            if not self.counts[what]:
                self.complain("the_run_was_worth_it", f"{what}: none at all")


class Audit:
    """One reading of every partition from offset zero, in offset order."""

    def __init__(self, history, of="the log"):
        self.history, self.of = history, of
        self.next = [0] * history.partitions
        self.last = [[NONE] * history.producers for _ in range(history.partitions)]
        self.missing = [[set() for _ in range(history.producers)] for _ in range(history.partitions)]

    def complain(self, oracle, text, times=1):
        self.history.complain(oracle, f"{self.of}: {text}", times)

    def take(self, partition, offset, record):
        """The next record of a partition."""
        h = self.history
        if offset != self.next[partition]:
            self.complain("offsets_have_no_holes", f"partition {partition}: offset {offset} where {self.next[partition]} should be")
        self.next[partition] = offset + 1
        producer, sequence = record >> PRODUCER_SHIFT, record & 0xffffffff
        if producer >= h.producers or sequence >= h.sent[partition][producer]:
            self.complain("nothing_is_invented", f"nobody sent {name(record)}, which is at {partition}@{offset}")
            return
        if sequence == self.last[partition][producer] + 1:
            self.last[partition][producer] = sequence
        else:
            self.out_of_line(partition, offset, producer, sequence)
        acked = h.acked[partition]
        if offset < len(acked) and acked[offset] not in (NONE, record):
            self.complain("acknowledged_records_are_there",
                          f"{name(acked[offset])} was acknowledged at {partition}@{offset}, where now is {name(record)}")
        h.see(partition, offset, record)

    def out_of_line(self, partition, offset, producer, sequence):
        last, missing = self.last[partition][producer], self.missing[partition][producer]
        where = f"{name(record_of(producer, sequence))} is at {partition}@{offset}"
        if sequence > last:
            missing.update(range(last + 1, min(sequence, last + 100_000)))
            self.last[partition][producer] = sequence
        elif sequence in missing:
            missing.discard(sequence)
            self.complain("each_producer_keeps_its_order", f"{where}, after {last}")
        else:
            self.complain("no_record_is_there_twice", f"{where}, and somewhere before")

    def end(self, promised):
        """The reading has come to the end of every partition: what was promised before it began must have been met."""
        for partition, end in enumerate(self.next):
            acked = self.history.acked[partition]
            lost = sum(acked[o] != NONE for o in range(end, promised.acked[partition]))
            if lost:
                self.complain("acknowledged_records_are_there",
                              f"partition {partition} ends at {end}, {lost} records from there on were acknowledged", lost)
            if end < promised.read[partition]:
                self.complain("what_was_read_stays",
                              f"partition {partition} ends at {end}, records up to {promised.read[partition]} were read")
            for producer, missing in enumerate(self.missing[partition]):
                if missing:
                    self.complain("no_producer_has_a_hole", f"partition {partition} has not {len(missing)} records of p{producer}, "
                                  f"the first {min(missing)}, but later ones", len(missing))
                    missing.clear()

    def reached(self, promised):
        return all(self.next[p] >= max(promised.acked[p], promised.read[p]) for p in range(self.history.partitions))


# What follows tests the oracles: a made-up story, told as lists, and faults planted into it.

def clean(seed=None):
    """Two producers, two partitions, nothing wrong; interleaved by chance where a seed is given."""
    dice = random.Random(seed)
    story = {"sent": [[10, 10], [10, 10]], "acked": [], "read": [], "commits": [], "log": {0: [], 1: []}}
    for partition in (0, 1):
        order = [i % 2 for i in range(20)]
        if seed is not None:
            dice.shuffle(order)
        counts = [0, 0]
        for offset, producer in enumerate(order):
            record = record_of(producer, counts[producer])
            counts[producer] += 1
            for told in ("acked", "read"):
                story[told].append((partition, offset, record))
            story["log"][partition].append((offset, record))
        story["commits"] += [(partition, 10, 10), (partition, 20, 20)]
    story["commits"].append((1, NONE, 20))
    return story


def judge(story, sittings=1):
    """Tells the story to a History and reads its log; the names of the oracles that complain."""
    h = History(2, 2)
    h.sent = story["sent"]
    for entry in story["acked"]:
        h.acknowledge(*entry)
    for entry in story["read"]:
        h.see(*entry)
        h.counts["read"] += 1
    for partition, confirmed, said in story["commits"]:
        if confirmed != NONE:
            h.confirm(partition, confirmed)
        h.observe(partition, h.committed[partition], said)
    audit, promised = Audit(h), h.promised()
    for sitting in range(sittings):
        for partition, entries in story["log"].items():
            for offset, record in entries[len(entries) * sitting // sittings:len(entries) * (sitting + 1) // sittings]:
                audit.take(partition, offset, record)
                h.counts["verified"] += 1
    audit.end(promised)
    h.worth()
    return {oracle for oracle, times in h.complained.items() if times}


def renumber(story):
    """Makes the offsets of partition 0 whole again and moves what was acknowledged and read along, to isolate one fault."""
    entries = story["log"][0] = [(i, r) for i, (_, r) in enumerate(story["log"][0])]
    for told in ("acked", "read"):
        story[told] = [e for e in story[told] if e[0] != 0] + [(0, o, r) for o, r in entries]


def faults():
    """Name of the oracle that must speak, and how to break a clean story."""
    def swap(s):
        log = s["log"][0]
        log[4], log[6] = log[6], log[4]
        renumber(s)

    def again(s):
        s["log"][0].append((20, s["log"][0][5][1]))

    def hole(s):
        s["log"][0].pop(5)
        renumber(s)

    def vanished(s):
        s["acked"] = [e for e in s["acked"] if e != (1, 19, s["log"][1][19][1])]
        s["log"][1].pop()

    def skipped(s): s["log"][1] = [(o + 1, r) for o, r in s["log"][1]]
    def lost(s): s["log"][0].pop()
    def moved(s): s["acked"][3] = (0, 4, s["acked"][3][2])
    def two_at_one_offset(s): s["acked"].append((0, 3, s["acked"][4][2]))
    def replaced(s): s["log"][0][7] = (7, s["log"][0][9][1])
    def invented(s): s["log"][0].append((20, record_of(1, 10)))
    def ghost(s): s["log"][0].append((20, record_of(7, 0)))
    def rewritten(s): s["read"].append((0, 3, record_of(0, 7)))
    def back(s): s["commits"].append((1, NONE, 10))
    def forgotten(s): s["commits"].append((1, NONE, -1001))
    def idle(s): s["commits"].clear()
    def unread(s): s["read"].clear()
    return [("acknowledged_records_are_there", f) for f in (lost, moved, two_at_one_offset, replaced)] + [
        ("no_record_is_there_twice", again), ("each_producer_keeps_its_order", swap), ("no_producer_has_a_hole", hole),
        ("offsets_have_no_holes", skipped), ("nothing_is_invented", invented), ("nothing_is_invented", ghost),
        ("what_was_read_stays", rewritten), ("what_was_read_stays", vanished), ("commits_never_go_back", back),
        ("commits_never_go_back", forgotten), ("the_run_was_worth_it", idle), ("the_run_was_worth_it", unread)]


def self_test():
    """The number of planted faults that were found; raises on the first that was not."""
    for seed in [None, *range(200)]:
        noise = judge(clean(seed), 1 + (seed or 0) % 4)
        assert not noise, f"complaints about a clean history, seed {seed}: {noise}"
    for oracle, plant in faults():
        for sittings in (1, 3):
            story = clean()
            plant(story)
            assert oracle in judge(story, sittings), f"{plant.__name__} was planted, {oracle} is silent"
    spoken = {oracle for oracle, _ in faults()}
    assert spoken == set(ORACLES), f"nothing planted for {set(ORACLES) - spoken}"
    return len(faults())


if __name__ == "__main__":
    print(f"{self_test() + 1} passed, 0 failed")
    sys.exit(0)
