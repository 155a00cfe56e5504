//! Reads scenario files and says what is wrong with them.
//!
//! Does: load a file, and judge whether what it asks for can be run at all.
//! Does not: judge whether it makes sense to ask.
//! Invariants: every complaint is one line that names the file, the field, what stands there and
//! what would be right.
//! Apart because a workload's meaning and its spelling mistakes change for different reasons.

use std::fmt;
use std::path::Path;

use super::{Consumers, Pace, Producers, Scenario};
use crate::limits::{
    CONNECTIONS_MAX, PARTITIONS_MAX, PREFILL_MIB_MAX, RATE_MAX, RECORD_BYTES_MAX,
    REQUEST_BYTES_MAX, SECONDS_MAX, SEQUENCED_IN_FLIGHT_MAX,
};

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which field, as the file spells it.
    pub field: &'static str,
    /// What stands there.
    pub is: String,
    /// What would be right.
    pub should: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {}; it must be {}", self.field, self.is, self.should)
    }
}

type Checked = Result<(), Fault>;

impl Scenario {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// One line that names the file: it cannot be read, is no scenario, or asks for something that
    /// cannot be run.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read scenario {}: {error}", path.display()))?;
        Self::parse(&text).map_err(|what| format!("scenario {}: {what}", path.display()))
    }

    /// Reads and checks the text of a file.
    ///
    /// # Errors
    /// As [`Scenario::load`], without the file's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
            let place = line.map_or_else(String::new, |line| format!("line {line}: "));
            format!("{place}{}", error.message().trim().replace('\n', ", "))
        })?;
        scenario.check().map_err(|fault| fault.to_string())?;
        Ok(scenario)
    }

    /// Whether it can be run.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), Fault> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_plain = !self.name.is_empty() && self.name.chars().all(plain);
        let name_rule = "one or more of a-z, 0-9 and -, for it becomes part of file names";
        must(is_plain, "name", format!("{:?}", self.name), name_rule)?;
        between("partitions", self.partitions, 1, PARTITIONS_MAX)?;
        between("warm_up_seconds", self.warm_up_seconds, 0, SECONDS_MAX)?;
        between("seconds", self.seconds, 1, SECONDS_MAX)?;
        between("crowd.idle", self.crowd.idle, 0, CONNECTIONS_MAX)?;
        between("crowd.churn_per_second", self.crowd.churn_per_second, 0, CONNECTIONS_MAX)?;
        if let Some(producers) = &self.producers {
            self.check_producers(producers)?;
        }
        self.check_consumers(&self.consumers)?;
        self.check_purpose()
    }

    fn check_producers(&self, producers: &Producers) -> Checked {
        between("producers.connections", producers.connections, 1, CONNECTIONS_MAX)?;
        between("producers.record_bytes", producers.record_bytes, 1, RECORD_BYTES_MAX)?;
        between("producers.key_bytes", producers.key_bytes, 0, RECORD_BYTES_MAX)?;
        between("producers.records_per_batch", producers.records_per_batch, 1, REQUEST_BYTES_MAX)?;
        let per_request = producers.partitions_per_request;
        between("producers.partitions_per_request", per_request, 1, self.partitions)?;
        let record_bytes = u64::from(producers.record_bytes) + u64::from(producers.key_bytes);
        let request_bytes = record_bytes
            .saturating_mul(u64::from(producers.records_per_batch))
            .saturating_mul(u64::from(per_request));
        must(
            request_bytes <= u64::from(REQUEST_BYTES_MAX),
            "producers.records_per_batch",
            format!("{} ({request_bytes} bytes in a request)", producers.records_per_batch),
            &format!("smaller, for brokers refuse requests above {REQUEST_BYTES_MAX} bytes"),
        )?;
        let acks = producers.acks;
        must((-1..=1).contains(&acks), "producers.acks", acks.to_string(), "-1, 0 or 1")?;
        let share = producers.hot_share;
        must((0.0..=1.0).contains(&share), "producers.hot_share", share.to_string(), "0 to 1")?;
        let written = self.check_written(producers)?;
        must(
            share == 0.0 || written > 1,
            "producers.hot_share",
            share.to_string(),
            "0 where one partition is written to",
        )?;
        check_pace(producers)
    }

    /// How many partitions are written to.
    fn check_written(&self, producers: &Producers) -> Result<u32, Fault> {
        let (field, is) = ("producers.written_partitions", producers.written_partitions);
        between(field, is, 0, self.partitions)?;
        let written = if is == 0 { self.partitions } else { is };
        let per_request = producers.partitions_per_request;
        let rule = format!("at least `producers.partitions_per_request` ({per_request})");
        must(per_request <= written, field, is.to_string(), &rule)?;
        Ok(written)
    }

    fn check_consumers(&self, consumers: &Consumers) -> Checked {
        between("consumers.tail", consumers.tail, 0, CONNECTIONS_MAX)?;
        between("consumers.cold", consumers.cold, 0, CONNECTIONS_MAX)?;
        between("consumers.prefill_mib", consumers.prefill_mib, 0, PREFILL_MIB_MAX)?;
        let fetch_bytes = consumers.fetch_bytes;
        between("consumers.fetch_bytes", fetch_bytes, 0, i32::MAX.unsigned_abs())?;
        let paused = consumers.pause_seconds;
        must(
            paused == 0 || consumers.tail > 0,
            "consumers.pause_seconds",
            paused.to_string(),
            "0 without tail consumers, for there is nobody to pause",
        )?;
        must(
            paused < self.seconds,
            "consumers.pause_seconds",
            paused.to_string(),
            &format!("below `seconds` ({}), or nothing is left to catch up in", self.seconds),
        )?;
        must(
            consumers.tail == 0 || self.producers.is_some(),
            "consumers.tail",
            consumers.tail.to_string(),
            "0 without [producers], for nothing new would arrive",
        )?;
        must(
            consumers.cold == 0 || consumers.prefill_mib > 0,
            "consumers.cold",
            consumers.cold.to_string(),
            "0 without `consumers.prefill_mib`, for there would be nothing to read",
        )
    }

    fn check_purpose(&self) -> Checked {
        let loaded = self.producers.is_some() || self.consumers.prefill_mib > 0;
        let crowded = self.crowd.idle > 0 || self.crowd.churn_per_second > 0;
        must(
            loaded || crowded,
            "producers",
            "missing".to_owned(),
            "there, or `consumers.prefill_mib`, `crowd.idle` or `crowd.churn_per_second` above 0",
        )?;
        must(
            self.restart.is_none() || loaded,
            "restart",
            "there".to_owned(),
            "missing unless [producers] or `consumers.prefill_mib` leave something to recover",
        )
    }
}

