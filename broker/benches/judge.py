#!/usr/bin/env python3
"""Compares what callgrind counted with baseline.tsv.

usage: judge.py FOLDER [--bless [UNIT...]]
  FOLDER   where the replay program's runs lie, one folder per benchmark
  --bless  writes down what became cheaper; what became dearer only for the units named here
One row per unit. A unit fails when it takes 1 % more instructions (and more than ten) or allocations than the baseline.
"""

import pathlib
import platform
import re
import subprocess
import sys

BASELINE = pathlib.Path(__file__).with_name("baseline.tsv")
TOLERANCE = 0.01
# What one inlining decision moves, taken anew whenever something else in the same crate changes.
INSTRUCTIONS_NOISE = 10
ALLOCATORS = {"malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"}


def counted(run):
    """Instructions and allocations of one benchmark, from callgrind's own file."""
    instructions = allocations = 0
    callee = None
    for line in next(run.glob("callgrind.*.out")).read_text().splitlines():
        if line.startswith("summary:"):
            instructions = int(line.split()[1])
        elif line.startswith("cfn="):
            callee = line[4:]
        elif line.startswith("calls=") and callee in ALLOCATORS:
            allocations += int(line[6:].split()[0])
    assert instructions, f"{run} has no count"
    return instructions, allocations


def surroundings():
    """What else the counts depend on. Valgrind shows every machine with AVX2 the same processor."""
    version = lambda *command: re.search(r"\d+\.\d+(\.\d+)?", subprocess.check_output(command, text=True))[0]
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    avx2 = "AVX2" if "avx2" in flags else "no AVX2"
    libc = platform.libc_ver()[1]
    return f"# counted with rustc {version('rustc', '--version')}, valgrind {version('valgrind', '--version')}, glibc {libc}, {avx2}"


def per_unit(row, runs):
    """What one unit takes: its benchmark, less another one, divided by how many units it holds."""
    bench, less, units = row[1], row[2], float(row[3])
    total = runs[bench]
    subtracted = (0, 0) if less == "-" else runs[less]
    return tuple((a - b) / units for a, b in zip(total, subtracted))


def change(now, before, noise=0):
    if abs(now - before) <= noise:
        return 0.0
    return (now - before) / before if before else float(now > 0)


def main(folder, *options):
    runs = {run.name: counted(run) for run in pathlib.Path(folder).rglob("*.*") if run.is_dir()}
    lines = BASELINE.read_text().splitlines()
    failed = passed = 0
    print(f"{'unit':40} {'now':>10} {'baseline':>10} {'change':>8} {'budget':>10} within {'allocs':>7} {'before':>7}")
    for place, line in enumerate(lines):
        if line.startswith("#"):
            continue
        row = line.split("\t")
        unit, budget = row[0], row[6]
        now, allocations = per_unit(row, runs)
        changes = change(now, float(row[4]), INSTRUCTIONS_NOISE), change(allocations, float(row[5]))
        within = "-" if budget == "-" else "yes" if now <= float(budget) else "NO"
        note = ""
        if max(changes) > TOLERANCE:
            note, failed = "FAILED: costs more", failed + 1
        else:
            note, passed = "cheaper: bless it" if min(changes) < -TOLERANCE else "", passed + 1
        print(f"{unit:40} {now:10.0f} {row[4]:>10} {100 * changes[0]:+7.1f}% {budget:>10} {within:6}"
              f" {allocations:7.2f} {row[5]:>7} {note}".rstrip())
        if options[:1] == ("--bless",):
            if unit not in options[1:]:
                now, allocations = min(now, float(row[4])), min(allocations, float(row[5]))
            row[4], row[5] = f"{now:.0f}", f"{allocations:.2f}"
            lines[place] = "\t".join(row)
    here = surroundings()
    if lines[0] != here:
        print(f"the baseline was {lines[0][2:]}\nbut this was    {here[2:]}")
    if options[:1] == ("--bless",):
        BASELINE.write_text("\n".join([here] + lines[1:]) + "\n")
    print(f"{passed} passed, {failed} failed")
    return failed == 0


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    sys.exit(0 if main(*sys.argv[1:]) else 1)
