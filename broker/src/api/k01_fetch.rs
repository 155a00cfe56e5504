//! Fetch (key 1, versions 4–18): read records, waiting for them if asked to.
//!
//! - Whole batches from the one that contains the offset (G58); the first partition with data
//!   gives at least one batch whatever the limits say, the others keep to them (G59, KIP-74); the
//!   smaller of the client's and the broker's `fetch.max.bytes` counts.
//! - Answers at once when there is enough, nothing to wait for, or an error; otherwise waits and
//!   the owners push what becomes visible (G61, G62). No polling.
//! - `read_committed` ends at the last stable offset, and is told which transactions that reach into
//!   the records were aborted, by their first offset (G73, G74).
//! - Topics by name up to version 12, by id from 13 (G66).
//! - KAFKA_STORAGE_ERROR is NOT_LEADER_OR_FOLLOWER before version 6 (KIP-112).
//! - A client that has spent its quota is told to wait, and gets nothing: its next fetch reads the
//!   same (G75). Records are counted, not the words around them.
//! - Sessions (KIP-227) are kept by `fetch_session`; a client that asks for none gets none, and pays
//!   for none.
//!
//! Deviations: a session is known to the core of the connection that began it: on another core its
//! next step is FETCH_SESSION_ID_NOT_FOUND, and the client begins anew (G70); a client behind a
//! leader change is told the leader and its epoch (KIP-951), but one that asks for a partition that
//! is not here (yet) is not: it could only be told this node, and must pause and ask for metadata,
//! not come back at once; a fetch in the name of a replica closes the connection.
//! KIPs: 74, 98 (isolation, aborted transactions), 112, 227, 320 (epochs), 516 (ids), 951 (leader hints).

mod in_session;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::hot::fetch::{
    FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic,
    FetchTopicResponse, IsolationLevel,
};
use flumen_protocol::hot::leader_hint::NodeEndpoint;
use flumen_protocol::ids::{LogId, NodeId, Offset, PartitionIndex, TopicId};
use flumen_protocol::messages::StrBytes;
use flumen_replication::metadata::image::Topic;

use self::in_session::InSession;
use super::refusals::{self, Refused};
use super::step::{Addressee, Context, Envelope, Part, Progress, Step, Wait};
use super::table::Waiting as AnyWaiting;
use crate::limits::{FETCH_ANSWER_BYTES, FETCH_ANSWER_BYTES_MIN};
use crate::shard::mailbox::{Answer, Question, ReadQuestion, RecordsAnswer};

/// A fetch that has not got enough yet.
#[derive(Debug)]
pub struct Waiting {
    topics: Vec<FetchTopicResponse>,
    wanted: Vec<Wanted>,
    /// First answers still missing.
    missing: usize,
    /// Whether owners were asked to push news.
    watching: bool,
    /// Whether an answer is due whatever the sum.
    urgent: bool,
    /// Whether some partition has a newer leader than the client knows.
    has_fenced: bool,
    bytes: usize,
    bytes_min: usize,
    /// What the client may have in one answer, and the memory of this core.
    bytes_max: usize,
    /// Bytes of memory set aside for the first answers.
    bytes_aside: usize,
    /// How long to wait for news. What is there is read however long that takes: a fetch that may
    /// not wait is still answered with the records there are.
    patience: Duration,
    /// The session that this is a step of.
    session: Option<Box<InSession>>,
}

/// One partition of the request.
#[derive(Debug)]
struct Wanted {
    log: LogId,
    /// Topic and partition by position in the answer.
    place: (usize, usize),
    /// What it may give in all, unless it is the first that has something.
    bytes_max: usize,
    /// What to ask next: behind what it gave, within what it may still give.
    question: ReadQuestion,
    /// Its number in the session.
    slot: u32,
    /// Whether its owner will tell the session of news.
    is_followed: bool,
}

/// Which partitions a request has named: a bit each, by topic. Real clients name each once.
#[derive(Debug, Default)]
struct Named(BTreeMap<TopicId, Bits>);

#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Named {
    fn of(&mut self, topic: &Topic) -> &mut Bits {
        let words = topic.partitions.len().div_ceil(64);
        self.0.entry(topic.id).or_insert_with(|| Bits(vec![0; words]))
    }
}

