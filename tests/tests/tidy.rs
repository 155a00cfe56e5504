//! The rules of the house that no compiler checks, over every source file of the project.
//!
//! Does: scan sources and manifests and list each place that breaks a rule, all at once.
//! Does not: build or run anything, nor judge taste.
//! Invariant: every rule has a test below that plants a violation and sees it found.
//! Apart, because unenforced rules rot; the reasons for each stand in the README files of the crates.

use flumen_tests::source::{Source, has_word};
use flumen_tests::workspace_root;
use std::fs;
use std::path::Path;

/// A rule looks at one file and says what it has against it; an empty list is praise.
type Rule = fn(&Source) -> Vec<String>;

const RULES: [(&str, Rule); 11] = [
    ("words have their places", words_in_their_places),
    ("module header", module_header),
    ("function length", function_length),
    ("file length", file_length),
    ("no mod.rs", no_mod_rs),
    ("no leftovers", no_leftovers),
    ("no global state", no_global_state),
    ("no machine's paths", no_machine_paths),
    ("crate directions", crate_directions),
    ("outside crates", outside_crates),
    ("scripts", scripts),
];

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 600;
const SCRIPT_LINES_MAX: usize = 60;

/// What may stand in the root of the project. Everything else belongs to a crate.
const ROOT_ITEMS: [&str; 18] = [
    ".ci",
    ".git",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "bench-harness",
    "broker",
    "clippy.toml",
    "deny.toml",
    "protocol",
    "replication",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "scripts",
    "storage",
    "tests",
];
/// In the root, but not of the project's making: ignored by version control.
const ROOT_IGNORED: [&str; 2] = ["target", "flumen-data"];

/// Words and the only places where code (not comments, not unit tests) may name them.
struct Places {
    words: &'static [&'static str],
    /// Where the rule looks: path prefixes.
    within: &'static [&'static str],
    /// Path prefixes where the words are at home.
    allowed: &'static [&'static str],
}

const CRATES: &[&str] =
    &["protocol/", "storage/", "replication/", "broker/", "tests/", "bench-harness/"];
const HOUSE: &[&str] = &["protocol/", "storage/", "replication/", "broker/"];
const PURE: &[&str] = &["protocol/src/", "replication/src/", "storage/src/"];
const RIM: &[&str] = &[
    "broker/src/net/",
    "broker/src/boot/",
    "broker/src/shard/pump.rs",
    "broker/src/doctor", // before any core exists: probes in threads and processes of their own
    "storage/src/io/",
];

const PLACES: &[Places] = &[
    Places {
        words: &["glommio"],
        within: CRATES,
        allowed: &[
            "broker/src/net/",
            "broker/src/boot/",
            "broker/src/shard/pump.rs",
            "broker/src/doctor",
            "storage/src/io/",
        ],
    },
    // FlatBuffers' generated accessors contain it; of ours only the file that hands memory to the
    // kernel does.
    Places {
        words: &["unsafe"],
        within: CRATES,
        allowed: &["replication/src/wire/", "storage/src/io/ring.rs"],
    },
    Places { words: &["async", "await", "spawn"], within: HOUSE, allowed: RIM },
    Places {
        words: &["Instant::now", "SystemTime::now", "UNIX_EPOCH", ".elapsed("],
        within: HOUSE,
        allowed: &[
            "broker/src/shard/pump.rs",
            "broker/src/boot/",
            "broker/src/cli/world.rs", // a command is a program of its own, without any core
            "broker/src/doctor",
            "storage/src/io/",
        ],
    },
    Places {
        words: &["thread_rng", "from_entropy", "from_os_rng", "OsRng", "getrandom", "RandomState"],
        within: HOUSE,
        allowed: &["broker/src/boot/seed.rs"],
    },
    // These constructors exist only for the hasher with a random seed.
    Places {
        words: &[
            "HashMap::new",
            "HashMap::with_capacity",
            "HashSet::new",
            "HashSet::with_capacity",
        ],
        within: HOUSE,
        allowed: &["broker/src/boot/"],
    },
    Places {
        words: &["std::fs", "std::thread", "std::net", "std::process", "std::env"],
        within: PURE,
        allowed: &["storage/src/io/"],
    },
    // The bench harness lives in the world; only the data that its rooms exchange does not.
    Places {
        words: &["Instant", "SystemTime", "std::fs", "std::thread", "std::net", "std::process"],
        within: &["bench-harness/src/outcome"],
        allowed: &[],
    },
    Places {
        words: &["kafka_protocol"],
        within: CRATES,
        allowed: &["protocol/src/messages.rs", "protocol/src/messages/"],
    },
    Places { words: &["flatbuffers"], within: CRATES, allowed: &["replication/src/wire"] },
];

