//! Broker settings that may change while the broker runs (KIP-226).
//!
//! Does: names them; checks values for one broker or for all; lays them over the settings the broker
//! was started with. Does not: store or publish them; the cluster's log does.
//! Invariants: pure; no secret is in the list, so none gets into the cluster's log; what `validate`
//! lets pass can be laid over; what comes from the log and makes no sense is left out, never guessed.
//! Apart because the loader knows only settings that stand still.

use super::declaration;
use super::kafka_names;
use super::kind::{Kind, ValueType};
use super::options::Options;
use super::setting_change::{self, SettingChange};
use super::topic::Overrides;
use super::{refused, resolve};

/// Whose settings are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This broker's own: they go before what holds for all.
    Own,
    /// All brokers'.
    Shared,
}

/// Why settings are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They cannot be set so; Kafka says INVALID_REQUEST.
    Unsettable(String),
    /// The change itself makes no sense; Kafka says INVALID_CONFIG.
    Senseless(String),
}

/// Settings that may be changed for one broker and for all of them. Those of Kafka 4.1, without
/// what Flumen does not have: Java classes.
const ANYWHERE: &[&str] = &[
    "background.threads",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.delete.retention.ms",
    "log.cleaner.io.buffer.load.factor",
    "log.cleaner.io.buffer.size",
    "log.cleaner.io.max.bytes.per.second",
    "log.cleaner.max.compaction.lag.ms",
    "log.cleaner.min.cleanable.ratio",
    "log.cleaner.min.compaction.lag.ms",
    "log.cleaner.threads",
    "log.cleanup.policy",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.index.interval.bytes",
    "log.index.size.max.bytes",
    "log.local.retention.bytes",
    "log.local.retention.ms",
    "log.message.timestamp.after.max.ms",
    "log.message.timestamp.before.max.ms",
    "log.message.timestamp.type",
    "log.preallocate",
    "log.retention.bytes",
    "log.retention.ms",
    "log.roll.jitter.ms",
    "log.roll.ms",
    "log.segment.bytes",
    "log.segment.delete.delay.ms",
    "max.connection.creation.rate",
    "max.connections",
    "max.connections.per.ip",
    "max.connections.per.ip.overrides",
    "message.max.bytes",
    "min.insync.replicas",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "producer.id.expiration.ms",
    "remote.fetch.max.wait.ms",
    "remote.list.offsets.request.timeout.ms",
    "remote.log.index.file.cache.total.size.bytes",
    "remote.log.manager.copier.thread.pool.size",
    "remote.log.manager.copy.max.bytes.per.second",
    "remote.log.manager.expiration.thread.pool.size",
    "remote.log.manager.fetch.max.bytes.per.second",
    "remote.log.reader.threads",
    "transaction.partition.verification.enable",
    "unclean.leader.election.enable",
];

/// Settings of listeners: Kafka lets them be changed for one broker only. Those that would open or
/// secure a listener are left out, and with them every secret: no such listener can be had yet.
const OWN_ONLY: &[&str] = &[
    "sasl.enabled.mechanisms",
    "sasl.kerberos.kinit.cmd",
    "sasl.kerberos.min.time.before.relogin",
    "sasl.kerberos.principal.to.local.rules",
    "sasl.kerberos.service.name",
    "sasl.kerberos.ticket.renew.jitter",
    "sasl.kerberos.ticket.renew.window.factor",
    "sasl.login.refresh.buffer.seconds",
    "sasl.login.refresh.min.period.seconds",
    "sasl.login.refresh.window.factor",
    "sasl.login.refresh.window.jitter",
    "sasl.mechanism.inter.broker.protocol",
];

/// Throttles of replication: Kafka has them only while brokers run, and describes them only where
/// they are set. kafka-reassign-partitions sets them and takes them away; nothing is throttled here.
pub const THROTTLES: &[&str] = &[
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];

/// The type of a throttle.
pub const THROTTLE_KIND: Kind = Kind::long_from(0);

/// Settings that Kafka changes only through the name of a listener.
const PER_LISTENER: &[&str] = &[
    "ssl.key.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
];

/// Whether a broker setting may change while the broker runs.
pub fn is_changeable(name: &str) -> bool {
    [ANYWHERE, OWN_ONLY, THROTTLES].iter().any(|list| list.contains(&name))
}