impl Bits {
    /// Whether the partition, which the topic has, was not there yet.
    fn insert(&mut self, partition: PartitionIndex) -> bool {
        let place = usize::try_from(partition.0).expect("a partition there is");
        let (word, bit) = (&mut self.0[place / 64], 1 << (place % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

/// The first version that names topics by id (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;
/// The first version whose clients know KAFKA_STORAGE_ERROR (KIP-112).
const STORAGE_ERROR_SINCE: i16 = 6;
/// The first version that may tell where leaders can be reached (KIP-951).
const ENDPOINTS_SINCE: i16 = 16;

/// Checks the request and asks the owners to read.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, body: &[u8]) -> Step {
    let Ok(request) = FetchRequest::parse(body, envelope.version) else {
        return Step::Close("malformed fetch request");
    };
    if request.replica_id != NodeId::NONE {
        // Only a broker of this cluster may read as a replica (CVE-2018-1288), and there is none.
        return Step::Close("a fetch in the name of a replica");
    }
    let committed_only = request.isolation == IsolationLevel::ReadCommitted;
    let names_by_id = envelope.version >= TOPIC_IDS_SINCE;
    let mut waiting = Waiting::new(context, envelope, &request);
    match in_session::enter(context, &request, names_by_id, committed_only) {
        Ok(Some(session)) => {
            let due = context.sessions.due(session.id(), context.image);
            waiting.join(session, due);
        }
        Ok(None) => waiting.add_topics(context, request.topics, committed_only),
        Err(error) => {
            return answer(envelope, FetchResponse { error, ..empty() });
        }
    }
    if waiting.wanted.is_empty() {
        return waiting.open_quiet(context, envelope);
    }
    let parts = waiting.questions();
    waiting.missing = parts.len();
    let most: usize = waiting.wanted.iter().map(|wanted| wanted.bytes_max).sum();
    // Whatever the limits, there may be a first batch.
    waiting.bytes_aside = most.min(waiting.bytes_max).max(FETCH_ANSWER_BYTES_MIN);
    Step::Wait(Wait { waiting: AnyWaiting::Fetch(waiting), parts, patience: None })
}

fn answer(envelope: &Envelope, response: FetchResponse) -> Step {
    Step::Answer(response.encode(envelope.version, envelope.correlation_id))
}

fn empty() -> FetchResponse {
    FetchResponse {
        error: ErrorCode::None,
        session_id: 0,
        throttle_ms: 0,
        topics: Vec::new(),
        node_endpoints: Vec::new(),
    }
}

impl Waiting {
    fn new(context: &Context<'_>, envelope: &Envelope, request: &FetchRequest) -> Self {
        let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0);
        let broker_max = usize::try_from(context.options.fetch_max_bytes).unwrap_or(0);
        let bytes_max = bytes_max.min(broker_max).min(FETCH_ANSWER_BYTES);
        let bytes_max = bytes_max.min(context.answer_bytes_max);
        let bytes_max = bytes_max.min(context.fetch_bytes_max(envelope));
        let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max);
        let patience = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        Self {
            topics: Vec::with_capacity(request.topics.len()),
            wanted: Vec::new(),
            missing: 0,
            watching: false,
            urgent: patience.is_zero(),
            has_fenced: false,
            bytes: 0,
            bytes_min,
            bytes_max,
            bytes_aside: 0,
            patience,
            session: None,
        }
    }

    fn add_topics(&mut self, context: &Context<'_>, topics: Vec<FetchTopic>, committed_only: bool) {
        // With a single partition there is nothing to compare, and nothing to allocate.
        let mut named = match &topics[..] {
            [only] if only.partitions.len() == 1 => None,
            _ => Some(Named::default()),
        };
        for topic in topics {
            self.add_topic(context, topic, committed_only, &mut named);
        }
    }

    /// A partition that is named again is left out: many questions would hold as many of its
    /// watchers, and nobody else would be woken.
    fn add_topic(
        &mut self,
        context: &Context<'_>,
        asked: FetchTopic,
        committed_only: bool,
        named: &mut Option<Named>,
    ) {
        let topic = match &asked.name {
            Some(name) => context.image.topic_named(name),
            None => context.image.topic(asked.id),
        };
        let unknown = if topic.is_some() || asked.name.is_some() {
            ErrorCode::UnknownTopicOrPartition
        } else {
            ErrorCode::UnknownTopicId
        };
        let topic_place = self.topics.len();
        let mut answers = Vec::with_capacity(asked.partitions.len());
        let mut seen = topic.zip(named.as_mut()).map(|(topic, named)| named.of(topic));
        for partition in asked.partitions {
            match topic.and_then(|topic| topic.log(partition.index)) {
                Some(_) if seen.as_mut().is_some_and(|seen| !seen.insert(partition.index)) => {}
                Some(log) => {
                    let place = (topic_place, answers.len());
                    let question = question(&partition, committed_only, self.bytes_max);
                    let bytes_max = question.max_bytes as usize;
                    let (slot, is_followed) = (0, false);
                    self.wanted.push(Wanted { log, place, bytes_max, question, slot, is_followed });
                    answers.push(nothing_of(partition.index, committed_only));
                }
                None => {
                    self.urgent = true;
                    answers.push(FetchPartitionResponse {
                        error: unknown,
                        ..nothing(partition.index)
                    });
                }
            }
        }
        self.topics.push(FetchTopicResponse {
            name: asked.name.map(StrBytes::from_string),
            id: asked.id,
            partitions: answers,
        });
    }

    /// Bytes of memory that the answer takes, or may take until all first answers are there.
    pub fn answer_bytes(&self) -> usize {
        if self.missing > 0 { self.bytes.max(self.bytes_aside) } else { self.bytes }
    }

    /// There is nothing to ask. A step of a session may still hear of news.
    fn open_quiet(mut self, context: &mut Context<'_>, envelope: &Envelope) -> Step {
        let may_hear = self.session.as_deref().is_some_and(InSession::may_hear);
        if !may_hear || self.verdict().is_some() {
            return self.close(context, envelope);
        }
        self.watching = true;
        let patience = Some(self.patience);
        Step::Wait(Wait { waiting: AnyWaiting::Fetch(self), parts: Vec::new(), patience })
    }

    /// One question per partition that is not at fault and whose owner does not tell of news anyway.
    fn questions(&self) -> Vec<Part> {
        let is_open = |wanted: &Wanted| {
            let said = &self.topics[wanted.place.0].partitions[wanted.place.1];
            said.error == ErrorCode::None && !wanted.is_followed
        };
        let open = self.wanted.iter().enumerate().filter(|(_, wanted)| is_open(wanted));
        open.map(|(number, _)| self.part(number)).collect()
    }

    fn part(&self, number: usize) -> Part {
        let wanted = &self.wanted[number];
        let question = match &self.session {
            Some(session) => Question::Look(wanted.question, session.follower(wanted.slot)),
            None if self.watching => Question::Watch(wanted.question),
            None => Question::Read(wanted.question),
        };
        Part { number: number as u32, to: Addressee::Owner(wanted.log), question }
    }

    /// Takes what one partition gave in.
    pub fn answer(&mut self, part: u32, answer: Answer) -> Progress {
        if !self.watching {
            self.missing -= 1;
        }
        match answer {
            Answer::Records(records) => self.take(part as usize, *records),
            other => self.fail(part as usize, refusals::of_misplaced(&other)),
        }
        self.go_on(part as usize)
    }

    /// What to do now that more is known of this partition.
    fn go_on(&mut self, part: usize) -> Progress {
        if let Some(verdict) = self.verdict() {
            return verdict;
        }
        if !self.watching {
            self.watching = true;
            return Progress::AskWithin(self.questions(), self.patience);
        }
        if self.wanted[part].is_followed {
            return Progress::Open;
        }
        // This partition's watcher fired and is spent: set it again where we are now.
        Progress::Ask(vec![self.part(part)])
    }

    /// Whether it is over, or must go on as it is.
    fn verdict(&self) -> Option<Progress> {
        if self.missing > 0 {
            Some(Progress::Open)
        } else if self.urgent || self.bytes >= self.bytes_min {
            Some(Progress::Done)
        } else {
            None
        }
    }

    fn take(&mut self, part: usize, records: RecordsAnswer) {
        if let Some(fault) = records.fault {
            return self.fail(part, refusals::of_log(fault));
        }
        let wanted = &mut self.wanted[part];
        let place = &mut self.topics[wanted.place.0].partitions[wanted.place.1];
        place.high_watermark = records.high_watermark;
        place.last_stable_offset = records.last_stable;
        place.log_start_offset = records.start;
        let bytes: usize = records.batches.iter().map(Bytes::len).sum();
        let left = (wanted.question.max_bytes as usize).saturating_sub(bytes);
        let committed_only = wanted.question.committed_only;
        let end = if committed_only { records.last_stable } else { records.high_watermark };
        // More is there than the limits let through, or nothing more can come: no use waiting.
        // To watch such a partition would answer at once, with nothing, for ever.
        let stuck = records.batches.is_empty() && records.next < end;
        self.urgent |= stuck || (bytes > 0 && left == 0);
        wanted.is_followed = records.followed.is_some();
        wanted.question.from = records.next;
        wanted.question.max_bytes = left as u32;
        // Its first batch may be over the limit whenever it comes.
        wanted.question.at_least_one &= bytes == 0;
        place.records.extend(records.batches);
        if let Some(aborted) = place.aborted.as_mut().filter(|_| !records.aborted.is_empty()) {
            // A transaction may reach into what was read before, too.
            aborted.extend(records.aborted);
            aborted.sort_unstable_by_key(|(producer, first)| (*first, *producer));
            aborted.dedup();
        }
        self.bytes += bytes;
    }

    fn fail(&mut self, part: usize, refused: Refused) {
        let (topic, partition) = self.wanted[part].place;
        let place = &mut self.topics[topic].partitions[partition];
        place.error = refused.code;
        self.has_fenced |= refused.code == ErrorCode::FencedLeaderEpoch;
        // Whatever came before belongs to a log that is no more, or no more ours.
        place.records.clear();
        place.aborted.iter_mut().for_each(Vec::clear);
        self.urgent = true;
    }

    /// Whether it waits for news only: nothing that was asked for is still to come.
    pub fn waits_for_news(&self) -> bool {
        self.watching
    }

    /// The session that it is a step of.
    pub fn session(&self) -> Option<i32> {
        self.session.as_deref().map(InSession::id)
    }

    /// The parts and logs whose owners may still push news to this request alone.
    pub fn watched(&self) -> Vec<(u32, LogId)> {
        if !self.watching || self.session.is_some() {
            return Vec::new();
        }
        let logs = self.wanted.iter().map(|wanted| wanted.log);
        (0..).zip(logs).collect()
    }

    /// Answers with what is there.
    pub fn close(mut self, context: &mut Context<'_>, envelope: &Envelope) -> Step {
        let bytes = self.keep_to_limits();
        let throttle_ms = context.throttle_fetch(envelope, bytes);
        if throttle_ms > 0 {
            let session = self.session.as_deref();
            let session_id = session.map_or(0, |session| session.withhold(context.sessions));
            return answer(envelope, FetchResponse { session_id, throttle_ms, ..empty() });
        }
        if envelope.version < STORAGE_ERROR_SINCE {
            self.say_moved_for_broken();
        }
        let node_endpoints = match self.has_fenced && envelope.version >= ENDPOINTS_SINCE {
            true => self.point_to_leaders(context, envelope),
            false => Vec::new(),
        };
        let (error, session_id) = match &self.session {
            Some(session) => session.tell(&mut self.topics, context.sessions),
            None => (ErrorCode::None, 0),
        };
        let topics = self.topics;
        answer(envelope, FetchResponse { error, session_id, topics, node_endpoints, ..empty() })
    }

    /// Old clients take a storage error for the end of everything. They are told to look for another
    /// leader instead, as Kafka tells them, and come back.
    fn say_moved_for_broken(&mut self) {
        for said in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if said.error == ErrorCode::KafkaStorageError {
                said.error = ErrorCode::NotLeaderOrFollower;
            }
        }
    }