#[test]
fn the_house_is_tidy() {
    let root = workspace_root();
    let mut complaints = root_items(&names_in(&root));
    let sources = sources_below(&root);
    assert!(sources.len() > 10, "the scan went past the sources");
    for source in &sources {
        for (name, rule) in RULES {
            complaints.extend(rule(source).into_iter().map(|what| format!("{name}: {what}")));
        }
    }
    assert!(
        complaints.is_empty(),
        "{} untidy places:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

fn words_in_their_places(source: &Source) -> Vec<String> {
    let mut found = raft_crate_words(source);
    if is_test_path(&source.path) || !source.path.ends_with(".rs") {
        return found;
    }
    for places in PLACES {
        if !starts_with_any(&source.path, places.within)
            || starts_with_any(&source.path, places.allowed)
        {
            continue;
        }
        for word in places.words {
            found.extend(
                source
                    .lines_with_word(word)
                    .into_iter()
                    .map(|line| format!("{}:{line} names `{word}`", source.path)),
            );
        }
    }
    found
}

/// The `raft` crate has a namesake: our own module. A path that begins with `raft::` and goes on as only the
/// crate's own items do is the crate.
fn raft_crate_words(source: &Source) -> Vec<String> {
    let crate_items = ["prelude", "eraftpb", "storage", "util", "quorum", "{", "*"];
    let ours = source.path.starts_with("replication/src/raft/");
    if ours || !source.path.ends_with(".rs") || is_test_path(&source.path) {
        return Vec::new();
    }
    let names_crate = |line: &str| {
        line.match_indices("raft::").any(|(at, word)| {
            let before = line[..at].chars().next_back();
            let rest = &line[at + word.len()..];
            let begins = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
            begins
                && (rest.starts_with(char::is_uppercase)
                    || crate_items.iter().any(|item| rest.starts_with(item)))
        })
    };
    source
        .code_lines()
        .filter(|(_, line)| names_crate(line))
        .map(|(number, _)| format!("{}:{number} names the raft crate", source.path))
        .collect()
}

fn module_header(source: &Source) -> Vec<String> {
    if !source.path.ends_with(".rs") || is_generated(source) {
        return Vec::new();
    }
    let first =
        source.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    complain_if(!first.is_some_and(|line| line.starts_with("//! ")), || {
        format!("{} does not open with a `//!` header", source.path)
    })
}

fn function_length(source: &Source) -> Vec<String> {
    if !source.path.ends_with(".rs") || is_generated(source) {
        return Vec::new();
    }
    source
        .functions()
        .into_iter()
        .filter(|function| function.length > FUNCTION_LINES_MAX)
        .map(|f| format!("{}:{} `{}` has {} lines", source.path, f.line, f.name, f.length))
        .collect()
}

fn file_length(source: &Source) -> Vec<String> {
    let lines = source.lines_without_tests();
    let exempt =
        !source.path.ends_with(".rs") || is_generated(source) || source.path.ends_with("/tests.rs");
    complain_if(!exempt && lines > FILE_LINES_MAX, || {
        format!("{} has {lines} lines before its tests", source.path)
    })
}

fn no_mod_rs(source: &Source) -> Vec<String> {
    complain_if(source.path.ends_with("/mod.rs"), || {
        format!("{}: name the file after its module", source.path)
    })
}

fn no_leftovers(source: &Source) -> Vec<String> {
    // Put together, so that this file does not break its own rule.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
    ];
    let mut found = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        for word in words {
            if has_word(line, word) {
                found.push(format!("{}:{} has a `{word}`", source.path, index + 1));
            }
        }
    }
    found
}

