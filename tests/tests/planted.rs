//! The planted bugs still have their places.
//!
//! Does: hold `tests/planted/bugs.toml` against the sources as they are, as text.
//! Does not: plant or hunt; `scripts/planted.sh` does.
//! Invariant: whoever changes a line that a bug takes the place of hears of it at once; so does who changes the name of
//! an oracle that a bug is there for, or adds one that nothing shows to notice anything.
//! Apart, because a hunt takes minutes and this does not.

use std::collections::BTreeSet;
use std::fs;

use flumen_tests::workspace_root;

/// Fewer would prove little.
const BUGS_MIN: usize = 30;
/// Where all oracles are named.
const ORACLES: &str = "tests/sim/swarm/oracles.rs";
/// What a replacement asks to learn whether its bug is switched on.
const SWITCH: &str = "planted!()";

#[test]
fn every_planted_bug_has_its_place() {
    let root = workspace_root();
    let text = fs::read_to_string(root.join("tests/planted/bugs.toml")).expect("there are bugs");
    let bugs = bugs(&text);
    assert!(bugs.len() >= BUGS_MIN, "only {} bugs are planted", bugs.len());
    let oracles = fs::read_to_string(root.join(ORACLES)).expect("there are oracles");
    let mut wrong = Vec::new();
    let mut names = BTreeSet::new();
    for bug in &bugs {
        let name = &bug.name;
        if !names.insert(name) {
            wrong.push(format!("two bugs are called {name}"));
        }
        let source = fs::read_to_string(root.join(&bug.file)).unwrap_or_default();
        wrong.extend(misplaced(&source, bug));
        wrong.extend(unwatched(&oracles, bug));
    }
    wrong.extend(idle(&oracles, &bugs));
    assert!(wrong.is_empty(), "mend tests/planted/bugs.toml:\n{}", wrong.join("\n"));
}

struct Bug {
    name: String,
    why: String,
    file: String,
    find: String,
    replace: String,
    /// Which must notice it; any may if none is named.
    oracle: Option<String>,
}

fn bugs(text: &str) -> Vec<Bug> {
    let table: toml::Table = text.parse().expect("bugs.toml is TOML");
    let bugs = table["bug"].as_array().expect("an array of bugs");
    let field = |bug: &toml::Value, field: &str| {
        let text = bug.get(field).and_then(toml::Value::as_str);
        text.unwrap_or_else(|| panic!("a bug without {field}: {bug}")).to_owned()
    };
    let read = |bug: &toml::Value| Bug {
        name: field(bug, "name"),
        why: field(bug, "why"),
        file: field(bug, "file"),
        find: field(bug, "find"),
        replace: field(bug, "replace"),
        oracle: bug.get("oracle").map(|_| field(bug, "oracle")),
    };
    bugs.iter().map(read).collect()
}

/// What keeps this bug from being planted in this source, if anything does.
fn misplaced(source: &str, bug: &Bug) -> Option<String> {
    let Bug { name, why, file, find, replace, oracle: _ } = bug;
    let count = source.matches(find).count();
    if count != 1 {
        return Some(format!("{name}: its text stands {count} times in {file}"));
    }
    if !replace.contains(SWITCH) {
        return Some(format!("{name} cannot be switched off"));
    }
    why.is_empty().then(|| format!("{name} breaks no promise"))
}

/// What keeps this bug from being noticed, if the oracle that must do it is none.
fn unwatched(oracles: &str, bug: &Bug) -> Option<String> {
    let oracle = bug.oracle.as_ref()?;
    let is_one = oracles.contains(&format!("(\"{oracle}\", "));
    (!is_one).then(|| format!("{} is there for {oracle}, which is no oracle", bug.name))
}

/// Oracles that no bug is there for.
fn idle<'a>(oracles: &'a str, bugs: &'a [Bug]) -> impl Iterator<Item = String> {
    let named = oracles.lines().filter_map(|line| line.trim().strip_suffix("::ask),"));
    let names = named.filter_map(|line| line.strip_prefix("(\"")?.split('"').next());
    let has_none = |name: &&str| !bugs.iter().any(|bug| bug.oracle.as_deref() == Some(*name));
    names.filter(has_none).map(|name| format!("no bug is there for {name}"))
}

#[test]
fn a_bug_without_a_place_is_noticed() {
    let plant = |find: &str, replace: &str| Bug {
        name: "it".to_owned(),
        why: "it is wrong".to_owned(),
        file: "a.rs".to_owned(),
        find: find.to_owned(),
        replace: replace.to_owned(),
        oracle: None,
    };
    let source = "one two two";
    assert_eq!(misplaced(source, &plant("one", "planted!() || one")), None);
    assert!(misplaced(source, &plant("two", "planted!() || two")).is_some());
    assert!(misplaced(source, &plant("three", "planted!() || three")).is_some());
    assert!(misplaced(source, &plant("one", "three")).is_some());
    let oracles = "[\n    (\"nothing is lost\", nothing_is_lost::ask),\n]";
    let by = |oracle: Option<&str>| {
        let bug = Bug { oracle: oracle.map(str::to_owned), ..plant("one", "planted!()") };
        unwatched(oracles, &bug)
    };
    assert_eq!((by(None), by(Some("nothing is lost"))), (None, None));
    assert!(by(Some("nothing is")).is_some());
    let there_for = |oracle: &str| {
        let bugs = [Bug { oracle: Some(oracle.to_owned()), ..plant("one", "planted!()") }];
        idle(oracles, &bugs).count()
    };
    assert_eq!((there_for("nothing is lost"), there_for("order is kept")), (0, 1));
}
