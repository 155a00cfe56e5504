//! The referee as a stranger meets it: the real program, real processes, the null responder as the
//! system under test.
//!
//! Does: look at exit codes, lines, the JSON and what is left behind.
//! Does not: believe a number.
//! Invariant: every test ends with an empty folder and without a process that names it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_flumen-bench");
const SCENARIO: &str = r#"
name = "b0-story"
purpose = "Told in a test."
partitions = 2
warm_up_seconds = 0
seconds = 1

[producers]
connections = 1
pace = { per-second = 50.0 }
record_bytes = 100
records_per_batch = 1
"#;

/// A folder of one test, with a scenario in it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("data")).expect("a folder");
        fs::write(path.join("b0-story.toml"), SCENARIO).expect("a scenario");
        Self(path)
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// `compare` with these systems; ports apart from those of other tests.
    fn compare(&self, port: u16, systems: &[&str], more: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        let port = port.to_string();
        command.arg("compare").arg("--data").arg(self.data()).args(["--port", &port]);
        command.arg("--scenario").arg(self.0.join("b0-story.toml"));
        command.arg("--json").arg(self.0.join("out.json")).args(["--load-cpus", "0"]);
        for system in systems {
            command.arg("--system").arg(system);
        }
        command.args(more).stdin(Stdio::null());
        command
    }

    fn json(&self) -> serde_json::Value {
        let text = fs::read(self.0.join("out.json")).expect("a result");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// Whoever was started is gone, and so is what they made.
    fn is_clean(&self) -> bool {
        let named = self.data().to_string_lossy().into_owned();
        let processes = fs::read_dir("/proc").expect("a list of processes");
        let alive = processes.filter_map(Result::ok).any(|process| {
            let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(&named)
        });
        !alive && fs::read_dir(self.data()).expect("the folder").next().is_none()
    }
}

fn null(name: &str) -> String {
    format!("{name}=D0=: {{data}}; exec {PROGRAM} null --listen 127.0.0.1:{{port}}")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn systems_are_compared_and_nothing_is_left_behind() {
    let place = Place::new("compared");
    let (a, b) = (null("a"), null("b"));
    let output = place.compare(18_400, &[&a, &b], &["--quick"]).output().expect("it runs");
    assert!(output.status.success(), "{}", said(&output));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("a D0 / b D0"), "{table}");
    let json = place.json();
    assert_eq!(json["rounds"].as_array().map(Vec::len), Some(2));
    assert_eq!(json["control_rounds"].as_array().map(Vec::len), Some(2));
    assert!(json["ratios"].as_array().is_some_and(|ratios| !ratios.is_empty()));
    assert!(json["broken_off"].is_null());
    assert!(json["rounds"][0]["cost"]["rss_mib"].as_f64().is_some_and(|rss| rss > 0.5));
    assert!(place.is_clean());
}

#[test]
fn a_system_that_does_not_start_is_one_line_with_its_last_words() {
    let place = Place::new("not-starting");
    let mute = "mute=D0=echo out of luck; exit 7; {port} {data}";
    let options = ["--quick", "--no-control"];
    let output = place.compare(18_500, &[&null("a"), mute], &options).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains("out of luck"), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains("broken off: mute D0: it ended by itself"), "{said}");
    let json = place.json();
    assert!(json["broken_off"].as_str().is_some_and(|why| why.contains("mute D0")));
    assert_eq!(json["rounds"].as_array().map(Vec::len), Some(1), "what was measured is kept");
    assert!(place.is_clean());
}

#[test]
fn a_system_that_dies_under_load_breaks_the_comparison_off() {
    let place = Place::new("dying");
    let dying = format!(
        "dying=D1=: {{data}}; timeout -s KILL 2 {PROGRAM} null --listen 127.0.0.1:{{port}}"
    );
    let options = ["--no-control", "--seconds", "20", "--pairs", "1"];
    let output = place.compare(18_600, &[&dying], &options).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("dying D1"), "{}", said(&output));
    assert!(place.json()["broken_off"].is_string());
    assert!(place.is_clean());
}

#[test]
fn what_an_interrupt_and_a_kill_leave_behind_is_nothing() {
    for (name, signal, port) in [("interrupted", "-INT", 18_700), ("killed", "-KILL", 18_800)] {
        let place = Place::new(name);
        let options = ["--no-control", "--seconds", "300"];
        let mut command = place.compare(port, &[&null("a")], &options);
        let mut referee =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let loading = |folder: fs::DirEntry| folder.path().join("000-a/scenario.toml").exists();
        eventually("the load", || {
            fs::read_dir(place.data()).expect("the folder").filter_map(Result::ok).any(loading)
        });
        let pid = referee.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
        let status = referee.wait().expect("it ends");
        assert!(!status.success());
        if signal == "-INT" {
            assert_eq!(status.code(), Some(1));
            let why = place.json()["broken_off"].as_str().map(str::to_owned);
            assert!(why.is_some_and(|why| why.contains("interrupted")));
        }
        eventually("a clean place", || place.is_clean());
    }
}

#[test]
fn wrong_options_are_told_before_anything_starts() {
    let place = Place::new("wrong");
    for (system, said_in) in [
        ("a=D9=x {port} {data}", "\"D9\" is no durability class"),
        ("a=D1=x {data}", "lacks {port}"),
    ] {
        let output = place.compare(18_900, &[system], &[]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains(said_in), "{}", said(&output));
    }
    let twice = place.compare(18_900, &[&null("a"), &null("a")], &[]).output().expect("it runs");
    assert_eq!(twice.status.code(), Some(1));
    assert!(said(&twice).contains("two systems are called a D0"), "{}", said(&twice));
    assert!(place.is_clean());
}

#[test]
fn a_keeper_that_fails_behind_the_start_leaves_nobody_behind() {
    let place = Place::new("orphan");
    let home = place.0.join("cgroup");
    fs::create_dir_all(home.join("own")).expect("a folder");
    // A group that can be joined and never left: what stands in for its parent takes no process.
    fs::create_dir(home.join("cgroup.procs")).expect("a folder in the way");
    let sleeper = format!("sleep 60; : {}", place.data().display());
    let mut command = Command::new(PROGRAM);
    command.arg("keep").arg("--cgroup").arg(home.join("own")).args(["--", "sh", "-c", &sleeper]);
    // A file, not a pipe: reading to the end of that would wait for the orphan.
    let log = place.0.join("log");
    let file = fs::File::create(&log).expect("a file");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(file);
    assert_eq!(command.status().expect("it runs").code(), Some(127));
    assert!(place.is_clean(), "the program outlived its keeper");
    let said = fs::read_to_string(&log).expect("its words");
    assert!(said.contains("cannot leave"), "{said}");
}
