"""Writes the compatibility matrix from what the client suites said.

usage: matrix.py FOLDER SUITE… | matrix.py self-test
FOLDER/SUITE.out is the output of one whole run, as scripts/compat.sh keeps it: `BROKER commit day`, then
`CLIENT name version [prefix of its checks]` for each client, then the verdicts that judge.py reads. Versions are what the suites
pin, excuses are those of SUITE/allow.txt; no number comes from anywhere else. Suites that ran on different commits give no matrix.
"""
import os
import re
import sys

import judge

HERE = os.path.dirname(os.path.abspath(__file__))
HEAD = """# Which clients work, in which versions

Written by `scripts/compat.sh all` and `scripts/compat.sh matrix` from what the suites said; do not edit. What each suite is:
[FINDINGS.md](FINDINGS.md). A check is *excused* where `allow.txt` says why it cannot pass; the excuses stand below, each
with its reason. *Failed* are those without an excuse.

Commit {commit}, {day}.

| Suite | Client | Version | Passed | Excused | Failed |
|---|---|---|---:|---:|---:|
"""


def read(suite, output, allowed):
    """(commit, day), rows of the matrix, excused checks as (check, verdict, reason), failed ones as (check, why)."""
    broker = re.match(r"BROKER (\S+) (\S+)\n", output)
    clients = re.findall(r"^CLIENT (\S+) (\S+) ?(\S*)$", output, re.M)
    if not broker or not clients or not judge.ended(output):
        raise ValueError(f"{suite}: not a whole run")
    rows, excused, failed = [], [], []
    checks = judge.verdicts(output)
    for client, version, prefix in clients:
        mine = {name: said for name, said in checks.items() if name.startswith(prefix)}
        reasons = {name: judge.excuse(allowed, name) for name, said in mine.items() if said[0] != "PASS"}
        excused += [(name, mine[name][0], reason) for name, reason in sorted(reasons.items()) if reason]
        failed += [(name, mine[name][1]) for name, reason in sorted(reasons.items()) if not reason]
        numbers = len(mine) - len(reasons), sum(map(bool, reasons.values())), sum(not r for r in reasons.values())
        rows.append((suite, client, version, *numbers))
    if sum(sum(row[3:]) for row in rows) != len(checks):
        raise ValueError(f"{suite}: checks of no client, or of two")
    return broker.groups(), rows, excused, failed


def table(runs):
    """The page, from what `read` gave for each suite."""
    commits = {run[0][0] for run in runs}
    if len(commits) != 1:
        raise ValueError(f"runs of different commits: {', '.join(sorted(commits))}")
    rows = [row for run in runs for row in run[1]]
    page = HEAD.format(commit=commits.pop(), day=max(run[0][1] for run in runs))
    page += "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)
    page += f"| all | | | {' | '.join(str(sum(row[i] for row in rows)) for i in (3, 4, 5))} |\n"
    for run in runs:
        suite = run[1][0][0]
        if run[2]:
            page += f"\n## Excused in {suite}\n\n| Check | Said | Why |\n|---|---|---|\n"
            page += "".join(f"| `{name}` | {verdict} | {reason} |\n" for name, verdict, reason in run[2])
        if run[3]:
            page += f"\n## Failed in {suite}\n\n"
            page += "".join(f"- `{name}` {why}".rstrip() + "\n" for name, why in run[3])
    return page


def self_test():
    end = "1 passed, 0 failed, 0 skipped\n"
    allowed = judge.rules("b.* later\n")
    good = f"BROKER 1234abc 2026-01-02\nCLIENT one 1.0 a.\nCLIENT two 2.0 b.\nPASS a.x\nFAIL a.y no\nSKIP b.z\n{end}"
    run = read("s", good, allowed)
    assert run == (("1234abc", "2026-01-02"), [("s", "one", "1.0", 1, 0, 1), ("s", "two", "2.0", 0, 1, 0)],
                   [("b.z", "SKIP", "later")], [("a.y", "no")]), run
    page = table([run])
    assert "| all | | | 1 | 1 | 1 |" in page and "| `b.z` | SKIP | later |" in page and "- `a.y` no\n" in page, page
    other = read("t", good.replace("1234abc", "5678def"), allowed)
    for attempt in (
        lambda: read("s", good.removesuffix(end), allowed),
        lambda: read("s", good.replace("BROKER", "broker"), allowed),
        lambda: read("s", good.replace("CLIENT", "client"), allowed),
        lambda: read("s", good.replace("SKIP b.z", "SKIP c.z"), allowed),
        lambda: read("s", good.replace("2.0 b.", "2.0"), allowed),
        lambda: table([run, other]),
    ):
        try:
            attempt()
        except ValueError:
            continue
        raise AssertionError("a run that says too little went through")
    print("8 passed, 0 failed")


def main():
    if sys.argv[1:] == ["self-test"]:
        return self_test()
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    runs = []
    for suite in sys.argv[2:]:
        with open(os.path.join(sys.argv[1], f"{suite}.out"), errors="replace") as output:
            with open(os.path.join(HERE, suite, "allow.txt")) as allow:
                runs.append(read(suite, output.read(), judge.rules(allow.read())))
    with open(os.path.join(HERE, "MATRIX.md"), "w") as page:
        page.write(table(runs))


if __name__ == "__main__":
    main()
