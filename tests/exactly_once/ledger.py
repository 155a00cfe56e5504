"""What a chain of copiers must leave behind, judged on what was read: every number once, in its place, nothing else.

A reading has a list for each partition, of (offset, number) as they were read. `python3 ledger.py` plants a fault for each oracle.
"""
import collections
import random
import sys

ORACLES = ["nothing_is_missing", "nothing_is_there_twice", "nothing_is_invented", "order_is_kept", "what_was_read_stays"]


def numbers(reading):
    return [number for partition in reading for _, number in partition]


def compare(source, copy):
    """(oracle, what is wrong, how often): the copy has what the source has, in the same order by partition.

    Offsets differ, as markers and aborted records take some. Order is whole, because each transaction moves its
    records and its position in the source together.
    """
    place = {number: (p, i) for p, partition in enumerate(source) for i, (_, number) in enumerate(partition)}
    seen = collections.Counter(numbers(copy))
    missing = sorted(place.keys() - seen.keys())
    if missing:
        yield "nothing_is_missing", f"{len(missing)} numbers, the first {missing[:5]}", len(missing)
    invented = sorted(seen.keys() - place.keys())
    if invented:
        yield "nothing_is_invented", f"{len(invented)} numbers, the first {invented[:5]}", len(invented)
    twice = sorted(number for number, times in seen.items() if times > 1)
    if twice:
        first = next((p, offset) for p, partition in enumerate(copy) for offset, number in partition if number == twice[0])
        yield "nothing_is_there_twice", f"{len(twice)} numbers, the first {twice[:5]} (partition, offset: {first})", len(twice)
    for p, partition in enumerate(copy):
        last = -1
        for offset, number in partition:
            home, i = place.get(number, (p, last))
            if seen[number] == 1 and (home != p or i < last):
                yield "order_is_kept", f"{number} at {p}@{offset} is number {i} of partition {home}, {last} of {p} was before it", 1
                break
            last = max(last, i)


def agree(one, other, part_of=False):
    """Where both have an offset it is the same number; with `part_of`, the other has every offset of the first."""
    for p, partition in enumerate(one):
        there = dict(other[p])
        for offset, number in partition:
            found = there.get(offset, None if part_of else number)
            if found != number:
                yield "what_was_read_stays", f"{p}@{offset} was {number}, elsewhere it is {found}", 1
                break


class Ledger:
    """Complaints by oracle."""

    def __init__(self):
        self.complaints = {oracle: [] for oracle in ORACLES}
        self.counts = collections.Counter()

    def note(self, where, findings):
        for oracle, text, times in findings:
            self.complaints[oracle].append(f"{where}: {text}")
            self.counts[oracle] += times


# What follows tests the oracles.

def story(dice):
    """A source of two partitions, and a copy of it with gaps in its offsets."""
    source = [[(i, 2 * i + p) for i in range(40)] for p in (0, 1)]
    copy = []
    for partition in source:
        offset, copied = 0, []
        for _, number in partition:
            offset += 1 + dice.choice([0, 0, 0, 7])
            copied.append((offset, number))
        copy.append(copied)
    return source, copy


def faults():
    """Name of the oracle that must speak, and how to break a clean copy; what it gives is compared."""
    def lost(copy): copy[0].pop()
    def lost_in_the_middle(copy): copy[1].pop(7)
    def again(copy): copy[0].append((copy[0][-1][0] + 1, copy[0][3][1]))
    def again_elsewhere(copy): copy[1].append((copy[1][-1][0] + 1, copy[0][3][1]))
    def foreign(copy): copy[0].append((copy[0][-1][0] + 1, 1000))

    def swapped(copy):
        (a, first), (b, second) = copy[0][4:6]
        copy[0][4:6] = [(a, second), (b, first)]

    def moved(copy):
        copy[1].append((copy[1][-1][0] + 1, copy[0].pop()[1]))

    return [("nothing_is_missing", lost), ("nothing_is_missing", lost_in_the_middle), ("nothing_is_there_twice", again),
            ("nothing_is_there_twice", again_elsewhere), ("nothing_is_invented", foreign), ("order_is_kept", swapped),
            ("order_is_kept", moved)]


def self_test():
    """The number of planted faults that were found; raises on the first that was not."""
    for seed in range(100):
        source, copy = story(random.Random(seed))
        noise = [*compare(source, copy), *agree(copy, copy, part_of=True), *agree(copy, [p[:5] for p in copy])]
        assert not noise, f"complaints about a clean copy: {noise}"
        for oracle, plant in faults():
            source, copy = story(random.Random(seed))
            plant(copy)
            spoken = {name for name, _, _ in compare(source, copy)}
            assert spoken == {oracle}, f"{plant.__name__} was planted, {spoken} spoke instead of {oracle}"
        source, copy = story(random.Random(seed))
        changed = [partition[:-1] + [(partition[-1][0], 999)] for partition in copy]
        assert {name for name, _, _ in agree(copy, changed)} == {"what_was_read_stays"}
        assert {name for name, _, _ in agree(copy, [p[:-1] for p in copy], part_of=True)} == {"what_was_read_stays"}
    return len(faults()) + 2


if __name__ == "__main__":
    print(f"{self_test() + 1} passed, 0 failed")
    sys.exit(0)