fn check_pace(producers: &Producers) -> Checked {
    match producers.pace {
        Pace::OneInFlight => must(
            producers.connections == 1,
            "producers.connections",
            producers.connections.to_string(),
            "1 with the pace one-in-flight",
        ),
        Pace::AsFastAsPossible { in_flight } => {
            between("producers.pace.in_flight", in_flight, 1, CONNECTIONS_MAX)?;
            must(
                !producers.idempotent || in_flight <= SEQUENCED_IN_FLIGHT_MAX,
                "producers.pace.in_flight",
                in_flight.to_string(),
                "at most 5 for idempotent producers",
            )?;
            must(
                !producers.transactional || in_flight == 1,
                "producers.pace.in_flight",
                in_flight.to_string(),
                "1 for transactional producers, whose transactions follow each other",
            )
        }
        Pace::PerSecond(rate) => check_rate("producers.pace.per-second", rate),
        Pace::Search { from, factor, step_seconds, p99_limit_ms } => {
            check_rate("producers.pace.from", from)?;
            let rises = factor > 1.0 && factor <= 10.0;
            must(rises, "producers.pace.factor", factor.to_string(), "above 1 and at most 10")?;
            between("producers.pace.step_seconds", step_seconds, 1, SECONDS_MAX)?;
            let limit = p99_limit_ms;
            let is_limit = limit.is_finite() && limit > 0.0;
            must(is_limit, "producers.pace.p99_limit_ms", limit.to_string(), "above 0")
        }
    }?;
    must(
        !(producers.idempotent || producers.transactional) || producers.acks == -1,
        "producers.acks",
        producers.acks.to_string(),
        "-1 for idempotent and transactional producers",
    )
}

fn check_rate(field: &'static str, rate: f64) -> Checked {
    let possible = rate.is_finite() && rate > 0.0 && rate <= RATE_MAX;
    must(possible, field, rate.to_string(), &format!("above 0 and at most {RATE_MAX}"))
}

fn between(field: &'static str, is: u32, low: u32, high: u32) -> Checked {
    must((low..=high).contains(&is), field, is.to_string(), &format!("{low} to {high}"))
}

