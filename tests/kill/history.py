"""What clients saw of a broker that kept dying, and what must hold about it.

A History only collects. The oracles below judge it: each is a generator of complaints, named for what it promises.
`python history.py` plants one fault for each oracle and fails if it is not found, or found in a clean history.
"""
import collections
import sys
import threading


NONE = -1  # no offset committed


class History:
    """Everything the clients were told. Records are (producer, sequence) pairs, counted per producer and partition."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sent = collections.defaultdict(set)   # partition -> records given to the client library
        self.acked = []                            # (partition, offset, record), in the order of the answers
        self.read = []                             # (partition, offset, record) as the group saw it
        self.committed = []                        # (partition, offset): commits the broker confirmed
        self.highest = {}                          # partition -> highest of these
        self.observed = []                         # (partition, confirmed before, what the broker then said)
        self.log = collections.defaultdict(list)   # partition -> [(offset, record)] read from the start at the end

    def confirm(self, partition, offset):
        self.committed.append((partition, offset))
        self.highest[partition] = max(offset, self.highest_commit(partition))

    def highest_commit(self, partition):
        return self.highest.get(partition, NONE)

    def observe(self, partition, before, said):
        """`said` is below zero where the broker knows of no commit."""
        self.observed.append((partition, before, max(said, NONE)))


def acknowledged_records_are_there(h):
    at = {(p, o): r for p, entries in h.log.items() for o, r in entries}
    for partition, offset, record in h.acked:
        if at.get((partition, offset)) != record:
            yield f"{record} was acknowledged at {partition}@{offset}, where now is {at.get((partition, offset))}"


def no_record_is_there_twice(h):
    for partition, entries in h.log.items():
        counts = collections.Counter(r for _, r in entries)
        for record, n in counts.items():
            if n > 1:
                yield f"{record} is {n} times in partition {partition}"


def each_producer_keeps_its_order(h):
    for partition, entries in h.log.items():
        last = {}
        for offset, (producer, sequence) in entries:
            if sequence < last.get(producer, -1):
                yield f"{producer}: {sequence} comes after {last[producer]} at {partition}@{offset}"
            last[producer] = sequence


def no_producer_has_a_hole(h):
    for partition, entries in h.log.items():
        got = collections.defaultdict(set)
        for _, (producer, sequence) in entries:
            got[producer].add(sequence)
        for producer, sequences in got.items():
            missing = max(sequences) + 1 - len(sequences)
            if missing:
                yield f"{producer} misses {missing} records before its last one in partition {partition}"


def offsets_have_no_holes(h):
    for partition, entries in h.log.items():
        offsets = [o for o, _ in entries]
        if offsets != list(range(len(offsets))):
            bad = next(i for i, o in enumerate(offsets) if o != i)
            yield f"partition {partition}: offset {offsets[bad]} where {bad} should be"


def nothing_is_invented(h):
    for partition, entries in h.log.items():
        for offset, record in entries:
            if record not in h.sent[partition]:
                yield f"nobody sent {record}, which is at {partition}@{offset}"


def what_was_read_stays(h):
    at = {(p, o): r for p, entries in h.log.items() for o, r in entries}
    for partition, offset, record in h.read:
        if at.get((partition, offset)) != record:
            yield f"{record} was read at {partition}@{offset}, where now is {at.get((partition, offset))}"


def commits_never_go_back(h):
    for partition, before, now in h.observed:
        if now < before:
            yield f"partition {partition}: {before} was committed, later the broker said {now}"


def the_run_was_worth_it(h):
    """Guards against a run that proves nothing because nothing happened."""
    for what, n in (("acknowledged", len(h.acked)), ("read", len(h.read)), ("committed", len(h.committed)),
                    ("observed commits", len(h.observed))):
        if n == 0:
            yield f"no {what} at all"


ORACLES = [acknowledged_records_are_there, no_record_is_there_twice, each_producer_keeps_its_order,
           no_producer_has_a_hole, offsets_have_no_holes, nothing_is_invented, what_was_read_stays,
           commits_never_go_back, the_run_was_worth_it]


def judge(history):
    """Oracle name -> its complaints."""
    return {oracle.__name__: list(oracle(history)) for oracle in ORACLES}


def clean():
    """Two producers, two partitions, nothing wrong."""
    h = History()
    for partition in (0, 1):
        for i in range(20):
            record = (f"p{i % 2}", i // 2)
            h.sent[partition].add(record)
            h.acked.append((partition, i, record))
            h.read.append((partition, i, record))
            h.log[partition].append((i, record))
        for offset in (10, 20):
            h.observe(partition, h.highest_commit(partition), offset)
            h.confirm(partition, offset)
            h.observe(partition, h.highest_commit(partition), offset)
        h.observe(1 - partition, h.highest_commit(1 - partition), -1001 if partition == 0 else 20)
    return h


def renumber(h):
    """Makes the log's offsets whole again and moves what was acknowledged and read along, to isolate one fault."""
    entries = h.log[0] = [(i, r) for i, (_, r) in enumerate(h.log[0])]
    for name in ("acked", "read"):
        setattr(h, name, [e for e in getattr(h, name) if e[0] != 0] + [(0, o, r) for o, r in entries])


def swap(h):
    a, b = h.log[0][4], h.log[0][6]
    h.log[0][4], h.log[0][6] = (a[0], b[1]), (b[0], a[1])
    renumber(h)


def faults():
    """Name of the oracle that must speak -> how to break a clean history."""
    def lost(h): h.log[0].pop()
    def moved(h): h.acked[3] = (0, 4, h.acked[3][2])
    def twice(h): h.log[0].append((20, h.log[0][5][1]))
    def hole(h): h.log[0].pop(5); renumber(h)
    def skipped(h): h.log[1] = [(o + 1, r) for o, r in h.log[1]]
    def invented(h): h.log[0].append((20, ("ghost", 0)))
    def rewritten(h): h.read.append((0, 3, ("p0", 7)))
    def vanished(h): h.acked.pop(); h.log[1].pop()
    def back(h): h.observe(1, h.highest_commit(1), 10)
    def forgotten(h): h.observe(1, h.highest_commit(1), -1001)
    def empty(h): h.committed.clear()
    return [(acknowledged_records_are_there, lost), (acknowledged_records_are_there, moved), (no_record_is_there_twice, twice),
            (each_producer_keeps_its_order, swap), (no_producer_has_a_hole, hole), (offsets_have_no_holes, skipped),
            (nothing_is_invented, invented), (what_was_read_stays, rewritten), (what_was_read_stays, vanished),
            (commits_never_go_back, back), (commits_never_go_back, forgotten),
            (the_run_was_worth_it, empty)]


def self_test():
    """The number of planted faults that were found; raises on the first that was not."""
    noise = {name: found for name, found in judge(clean()).items() if found}
    assert not noise, f"complaints about a clean history: {noise}"
    for oracle, plant in faults():
        h = clean()
        plant(h)
        assert judge(h)[oracle.__name__], f"{plant.__name__} was planted, {oracle.__name__} is silent"
    return len(faults())


if __name__ == "__main__":
    print(f"{self_test() + 1} passed, 0 failed")
    sys.exit(0)