    /// Tells clients whose epoch is over who leads since, and where.
    fn point_to_leaders(
        &mut self,
        context: &Context<'_>,
        envelope: &Envelope,
    ) -> Vec<NodeEndpoint> {
        let mut leaders = BTreeSet::new();
        for wanted in &self.wanted {
            let said = &mut self.topics[wanted.place.0].partitions[wanted.place.1];
            if said.error == ErrorCode::FencedLeaderEpoch
                && let Some(leader) = context.leader(wanted.log)
                && let Some(node) = leader.node
            {
                said.current_leader = Some((node, leader.epoch));
                leaders.insert(node);
            }
        }
        let known = leaders.iter().filter_map(|node| context.image.brokers.get(node));
        let endpoints = known.filter_map(|broker| {
            let endpoint = context.endpoint(broker, envelope)?;
            let (host, port) = (endpoint.host.clone(), i32::from(endpoint.port));
            Some(NodeEndpoint { id: broker.id, host, port, rack: broker.rack.clone() })
        });
        endpoints.collect()
    }

    /// Every partition was read up to its own limit, over it for its first batch: cuts, in request
    /// order, what the limits do not let through. The first batch of all always stays (KIP-74);
    /// a small batch may follow where a large one did not fit. Says how many bytes of records stay.
    fn keep_to_limits(&mut self) -> usize {
        let (mut left, mut kept) = (self.bytes_max, 0);
        let mut first = true;
        for wanted in &self.wanted {
            let (topic, partition) = wanted.place;
            let records = &mut self.topics[topic].partitions[partition].records;
            let mut own_left = wanted.bytes_max;
            let fitting = records.iter().take_while(|batch| {
                let fits = first || batch.len() <= left.min(own_left);
                if fits {
                    first = false;
                    kept += batch.len();
                    left = left.saturating_sub(batch.len());
                    own_left = own_left.saturating_sub(batch.len());
                }
                fits
            });
            let keep = fitting.count();
            records.truncate(keep);
        }
        kept
    }
}

