//! From a file and overrides to `Options`.
//!
//! Does: reads the file, lets overrides win, sorts every name into honoured, accepted or refused, holds
//! also what is accepted without effect against its type, and says what it is. Does not: combine settings (`resolve` does).
//! Invariants: nothing is guessed; an unknown name stops the start and is answered with its nearest
//! known neighbour; all problems are reported together.
//! Apart because this is the only file of the room that touches the disk.
#![expect(
    clippy::disallowed_methods,
    reason = "reads the file the operator names, before any core runs"
)]

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::options::Options;
use super::{declaration, kafka_names, properties, refused, resolve, suggest};

/// Options and what the operator should hear about them.
#[derive(Debug)]
pub struct Loaded {
    /// Complete, checked options.
    pub options: Options,
    /// Kafka names that were given and do nothing here, sorted.
    pub ignored: Vec<String>,
    /// Listener names that belong to Kafka's controller quorum and were not opened.
    pub skipped_listeners: Vec<String>,
}

impl Loaded {
    /// Lines to log once at start; empty if there is nothing to say.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.ignored.is_empty() {
            notes.push(format!(
                "accepted Kafka settings without effect here: {}",
                self.ignored.join(", ")
            ));
        }
        if !self.skipped_listeners.is_empty() {
            let names = self.skipped_listeners.join(", ");
            notes.push(format!("controller listeners are not needed and stay closed: {names}"));
        }
        notes
    }
}

