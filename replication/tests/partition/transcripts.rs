//! Runs the scripts of `testdata/partition`: commands, a line of dashes, what must come of them.
//!
//! Does: speak the small language of the scripts; print what really happened where it differs.
//! Does not: decide what is right; the scripts do, and are meant to be read.
//! Invariants: every command of a script is known; every effect is printed.
//! Apart because the scripts are the specification that outlives refactoring.

use std::fmt::Write as _;
use std::time::Duration;

use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::entry::{AbortedTransaction, Payload};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{LeaderEpoch, LogIndex, NodeId, Offset};
use flumen_replication::error::Refusal;
use flumen_replication::outbox::{Effect, Ticket};
use flumen_replication::partition::{Acks, Deletion, Isolation, OffsetSpec, ReadQuery, Watched};

use super::world::World;

/// One test per script, in a module of their own: scripts may be named like commands.
macro_rules! scripts {
    ($($name:ident),+ $(,)?) => {
        mod script {
            $(#[test]
            fn $name() {
                let file = concat!("../../testdata/partition/", stringify!($name), ".txt");
                let text = include_str!(concat!("../../testdata/partition/", stringify!($name), ".txt"));
                super::run(file, text);
            })+
        }
    };
}

scripts!(
    acks,
    append,
    deadline,
    dedupe,
    deletion,
    epochs,
    follow,
    limits,
    parked,
    restart,
    stop,
    transactions,
    transactions_lost,
    verification,
    watch,
);

fn run(name: &str, text: &str) {
    let mut world = World::new();
    let mut really = String::new();
    for block in text.split("\n\n") {
        let (commands, _) = block.split_once("\n----").unwrap_or((block, ""));
        really.push_str(commands.trim_start_matches('\n'));
        if block.contains("\n----") {
            really.push_str("\n----\n");
            for command in commands.lines().filter(|line| !line.starts_with('#')) {
                let said = execute(&mut world, command);
                really.push_str(if said.is_empty() { "ok\n" } else { &said });
            }
            really.push('\n');
        } else {
            really.push_str("\n\n");
        }
    }
    let (really, text) = (really.trim_end(), text.trim_end());
    assert!(really == text, "{name}: this happened instead:\n{really}\n");
}

/// The arguments of one command: flags and `key=value`.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn value(&self, key: &str) -> Option<&'a str> {
        let mut words = self.0.iter();
        words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    fn number(&self, key: &str) -> Option<i64> {
        self.value(key).map(|word| word.parse().expect("a number"))
    }

    fn has(&self, flag: &str) -> bool {
        self.0.contains(&flag)
    }

    fn first(&self) -> i64 {
        self.0[0].parse().expect("a number")
    }

    fn epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.number("epoch").unwrap_or(-1) as i32)
    }

    fn isolation(&self) -> Isolation {
        if self.has("committed") { Isolation::ReadCommitted } else { Isolation::ReadUncommitted }
    }
}

fn execute(world: &mut World, command: &str) -> String {
    let mut words = command.split(' ');
    let verb = words.next().expect("a command");
    let words = Words(words.collect());
    let answer = match verb {
        "open" => open(world, &words),
        "configure" => configure(world, &words),
        "append" => append(world, &words),
        "durable" => {
            world.durable(LogIndex(words.first() as u64));
            String::new()
        }
        "settle" => {
            world.settle(LogIndex(words.first() as u64));
            String::new()
        }
        "save" => {
            world.save_state();
            String::new()
        }
        "forget-state" => {
            world.disk.state.clear();
            String::new()
        }
        "crash" => {
            world.crash();
            String::new()
        }
        "lose-last" => {
            drop(world.disk.durable.pop());
            String::new()
        }
        "time" => {
            world.advance(words.first() as u64);
            String::new()
        }
        "jump" => {
            world.now.wall.0 += words.first();
            String::new()
        }
        "deadline" => deadline(world),
        "read" => read(world, &words),
        "list" => list(world, &words),
        "epoch-end" => epoch_end(world, &words),
        "watch" => watch(world, &words),
        "unwatch" => unwatch(world, &words),
        "follow" => {
            world.partition().follow(words.has("on"));
            String::new()
        }
        "word" => word(world, &words),
        "end" => end(world, &words),
        "aborted" => aborted(world, &words),
        "producers" => producers(world),
        "delete" => delete(world, &words),
        "retain" => retain(world, &words),
        "stop" => stop(world, &words),
        "status" => status(world),
        unknown => panic!("unknown command {unknown}"),
    };
    answer + &told(world)
}

fn open(world: &mut World, words: &Words<'_>) -> String {
    configure_settings(world, words);
    if let Some(voters) = words.value("voters") {
        world.voters =
            voters.split(',').map(|node| NodeId(node.parse().expect("a node"))).collect();
    }
    match world.open() {
        Ok(()) => String::new(),
        Err(why) => format!("error: {why}\n"),
    }
}

fn configure(world: &mut World, words: &Words<'_>) -> String {
    configure_settings(world, words);
    let settings = world.settings;
    world.partition().configure(settings);
    String::new()
}