fn no_global_state(source: &Source) -> Vec<String> {
    if !starts_with_any(&source.path, HOUSE) || !source.path.ends_with(".rs") {
        return Vec::new();
    }
    let mutable = [
        "Atomic", "Mutex", "RwLock", "OnceLock", "OnceCell", "LazyLock", "LazyCell", "RefCell",
        "Cell<",
    ];
    let breaks = |line: &str| {
        let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        line.starts_with("static mut ")
            || line.contains("thread_local!")
            || (line.starts_with("static ") && mutable.iter().any(|word| line.contains(word)))
    };
    source
        .code_lines()
        .filter(|(_, line)| breaks(line))
        .map(|(number, _)| format!("{}:{number} is mutable state that all share", source.path))
        .collect()
}

fn no_machine_paths(source: &Source) -> Vec<String> {
    let places = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
    ];
    let mut found = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        if places.iter().any(|place| names_absolute(line, place)) {
            found.push(format!(
                "{}:{} names a folder of somebody's machine",
                source.path,
                index + 1
            ));
        }
    }
    found
}

/// Whether the folder stands there as the beginning of a path (and not inside `a/home/b`).
fn names_absolute(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        !line[..at]
            .ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '/'))
    })
}

fn crate_directions(source: &Source) -> Vec<String> {
    let may_know: &[&str] = match source.path.as_str() {
        "protocol/Cargo.toml" => &[],
        "storage/Cargo.toml" | "replication/Cargo.toml" | "bench-harness/Cargo.toml" => {
            &["flumen-protocol"]
        }
        "broker/Cargo.toml" => &["flumen-protocol", "flumen-storage", "flumen-replication"],
        "tests/Cargo.toml" | "tests/fuzz/Cargo.toml" => &[
            "flumen-protocol",
            "flumen-storage",
            "flumen-replication",
            "flumen-broker",
            "flumen-tests",
        ],
        _ => return Vec::new(),
    };
    dependencies(&source.text)
        .into_iter()
        .filter(|name| name.starts_with("flumen-") && !may_know.contains(&name.as_str()))
        .map(|name| format!("{} may not know {name}", source.path))
        .collect()
}

fn outside_crates(source: &Source) -> Vec<String> {
    let homes: [(&str, &[&str]); 4] = [
        ("glommio", &["storage/Cargo.toml", "broker/Cargo.toml"]),
        ("kafka-protocol", &["protocol/Cargo.toml"]),
        ("raft", &["replication/Cargo.toml"]),
        ("flatbuffers", &["replication/Cargo.toml"]),
    ];
    if !source.path.ends_with("/Cargo.toml") {
        return Vec::new();
    }
    dependencies(&source.text)
        .into_iter()
        .filter(|name| {
            homes.iter().any(|(crate_name, homes)| {
                crate_name == name && !homes.contains(&source.path.as_str())
            })
        })
        .map(|name| format!("{} may not depend on {name}", source.path))
        .collect()
}

/// Names under `[dependencies]`, `[dev-dependencies]`, `[build-dependencies]`, for any target.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.contains("dependencies");
            let own_table =
                section.split_once("dependencies.").map(|(_, name)| name.trim_end_matches(']'));
            names.extend(own_table.map(str::to_owned));
        } else if inside && let Some((name, _)) = line.split_once(['.', '=', ' ']) {
            names.push(name.trim().to_owned());
        }
    }
    names.retain(|name| !name.is_empty() && !name.starts_with('#'));
    names
}

fn scripts(source: &Source) -> Vec<String> {
    let is_gate = source.path.starts_with("scripts/") || source.path == ".ci/run";
    let is_shell = source.path.ends_with(".sh") || source.path == ".ci/run";
    if !is_shell {
        return Vec::new();
    }
    let top: Vec<&str> = source.text.lines().take(15).collect();
    let usage = top.iter().any(|line| line.starts_with("# usage:"));
    let strict = source.text.lines().any(|line| line == "set -euo pipefail");
    let lines = source.text.lines().count();
    let mut found = complain_if(!usage, || format!("{} has no `# usage:` at its top", source.path));
    found.extend(complain_if(!strict, || format!("{} lacks `set -euo pipefail`", source.path)));
    found.extend(complain_if(is_gate && lines >= SCRIPT_LINES_MAX, || {
        format!("{} has {lines} lines: a script only starts what is written elsewhere", source.path)
    }));
    found
}