/// Why the broker does not start: every problem found, one sentence each.
#[derive(Debug, PartialEq, Eq)]
pub struct LoadError {
    /// At least one sentence.
    pub problems: Vec<String>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for LoadError {}

/// Reads `file` (none means all defaults) and applies `KEY=VALUE` overrides in order. `hostname` is
/// advertised for listeners on every address.
///
/// # Errors
/// All problems of the file and the overrides; the operator has to correct them.
pub fn load(
    file: Option<&Path>,
    overrides: &[String],
    hostname: &str,
) -> Result<Loaded, LoadError> {
    let text = match file {
        Some(path) => std::fs::read(path).map_err(|error| LoadError {
            problems: vec![format!("cannot read {}: {error}", path.display())],
        })?,
        None => Vec::new(),
    };
    load_text(&text, overrides, hostname)
}

/// As `load`, from the bytes of a file.
///
/// # Errors
/// As `load`.
pub fn load_text(text: &[u8], overrides: &[String], hostname: &str) -> Result<Loaded, LoadError> {
    let file = properties::parse(text).map_err(|problem| LoadError { problems: vec![problem] })?;
    let mut problems = Vec::new();
    let mut given = BTreeMap::new();
    for property in file {
        let origin = format!("line {}: ", property.line);
        accept(&mut given, &property.key, &property.value)
            .unwrap_or_else(|problem| problems.push(origin + &problem));
    }
    for text in overrides {
        match text.split_once('=') {
            Some((key, value)) => accept(&mut given, key.trim(), value.trim())
                .unwrap_or_else(|problem| problems.push(format!("--override: {problem}"))),
            None => problems.push(format!("--override {text}: expected KEY=VALUE")),
        }
    }
    // Judged only now, so that an override can take back what the file says.
    problems.extend(
        given.iter().filter_map(|(name, value)| kafka_names::kind(name)?.check(name, value).err()),
    );
    problems.extend(given.iter().filter_map(|(name, value)| {
        let reason = refused::reason(name, value)?;
        Some(format!("{name}={value} cannot be honoured: {reason}"))
    }));
    let ignored = given.keys().filter(|name| declaration::find(name).is_none()).cloned().collect();
    match resolve::resolve(given, hostname) {
        Ok(resolved) if problems.is_empty() => Ok(Loaded {
            options: resolved.options,
            ignored,
            skipped_listeners: resolved.skipped_listeners,
        }),
        Ok(_) => Err(LoadError { problems }),
        Err(more) => {
            problems.extend(more);
            Err(LoadError { problems })
        }
    }
}

/// Takes a setting whose name is known; the last one given wins, as in Java.
fn accept(given: &mut BTreeMap<String, String>, name: &str, value: &str) -> Result<(), String> {
    if declaration::find(name).is_none() && !kafka_names::is_accepted(name) {
        return Err(unknown(name));
    }
    given.insert(name.to_owned(), value.to_owned());
    Ok(())
}

fn unknown(name: &str) -> String {
    let declared = declaration::all().map(|row| row.name);
    let accepted = kafka_names::ACCEPTED.iter().map(|row| row.name);
    match suggest::nearest(name, declared.chain(accepted)) {
        Some(nearest) => format!("unknown setting {name}; did you mean {nearest}?"),
        None => format!("unknown setting {name}; CONFIG.md lists what there is"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(text: &str) -> Loaded {
        load_text(text.as_bytes(), &[], "box").unwrap()
    }

    fn refusal(text: &str) -> String {
        load_text(text.as_bytes(), &[], "box").unwrap_err().to_string()
    }

    /// The settings of the file Kafka 4.1 ships for a combined broker and controller.
    const KAFKA_FILE: &str = "
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
#log.flush.interval.messages=10000
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";

    #[test]
    fn the_file_kafka_ships_just_starts() {
        let loaded = loaded(KAFKA_FILE);
        assert_eq!(loaded.options.listeners.len(), 1);
        assert_eq!(loaded.options.listeners[0].advertised.host, "localhost");
        assert_eq!(loaded.skipped_listeners, ["CONTROLLER"]);
        assert!(loaded.ignored.contains(&"num.io.threads".to_owned()));
        assert!(!loaded.ignored.contains(&"num.partitions".to_owned()));
        assert_eq!(loaded.notes().len(), 2);
    }

    #[test]
    fn a_slip_is_refused_with_the_name_that_was_meant() {
        let text = refusal("num.partitions=3\nlog.retention.hour=5\n");
        assert_eq!(
            text,
            "line 2: unknown setting log.retention.hour; did you mean log.retention.hours?"
        );
        assert!(refusal("ssl.keystore.locatoin=/x").contains("ssl.keystore.location"));
        assert!(refusal("favourite.colour=blue").contains("CONFIG.md"));
    }

    #[test]
    fn overrides_win_and_the_last_line_wins() {
        let overrides = ["num.partitions = 9".to_owned(), "flumen.cores=1".to_owned()];
        let loaded = load_text(b"num.partitions=2\nnum.partitions=3", &overrides, "box").unwrap();
        assert_eq!(loaded.options.num_partitions, 9);
        assert_eq!(loaded.options.cores, 1);
        assert_eq!(loaded.options.given("num.partitions"), Some("9"));
        let error = load_text(b"", &["num.partitions".to_owned()], "box").unwrap_err();
        assert!(error.to_string().contains("KEY=VALUE"));
    }

    #[test]
    fn security_is_never_dropped_in_silence() {
        for text in [
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "security.inter.broker.protocol=SASL_SSL",
            "listeners=SASL_SSL://:9093",
            "create.topic.policy.class.name=com.example.Policy",
            "config.providers=file",
        ] {
            assert!(load_text(text.as_bytes(), &[], "box").is_err(), "{text}");
        }
        assert!(loaded("authorizer.class.name=").options.listeners.len() == 2);
        assert!(refusal("compression.type=none").contains("compression.type"));
    }

    #[test]
    fn what_has_no_effect_is_held_against_its_type() {
        assert_eq!(
            refusal("num.io.threads=many"),
            "Invalid value many for configuration num.io.threads: Not a number of type INT"
        );
        assert!(refusal("max.connections.per.ip.overrides=garbage").contains("host:number"));
        let loaded = loaded("max.connections.per.ip.overrides=10.0.0.1:5, ::1:6");
        assert!(loaded.ignored.is_empty());
    }

    #[test]
    fn an_override_can_take_back_what_the_file_says() {
        let overrides = ["authorizer.class.name=".to_owned()];
        assert!(load_text(b"authorizer.class.name=a.B", &overrides, "box").is_ok());
    }

    #[test]
    fn all_problems_come_at_once() {
        let text = refusal("nonsense.a=1\nauthorizer.class.name=x\nnum.partitions=-1\n");
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load(Some(Path::new("/no/such/server.properties")), &[], "box").unwrap_err();
        assert!(error.to_string().contains("/no/such/server.properties"));
    }
}