fn configure_settings(world: &mut World, words: &Words<'_>) {
    world.may_relax = !words.has("pressed");
    let settings = &mut world.settings;
    settings.relaxed = words.has("relaxed");
    settings.append_time = words.has("append-time");
    settings.replay = words.has("replay");
    if let Some(count) = words.number("producers") {
        settings.max_producer_ids = count as usize;
    }
    if let Some(ms) = words.number("expiry") {
        settings.producer_expiry = Duration::from_millis(ms as u64);
    }
}

fn append(world: &mut World, words: &Words<'_>) -> String {
    world.acks = match words.value("acks") {
        Some("0") => Acks::None,
        Some("1") => Acks::Leader,
        Some("all") | None => Acks::All,
        Some(other) => panic!("no such acks: {other}"),
    };
    world.deadline_ms = words.number("deadline").unwrap_or(30_000) as u64;
    let producer = words.number("pid").map(|id| {
        let epoch = words.number("pepoch").unwrap_or(0) as i16;
        (id, epoch, words.number("seq").expect("a sequence") as i32)
    });
    let count = words.number("count").unwrap_or(1) as i32;
    world.adds = words.has("adds");
    world.append(count, producer, words.has("transactional"));
    String::new()
}

/// The coordinator's word.
fn word(world: &mut World, words: &Words<'_>) -> String {
    let word = match words.value("says") {
        None => Ok(()),
        Some("concurrent") => Err(Refusal::NotVerified(ErrorCode::ConcurrentTransactions)),
        Some("abortable") => Err(Refusal::NotVerified(ErrorCode::TransactionAbortable)),
        Some(other) => panic!("no such word: {other}"),
    };
    world.verified(producer(words), word);
    String::new()
}

fn end(world: &mut World, words: &Words<'_>) -> String {
    let commit = match words.0[0] {
        "commit" => true,
        "abort" => false,
        other => panic!("no such end: {other}"),
    };
    let coordinator_epoch = words.number("cepoch").unwrap_or(0) as i32;
    let marker = EndMarker { commit, coordinator_epoch };
    world.end(producer(words), marker, words.has("newer"));
    String::new()
}

fn producer(words: &Words<'_>) -> (i64, i16) {
    let epoch = words.number("pepoch").unwrap_or(0) as i16;
    (words.number("pid").expect("a producer"), epoch)
}

fn aborted(world: &mut World, words: &Words<'_>) -> String {
    let until: i64 = words.0[1].parse().expect("a number");
    let rows = world.partition().aborted(Offset(words.first()), Offset(until));
    let rows = rows.map(|row| {
        let AbortedTransaction { producer_id, first_offset, last_offset, stable_offset } = row;
        format!("pid={producer_id} {first_offset}..={last_offset} stable={stable_offset}\n")
    });
    let rows: String = rows.collect();
    if rows.is_empty() { "none\n".into() } else { rows }
}

fn producers(world: &mut World) -> String {
    match world.partition().active_producers() {
        Ok(all) => all
            .iter()
            .map(|it| {
                format!(
                    "pid={} pepoch={} seq={} time={} cepoch={} open={}\n",
                    it.id,
                    it.epoch,
                    it.last_sequence,
                    it.last_timestamp,
                    it.coordinator_epoch,
                    it.open_since
                )
            })
            .collect(),
        Err(why) => format!("refused: {why}\n"),
    }
}

fn deadline(world: &mut World) -> String {
    match world.partition().next_deadline() {
        Some(at) => format!("at {} ms\n", at.0 / 1_000_000),
        None => "none\n".into(),
    }
}

fn read(world: &mut World, words: &Words<'_>) -> String {
    let offset = Offset(words.first());
    let (leader_epoch, isolation) = (words.epoch(), words.isolation());
    match world.partition().read_bounds(ReadQuery { offset, leader_epoch, isolation }) {
        Ok(bounds) => format!(
            "read {}..{} hw={} lso={} start={}\n",
            bounds.from,
            bounds.limit,
            bounds.high_watermark,
            bounds.last_stable,
            bounds.start_offset
        ),
        Err(why) => format!("refused: {why}\n"),
    }
}

fn list(world: &mut World, words: &Words<'_>) -> String {
    let spec = match words.0[0] {
        "earliest" => OffsetSpec::Earliest,
        "latest" => OffsetSpec::Latest(words.isolation()),
        other => panic!("no such position: {other}"),
    };
    match world.partition().list_offset(words.epoch(), spec) {
        Ok(listed) => format!("offset={} epoch={}\n", listed.offset, listed.leader_epoch),
        Err(why) => format!("refused: {why}\n"),
    }
}

fn epoch_end(world: &mut World, words: &Words<'_>) -> String {
    let asked = LeaderEpoch(words.first() as i32);
    match world.partition().end_offset_for_epoch(words.epoch(), asked) {
        Ok((epoch, end)) => format!("epoch={epoch} end={end}\n"),
        Err(why) => format!("refused: {why}\n"),
    }
}

