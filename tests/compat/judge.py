"""Compares what a client suite said with what is expected of it.

usage: judge.py NAME ALLOW OUTPUT | judge.py self-test
OUTPUT has lines `PASS|FAIL|SKIP check reason` and ends with `N passed, N failed, N skipped`. ALLOW lists `pattern reason`:
checks that cannot pass yet, and why; a reason that begins with "flaky" lets a check pass or fail. The last line is `NAME: N as expected, N not, N excused`.
"""
import fnmatch
import os
import re
import sys


def rules(text):
    """(pattern, reason) of each line; a pattern without a reason is no excuse."""
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in lines:
        if len(line) != 2:
            raise ValueError(f"no reason given for {line[0]}")
    return lines


def verdicts(output):
    """What each check said: {name: (PASS, FAIL or SKIP, why)}."""
    return {name: (verdict, why) for verdict, name, why in re.findall(r"^(PASS|FAIL|SKIP) (\S+) ?(.*)$", output, re.M)}


def excuse(allowed, name):
    """Why a check need not pass, or None."""
    return next((reason for pattern, reason in allowed if fnmatch.fnmatchcase(name, pattern)), None)


def ended(output):
    """The suite came to its own last line."""
    return re.search(r"^\d+ passed, \d+ failed, \d+ skipped$", output.rstrip().rsplit("\n", 1)[-1]) is not None


def judge(allowed, output, reference=False):
    """Complaints, number as expected, number excused."""
    complaints, expected, excused = [], 0, 0
    for name, (verdict, why) in sorted(verdicts(output).items()):
        reason = excuse(allowed, name)
        flaky = reason is not None and reason.startswith("flaky")
        if verdict == "PASS" and (reason is None or flaky or reference):
            expected += 1
        elif verdict == "PASS":
            complaints.append(f"{name} passes now: take it off the list")
        elif reason is not None:
            excused += 1
        else:
            complaints.append(f"{verdict} {name} {why}".rstrip())
    if not ended(output):
        complaints.append("the suite did not come to its end")
    if expected == 0:
        complaints.append("nothing passed")
    return complaints, expected, excused


def self_test():
    end = "1 passed, 0 failed, 0 skipped"
    allowed = rules("# comment\ntxn.* later\n")
    assert judge(allowed, f"PASS a\nFAIL txn.x no\n{end}\n") == ([], 1, 1)
    for output in (f"PASS a\nFAIL b\n{end}", f"PASS a\nSKIP b\n{end}", f"PASS a\nPASS txn.y\n{end}", "PASS a\n", end):
        assert judge(allowed, output)[0], output
    assert judge(allowed, f"PASS a\nPASS txn.y\n{end}", reference=True) == ([], 2, 0)
    wobbly = rules("b flaky: now and then\n")
    assert [judge(wobbly, f"PASS a\n{v} b\n{end}")[0] for v in ("PASS", "FAIL")] == [[], []]
    try:
        rules("lonely\n")
    except ValueError:
        print("9 passed, 0 failed")
        return
    raise AssertionError("an excuse without a reason went through")


def main():
    if sys.argv[1:] == ["self-test"]:
        return self_test()
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    name, allow, output = sys.argv[1:]
    with open(allow) as a, open(output, errors="replace") as o:
        complaints, expected, excused = judge(rules(a.read()), o.read(), bool(os.environ.get("COMPAT_REFERENCE")))
    for complaint in complaints:
        print(complaint[:400])
    print(f"{name}: {expected} as expected, {len(complaints)} not, {excused} excused")
    sys.exit(bool(complaints))


if __name__ == "__main__":
    main()
