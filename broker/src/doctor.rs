//! Is this machine fit, and if not, what to do?
//!
//! Does: looks at kernel, limits, processors, clock, memory, file system and disk; measures durable
//! writes and the loopback; says for each what was found and what would help.
//! Does not: change the machine or the data. Its one scratch file is removed again.
//! Invariants: a finding that is not `Ok` carries advice; nothing here panics on a strange machine.
//! Apart because `serve` wants the quick half as a plain list before it opens anything, and because
//! this room alone may read the clock and the file system with the standard library: it measures.

pub mod machine;

mod disk;
mod host;
mod latencies;
mod loopback;

use std::fmt;
use std::fmt::Write as _;
use std::path::Path;

use crate::config::options::Options;

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The broker runs, but not as well or as safely as it could.
    Warn,
    /// The broker cannot run like this.
    Fail,
}

impl Verdict {
    /// The word shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What was looked at, as one stable word.
    pub name: &'static str,
    /// How good it is.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do about it. Invariant: empty exactly if the verdict is `Ok`.
    pub advice: String,
    /// Measured numbers by name, unit last.
    pub values: Vec<(&'static str, f64)>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.detail)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "; {}", self.advice) }
    }
}

impl Finding {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Ok,
            detail: detail.into(),
            advice: String::new(),
            values: Vec::new(),
        }
    }

    fn warn(name: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, advice: advice.into(), ..Self::ok(name, detail) }
    }

    fn fail(name: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, advice: advice.into(), ..Self::ok(name, detail) }
    }

    fn with(mut self, name: &'static str, value: f64) -> Self {
        self.values.push((name, value));
        self
    }
}

/// All findings of one examination.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// In the order they were looked at.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The worst verdict.
    pub fn verdict(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
    }

    /// 1 if the broker cannot run, otherwise 0.
    pub fn exit_code(&self) -> u8 {
        u8::from(self.verdict() == Verdict::Fail)
    }

    /// For people: one line per finding, the advice below it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            // Writing into a String cannot fail.
            let _ = writeln!(
                text,
                "{:<5} {:<18} {}",
                finding.verdict.word(),
                finding.name,
                finding.detail
            );
            if !finding.advice.is_empty() {
                let _ = writeln!(text, "{:24} → {}", "", finding.advice);
            }
        }
        text
    }

    /// For programs: the same as one JSON object.
    pub fn json(&self) -> String {
        let findings: Vec<serde_json::Value> = self.findings.iter().map(json_finding).collect();
        serde_json::json!({ "verdict": self.verdict().word(), "findings": findings }).to_string()
    }
}

/// What can be told within a few milliseconds: `serve` logs what is not `Ok` and stops on a `Fail`.
/// `dir` is the data folder; it need not exist yet, its nearest existing parent is examined.
pub fn quick(dir: &Path, options: &Options) -> Vec<Finding> {
    let mut findings = host::findings();
    findings.extend(disk::findings(dir, options));
    findings
}

/// Everything, measurements included; takes about seven seconds.
pub fn full(dir: &Path, options: &Options) -> Report {
    let mut findings = quick(dir, options);
    findings.extend(disk::measurements(dir));
    findings.push(loopback::measurement());
    Report { findings }
}

fn json_finding(finding: &Finding) -> serde_json::Value {
    let values: serde_json::Map<String, serde_json::Value> =
        finding.values.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    serde_json::json!({
        "name": finding.name,
        "verdict": finding.verdict.word(),
        "detail": finding.detail,
        "advice": finding.advice,
        "values": values,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let findings = vec![
            Finding::ok("kernel", "Linux 6.8"),
            Finding::warn("open_files", "limit 1024", "raise it").with("limit", 1024.0),
        ];
        Report { findings }
    }

    #[test]
    fn the_worst_finding_decides() {
        let mut report = report();
        assert_eq!((report.verdict(), report.exit_code()), (Verdict::Warn, 0));
        report.findings.push(Finding::fail("direct_io", "refused", "use ext4 or xfs"));
        assert_eq!((report.verdict(), report.exit_code()), (Verdict::Fail, 1));
    }

    #[test]
    fn people_read_the_advice_below_the_finding() {
        let text = report().text();
        assert!(text.starts_with("ok    kernel             Linux 6.8\n"), "{text}");
        assert!(text.contains("warn  open_files         limit 1024\n"), "{text}");
        assert!(text.ends_with("→ raise it\n"), "{text}");
    }

    #[test]
    fn programs_read_numbers() {
        let parsed: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(parsed["verdict"], "warn");
        assert_eq!(parsed["findings"][1]["values"]["limit"], 1024.0);
    }

    #[test]
    fn a_quick_look_at_this_machine_advises_where_it_complains() {
        let findings = quick(Path::new(env!("CARGO_MANIFEST_DIR")), &Options::default());
        assert!(findings.len() >= 10);
        for finding in findings {
            assert_eq!(finding.advice.is_empty(), finding.verdict == Verdict::Ok, "{finding:?}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_judged_by_its_parent() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("not/there/yet");
        let names: Vec<_> =
            quick(&dir, &Options::default()).iter().map(|finding| finding.name).collect();
        assert!(names.contains(&"direct_io") && !dir.exists());
    }
}