fn root_items(names: &[String]) -> Vec<String> {
    names
        .iter()
        .filter(|name| {
            !ROOT_ITEMS.contains(&name.as_str()) && !ROOT_IGNORED.contains(&name.as_str())
        })
        .map(|name| format!("root items: {name} belongs into a crate, scripts/ or tests/"))
        .collect()
}

fn complain_if(broken: bool, what: impl FnOnce() -> String) -> Vec<String> {
    if broken { vec![what()] } else { Vec::new() }
}

fn starts_with_any(path: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| path.starts_with(prefix))
}

/// Integration tests may do what cores may not.
fn is_test_path(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Written by the FlatBuffers compiler, and only believed where its output lives.
fn is_generated(source: &Source) -> bool {
    source.path.starts_with("replication/src/wire/")
        && source.text.lines().take(3).any(|line| line.contains("generated"))
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the project's folder can be listed");
    entries
        .map(|entry| entry.expect("a folder entry").file_name().to_string_lossy().into_owned())
        .collect()
}

/// Every text of the project that a rule may want to see.
fn sources_below(root: &Path) -> Vec<Source> {
    let wanted = ["rs", "toml", "sh", "py", "go", "service", "fbs", "md", "java", "c"];
    let mut sources = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project can be listed") {
            let path = entry.expect("a folder entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if ![".git", "target", "flumen-data", "__pycache__"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|ext| wanted.iter().any(|w| ext == *w))
                || name == "run"
            {
                let shown =
                    path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
                sources.push(Source::new(
                    &shown,
                    &fs::read_to_string(&path).expect("sources are text"),
                ));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the named rule objects to this file.
    fn objects(rule: Rule, path: &str, text: &str) -> bool {
        !rule(&Source::new(path, text)).is_empty()
    }

    #[test]
    fn every_word_is_missed_nowhere_else_and_allowed_at_home() {
        for places in PLACES {
            for word in places.words {
                let text = format!("fn f() {{ x {word} y }}");
                for within in places.within.iter().filter(|path| !is_test_path(path)) {
                    let path = format!("{within}planted.rs");
                    assert!(objects(words_in_their_places, &path, &text), "{word} in {path}");
                }
            }
        }
        let clock = "fn f() { let t = std::time::Instant::now(); }";
        assert!(objects(words_in_their_places, "broker/src/shard/shard.rs", clock));
        assert!(!objects(words_in_their_places, "broker/src/shard/pump.rs", clock));
        assert!(objects(words_in_their_places, "protocol/src/frame.rs", "use glommio::X;"));
        assert!(!objects(words_in_their_places, "storage/src/io/driver.rs", "use glommio::X;"));
        assert!(objects(words_in_their_places, "storage/src/io/driver.rs", "fn f() { unsafe {} }"));
        assert!(!objects(
            words_in_their_places,
            "broker/src/lib.rs",
            "// glommio, unsafe, await\n"
        ));
        assert!(!objects(words_in_their_places, "broker/src/lib.rs", "#![forbid(unsafe_code)]\n"));
    }

    #[test]
    fn the_raft_crate_is_told_from_our_module() {
        for text in
            ["use raft::Config;", "use raft::{Config, RawNode};", "let e: raft::eraftpb::Entry;"]
        {
            assert!(objects(words_in_their_places, "replication/src/partition.rs", text), "{text}");
            assert!(
                !objects(words_in_their_places, "replication/src/raft/group.rs", text),
                "{text}"
            );
        }
        for text in ["use crate::raft::Group;", "use flumen_replication::raft::group::Group;"] {
            assert!(!objects(words_in_their_places, "broker/src/shard.rs", text), "{text}");
        }
    }

    #[test]
    fn a_missing_header_is_found() {
        assert!(objects(module_header, "broker/src/a.rs", "use x;\n"));
        assert!(!objects(
            module_header,
            "broker/src/lib.rs",
            "#![forbid(unsafe_code)]\n\n//! Says what.\n"
        ));
    }

    #[test]
    fn long_functions_and_files_are_found() {
        let body = |lines: usize| format!("//! h\nfn f() {{\n{}}}\n", "    g();\n".repeat(lines));
        assert!(objects(function_length, "broker/src/a.rs", &body(FUNCTION_LINES_MAX - 1)));
        assert!(!objects(function_length, "broker/src/a.rs", &body(FUNCTION_LINES_MAX - 2)));
        assert!(objects(file_length, "broker/src/a.rs", &"// x\n".repeat(FILE_LINES_MAX + 1)));
        let tested =
            format!("//! h\n#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(FILE_LINES_MAX));
        assert!(!objects(file_length, "broker/src/a.rs", &tested));
        let generated = format!("// automatically generated\n{}", "// x\n".repeat(FILE_LINES_MAX));
        assert!(!objects(file_length, "replication/src/wire/peer_generated.rs", &generated));
        assert!(objects(file_length, "broker/src/peer_generated.rs", &generated));
    }

    #[test]
    fn mod_files_leftovers_and_machine_paths_are_found() {
        assert!(objects(no_mod_rs, "broker/src/api/mod.rs", "//! h\n"));
        assert!(objects(no_leftovers, "broker/src/a.rs", concat!("// TO", "DO: later\n")));
        assert!(objects(no_leftovers, "broker/src/a.rs", concat!("fn f() { to", "do!() }\n")));
        assert!(!objects(no_leftovers, "broker/src/a.rs", "// method, mastodon\n"));
        assert!(objects(no_machine_paths, "broker/src/a.rs", concat!("// see /ho", "me/me/x\n")));
        assert!(!objects(no_machine_paths, "scripts/a.sh", concat!("cd $here/ho", "me/x\n")));
    }

    #[test]
    fn global_state_is_found_and_constant_tables_are_not() {
        for text in [
            "static mut COUNT: u32 = 0;",
            "pub static COUNT: AtomicU32 = AtomicU32::new(0);",
            "thread_local! { static X: u8 = 0; }",
        ] {
            assert!(objects(no_global_state, "broker/src/a.rs", text), "{text}");
        }
        assert!(!objects(
            no_global_state,
            "broker/src/a.rs",
            "static NAMES: [&str; 2] = [\"a\", \"b\"];"
        ));
    }

    #[test]
    fn wrong_edges_between_crates_are_found() {
        let knows = |name: &str| format!("[dependencies]\n{name}.workspace = true\n");
        assert!(objects(crate_directions, "storage/Cargo.toml", &knows("flumen-replication")));
        assert!(objects(crate_directions, "protocol/Cargo.toml", &knows("flumen-storage")));
        assert!(!objects(crate_directions, "broker/Cargo.toml", &knows("flumen-storage")));
        assert!(objects(outside_crates, "replication/Cargo.toml", &knows("glommio")));
        assert!(objects(
            outside_crates,
            "broker/Cargo.toml",
            "[dependencies.raft]\nversion = \"1\"\n"
        ));
        assert!(!objects(outside_crates, "replication/Cargo.toml", &knows("raft")));
    }

    #[test]
    fn careless_scripts_and_stray_root_items_are_found() {
        let good = "#!/usr/bin/env bash\n# usage: a.sh\nset -euo pipefail\n";
        assert!(!objects(scripts, "scripts/a.sh", good));
        assert!(objects(scripts, "scripts/a.sh", &good.replace("# usage:", "# use")));
        assert!(objects(scripts, ".ci/run", &good.replace("set -euo pipefail", "set -e")));
        assert!(objects(scripts, "scripts/a.sh", &format!("{good}{}", "true\n".repeat(57))));
        assert_eq!(root_items(&["docs".to_owned(), "broker".to_owned()]).len(), 1);
    }
}
