"""What cleaning a large compacted topic costs its broker: memory above base, and what producers wait.

usage: pace.py GIB KEYS --bench PROGRAM [--pairs N] [--seconds N] [--scenario FILE,…] [--port N] [--data FOLDER] [--keep] [--fill-only]
  GIB, KEYS   how much is written, and of how many keys, each twice; one partition
  --bench     flumen-bench
  --pairs     windows with cleaning and as many without; default 4
  --seconds   measured in each window; default 20
  --scenario  what is produced meanwhile, to other topics of the same core; default load.toml
  --data      a folder that may be filled already, by a run with --fill-only and the same GIB and KEYS; --keep leaves it there

The broker has one core, on CPU 0, and all others are on CPU 1. The windows go ABBA, each with a broker started anew on the same
folder: A holds the cleaner back (min.cleanable.dirty.ratio), B lets it go and counts only if it was at work all the while.
Base memory is the most that the broker ever had in a window A. The limits are those of the project: 128 MiB above base, and 1.3
times the p99. Prints `PASS|FAIL name` and `N passed, N failed`.
"""
import argparse
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "crash"))
import keyed
from broker import Broker
from values import Values

MEMORY_MAX, RATIO_MAX = 128 << 20, 1.3
GAP_MAX = 1.0              # seconds between one cleaning and the next in a window B
BEGINS_WITHIN = 60
STOPS_WITHIN = 60
BROKER_CPU, OTHERS_CPU = "0", "1"
SCENARIO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "load.toml")


class Window:
    """What one run of the load said, and the broker meanwhile."""

    def __init__(self, scenario, cleans, load, memory, read, written, gap):
        self.scenario, self.cleans, self.memory, self.read, self.written, self.gap = scenario, cleans, memory, read, written, gap
        self.p50, self.p99, self.p999 = (load["produce"][name] / 1000 for name in ("p50_us", "p99_us", "p999_us"))
        self.achieved = load["requests_per_second"]
        self.doubts = load["generator"]["reason"] if load["generator"]["was_the_limit"] else ""
        if load["broken_off"] or load["unanswered"]:
            raise RuntimeError(f"the load broke off: {load['broken_off']}, {load['unanswered']} unanswered")

    def __str__(self):
        io = f", disk read {self.read >> 20} MiB, written {self.written >> 20} MiB"
        return (f"{'B cleaning' if self.cleans else 'A         '} {self.scenario}: {self.achieved:.0f}/s, p50 {self.p50:.3f} ms, p99 {self.p99:.3f} ms, "
                f"p99.9 {self.p999:.3f} ms, memory {self.memory / (1 << 20):.1f} MiB{io}{', DOUBT: ' + self.doubts if self.doubts else ''}")


def stop(broker):
    os.killpg(broker.process.pid, signal.SIGTERM)
    if broker.process.wait(STOPS_WITHIN):
        raise RuntimeError(f"the broker ended with {broker.process.returncode}, see {broker.log}")


def io_of(pid):
    with open(f"/proc/{pid}/io", encoding="ascii") as file:
        counts = dict(line.split(": ") for line in file.read().splitlines())
    return int(counts["read_bytes"]), int(counts["write_bytes"])


def window(options, broker, scenario, cleans):
    """Starts the broker, loads it for a while and stops it."""
    keyed.serve(broker)
    keyed.clean_from(broker.address, keyed.ALWAYS if cleans else keyed.NEVER)
    cleaner = keyed.Cleaner(broker)
    cleaner.position = os.path.getsize(broker.log)
    if cleans and not cleaner.wait(lambda: cleaner.under_way, BEGINS_WITHIN):
        raise RuntimeError("there is nothing to clean any more: more GIB, or fewer --pairs or --seconds")
    time.sleep(1)
    before, gap, out = io_of(broker.process.pid), 0.0, broker.data + ".json"
    load = subprocess.Popen(["taskset", "-c", OTHERS_CPU, options.bench, "load", "--bootstrap", broker.address, "--scenario", scenario,
                             "--seconds", str(options.seconds), "--durability", "d1", "--quiet", "--json", out], stdout=subprocess.DEVNULL)
    while load.poll() is None:
        if not cleaner.look():
            gap = max(gap, time.monotonic() - cleaner.idle_since)
        elif not cleans:
            raise RuntimeError("it cleans although it should not")
        time.sleep(0.25)
    if load.returncode:
        raise RuntimeError(f"the load ended with {load.returncode}")
    moved = [after - then for after, then in zip(io_of(broker.process.pid), before)]
    most = keyed.memory(broker.process)
    stop(broker)
    with open(out, encoding="utf-8") as file:
        found = Window(os.path.basename(scenario).removesuffix(".toml"), cleans, json.load(file), most, *moved, gap)
    os.unlink(out)
    print(found, flush=True)
    return found


