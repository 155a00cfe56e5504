"""What the last value of every key must be, and what one reading of a compacted topic from its start may show.

A key is a number; each of its records has a version that rises: twice the count of its records, and one more where it is a
tombstone. Twelve bytes for each key, so that ten million fit into memory; a reading takes eight more. `python3 values.py`
plants a fault for each oracle.
"""
import array
import collections
import random
import sys

SHOWN = 5     # complaints kept for each oracle; all are counted
ORACLES = ["last_values_are_there", "deleted_keys_stay_deleted", "keys_keep_their_order", "offsets_rise",
           "values_are_whole", "nothing_is_invented", "superseded_records_go", "the_run_was_worth_it"]


def is_tombstone(version):
    return version & 1 == 1


class Values:
    """What writers sent and what was acknowledged. One thread writes; versions are noted before they are sent."""

    def __init__(self, keys):
        self.keys = keys
        self.sent = array.array("I", [0]) * keys      # the last version given to the client library
        self.acked = array.array("I", [0]) * keys     # the last version acknowledged
        self.deleted = array.array("I", [0]) * keys   # the last version sent that is a tombstone
        self.counts = collections.Counter()
        self.complaints = collections.defaultdict(list)
        self.complained = collections.Counter()

    def complain(self, oracle, text):
        assert oracle in ORACLES, oracle
        self.complained[oracle] += 1
        if len(self.complaints[oracle]) < SHOWN:
            self.complaints[oracle].append(text)

    def next(self, key, tombstone=False):
        """The version to be sent now."""
        version = (self.sent[key] // 2 + 1) * 2 + tombstone
        self.sent[key] = version
        if tombstone:
            self.deleted[key] = version
        return version

    def acknowledge(self, key, version):
        self.counts["acknowledged"] += 1
        self.acked[key] = max(version, self.acked[key])

    def promised(self):
        """What a reading that begins now must show."""
        return self.acked[:]

    def worth(self, minimum):
        """Guards against a run that proves nothing; `minimum` by the name of a count."""
        for what, least in minimum.items():
            if self.counts[what] < least:
                self.complain("the_run_was_worth_it", f"{what}: {self.counts[what]}, not {least}")


class Reading:
    """One reading of every partition from its start to its end.

    With `quiet`, nobody writes or cleans meanwhile. Otherwise a tombstone may go while it is under way, behind an older
    value that it has seen: who wants to know of it must read faster than `delete.retention.ms`.
    """

    def __init__(self, values, partitions, of="the log", quiet=True):
        self.values, self.of, self.quiet = values, of, quiet
        self.promised = values.promised()
        self.last = array.array("I", [0]) * values.keys
        self.next = [0] * partitions
        self.records = self.superseded = self.tombstones = 0

    def complain(self, oracle, text):
        self.values.complain(oracle, f"{self.of}: {text}")

    def take(self, partition, offset, key, version, whole=True):
        """The next record of a partition; `whole`: its value is what belongs to this version."""
        v = self.values
        if offset < self.next[partition]:
            self.complain("offsets_rise", f"{partition}@{offset} comes after {self.next[partition] - 1}")
        self.next[partition] = offset + 1
        if key >= v.keys or key % len(self.next) != partition or not 2 <= version <= v.sent[key]:
            self.complain("nothing_is_invented", f"nobody sent version {version} of key {key}, which is at {partition}@{offset}")
            return
        if not whole:
            self.complain("values_are_whole", f"the value of key {key}, version {version}, at {partition}@{offset}")
        before = self.last[key]
        if version <= before:
            self.complain("keys_keep_their_order", f"version {version} of key {key} at {partition}@{offset} comes after {before}")
        self.records += 1
        self.superseded += before != 0
        self.tombstones += is_tombstone(version) - (before != 0 and is_tombstone(before))
        self.last[key] = max(version, before)

    def end(self, superseded_max):
        """It has come to the end of every partition; of records that others supersede at most so many may be left."""
        v, gone = self.values, 0
        for key, (promised, last) in enumerate(zip(self.promised, self.last)):
            if last >= promised:
                continue
            went = v.deleted[key] >= promised
            if last == 0 and went:
                gone += 1
            elif went and is_tombstone(promised):
                if self.quiet:
                    self.complain("deleted_keys_stay_deleted", f"key {key} was deleted by {promised} and is back as {last}")
            elif not went or self.quiet:
                self.complain("last_values_are_there", f"key {key} has version {last}, {promised} was acknowledged")
        v.counts["read"] += self.records
        v.counts["keys deleted without a trace"] = gone
        if self.superseded > superseded_max:
            self.complain("superseded_records_go", f"{self.superseded} of {self.records} records are superseded, not {superseded_max} at most")


# What follows tests the oracles: a made-up story, told as lists, and faults planted into it.

PARTITIONS, KEYS = 2, 8


def clean(seed=None):
    """Every key is written thrice, two of them deleted in between, one in the end; of all but the last eight records a cleaning has taken what is superseded."""
    dice = random.Random(seed)
    v, log, offsets = Values(KEYS), [[] for _ in range(PARTITIONS)], [0] * PARTITIONS
    written = []
    for turn in range(3):
        keys = list(range(KEYS))
        if seed is not None:
            dice.shuffle(keys)
        for key in keys:
            version = v.next(key, (key, turn) in ((2, 1), (3, 1), (4, 2)))
            v.acknowledge(key, version)
            written.append((key % PARTITIONS, offsets[key % PARTITIONS], key, version))
            offsets[key % PARTITIONS] += 1
    latest = {key: version for _, _, key, version in written}
    for n, (partition, offset, key, version) in enumerate(written):
        if latest[key] == version or n >= len(written) - KEYS:
            log[partition].append([offset, key, version, True])
    return v, log


def judge(story, superseded_max=0, minimum=()):
    """Reads the story; the names of the oracles that complain."""
    v, log = story
    reading = Reading(v, PARTITIONS)
    for partition, entries in enumerate(log):
        for offset, key, version, whole in entries:
            reading.take(partition, offset, key, version, whole)
    reading.end(superseded_max)
    v.worth(dict(minimum))
    return {oracle for oracle, times in v.complained.items() if times}


def faults():
    """Name of the oracle that must speak, how to break a clean story, and what to ask of the reading besides."""
    def at(log, key):
        return next((entries, i) for entries in log for i, entry in enumerate(entries) if entry[1] == key)

    def lost(_, log):
        entries, i = at(log, 0)
        entries.pop(i)

    def older(v, log):
        entries, i = at(log, 0)
        entries[i][2] -= 2

    def forgotten(v, log):
        v.acknowledge(1, v.next(1))  # nobody has written it down

    def back(v, log):
        entries, i = at(log, 4)
        entries[i][2] = 4

    def swapped(v, log):
        entries, i = at(log, 0)
        entries.append([99, 0, entries[i][2] - 2, True])

    def down(v, log):
        log[1][2][0], log[1][1][0] = log[1][1][0], log[1][2][0]

    def torn(v, log):
        log[0][1][3] = False

    def unsent(v, log):
        log[0].append([99, 0, 8, True])

    def strange(v, log):
        log[0].append([99, 400, 2, True])

    def elsewhere(v, log):
        log[0].append([99, 1, 2, True])

    def uncleaned(v, log):
        entries, i = at(log, 6)
        entries.insert(0, [-1, 6, 2, True])
        for offset, entry in enumerate(entries):
            entry[0] = offset

    def nothing(v, log):
        v.counts.clear()
    return [("last_values_are_there", f) for f in (lost, older, forgotten)] + [
        ("deleted_keys_stay_deleted", back), ("keys_keep_their_order", swapped), ("offsets_rise", down),
        ("values_are_whole", torn), ("nothing_is_invented", unsent), ("nothing_is_invented", strange),
        ("nothing_is_invented", elsewhere), ("superseded_records_go", uncleaned), ("the_run_was_worth_it", nothing)]


def self_test():
    """The number of planted faults that were found; raises on the first that was not."""
    for seed in [None, *range(200)]:
        noise = judge(clean(seed), minimum=[("acknowledged", 3 * KEYS)])
        assert not noise, f"complaints about a clean story, seed {seed}: {noise}"
        v, log = clean(seed)  # the tombstone may be gone, too
        log[0] = [entry for entry in log[0] if entry[1] != 4]
        assert not judge((v, log)), "a deleted key need not be there"
    for oracle, plant in faults():
        story = clean()
        plant(*story)
        assert oracle in judge(story, minimum=[("acknowledged", 1)]), f"{plant.__name__} was planted, {oracle} is silent"
    silent = set(ORACLES) - {oracle for oracle, _ in faults()}
    assert not silent, f"nothing planted for {silent}"
    return len(faults())


if __name__ == "__main__":
    print(f"{self_test() + 1} passed, 0 failed")
    sys.exit(0)
