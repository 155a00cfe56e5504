//! Decides what several options mean together.
//!
//! Does: fills `Options` from checked texts; retention and roll by their finest unit, folder,
//! listeners, node id. Does not: read files or decide which names are known (`load` does).
//! Invariants: pure; every problem is reported, not only the first.
//! Apart because a row of `declaration` speaks of one option and these rules of several.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::declaration::{self, find};
use super::dynamic;
use super::kind::words;
use super::listener::{ListenerPlan, ListenerTexts, parse_endpoint, plan};
use super::options::{
    ConsumerGroupOptions, Given, Options, QuotaOptions, TimestampType, TransactionOptions,
};
use super::topic::Overrides;

const MS_PER_MINUTE: i64 = 60_000;
const MS_PER_HOUR: i64 = 3_600_000;

/// Options and the listener names that were left closed.
pub struct Resolved {
    /// Complete options.
    pub options: Options,
    /// Names of Kafka's controller listeners, which are not opened.
    pub skipped_listeners: Vec<String>,
}

/// Fills the options from what was given.
///
/// # Errors
/// Every problem found, one sentence each.
pub fn resolve(given: BTreeMap<String, String>, hostname: &str) -> Result<Resolved, Vec<String>> {
    let mut problems = Vec::new();
    let mut options = blank();
    for declaration in declaration::all() {
        let value = given.get(declaration.name).map(String::as_str).or(declaration.default);
        problems.extend(value.and_then(|value| declaration.set(&mut options, value).err()));
    }
    if !problems.is_empty() {
        // The rules below may assume that each value alone is well formed.
        return Err(problems);
    }
    let texts = Texts { given: &given };
    problems.extend(texts.node(&mut options).err());
    problems.extend(texts.folder(&mut options).err());
    problems.extend(texts.log(&mut options).err());
    problems.extend(Texts::journal(&options).err());
    problems.extend(Texts::groups(&options).err());
    problems.extend(texts.protocols(&mut options).err());
    problems.extend(texts.admin(&mut options).err());
    let skipped_listeners = match texts.listeners(hostname) {
        Ok(plan) => {
            options.listeners = plan.listeners;
            plan.skipped
        }
        Err(problem) => {
            problems.push(problem);
            Vec::new()
        }
    };
    options.given = Given { written: given, ..Given::default() };
    if problems.is_empty() { Ok(Resolved { options, skipped_listeners }) } else { Err(problems) }
}

/// The same options with other settings given while running, for all brokers and for this one. Only
/// settings that may change so are looked at; each value must have passed its own check.
///
/// # Errors
/// Every contradiction, one sentence each.
pub(super) fn overlay(
    base: &Options,
    shared: Overrides,
    own: Overrides,
) -> Result<Options, Vec<String>> {
    let mut options = base.clone();
    options.given.shared = shared;
    options.given.own = own;
    let mut problems = Vec::new();
    for declaration in declaration::all().filter(|row| dynamic::is_changeable(row.name)) {
        let value = options.given(declaration.name).or(declaration.default).map(str::to_owned);
        problems.extend(value.and_then(|value| declaration.set(&mut options, &value).err()));
    }
    let Given { written, shared, own } = options.given.clone();
    let given = written.into_iter().chain(shared).chain(own).collect();
    problems.extend(Texts { given: &given }.log(&mut options).err());
    if problems.is_empty() { Ok(options) } else { Err(problems) }
}

/// What an empty file gives.
pub(super) fn defaults() -> Options {
    match resolve(BTreeMap::new(), "localhost") {
        Ok(resolved) => resolved.options,
        Err(problems) => unreachable!("the declared defaults contradict each other: {problems:?}"),
    }
}

struct Texts<'a> {
    given: &'a BTreeMap<String, String>,
}