fn question(partition: &FetchPartition, committed_only: bool, bytes_max: usize) -> ReadQuestion {
    let max_bytes = u32::try_from(partition.max_bytes).unwrap_or(0);
    let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX);
    ReadQuestion {
        from: partition.fetch_offset,
        epoch: partition.current_leader_epoch,
        committed_only,
        max_bytes: max_bytes.min(bytes_max),
        at_least_one: true,
        // Whatever the limit, there is room for a first batch.
        answer_bytes_max: bytes_max.max(1),
    }
}

/// A partition that gave nothing (yet).
pub(super) fn nothing(index: PartitionIndex) -> FetchPartitionResponse {
    FetchPartitionResponse {
        index,
        error: ErrorCode::None,
        high_watermark: Offset::UNKNOWN,
        last_stable_offset: Offset::UNKNOWN,
        log_start_offset: Offset::UNKNOWN,
        aborted: None,
        preferred_read_replica: NodeId::NONE,
        current_leader: None,
        records: Vec::new(),
    }
}

/// The same for a client that is told of aborted transactions, or not.
fn nothing_of(index: PartitionIndex, committed_only: bool) -> FetchPartitionResponse {
    FetchPartitionResponse { aborted: committed_only.then(Vec::new), ..nothing(index) }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{LeaderEpoch, PartitionIndex, ProducerId, TopicId};

    use super::*;

    const TOPIC: TopicId = TopicId([1; 16]);
    const PLENTY: i32 = 1 << 20;

    /// A fetch of one topic whose partitions have these limits, within `bytes` in all.
    fn fetch(limits: &[i32], bytes: std::ops::RangeInclusive<usize>) -> Waiting {
        let mut waiting = Waiting {
            topics: vec![FetchTopicResponse { name: None, id: TOPIC, partitions: Vec::new() }],
            wanted: Vec::new(),
            missing: limits.len(),
            watching: false,
            urgent: false,
            has_fenced: false,
            bytes: 0,
            bytes_min: *bytes.start(),
            bytes_max: *bytes.end(),
            bytes_aside: *bytes.end(),
            patience: Duration::from_secs(1),
            session: None,
        };
        for (number, limit) in limits.iter().enumerate() {
            let index = PartitionIndex(number as i32);
            let asked = FetchPartition {
                index,
                current_leader_epoch: LeaderEpoch::UNKNOWN,
                fetch_offset: Offset(0),
                last_fetched_epoch: LeaderEpoch::UNKNOWN,
                log_start_offset: Offset::UNKNOWN,
                max_bytes: *limit,
            };
            let question = question(&asked, false, *bytes.end());
            waiting.wanted.push(Wanted {
                log: LogId { topic: TOPIC, partition: index },
                place: (0, number),
                bytes_max: question.max_bytes as usize,
                question,
                slot: 0,
                is_followed: false,
            });
            waiting.topics[0].partitions.push(nothing(index));
        }
        waiting
    }

    /// Batches of these sizes, one offset each, of a log that ends at `end`.
    fn gave(from: i64, sizes: &[usize], end: i64) -> Answer {
        Answer::Records(Box::new(RecordsAnswer {
            fault: None,
            high_watermark: Offset(end),
            last_stable: Offset(end),
            start: Offset(0),
            next: Offset(from + sizes.len() as i64),
            batches: sizes.iter().map(|size| Bytes::from(vec![0; *size])).collect(),
            followed: None,
            aborted: Vec::new(),
        }))
    }

    /// The same with transactions that were aborted: by producer and first offset.
    fn gave_aborted(from: i64, count: usize, end: i64, aborted: &[(i64, i64)]) -> Answer {
        let Answer::Records(mut records) = gave(from, &vec![1; count], end) else { unreachable!() };
        let aborted = aborted.iter().map(|(id, first)| (ProducerId(*id), Offset(*first)));
        records.aborted = aborted.collect();
        Answer::Records(records)
    }

    #[test]
    fn aborted_transactions_are_told_once_in_the_order_they_began() {
        let mut waiting = fetch(&[PLENTY], 100..=2500);
        waiting.wanted[0].question.committed_only = true;
        waiting.topics[0].partitions[0].aborted = Some(Vec::new());
        waiting.answer(0, gave_aborted(10, 5, 15, &[(7, 12), (9, 3)]));
        waiting.answer(0, gave_aborted(15, 5, 20, &[(9, 3), (7, 17)]));
        let told: Vec<(i64, i64)> = waiting.topics[0].partitions[0]
            .aborted
            .iter()
            .flatten()
            .map(|(id, first)| (id.0, first.0))
            .collect();
        assert_eq!(told, [(9, 3), (7, 12), (7, 17)]);
    }

    #[test]
    fn who_reads_everything_is_told_of_no_aborted_transaction() {
        let mut waiting = fetch(&[PLENTY], 1..=2500);
        waiting.answer(0, gave(0, &[1], 1));
        assert_eq!(waiting.topics[0].partitions[0].aborted, None);
    }

    /// Bytes per partition after the cut.
    fn given(mut waiting: Waiting) -> Vec<usize> {
        waiting.keep_to_limits();
        let partitions = waiting.topics[0].partitions.iter();
        partitions.map(|partition| partition.records.iter().map(Bytes::len).sum()).collect()
    }

    /// The only question asked next, and whether it watches.
    fn next_question(progress: Progress) -> (u32, ReadQuestion) {
        let (Progress::Ask(parts) | Progress::AskWithin(parts, _)) = progress else {
            panic!("a question is due, not {progress:?}")
        };
        let [Part { number, question: Question::Watch(question), .. }] = &parts[..] else {
            panic!("one partition is to be watched, not {parts:?}")
        };
        (*number, *question)
    }

    #[test]
    fn the_order_of_the_answers_changes_nothing() {
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        for order in orders {
            let mut waiting = fetch(&[PLENTY; 3], 1..=2500);
            for (answered, part) in order.into_iter().enumerate() {
                let progress = waiting.answer(part, gave(0, &[1000, 1000], 2));
                assert_eq!(matches!(progress, Progress::Done), answered == 2, "{order:?}");
            }
            assert_eq!(given(waiting), [2000, 0, 0], "{order:?}: request order counts");
        }
    }

    #[test]
    fn only_the_first_partition_with_data_goes_over_a_limit() {
        let answers = |waiting: &mut Waiting, sizes: &[&[usize]]| {
            for (part, sizes) in (0..).zip(sizes) {
                waiting.answer(part, gave(0, sizes, 9));
            }
        };
        // Its first batch only.
        let mut waiting = fetch(&[10, 10, PLENTY], 1..=10);
        answers(&mut waiting, &[&[], &[500], &[100]]);
        assert_eq!(given(waiting), [0, 500, 0]);
        // A partition's own limit binds those behind it.
        let mut waiting = fetch(&[10, 10, PLENTY], 1..=PLENTY as usize);
        answers(&mut waiting, &[&[500], &[500], &[100, 100]]);
        assert_eq!(given(waiting), [500, 0, 200]);
        // What is too large for the rest leaves the rest to others.
        let mut waiting = fetch(&[PLENTY; 3], 1..=1000);
        answers(&mut waiting, &[&[600], &[500, 10], &[300, 100, 1]]);
        assert_eq!(given(waiting), [600, 0, 400]);
    }

    #[test]
    fn what_is_not_there_yet_is_watched_from_where_reading_ended() {
        let mut waiting = fetch(&[1500], 1200..=10_000);
        let (_, question) = next_question(waiting.answer(0, gave(0, &[1000], 1)));
        assert_eq!((question.from, question.max_bytes), (Offset(1), 500));
        assert!(!question.at_least_one, "its first batch is given already");
        let (part, question) = next_question(waiting.answer(0, gave(1, &[100], 2)));
        assert_eq!((part, question.from, question.max_bytes), (0, Offset(2), 400));
        assert!(matches!(waiting.answer(0, gave(2, &[100], 3)), Progress::Done));
        assert_eq!(given(waiting), [1200]);
    }

    #[test]
    fn only_the_partition_that_pushed_is_watched_again_and_all_count_together() {
        let mut waiting = fetch(&[PLENTY; 3], 1000..=10_000);
        assert!(waiting.watched().is_empty(), "first answers are no watchers");
        for part in 0..2 {
            assert!(matches!(waiting.answer(part, gave(0, &[], 0)), Progress::Open));
        }
        let Progress::AskWithin(parts, patience) = waiting.answer(2, gave(0, &[100], 1)) else {
            panic!("too little for an answer")
        };
        assert_eq!((parts.len(), patience), (3, Duration::from_secs(1)));
        assert_eq!(waiting.watched().len(), 3);
        assert_eq!(next_question(waiting.answer(1, gave(0, &[500], 1))).0, 1);
        assert_eq!(next_question(waiting.answer(1, gave(1, &[300], 2))).0, 1);
        assert!(matches!(waiting.answer(0, gave(0, &[100], 1)), Progress::Done));
        assert_eq!(given(waiting), [100, 800, 100]);
    }

    #[test]
    fn a_push_without_records_is_waited_on() {
        let mut waiting = fetch(&[PLENTY], 1..=10_000);
        next_question(waiting.answer(0, gave(0, &[], 0)));
        // Something other than the data changed; the partition is sound and still empty.
        let (_, question) = next_question(waiting.answer(0, gave(0, &[], 0)));
        assert!(question.at_least_one, "its first batch is still to come");
    }

    #[test]
    fn a_batch_that_does_not_fit_any_more_is_not_waited_for() {
        let mut waiting = fetch(&[1500], 5000..=10_000);
        // Two batches of 1000 bytes are there; one fits, and that is less than the minimum.
        next_question(waiting.answer(0, gave(0, &[1000], 2)));
        assert!(matches!(waiting.answer(0, gave(1, &[], 2)), Progress::Done));
        // The limit is spent to the last byte.
        let mut waiting = fetch(&[1000], 5000..=10_000);
        assert!(matches!(waiting.answer(0, gave(0, &[1000], 1)), Progress::Done));
    }

    #[test]
    fn a_limit_of_nothing_is_no_reason_to_answer_with_nothing() {
        let mut waiting = fetch(&[0], 1..=10_000);
        let (_, question) = next_question(waiting.answer(0, gave(0, &[], 0)));
        assert!(question.at_least_one);
        assert!(matches!(waiting.answer(0, gave(0, &[700], 1)), Progress::Done));
        assert_eq!(given(waiting), [700]);
    }

    #[test]
    fn no_minimum_no_wait() {
        let mut waiting = fetch(&[PLENTY; 2], 0..=10_000);
        assert!(matches!(waiting.answer(1, gave(0, &[], 0)), Progress::Open));
        assert!(matches!(waiting.answer(0, gave(0, &[], 0)), Progress::Done));
    }

    #[test]
    fn a_fault_ends_the_wait_and_takes_its_records_along() {
        let mut waiting = fetch(&[PLENTY; 2], 5000..=10_000);
        waiting.answer(0, gave(0, &[1000], 1));
        waiting.answer(1, gave(0, &[100], 1));
        assert!(matches!(waiting.answer(0, Answer::NotHere), Progress::Done));
        let errors: Vec<ErrorCode> =
            waiting.topics[0].partitions.iter().map(|partition| partition.error).collect();
        assert_eq!(errors, [ErrorCode::NotLeaderOrFollower, ErrorCode::None]);
        assert_eq!(given(waiting), [0, 100]);
    }
}
