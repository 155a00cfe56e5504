//! Runs scripts of commands against a coordinator and writes down what happens.
//!
//! A script is text: blocks of a command line, `----`, and the lines it must give, with a blank
//! line between blocks; `#` begins a comment line. The language is described at [`World::run`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::batch::iter::batches;
use flumen_protocol::batch::records::records;
use flumen_protocol::batch::stamp::stamp;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{CoreId, LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use flumen_protocol::internal_topics::offsets::{
    Key, read_group_value, read_key, read_offset_value,
};
use flumen_protocol::time::{Monotonic, Now, Wall, WallTrust};
use flumen_replication::coordinator::Ticket;
use flumen_replication::coordinator::group::{
    GroupConfig, GroupCoordinator, GroupRequest, GroupResponse,
};
use flumen_replication::coordinator::producer::Outcome;
use flumen_replication::coordinator::runtime::{
    AppendFailure, Coordinator, CoordinatorEffect, EffectOf, Phase,
};
use flumen_replication::dice::Dice;

use crate::answers;
use crate::asks::{Known, ask};

/// A coordinator with its log, its clock and its clients.
pub struct World {
    pub coordinator: Coordinator<GroupCoordinator>,
    config: GroupConfig,
    dice: Dice,
    /// Milliseconds since the script began.
    now_ms: u64,
    wall: WallTrust,
    /// What was committed, batch after batch.
    pub log: Vec<u8>,
    next_offset: i64,
    /// Appended and not committed.
    in_flight: Vec<(u64, Vec<u8>)>,
    /// Whether batches stay in flight until `release`.
    is_holding: bool,
    known: BTreeMap<String, Known>,
    /// Ticket → who asked what.
    asked: Vec<(String, GroupRequest)>,
    /// Whether that ticket's answer has come.
    answered: Vec<bool>,
    names: Names,
    output: String,
}

/// Replaces UUIDs, which nobody wants to read, by their number.
#[derive(Clone, Default)]
pub struct Names {
    seen: Vec<String>,
}

impl Names {
    pub fn shorten(&mut self, text: &str) -> String {
        let mut short = String::new();
        let mut rest = text;
        while let Some(start) = (0..rest.len()).find(|at| is_uuid(&rest.as_bytes()[*at..])) {
            let uuid = &rest[start..start + 36];
            let number = self.seen.iter().position(|seen| seen == uuid).unwrap_or_else(|| {
                self.seen.push(uuid.to_owned());
                self.seen.len() - 1
            });
            write!(short, "{}#{}", &rest[..start], number + 1).unwrap();
            rest = &rest[start + 36..];
        }
        short + rest
    }
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() >= 36
        && bytes[..36].iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Runs a script and compares what it gives with what it must give.
pub fn play(name: &str, script: &str) {
    let mut world = World::new(1);
    let mut actual = String::new();
    for block in script.split("\n\n") {
        let (head, _) = block.split_once("\n----").unwrap_or((block, ""));
        actual += head.trim_end();
        let commands =
            head.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let mut has_commands = false;
        for command in commands {
            has_commands = true;
            world.run(command);
        }
        if has_commands {
            write!(actual, "\n----\n{}", world.take_output()).unwrap();
        }
        actual = actual.trim_end().to_owned() + "\n\n";
    }
    let (actual, expected) = (actual.trim_end(), script.trim_end());
    assert!(actual == expected, "{name}: this is what happens now:\n=====\n{actual}\n=====\n");
}

impl World {
    pub fn new(seed: u64) -> Self {
        let config = GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() };
        let mut world = Self {
            coordinator: Coordinator::new(config.clone()),
            config,
            dice: Dice::new(seed),
            now_ms: 0,
            wall: WallTrust::Trusted,
            log: Vec::new(),
            next_offset: 0,
            in_flight: Vec::new(),
            is_holding: false,
            known: BTreeMap::new(),
            asked: Vec::new(),
            answered: Vec::new(),
            names: Names::default(),
            output: String::new(),
        };
        world.load();
        world
    }

    /// Another broker at this moment, which has loaded what is committed.
    pub fn twin(&self) -> Self {
        let mut twin = Self {
            coordinator: Coordinator::new(self.config.clone()),
            config: self.config.clone(),
            dice: self.dice.clone(),
            now_ms: self.now_ms,
            wall: self.wall,
            log: self.log.clone(),
            next_offset: self.next_offset,
            in_flight: Vec::new(),
            is_holding: false,
            known: self.known.clone(),
            asked: Vec::new(),
            answered: Vec::new(),
            names: self.names.clone(),
            output: String::new(),
        };
        twin.load();
        twin
    }

    /// Whether everything written is committed.
    pub fn is_quiet(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Runs one command:
    ///
    /// ```text
    /// config NAME=VALUE …          starts over with these settings; an empty log
    /// join|sync|beat|leave …       CLIENT GROUP and what `asks` understands
    /// commit|fetch|forget|…        see `asks`
    /// wait 3s                      time passes, alarms fire
    /// doubt / trust                the wall clock
    /// hold / release               batches stay in flight / are committed
    /// fail not_leader|unavailable  what is in flight is lost
    /// reload                       the leader dies; another one loads the log
    /// resign, begin_load           leadership goes, comes
    /// ended PRODUCER commit|abort  a transaction ends: its marker is committed in this log
    /// groups, offsets              what metrics see
    /// ```
    pub fn run(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[0] {
            "config" => self.configure(&words[1..]),
            "wait" => self.wait(duration_ms(words[1])),
            "doubt" => self.wall = WallTrust::Doubted,
            "trust" => self.wall = WallTrust::Trusted,
            "hold" => self.is_holding = true,
            "release" => {
                self.is_holding = false;
                self.commit();
            }
            "fail" => self.fail(words[1]),
            "reload" => {
                self.resign();
                self.load();
            }
            "resign" => self.resign(),
            "begin_load" => self.coordinator.begin_load(),
            "ended" => self.end(words[1], words[2] == "commit"),
            "groups" => self.show_groups(),
            "offsets" => self.show_offsets(),
            _ => {
                let (client, request) = ask(&words, &self.known);
                self.request(&client, request);
            }
        }
    }

    pub fn take_output(&mut self) -> String {
        std::mem::take(&mut self.output)
    }

    pub fn now(&self) -> Now {
        let wall = Wall(1_000_000 + self.now_ms as i64);
        Now { monotonic: Monotonic(self.now_ms * 1_000_000), wall }
    }

    /// Asks on behalf of `client`.
    pub fn request(&mut self, client: &str, request: GroupRequest) {
        let ticket = Ticket { core: CoreId(0), request: self.asked.len() as u64, part: 0 };
        self.asked.push((client.to_owned(), request.clone()));
        self.answered.push(false);
        let mut out = Vec::new();
        let now = self.now();
        self.coordinator.handle(now, &mut self.dice, ticket, request, &mut out);
        self.coordinator.settle(now, &mut out);
        self.carry_out(out);
    }

    /// Lets time pass, alarm by alarm.
    pub fn wait(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        for _ in 0..10_000 {
            let Some(next) = self.coordinator.next_deadline() else { break };
            let next_ms = next.0.div_ceil(1_000_000);
            if next_ms > end_ms {
                break;
            }
            self.now_ms = self.now_ms.max(next_ms);
            let mut out = Vec::new();
            let now = self.now();
            self.coordinator.on_time(now, self.wall, &mut out);
            self.coordinator.settle(now, &mut out);
            self.carry_out(out);
        }
        self.now_ms = end_ms;
    }

    fn carry_out(&mut self, effects: Vec<EffectOf<GroupCoordinator>>) {
        for effect in effects {
            match effect {
                CoordinatorEffect::Reply { ticket, response } => self.answer(ticket, &response),
                CoordinatorEffect::Append { batch, id } => {
                    self.show_batch(&batch);
                    self.in_flight.push((id, batch.to_vec()));
                }
                CoordinatorEffect::Announce(notice) => match notice {},
            }
        }
        if !self.is_holding {
            self.commit();
        }
    }

    fn commit(&mut self) {
        for (id, mut batch) in std::mem::take(&mut self.in_flight) {
            let header = batches(&batch).next().unwrap().unwrap().header;
            stamp(&mut batch, Offset(self.next_offset), LeaderEpoch(1));
            self.next_offset += i64::from(header.record_count);
            self.log.extend_from_slice(&batch);
            let mut out = Vec::new();
            self.coordinator.appended(id, Ok(()), &mut out);
            self.carry_out(out);
        }
    }

    /// A marker is written behind what is committed, and committed.
    fn end(&mut self, producer: &str, commit: bool) {
        assert!(self.in_flight.is_empty(), "markers are written in the order of the log");
        let id = ProducerId(producer.parse().unwrap());
        let marker = EndMarker { commit, coordinator_epoch: 1 };
        let mut batch = marker.batch(id, ProducerEpoch(1), self.now().wall);
        stamp(&mut batch, Offset(self.next_offset), LeaderEpoch(1));
        self.next_offset += 1;
        self.log.extend_from_slice(&batch);
        let outcome = if commit { Outcome::Commit } else { Outcome::Abort };
        self.coordinator.transaction_ended(id, outcome);
    }

    fn fail(&mut self, why: &str) {
        let failure = match why {
            "not_leader" => AppendFailure::NotLeader,
            "unavailable" => AppendFailure::Unavailable,
            other => panic!("no such failure: {other}"),
        };
        let lost = std::mem::take(&mut self.in_flight);
        let mut out = Vec::new();
        for (id, _) in lost {
            self.coordinator.appended(id, Err(failure), &mut out);
        }
        self.carry_out(out);
    }

    fn resign(&mut self) {
        self.in_flight.clear();
        let mut out = Vec::new();
        self.coordinator.resign(&mut out);
        self.carry_out(out);
    }

    pub fn load(&mut self) {
        if self.coordinator.phase() == Phase::Idle {
            self.coordinator.begin_load();
        }
        self.coordinator.replay_batch(&self.log).unwrap();
        let mut out = Vec::new();
        self.coordinator.finish_load(self.now(), &mut out);
        self.carry_out(out);
    }

    /// How many requests wait for an answer.
    pub fn waiting(&self) -> usize {
        self.answered.iter().filter(|answered| !**answered).count()
    }

    fn configure(&mut self, settings: &[&str]) {
        for setting in settings {
            let (name, value) = setting.split_once('=').unwrap();
            let config = &mut self.config;
            match name {
                "delay" => config.initial_rebalance_delay_ms = duration_ms(value) as i32,
                "max_size" => config.max_size = value.parse().unwrap(),
                "metadata_max" => config.offset_metadata_max_bytes = value.parse().unwrap(),
                "retention" => config.offsets_retention_ms = duration_ms(value) as i64,
                "check" => config.offsets_retention_check_interval_ms = duration_ms(value),
                other => panic!("no such setting: {other}"),
            }
        }
        self.coordinator = Coordinator::new(self.config.clone());
        self.load();
    }

    fn answer(&mut self, ticket: Ticket, response: &GroupResponse) {
        let (client, request) = &self.asked[ticket.request as usize];
        let answered = &mut self.answered[ticket.request as usize];
        assert!(!std::mem::replace(answered, true), "{client} is answered twice: {response:?}");
        answers::check_encodable(request, response);
        answers::remember(self.known.entry(client.clone()).or_default(), request, response);
        let client = client.clone();
        let text = answers::text(response);
        self.say(&format!("{client}: {text}"));
    }

    fn say(&mut self, line: &str) {
        let line = self.names.shorten(line);
        let at = Duration::from_millis(self.now_ms).as_secs_f64();
        writeln!(self.output, "{at:>8.3} {}", line.trim_end()).unwrap();
    }

    fn show_batch(&mut self, batch: &[u8]) {
        let within = batches(batch).next().unwrap().unwrap().header;
        let within = match within.is_transactional() {
            true => format!(" within {}", within.producer_id),
            false => String::new(),
        };
        for record in &records(batch, usize::MAX).unwrap() {
            let record = record.unwrap();
            let text = match (read_key(record.key.unwrap()).unwrap(), record.value) {
                (Key::Group { group }, Some(value)) => {
                    let value = read_group_value(value).unwrap();
                    let members: Vec<String> = value
                        .members
                        .iter()
                        .map(|member| format!("{}={}", member.member_id, ascii(member.assignment)))
                        .collect();
                    format!(
                        "group {group} type={} generation={} protocol={} leader={} [{}]",
                        value.protocol_type,
                        value.generation,
                        value.protocol.unwrap_or("-"),
                        value.leader.unwrap_or("-"),
                        members.join(" ")
                    )
                }
                (Key::Group { group }, None) => format!("group {group} is gone"),
                (Key::Offset(key), Some(value)) => {
                    let value = read_offset_value(value).unwrap();
                    let (topic, partition) = (key.topic, key.partition);
                    format!("offset {} {topic}/{partition}@{}", key.group, value.offset)
                }
                (Key::Offset(key), None) => {
                    format!("offset {} {}/{} is gone", key.group, key.topic, key.partition)
                }
                (Key::Consumer { group, key }, value) => {
                    let what = if value.is_some() { "is stored" } else { "is gone" };
                    format!("{group} {key:?} {what}")
                }
                (Key::Unknown { version }, _) => format!("unknown {version}"),
            };
            self.say(&format!("  log: {text}{within}"));
        }
    }

    fn show_groups(&mut self) {
        let rows: Vec<String> = self
            .coordinator
            .groups()
            .map(|row| {
                let state = row.state.as_str();
                format!("{} {state} generation={} members={}", row.id, row.generation, row.members)
            })
            .collect();
        rows.iter().for_each(|row| self.say(row));
    }

    fn show_offsets(&mut self) {
        let rows: Vec<String> = self
            .coordinator
            .committed()
            .map(|row| format!("{} {}/{}@{}", row.group, row.topic, row.partition, row.offset))
            .collect();
        rows.iter().for_each(|row| self.say(row));
    }
}

/// A code by its name.
pub fn code_name(code: i16) -> &'static str {
    ErrorCode::ALL.iter().find(|one| one.code() == code).map_or("?", |one| match one {
        ErrorCode::None => "OK",
        other => other.name(),
    })
}

pub fn ascii(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

pub fn duration_ms(text: &str) -> u64 {
    let split = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().unwrap();
    number
        * match &text[split..] {
            "ms" | "" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            other => panic!("no such unit: {other}"),
        }
}