def judged(windows):
    """Complaints by name, and what to say of each scenario."""
    base = max(w.memory for w in windows if not w.cleans)
    above = max(w.memory for w in windows if w.cleans) - base
    print(f"memory: base {base / (1 << 20):.1f} MiB, cleaning {above / (1 << 20):+.1f} MiB")
    verdicts = {"memory_is_bounded": [f"{above} bytes above base"] if above > MEMORY_MAX else [],
                "it_cleaned_all_the_while": [str(w) for w in windows if w.cleans and w.gap > GAP_MAX]}
    for scenario in dict.fromkeys(w.scenario for w in windows):
        mine = [[w for w in windows if w.scenario == scenario and w.cleans == cleans] for cleans in (False, True)]
        for name in ("p50", "p99", "p999"):
            plain, cleaning = ([getattr(w, name) for w in side] for side in mine)
            ratios = [b / a for a, b in zip(plain, cleaning)]
            ratio = math.exp(statistics.fmean(map(math.log, ratios)))
            print(f"{scenario}: {name} {statistics.median(plain):.3f} ms, cleaning {statistics.median(cleaning):.3f} ms, ratio {ratio:.2f} "
                  f"({min(ratios):.2f} to {max(ratios):.2f}; the windows without differ by {max(plain) / min(plain):.2f})")
            if name == "p99":
                verdicts[f"producers_do_not_wait: {scenario}"] = [f"{ratio:.2f} times the p99"] if ratio > RATIO_MAX else []
    return verdicts


def parsed():
    parser = argparse.ArgumentParser()
    parser.add_argument("gib", type=float)
    parser.add_argument("keys", type=int)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--scenario", type=lambda text: text.split(","), default=[SCENARIO])
    parser.add_argument("--port", type=int, default=23096)
    parser.add_argument("--data")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--fill-only", action="store_true")
    return parser.parse_args()


def main():
    options = parsed()
    os.sched_setaffinity(0, {int(OTHERS_CPU)})
    shape = keyed.Shape(options.gib, options.keys, 1)
    data = options.data or tempfile.mkdtemp(prefix="pace-", dir=os.environ.get("FLUMEN_SCRATCH"))
    command = keyed.flumen_command(["flumen.cores=1", f"log.cleaner.dedupe.buffer.size={shape.table_bytes}"])
    broker = Broker(f"taskset -c {BROKER_CPU} {command}", options.port, os.path.join(data, "data"))
    verdicts = {"it_ran": ["not to its end"]}
    try:
        if not os.path.exists(broker.data):
            keyed.serve(broker)
            keyed.create(broker.address, shape, keyed.NEVER, 86_400_000)
            began = time.time()
            keyed.fill(broker.address, shape, Values(shape.keys))
            print(f"{2 * shape.keys} records in {time.time() - began:.0f} s, {keyed.bytes_on_disk(broker.data)} bytes on disk", flush=True)
            stop(broker)
        if not options.fill_only:
            order = [cleans for n in range(options.pairs) for cleans in ((False, True) if n % 2 == 0 else (True, False))]
            verdicts = judged([window(options, broker, scenario, cleans) for scenario in options.scenario for cleans in order])
        else:
            verdicts = {"it_is_filled": []}
    finally:
        broker.kill()
        if not options.keep and not options.fill_only:
            shutil.rmtree(data, ignore_errors=True)
    for name, complaints in verdicts.items():
        print("FAIL" if complaints else "PASS", name, *complaints)
    count = sum(bool(c) for c in verdicts.values())
    print(f"{len(verdicts) - count} passed, {count} failed")
    sys.exit(bool(count))


main()