impl Texts<'_> {
    fn given(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn effective(&self, name: &str) -> &str {
        self.given(name).or_else(|| find(name)?.default).unwrap_or("")
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.given(name)?.parse().ok()
    }

    fn node(&self, options: &mut Options) -> Result<(), String> {
        let broker_id = self.number("broker.id").filter(|id| *id >= 0);
        let node_id = self.number("node.id");
        if let (Some(node), Some(broker)) = (node_id, broker_id)
            && node != broker
        {
            return Err(format!("node.id is {node} but broker.id is {broker}: give one of them"));
        }
        if !words(self.effective("process.roles")).any(|role| role == "broker") {
            return Err("process.roles must contain broker: Flumen has no node that only controls"
                .to_owned());
        }
        let id = node_id.or(broker_id).or_else(|| self.effective("node.id").parse().ok());
        options.node_id = id.and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
        Ok(())
    }

    fn folder(&self, options: &mut Options) -> Result<(), String> {
        let text = self.given("log.dirs").unwrap_or_else(|| self.effective("log.dir"));
        let folders: Vec<&str> = words(text).collect();
        match folders.as_slice() {
            [one] => options.log_dir = PathBuf::from(one),
            [] => return Err("log.dirs is empty: name one folder".to_owned()),
            [_, _, ..] => {
                return Err(format!(
                    "log.dirs names {} folders; Flumen keeps one journal per core and uses one folder: name one",
                    folders.len()
                ));
            }
        }
        Ok(())
    }

    fn log(&self, options: &mut Options) -> Result<(), String> {
        options.log_retention_ms = self.finest(&[
            ("log.retention.ms", 1),
            ("log.retention.minutes", MS_PER_MINUTE),
            ("log.retention.hours", MS_PER_HOUR),
        ]);
        options.log_roll_ms = self.finest(&[("log.roll.ms", 1), ("log.roll.hours", MS_PER_HOUR)]);
        options.log_flush_interval_ms = self.number("log.flush.interval.ms").unwrap_or(i64::MAX);
        options.log_message_timestamp_type = match self.effective("log.message.timestamp.type") {
            "LogAppendTime" => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        };
        if options.log_retention_ms == 0 {
            return Err(
                "log.retention.*: 0 would delete everything at once; -1 keeps all".to_owned()
            );
        }
        Ok(())
    }

    /// The first given name of a list from fine to coarse; the default of the last if none is given.
    fn finest(&self, names: &[(&str, i64)]) -> i64 {
        let given = names.iter().find_map(|(name, ms)| Some((self.number(name)?, *ms)));
        let default = || {
            let (name, ms) = names.last()?;
            Some((self.effective(name).parse().ok()?, *ms))
        };
        match given.or_else(default) {
            Some((number, _)) if number < 0 => -1,
            Some((number, ms)) => number.saturating_mul(ms),
            None => -1,
        }
    }

    /// The journal needs a file to write, one to prepare and one to settle; its file numbers in one
    /// window must stay few enough to be kept in memory.
    fn journal(options: &Options) -> Result<(), String> {
        let (file, window) = (options.journal_file_bytes, options.journal_window_bytes);
        if file % 4096 != 0 {
            return Err(format!("flumen.journal.file.bytes={file} must be a multiple of 4096"));
        }
        if !(3..=4096).contains(&(window / file)) {
            return Err(format!(
                "flumen.journal.window.bytes={window} must hold 3 to 4096 files of flumen.journal.file.bytes={file}"
            ));
        }
        Ok(())
    }

    fn groups(options: &Options) -> Result<(), String> {
        if options.group_min_session_timeout_ms > options.group_max_session_timeout_ms {
            return Err(
                "group.min.session.timeout.ms must not exceed group.max.session.timeout.ms"
                    .to_owned(),
            );
        }
        Self::consumer_groups(options)
    }

    fn protocols(&self, options: &mut Options) -> Result<(), String> {
        const NAME: &str = "group.coordinator.rebalance.protocols";
        let has = |protocol: &str| words(self.effective(NAME)).any(|word| word == protocol);
        if !has("classic") {
            return Err(format!("{NAME} must contain classic: it cannot be turned off"));
        }
        options.consumer_groups.are_served = has("consumer");
        Ok(())
    }

    /// Members must be heard of before they are given up, and what all groups have by default must be
    /// what one may be given.
    fn consumer_groups(options: &Options) -> Result<(), String> {
        let session = (
            options.consumer_groups.min_session_timeout_ms,
            options.consumer_groups.session_timeout_ms,
            options.consumer_groups.max_session_timeout_ms,
        );
        let heartbeat = (
            options.consumer_groups.min_heartbeat_interval_ms,
            options.consumer_groups.heartbeat_interval_ms,
            options.consumer_groups.max_heartbeat_interval_ms,
        );
        for (what, (min, value, max)) in
            [("session.timeout.ms", session), ("heartbeat.interval.ms", heartbeat)]
        {
            if !(min..=max).contains(&value) {
                return Err(format!(
                    "group.consumer.{what} must lie between group.consumer.min.{what} and \
                     group.consumer.max.{what}"
                ));
            }
        }
        if heartbeat.1 >= session.1 {
            return Err("group.consumer.heartbeat.interval.ms must be less than \
                        group.consumer.session.timeout.ms"
                .to_owned());
        }
        Ok(())
    }

    fn admin(&self, options: &mut Options) -> Result<(), String> {
        // An empty text given on purpose closes the port; `effective` would bring the default back.
        let written = self.given.get("flumen.admin.listener").map(String::as_str);
        let text = written.unwrap_or_else(|| self.effective("flumen.admin.listener"));
        let named = parse_endpoint(text).is_some_and(|endpoint| !endpoint.host.is_empty());
        if !text.is_empty() && !named {
            return Err(format!(
                "Invalid value {text} for configuration flumen.admin.listener: expected host:port"
            ));
        }
        options.admin_listener = Some(text.to_owned()).filter(|text| !text.is_empty());
        Ok(())
    }

    fn listeners(&self, hostname: &str) -> Result<ListenerPlan, String> {
        plan(&ListenerTexts {
            listeners: self.effective("listeners"),
            advertised: self.given("advertised.listeners"),
            protocol_map: self.effective("listener.security.protocol.map"),
            controller_names: self.effective("controller.listener.names"),
            hostname,
        })
    }
}

