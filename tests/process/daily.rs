//! The commands of daily work, each against a whole broker: what they do, what they show, and how they fail.
//!
//! Does: go through all of them as a day would, and look at what programs read (`--json`).
//! Does not: judge tables for people; unit tests of the commands do.
//! Apart because only a process has an exit code and standard streams.

use flumen_tests::broker::{Broker, Folder, run};
use serde_json::Value;

/// A broker, and commands that ask it.
struct Desk {
    address: String,
    _broker: Broker,
    _folder: Folder,
}

impl Desk {
    fn open() -> Self {
        let folder = Folder::fresh();
        let broker = Broker::start(&folder);
        Self { address: broker.address().to_string(), _broker: broker, _folder: folder }
    }

    fn run(&self, line: &str, input: &str) -> (i32, String, String) {
        let mut arguments: Vec<&str> = line.split_whitespace().collect();
        arguments.extend(["-b", &self.address]);
        let output = run(&arguments, input);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().expect("it ends by itself");
        (code, text(&output.stdout), text(&output.stderr))
    }

    /// What a command says when it succeeds.
    fn says(&self, line: &str, input: &str) -> String {
        let (code, said, why) = self.run(line, input);
        assert_eq!(code, 0, "{line}: {why}");
        said
    }

    /// The same for programs.
    fn json(&self, line: &str) -> Value {
        let said = self.says(&format!("{line} --json"), "");
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{line}: {error} in {said}"))
    }

    /// How a command fails: its exit code, and the one line it says.
    fn fails(&self, line: &str) -> (i32, String) {
        let (code, said, why) = self.run(line, "");
        assert_ne!(code, 0, "{line} succeeds: {said}");
        assert_eq!(why.lines().count(), 1, "{line}: {why}");
        (code, why)
    }
}

#[test]
fn topics_are_made_changed_grown_and_deleted() {
    let desk = Desk::open();
    desk.says("topics create orders -p 3 -c retention.ms=86400000", "");
    let (code, why) = desk.fails("topics create orders");
    assert!(code == 1 && why.contains("TOPIC_ALREADY_EXISTS"), "{why}");
    assert!(desk.says("topics create orders --if-not-exists", "").contains("exists already"));
    desk.says("topics create never --dry-run", "");
    let listed = desk.json("topics list");
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!((&listed[0]["topic"], &listed[0]["partitions"]), (&"orders".into(), &3.into()));

    desk.says("topics alter orders --set max.message.bytes=2000000 --delete retention.ms", "");
    let described = &desk.json("topics describe orders")[0];
    assert_eq!(described["settings"].as_array().map(Vec::len), Some(1), "{described}");
    assert_eq!(described["settings"][0]["value"], "2000000");
    assert_eq!(described["partitions"][2]["leader"], 1);

    desk.says("topics grow orders -p 5", "");
    let offsets = desk.json("topics offsets orders");
    assert_eq!(offsets.as_array().map(Vec::len), Some(5), "{offsets}");
    let (code, why) = desk.fails("topics grow orders -p 4");
    assert!(code == 1 && why.contains("partitions can only be added"), "{why}");
    desk.says("topics delete orders", "");
    let (code, why) = desk.fails("topics describe orders");
    assert!(code == 1 && why.contains("flumen topics list"), "{why}");
}

#[test]
fn records_come_out_as_they_went_in() {
    let desk = Desk::open();
    desk.says("topics create orders -p 1", "");
    desk.says("produce orders first second --key k -H trace=7", "");
    for (number, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
        let line = format!("produce orders --key-separator : --tombstones --codec {codec}");
        let said = desk.says(&line, "a:1\nb:\n");
        assert!(
            said.contains(&format!("offsets {} to {}", 2 + 2 * number, 3 + 2 * number)),
            "{said}"
        );
    }
    desk.says("produce orders last --acks 0 --partition 0", "");
    desk.says("produce orders really --acks 1", "");
    let all = desk.says("consume orders --format json", "");
    let records: Vec<Value> =
        all.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert_eq!(records.len(), 14, "{all}");
    assert_eq!((&records[0]["key"], &records[1]["value"]), (&"k".into(), &"second".into()));
    assert_eq!(records[0]["headers"][0]["value"], "7");
    assert_eq!((&records[3]["key"], &records[3]["value"]), (&"b".into(), &Value::Null));
    assert!((0..14).all(|at| records[at]["offset"] == at), "{all}");
    assert_eq!(desk.says("consume orders --from 12", ""), "last\nreally\n");
    assert_eq!(desk.says("consume orders --from 1h -n 1 --format key-value", ""), "k\tfirst\n");
    assert_eq!(desk.says("consume orders --from end --committed", ""), "");
    assert_eq!(desk.says("consume orders --from 13 --follow -n 1", ""), "really\n");
    let (code, why) = desk.fails("produce orders x --partition 9");
    assert!(code == 1 && why.contains("there is no partition 9"), "{why}");
}