fn must(holds: bool, field: &'static str, is: String, should: &str) -> Checked {
    if holds { Ok(()) } else { Err(Fault { field, is, should: should.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "b0-story"
purpose = "Told in a test."
partitions = 4
warm_up_seconds = 1
seconds = 10

[producers]
connections = 2
pace = { per-second = 100.0 }
record_bytes = 100
records_per_batch = 1
"#;

    fn shipped() -> Vec<std::path::PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .expect("the scenarios lie in the crate")
            .map(|entry| entry.expect("a folder entry").path())
            .collect();
        files.sort();
        files
    }

    #[test]
    fn every_shipped_scenario_can_be_run_and_is_called_like_its_file() {
        let files = shipped();
        assert!(files.len() > 25, "{} files", files.len());
        for file in files {
            let scenario = Scenario::load(&file).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(Some(scenario.name.as_str()), file.file_stem().and_then(|s| s.to_str()));
            assert!(
                scenario.name.contains("-2core"),
                "{}: the scale is part of a name",
                scenario.name
            );
        }
    }

    #[test]
    fn every_workload_of_the_plan_has_a_file() {
        let names: Vec<String> = shipped()
            .iter()
            .map(|file| file.file_name().unwrap_or_default().to_string_lossy().into_owned())
            .collect();
        for workload in [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 14, 15, 16, 17, 21] {
            let prefix = format!("b{workload}-");
            assert!(names.iter().any(|name| name.starts_with(&prefix)), "no {prefix}*.toml");
        }
    }

    #[test]
    fn a_good_file_is_taken_as_written() {
        let scenario = Scenario::parse(GOOD).expect("good");
        let producers = scenario.producers.expect("producers");
        assert_eq!((producers.acks, producers.partitions_per_request), (-1, 1));
        assert_eq!(producers.pace, Pace::PerSecond(100.0));
    }

    #[test]
    fn a_wrong_field_is_named_with_what_would_be_right() {
        for (right, wrong, said) in [
            ("partitions = 4", "partitions = 0", "`partitions` is 0; it must be 1 to"),
            ("b0-story", "B0 story", "`name` is \"B0 story\"; it must be one or more of a-z"),
            ("seconds = 10", "seconds = 0", "`seconds` is 0; it must be 1 to"),
            ("100.0", "-1.0", "`producers.pace.per-second` is -1; it must be above 0"),
            ("connections = 2", "connections = 0", "`producers.connections` is 0"),
            (
                "{ per-second = 100.0 }",
                "\"one-in-flight\"",
                "`producers.connections` is 2; it must be 1 with",
            ),
            (
                "records_per_batch = 1",
                "records_per_batch = 1\nacks = 2",
                "`producers.acks` is 2; it must be -1, 0 or 1",
            ),
            ("records_per_batch = 1", "records_per_batch = 100000000", "bytes in a request"),
            (
                "records_per_batch = 1",
                "records_per_batch = 1\ntransactional = true\nacks = 1",
                "`producers.acks` is 1; it must be -1 for",
            ),
            (
                "{ per-second = 100.0 }\nrecord_bytes = 100",
                "{ as-fast-as-possible = { in_flight = 2 } }\ntransactional = true\nrecord_bytes = 100",
                "`producers.pace.in_flight` is 2; it must be 1 for transactional",
            ),
            (
                "records_per_batch = 1",
                "records_per_batch = 1\npartitions_per_request = 3\nwritten_partitions = 2",
                "`producers.written_partitions` is 2; it must be at least",
            ),
            (
                "records_per_batch = 1",
                "records_per_batch = 1\npartitions_per_request = 5",
                "it must be 1 to 4",
            ),
            (
                "records_per_batch = 1",
                "records_per_batch = 1\n[consumers]\ncold = 1",
                "`consumers.cold` is 1",
            ),
            (
                "records_per_batch = 1",
                "records_per_batch = 1\n[consumers]\ntail = 1\npause_seconds = 10",
                "`consumers.pause_seconds` is 10; it must be below",
            ),
        ] {
            assert!(GOOD.contains(right), "{right}");
            let error = Scenario::parse(&GOOD.replacen(right, wrong, 1)).expect_err(wrong);
            assert!(error.contains(said), "{wrong}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_scenario_without_anything_to_do_is_refused() {
        let idle = GOOD.split("[producers]").next().expect("a head").to_owned();
        let error = Scenario::parse(&idle).expect_err("nothing to do");
        assert!(error.starts_with("`producers` is missing"), "{error}");
        Scenario::parse(&format!("{idle}[crowd]\nidle = 10\n")).expect("B17 only waits");
        let error = Scenario::parse(&format!("{idle}restart = \"clean\"\n[crowd]\nidle = 1\n"))
            .expect_err("nothing to recover");
        assert!(error.starts_with("`restart`"), "{error}");
    }

    #[test]
    fn spelling_mistakes_are_found_with_their_line() {
        let error = Scenario::parse(&GOOD.replace("partitions", "partition")).expect_err("unknown");
        assert!(error.contains("unknown field `partition`"), "{error}");
        let error =
            Scenario::parse(&GOOD.replace("seconds = 10", "seconds = ten")).expect_err("no");
        assert!(error.starts_with("line 6: "), "{error}");
        let error = Scenario::load(Path::new("/nowhere/b0.toml")).expect_err("no file");
        assert!(error.starts_with("cannot read scenario /nowhere/b0.toml: "), "{error}");
    }
}