/// The settings of a scope after these changes, one after another; checked as a whole.
///
/// # Errors
/// Those of [`validate`], and a list operation on something that is no list.
pub fn apply(
    options: &Options,
    scope: Scope,
    changes: &[(&str, SettingChange<'_>)],
) -> Result<Overrides, Fault> {
    let mut changed = options.dynamic(scope).clone();
    for (name, change) in changes {
        let list = || listed(options, &changed, name);
        let value = setting_change::value_after(name, *change, list).map_err(Fault::Senseless)?;
        match value {
            Some(value) => changed.insert((*name).to_owned(), value),
            None => changed.remove(*name),
        };
    }
    validate(options, scope, changed)
}

/// Checks the complete settings of a scope; gives them back without blanks around the values.
///
/// # Errors
/// What Kafka says to names that cannot be changed, or not in this scope, and to bad values.
pub fn validate(options: &Options, scope: Scope, settings: Overrides) -> Result<Overrides, Fault> {
    let named = |which: &dyn Fn(&str) -> bool| {
        let names = settings.keys().map(String::as_str).filter(|name| which(name));
        let names: Vec<&str> = names.collect();
        (!names.is_empty()).then(|| format!("Set({})", names.join(", ")))
    };
    if let Some(names) = named(&|name| !is_known(name)) {
        return Err(Fault::Senseless(format!("Unknown broker config names: {names}")));
    }
    if let Some(names) = named(&|name| !is_changeable(name) && !PER_LISTENER.contains(&name)) {
        let why = format!("Cannot update these configs dynamically: {names}");
        return Err(Fault::Unsettable(why));
    }
    if let Some(names) = named(&|name| PER_LISTENER.contains(&name)) {
        return Err(Fault::Unsettable(format!(
            "These security configs can be dynamically updated only per-listener using the \
             listener prefix: {names}"
        )));
    }
    let trim = |(name, value): (String, String)| (name, value.trim().to_owned());
    let settings: Overrides = settings.into_iter().map(trim).collect();
    for (name, value) in &settings {
        check_value(name, value).map_err(Fault::Unsettable)?;
    }
    let only_own = settings.keys().map(String::as_str).filter(|name| OWN_ONLY.contains(name));
    let only_own: Vec<&str> = only_own.collect();
    if scope == Scope::Shared && !only_own.is_empty() {
        return Err(Fault::Unsettable(format!(
            "Cannot update these configs at default cluster level, broker id must be specified: \
             Set({})",
            only_own.join(", ")
        )));
    }
    let (shared, own) = match scope {
        Scope::Own => (options.dynamic(Scope::Shared), &settings),
        Scope::Shared => (&settings, options.dynamic(Scope::Own)),
    };
    resolve::overlay(options, shared.clone(), own.clone())
        .map_err(|problems| Fault::Unsettable(problems.join("; ")))?;
    Ok(settings)
}

/// The options in force when the cluster's log has these settings for this broker and for all.
/// Also names what of them makes no sense to this version, and is left out.
pub fn overlay(started: &Options, shared: &Overrides, own: &Overrides) -> (Options, Vec<String>) {
    let mut left_out = Vec::new();
    let mut sound = |settings: &Overrides, scope: Scope| -> Overrides {
        let fits = |name: &str, value: &str| {
            let scope_fits = scope == Scope::Own || !OWN_ONLY.contains(&name);
            is_changeable(name) && scope_fits && check_value(name, value).is_ok()
        };
        let (good, bad): (Overrides, Overrides) =
            settings.clone().into_iter().partition(|(name, value)| fits(name, value));
        left_out.extend(bad.into_keys());
        good
    };
    let (shared, own) = (sound(shared, Scope::Shared), sound(own, Scope::Own));
    let names: Vec<String> = shared.keys().chain(own.keys()).cloned().collect();
    match resolve::overlay(started, shared, own) {
        Ok(options) => (options, left_out),
        Err(_) => {
            // Each alone is sound and together they are not: then none of them holds.
            left_out.extend(names);
            (started.clone(), left_out)
        }
    }
}

fn is_known(name: &str) -> bool {
    declaration::find(name).is_some() || kafka_names::is_accepted(name) || THROTTLES.contains(&name)
}

fn kind_of(name: &str) -> Option<Kind> {
    if THROTTLES.contains(&name) {
        return Some(THROTTLE_KIND);
    }
    declaration::find(name).map(|row| row.kind).or_else(|| kafka_names::kind(name))
}

fn check_value(name: &str, value: &str) -> Result<(), String> {
    if let Some(kind) = kind_of(name) {
        kind.check(name, value)?;
    }
    match refused::reason(name, value) {
        Some(why) => Err(format!("Invalid value {value} for configuration {name}: {why}")),
        None => Ok(()),
    }
}

/// The list that holds now in a scope: its own, or what it would inherit; `None` of what is no list.
fn listed(options: &Options, settings: &Overrides, name: &str) -> Result<Option<String>, String> {
    let kind = kind_of(name).ok_or_else(|| format!("Unknown broker config name: {name}"))?;
    if kind.value_type() != ValueType::List {
        return Ok(None);
    }
    let default = || match declaration::find(name) {
        Some(row) => row.default,
        None => kafka_names::find(name)?.default,
    };
    let own = settings.get(name).map(String::as_str);
    Ok(Some(own.or_else(|| options.given(name)).or_else(default).unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::load::load_text;
    use super::*;

    fn started(text: &str) -> Options {
        load_text(text.as_bytes(), &[], "box").unwrap().options
    }

    fn settings(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn refusal(scope: Scope, pairs: &[(&str, &str)]) -> Fault {
        validate(&Options::default(), scope, settings(pairs)).unwrap_err()
    }

    #[test]
    fn the_lists_are_sorted_known_and_without_secrets() {
        for list in [ANYWHERE, OWN_ONLY, PER_LISTENER, THROTTLES] {
            assert!(list.is_sorted());
            assert!(list.iter().all(|name| is_known(name)));
        }
        for name in ANYWHERE.iter().chain(OWN_ONLY).chain(THROTTLES) {
            let kind = kind_of(name).unwrap_or_else(|| panic!("{name} has no kind"));
            assert_ne!(kind.value_type(), ValueType::Password, "{name}");
            assert!(
                kafka_names::find(name).is_none_or(|row| row.value_type != ValueType::Password)
            );
            assert!(!PER_LISTENER.contains(name));
        }
    }

    #[test]
    fn the_broker_goes_before_all_brokers_and_both_before_the_file() {
        let started = started("log.retention.hours=1\nmessage.max.bytes=2000");
        let shared = settings(&[("log.retention.ms", "7"), ("message.max.bytes", "3000")]);
        let own = settings(&[("log.retention.ms", "5")]);
        let (options, left_out) = overlay(&started, &shared, &own);
        assert!(left_out.is_empty());
        assert_eq!((options.log_retention_ms, options.message_max_bytes), (5, 3000));
        let (options, _) = overlay(&options, &shared, &Overrides::new());
        assert_eq!((options.log_retention_ms, options.message_max_bytes), (7, 3000));
        let (options, _) = overlay(&options, &Overrides::new(), &Overrides::new());
        assert_eq!(options, started, "nothing stays behind");
    }

    #[test]
    fn what_needs_a_restart_is_refused_as_kafka_does() {
        let both = [("num.partitions", "3"), ("node.id", "3")];
        assert_eq!(
            refusal(Scope::Own, &both),
            Fault::Unsettable(
                "Cannot update these configs dynamically: Set(node.id, num.partitions)".to_owned()
            )
        );
        for name in ["listeners", "ssl.client.auth", "sasl.jaas.config", "metric.reporters"] {
            let Fault::Unsettable(why) = refusal(Scope::Own, &[(name, "x")]) else { panic!() };
            assert!(why.starts_with("Cannot update these configs dynamically"), "{why}");
        }
        let Fault::Unsettable(why) = refusal(Scope::Own, &[("ssl.keystore.password", "hunter2")])
        else {
            panic!()
        };
        assert!(why.contains("only per-listener") && !why.contains("hunter2"), "{why}");
        let prefixed = [("listener.name.internal.ssl.keystore.password", "hunter2")];
        let Fault::Unsettable(why) = refusal(Scope::Own, &prefixed) else { panic!() };
        assert!(!why.contains("hunter2"), "{why}");
        let Fault::Senseless(_) = refusal(Scope::Own, &[("no.such.name", "1")]) else { panic!() };
    }

    #[test]
    fn values_are_checked_alone_and_together() {
        for (name, value, expected) in [
            ("log.retention.ms", "abc", "Invalid value abc for configuration log.retention.ms"),
            ("log.retention.ms", "0", "delete everything"),
            ("log.segment.bytes", "1", "at least 1048576"),
            ("max.connections", "0", "at least 1"),
            ("max.connections.per.ip", "0", "at least 1"),
            ("compression.type", "none", "compression.type"),
            ("log.cleanup.policy", "shrink", "log.cleanup.policy"),
            ("log.cleaner.dedupe.buffer.size", "5", "at least 1048576"),
            ("num.io.threads", "many", "Not a number of type INT"),
            ("log.preallocate", "maybe", "true or false"),
            ("max.connections.per.ip.overrides", "garbage", "host:number"),
            ("leader.replication.throttled.rate", "-1", "at least 0"),
        ] {
            for scope in [Scope::Own, Scope::Shared] {
                let Fault::Unsettable(why) = refusal(scope, &[(name, value)]) else { panic!() };
                assert!(why.contains(expected), "{name}={value}: {why}");
            }
        }
        let listener = [("sasl.kerberos.min.time.before.relogin", "58000")];
        let Fault::Unsettable(why) = refusal(Scope::Shared, &listener) else { panic!() };
        assert!(why.contains("broker id must be specified"), "{why}");
        let blanks = settings(&[("message.max.bytes", " 5000 ")]);
        let checked = validate(&Options::default(), Scope::Own, blanks).unwrap();
        assert_eq!(checked["message.max.bytes"], "5000");
    }

    #[test]
    fn changes_start_from_what_the_scope_has() {
        let started = started("log.retention.ms=9");
        let own = settings(&[("log.retention.ms", "5"), ("max.connections", "8")]);
        let (options, _) = overlay(&started, &Overrides::new(), &own);
        let changes = [("log.retention.ms", SettingChange::Delete)];
        let after = apply(&options, Scope::Own, &changes).unwrap();
        assert_eq!(after, settings(&[("max.connections", "8")]));
        let changes = [("message.max.bytes", SettingChange::Set("7000"))];
        assert_eq!(apply(&options, Scope::Shared, &changes).unwrap().len(), 1);
        let delete_unknown = [("num.partitions", SettingChange::Delete)];
        assert_eq!(apply(&options, Scope::Own, &delete_unknown).unwrap(), own);
        let rate = [("leader.replication.throttled.rate", SettingChange::Set("5"))];
        let after = apply(&started, Scope::Own, &rate).unwrap();
        let (throttled, left_out) = overlay(&started, &Overrides::new(), &after);
        assert_eq!((after.len(), left_out.len()), (1, 0));
        let unthrottle = [("leader.replication.throttled.rate", SettingChange::Delete)];
        assert_eq!(apply(&throttled, Scope::Own, &unthrottle).unwrap(), Overrides::new());
        let mechanisms = [("sasl.enabled.mechanisms", SettingChange::Append("PLAIN"))];
        let after = apply(&Options::default(), Scope::Own, &mechanisms).unwrap();
        assert_eq!(after["sasl.enabled.mechanisms"], "GSSAPI,PLAIN");
        let no_list = [("log.retention.ms", SettingChange::Append("5"))];
        assert!(matches!(apply(&options, Scope::Own, &no_list), Err(Fault::Senseless(_))));
    }

    #[test]
    fn what_a_log_has_and_this_version_does_not_understand_is_left_out() {
        let started = Options::default();
        let shared = settings(&[
            ("log.retention.ms", "77"),
            ("of.tomorrow", "1"),
            ("sasl.kerberos.service.name", "x"),
            ("message.max.bytes", "-1"),
            ("max.connections", "0"),
        ]);
        let (options, mut left_out) = overlay(&started, &shared, &Overrides::new());
        left_out.sort_unstable();
        let expected =
            ["max.connections", "message.max.bytes", "of.tomorrow", "sasl.kerberos.service.name"];
        assert_eq!(left_out, expected);
        assert_eq!(options.max_connections, i32::MAX, "nobody is locked out");
        assert_eq!((options.log_retention_ms, options.message_max_bytes), (77, 1_048_588));
        let (options, left_out) =
            overlay(&started, &settings(&[("log.retention.ms", "0")]), &Overrides::new());
        assert_eq!((options, left_out.len()), (started, 1), "together they make no sense");
    }
}