#[test]
fn a_group_stands_where_it_was_put_and_knows_how_far_behind_it_is() {
    let desk = Desk::open();
    desk.says("topics create orders -p 1", "");
    desk.says("produce orders 0 1 2 3", "");
    assert_eq!(desk.says("consume orders --group billing -n 1", ""), "0\n");
    assert_eq!(desk.says("consume orders --group billing -n 2", ""), "1\n2\n");
    assert_eq!(desk.json("groups list")[0]["group"], "billing");
    let at = || desk.json("groups describe billing")[0]["offsets"][0].clone();
    let behind = at();
    assert_eq!((&behind["committed"], &behind["lag"]), (&3.into(), &1.into()), "{behind}");
    let seconds = behind["lag_seconds"].as_f64().expect("seconds");
    assert!(seconds > 0.0 && seconds < 60.0, "{behind}");

    desk.says("groups reset-offsets billing --to beginning", "");
    assert_eq!(at()["committed"], 3, "nothing is changed without --execute");
    desk.says("groups reset-offsets billing --to 999 --execute", "");
    let caught_up = at();
    assert_eq!((&caught_up["lag"], &caught_up["lag_seconds"]), (&0.into(), &0.0.into()));
    desk.says("groups reset-offsets billing --topic orders:0 --shift -3 --execute", "");
    assert_eq!(at()["committed"], 1);
    desk.says("groups delete billing", "");
    let (code, why) = desk.fails("groups describe billing");
    assert!(code == 1 && why.contains("there is no group billing"), "{why}");
}

#[test]
fn a_cluster_shows_its_brokers_and_takes_settings() {
    let desk = Desk::open();
    let cluster = &desk.json("cluster describe")[0];
    assert_eq!(cluster["brokers"][0]["address"], desk.address.as_str());
    desk.says("cluster configs alter --defaults --set log.retention.ms=1000000", "");
    let shared = desk.json("cluster configs describe --defaults");
    assert_eq!(shared[0]["value"], "1000000");
    desk.says("cluster configs alter --defaults --delete log.retention.ms", "");
    assert_eq!(desk.json("cluster configs describe --defaults"), Value::Array(Vec::new()));
    let own = desk.json("cluster configs describe --broker 1 --all");
    assert!(own.as_array().is_some_and(|settings| settings.len() > 50), "{own}");
    let (code, why) = desk.fails("cluster configs describe --broker 9");
    assert!(code == 1 && why.contains("there is no broker 9"), "{why}");
}

#[test]
fn transactions_are_listed_or_the_broker_is_said_not_to_know_them() {
    let desk = Desk::open();
    let (code, said, why) = desk.run("transactions list --json", "");
    let listed = code == 0 && said == "[]\n";
    assert!(
        listed || (code == 1 && why.contains("does not speak ListTransactions")),
        "{said}{why}"
    );
    assert_eq!(desk.fails("transactions describe nobody").0, 1);
}

#[test]
fn mistakes_and_brokers_that_are_away_have_exit_codes_of_their_own() {
    let away = run(&["topics", "list", "-b", "127.0.0.1:1"], "");
    assert_eq!(away.status.code(), Some(3));
    let why = String::from_utf8_lossy(&away.stderr);
    assert!(why.contains("cannot reach 127.0.0.1:1: connection refused"), "{why}");
    for wrong in
        ["topics", "consume t --from soon", "groups reset-offsets g", "topics list -b no-port"]
    {
        let arguments: Vec<&str> = wrong.split_whitespace().collect();
        assert_eq!(run(&arguments, "").status.code(), Some(2), "{wrong}");
    }
}
