#!/usr/bin/env python3
"""Makes a copy of the project with planted bugs in it, and looks how soon simulated lives notice each of them.

usage: plant.py copy FOLDER           make the copy, or bring it up to date
       plant.py hunt PROGRAM NAME…    PROGRAM: the copy's test of simulated lives; --all stands for every name
environment: PLANTED_SEEDS            lives in which a bug must be noticed (default 2000)

Does: write what is different in FOLDER and nothing else, so that little is compiled anew; run bugs side by side.
Does not: touch the tree itself.
"""

import os
import pathlib
import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[2]
CRATES = ["protocol", "storage", "replication", "broker", "bench-harness", "tests"]
BUGS = tomllib.loads((ROOT / "tests/planted/bugs.toml").read_text())["bug"]
SEEDS = int(os.environ.get("PLANTED_SEEDS", "2000"))
CLEAN_EVERY = 20
"""Without any bug, the first of so many lives each must be sound before: the copy is still the project."""
SECONDS_MAX = 3600

SWITCH = """
/// Whether the bug of this name is switched on.
pub fn planted(name: &str) -> bool {
    static ON: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    ON.get_or_init(|| std::env::var("FLUMEN_PLANTED").unwrap_or_default()) == name
}
"""


def sources():
    """Every file that the copy needs, relative to the root."""
    for item in sorted(ROOT.iterdir()):
        if item.is_file():
            yield item.relative_to(ROOT)
    for crate in CRATES:
        for item in sorted((ROOT / crate).rglob("*")):
            if item.is_file() and "__pycache__" not in item.parts:
                yield item.relative_to(ROOT)


def plant(path, text):
    """A file's text with all its bugs in it."""
    for bug in (bug for bug in BUGS if bug["file"] == path):
        home = "crate" if path.startswith("protocol/") else "::flumen_protocol"
        switch = f'{home}::planted("{bug["name"]}")'
        if text.count(bug["find"]) != 1:
            sys.exit(f"{bug['name']}: its text stands {text.count(bug['find'])} times in {path}")
        text = text.replace(bug["find"], bug["replace"].replace("planted!()", switch))
    return text + SWITCH if path == "protocol/src/lib.rs" else text


def rename(path, text):
    """Its crates have a version of their own, or cargo would take what it compiled of one tree for the other's."""
    if path == "Cargo.toml":
        return text.replace('\nversion = "0.1.0"', '\nversion = "0.1.0-planted"', 1)
    if path == "Cargo.lock":
        return re.sub(r'(name = "flumen-[a-z-]+"\nversion = "[0-9.]+)"', r'\1-planted"', text)
    return text


def copy(folder):
    wanted = set()
    for path in sources():
        wanted.add(path)
        content = (ROOT / path).read_bytes()
        if path.suffix in (".rs", ".toml", ".lock"):
            name = path.as_posix()
            content = rename(name, plant(name, content.decode())).encode()
        target = folder / path
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    for old in [old for old in folder.rglob("*") if old.is_file()]:
        if old.relative_to(folder) not in wanted:
            old.unlink()


def live(program, name, first, last):
    """What these lives with this bug say; up to the first that is broken."""
    seeds = f"{first}..{last}"
    env = dict(os.environ, FLUMEN_PLANTED=name, FLUMEN_SEEDS=seeds, RUST_BACKTRACE="0")
    command = [program, "swarm::what_is_promised", "--nocapture"]
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, timeout=SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, "it hangs"
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def told(output, oracle=None):
    """The first thing that was found wrong, in a line; with an oracle, the first that it found, if it did."""
    if oracle is not None:
        by_it = re.search(rf"^{re.escape(oracle)}: .*", output, re.MULTILINE)
        return by_it and by_it[0][:160]
    broken = re.search(r"promises are broken:\n(.*)", output)
    panic = re.search(r"panicked at (\S+?):?\n(.*)", output)
    line = broken[1] if broken else f"{panic[2]} ({panic[1]})" if panic else output[-200:]
    return line if len(line) <= 160 else line[:160] + "…"


def hunt(program, bug):
    """Whether the bug is found, by the oracle that is meant to find it if one is; says how."""
    name, oracle = bug["name"], bug.get("oracle")
    first, others = 0, 0
    while first < SEEDS:
        code, output = live(program, name, first, SEEDS)
        seed = re.search(r"seed (\d+) (?:fails|lives)", output)
        if code == 0 or seed is None:
            break
        number = int(seed[1])
        line = told(output, oracle)
        if line is not None:
            before = f", {others} others fell to something else" if others else ""
            print(f"{name}: found at seed {number} by {line}{before}", flush=True)
            return True
        first, others = number + 1, others + 1
    by = f" by {oracle}, {others} in another way" if oracle else ""
    print(f"{name}: NOT FOUND in {SEEDS} lives{by}", flush=True)
    return False


def is_sound(program):
    """Whether nothing is found where there is nothing; says what is."""
    count = max(SEEDS // CLEAN_EVERY, 2)
    half = count // 2
    with ThreadPoolExecutor(2) as workers:
        halves = list(workers.map(lambda part: live(program, "", *part), [(0, half), (half, count)]))
    wrong = [told(output) for code, output in halves if code != 0]
    print("\n".join(f"without any bug: {line}" for line in wrong) or f"{count} lives without any bug are sound")
    return not wrong


def main():
    match sys.argv[1:]:
        case ["copy", folder]:
            copy(pathlib.Path(folder))
        case ["hunt", program, *names] if names:
            known = [bug["name"] for bug in BUGS]
            strange = [name for name in names if name not in known and name != "--all"]
            if strange:
                sys.exit(f"no bug has the name {', '.join(strange)}; there are: {' '.join(known)}")
            if not is_sound(program):
                sys.exit("0 passed, 1 failed")
            chosen = [bug for bug in BUGS if "--all" in names or bug["name"] in names]
            with ThreadPoolExecutor(os.cpu_count()) as workers:
                found = list(workers.map(lambda bug: hunt(program, bug), chosen))
            print(f"{sum(found)} passed, {len(found) - sum(found)} failed")
            sys.exit(0 if all(found) else 1)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