fn watch(world: &mut World, words: &Words<'_>) -> String {
    let ticket = world.ticket();
    match world.partition().watch(ticket, Offset(words.first()), words.isolation()) {
        Watched::Armed => format!("{} armed\n", name(ticket)),
        Watched::Ready { limit } => format!("{} ready limit={limit}\n", name(ticket)),
        Watched::Full => format!("{} full\n", name(ticket)),
    }
}

fn unwatch(world: &mut World, words: &Words<'_>) -> String {
    let mut ticket = world.ticket();
    ticket.request = words.first() as u64;
    world.partition().unwatch(ticket);
    String::new()
}

fn delete(world: &mut World, words: &Words<'_>) -> String {
    let (ticket, deadline, now) = (world.ticket(), world.deadline(), world.now);
    let deletion = Deletion { before: Offset(words.first()), ticket, deadline };
    let partition = world.partition.as_mut().expect("opened");
    let told = partition.delete_records(now, deletion, &mut world.out);
    world.carry_out();
    assert_eq!(
        told.is_err(),
        matches!(world.out.last(), Some(Effect::Release { outcome: Err(_), .. }))
    );
    String::new()
}

fn retain(world: &mut World, words: &Words<'_>) -> String {
    world.keep_start(Offset(words.first()));
    String::new()
}

fn stop(world: &mut World, words: &Words<'_>) -> String {
    let why = match words.0[0] {
        "storage" => Refusal::Storage,
        "gone" => Refusal::Gone,
        other => panic!("no such reason: {other}"),
    };
    world.partition.as_mut().expect("opened").stop(why, &mut world.out);
    String::new()
}

fn status(world: &mut World) -> String {
    let partition = world.partition();
    let offsets = *partition.offsets();
    format!(
        "{} epoch={} start={} hw={} end={} applied={} last={} producers={} waiting={} watching={}\n",
        if partition.is_leader() { "leading" } else { "not leading" },
        partition.leader_epoch(),
        offsets.start(),
        offsets.high_watermark(),
        offsets.end(),
        partition.applied_index(),
        partition.last_index(),
        partition.producer_count(),
        partition.waiter_count(),
        partition.watcher_count(),
    )
}

/// Prints and forgets all effects.
fn told(world: &mut World) -> String {
    let mut text = String::new();
    for effect in world.out.drain(..) {
        let line = match effect {
            Effect::Persist { entry, .. } => {
                format!("persist {} term={} {}", entry.index, entry.term, payload(&entry.payload))
            }
            Effect::PersistHardState { state, .. } => {
                format!("persist-hard-state term={} vote={}", state.term, node(state.vote))
            }
            Effect::Release { ticket, outcome: Ok(receipt) } => format!(
                "release {} base={} start={}{}",
                name(ticket),
                receipt.base_offset,
                receipt.start_offset,
                receipt.append_time.map_or(String::new(), |time| format!(" time={}", time.0)),
            ),
            Effect::Release { ticket, outcome: Err(why) } => {
                format!("release {} refused: {why}", name(ticket))
            }
            Effect::Push { ticket, from, limit, .. } => {
                format!("push {} from={from} limit={limit}", name(ticket))
            }
            Effect::Moved { .. } => "moved".to_owned(),
            Effect::Leadership { leader, epoch, .. } => {
                format!("leadership leader={} epoch={epoch}", node(leader))
            }
            Effect::Committed { entry, .. } => {
                format!("committed {} {}", entry.index, payload(&entry.payload))
            }
            Effect::Verify(asked) => {
                let ((id, epoch), claim) = (asked.producer, &asked.claim);
                let id_of = &claim.transactional_id;
                format!("verify pid={id} pepoch={epoch} of={id_of} adds={}", claim.adds)
            }
            Effect::TransactionEnded { end, .. } => {
                let how = if end.commit { "committed" } else { "aborted" };
                format!("ended pid={} {how} at {}", end.producer_id, end.offset)
            }
            Effect::StartOffset { offset, .. } => format!("start-offset {offset}"),
        };
        writeln!(text, "{line}").expect("a string takes everything");
    }
    text
}

fn payload(payload: &Payload) -> String {
    match payload {
        Payload::Empty => "empty".into(),
        Payload::Control(_) => "control".into(),
        Payload::Records(records) => {
            let (base, last) = (records.base_offset, records.last_offset);
            let stamped = i64::from_be_bytes(records.bytes[..8].try_into().expect("eight bytes"));
            let epoch = i32::from_be_bytes(records.bytes[12..16].try_into().expect("four bytes"));
            assert_eq!(stamped, base.0, "the offset is stamped in");
            assert!(flumen_protocol::batch::check::verify_crc(&records.bytes), "the CRC holds");
            format!("records {base}..={last} epoch={epoch} time={}", records.max_timestamp)
        }
    }
}

fn name(ticket: Ticket) -> String {
    format!("t{}", ticket.request)
}

fn node(node: Option<NodeId>) -> String {
    node.map_or("none".into(), |node| node.to_string())
}