/// Fields before any row of the table has set them; nothing outside this file sees these values.
fn blank() -> Options {
    Options {
        node_id: 0,
        cluster_id: None,
        rack: None,
        listeners: Vec::new(),
        log_dir: PathBuf::new(),
        num_partitions: 0,
        default_replication_factor: 0,
        auto_create_topics_enable: false,
        delete_topic_enable: false,
        message_max_bytes: 0,
        log_retention_ms: 0,
        log_retention_bytes: 0,
        log_retention_check_interval_ms: 0,
        log_cleaner_enable: false,
        log_cleaner_backoff_ms: 0,
        log_cleaner_dedupe_buffer_size: 0,
        log_cleaner_io_max_bytes_per_second: 0.0,
        log_segment_bytes: 0,
        log_roll_ms: 0,
        log_flush_interval_messages: 0,
        log_flush_interval_ms: 0,
        log_message_timestamp_type: TimestampType::CreateTime,
        log_message_timestamp_before_max_ms: 0,
        log_message_timestamp_after_max_ms: 0,
        min_insync_replicas: 0,
        offsets_topic_num_partitions: 0,
        offsets_topic_replication_factor: 0,
        offsets_topic_segment_bytes: 0,
        transactions: TransactionOptions::default(),
        offsets_retention_minutes: 0,
        offsets_retention_check_interval_ms: 0,
        offsets_commit_timeout_ms: 0,
        offset_metadata_max_bytes: 0,
        group_initial_rebalance_delay_ms: 0,
        group_min_session_timeout_ms: 0,
        group_max_session_timeout_ms: 0,
        group_max_size: 0,
        consumer_groups: ConsumerGroupOptions::default(),
        connections_max_idle_ms: 0,
        max_connections: 0,
        max_connections_per_ip: 0,
        max_connections_per_ip_overrides: None,
        max_connection_creation_rate: 0,
        quotas: QuotaOptions::default(),
        socket_request_max_bytes: 0,
        socket_listen_backlog_size: 0,
        socket_send_buffer_bytes: 0,
        socket_receive_buffer_bytes: 0,
        queued_max_requests: 0,
        fetch_max_bytes: 0,
        fetch_session_slots_max: 0,
        max_request_partition_size_limit: 0,
        producer_id_expiration_ms: 0,
        request_timeout_ms: 0,
        cores: 0,
        cores_pinned: false,
        lag_partitions: false,
        memory_bytes: 0,
        admin_listener: None,
        disk_reserve_bytes: 0,
        disk_reserve_percent: 0,
        journal_file_bytes: 0,
        journal_window_bytes: 0,
        seed: None,
        given: Given::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn options(pairs: &[(&str, &str)]) -> Options {
        resolve(given(pairs), "box").map(|r| r.options).unwrap()
    }

    fn problem(pairs: &[(&str, &str)]) -> String {
        resolve(given(pairs), "box").err().unwrap().join("\n")
    }

    #[test]
    fn nothing_given_is_a_broker_on_loopback() {
        let options = defaults();
        assert_eq!(options.node_id, 1);
        assert_eq!(options.listeners.len(), 2);
        assert_eq!(options.log_retention_ms, 168 * MS_PER_HOUR);
        assert_eq!(options.log_flush_interval_ms, i64::MAX);
        assert_eq!(options.admin_listener.as_deref(), Some("127.0.0.1:9644"));
        assert_eq!(options.group_initial_rebalance_delay_ms, 3000);
        assert_eq!(options.offsets_topic_replication_factor, 1);
        assert_eq!(options.log_dir, PathBuf::from("./flumen-data"));
    }

    #[test]
    fn the_finest_retention_wins() {
        let hours = ("log.retention.hours", "2");
        let minutes = ("log.retention.minutes", "3");
        let ms = ("log.retention.ms", "4");
        assert_eq!(options(&[hours]).log_retention_ms, 7_200_000);
        assert_eq!(options(&[hours, minutes]).log_retention_ms, 180_000);
        assert_eq!(options(&[hours, minutes, ms]).log_retention_ms, 4);
        assert_eq!(options(&[hours, ("log.retention.ms", "-1")]).log_retention_ms, -1);
        assert_eq!(options(&[("log.roll.hours", "1"), ("log.roll.ms", "5")]).log_roll_ms, 5);
    }

    #[test]
    fn node_id_and_broker_id_must_agree() {
        assert_eq!(options(&[("broker.id", "7")]).node_id, 7);
        assert_eq!(options(&[("broker.id", "-1"), ("node.id", "3")]).node_id, 3);
        assert!(problem(&[("broker.id", "7"), ("node.id", "3")]).contains("give one"));
        assert!(problem(&[("process.roles", "controller")]).contains("must contain broker"));
    }

    #[test]
    fn one_folder_only() {
        assert_eq!(options(&[("log.dir", "/a"), ("log.dirs", "/b")]).log_dir, PathBuf::from("/b"));
        assert!(problem(&[("log.dirs", "/a,/b")]).contains("names 2 folders"));
    }

    #[test]
    fn every_problem_is_reported() {
        let problems = problem(&[("num.partitions", "0"), ("fetch.max.bytes", "x")]);
        assert!(
            problems.contains("num.partitions") && problems.contains("fetch.max.bytes"),
            "{problems}"
        );
        let problems = problem(&[("log.dirs", "/a,/b"), ("listeners", "SSL://:1")]);
        assert!(problems.contains("log.dirs") && problems.contains("SSL"), "{problems}");
    }

    #[test]
    fn the_admin_port_can_be_closed() {
        assert_eq!(options(&[("flumen.admin.listener", "")]).admin_listener, None);
        assert!(problem(&[("flumen.admin.listener", "9644")]).contains("host:port"));
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(problem(&[("log.retention.ms", "0")]).contains("delete everything"));
        let sessions =
            [("group.min.session.timeout.ms", "9"), ("group.max.session.timeout.ms", "8")];
        assert!(problem(&sessions).contains("must not exceed"));
        let protocols = |text| ("group.coordinator.rebalance.protocols", text);
        assert!(problem(&[protocols("consumer")]).contains("must contain classic"));
        assert!(!options(&[protocols("classic")]).consumer_groups.are_served);
        assert!(options(&[]).consumer_groups.are_served);
        let heartbeats = ("group.consumer.heartbeat.interval.ms", "16000");
        assert!(problem(&[heartbeats]).contains("must lie between"));
        assert!(problem(&[("flumen.journal.window.bytes", "15728640")]).contains("3 to 4096"));
        assert!(problem(&[("flumen.journal.file.bytes", "16777217")]).contains("multiple"));
    }
}
