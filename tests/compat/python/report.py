"""Collects checks and prints their verdicts: `@check` a function, `@each(values)` one for several values, then `run()`."""
import sys
import time
import uuid

CHECKS = []
RUN = "p" + uuid.uuid4().hex[:8]  # names are unique, so that a broker may be used again
_numbers = iter(range(10**6))


def check(f):
    CHECKS.append((f.__name__.replace("__", "."), f))
    return f


def each(*values):
    def wrap(f):
        for v in values:
            CHECKS.append((f"{f.__name__.replace('__', '.')}.{v}", lambda v=v: f(v)))
        return f
    return wrap


def name(what="t"):
    return f"{RUN}-{what}{next(_numbers)}"


def equal(got, want):
    assert got == want, f"got {got!r}, wanted {want!r}"


def until(what, condition, seconds=60):
    end = time.time() + seconds
    while not (last := condition()):
        assert time.time() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return last


def run(prefix):
    failed = 0
    for n, f in CHECKS:
        try:
            f()
            print(f"PASS {prefix}.{n}", flush=True)
        except Exception as e:
            failed += 1
            print(f"FAIL {prefix}.{n} {type(e).__name__}: {' '.join(str(e).split())[:250]}", flush=True)
    sys.exit(bool(failed))
