//! Fetch (key 1, versions 4–18): read records, waiting for them if asked to.
//!
//! - Whole batches from the one that contains the offset (G58); the first partition with data
//!   gives at least one batch whatever the limits say, the others keep to them (G59, KIP-74).
//! - Answers at once when there is enough, nothing to wait for, or an error; otherwise waits and
//!   the owners push what becomes visible (G61, G62). No polling.
//! - Topics by name up to version 12, by id from 13 (G66).
//!
//! Deviations: no fetch sessions yet: every answer says session 0, which declines them, and a step
//! of a session that another broker gave is FETCH_SESSION_ID_NOT_FOUND (G69); a fetch in the name of
//! a replica closes the connection; `read_committed` equals `read_uncommitted` while there are no
//! transactions.
//! KIPs: 74, 227 (declined), 320 (epochs), 516 (ids).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::hot::fetch::{
    FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic,
    FetchTopicResponse, IsolationLevel,
};
use flumen_protocol::ids::{LogId, NodeId, Offset, PartitionIndex, TopicId};
use flumen_protocol::messages::StrBytes;
use flumen_replication::metadata::image::Topic;

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
    bytes: usize,
    bytes_min: usize,
    /// What the client may have in one answer, and the memory of this core.
    bytes_max: usize,
    /// Bytes of memory set aside for the first answers.
    bytes_aside: usize,
    /// How long to wait for news. What is there is read however long that takes: a fetch that may
    /// not wait is still answered with the records there are.
    patience: Duration,
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

/// Checks the request and asks the owners to read.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, body: &[u8]) -> Step {
    let Ok(request) = FetchRequest::parse(body, envelope.version) else {
        return Step::Close("malformed fetch request");
    };
    if request.replica_id != NodeId::NONE {
        // Only a broker of this cluster may read as a replica (CVE-2018-1288), and there is none.
        return Step::Close("a fetch in the name of a replica");
    }
    if request.session_epoch > 0 {
        // The next step of a session, begun with whoever served this address before us.
        return refuse_session(envelope);
    }
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0);
    let bytes_max = bytes_max.min(FETCH_ANSWER_BYTES).min(context.answer_bytes_max);
    let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max);
    let patience = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let mut waiting = Waiting {
        topics: Vec::with_capacity(request.topics.len()),
        wanted: Vec::new(),
        missing: 0,
        watching: false,
        urgent: patience.is_zero(),
        bytes: 0,
        bytes_min,
        bytes_max,
        bytes_aside: 0,
        patience,
    };
    let committed_only = request.isolation == IsolationLevel::ReadCommitted;
    // With a single partition there is nothing to compare, and nothing to allocate.
    let mut named = match &request.topics[..] {
        [only] if only.partitions.len() == 1 => None,
        _ => Some(Named::default()),
    };
    for topic in request.topics {
        waiting.add_topic(context, topic, committed_only, &mut named);
    }
    if waiting.wanted.is_empty() {
        return waiting.close(envelope);
    }
    let parts = waiting.questions(Question::Read);
    waiting.missing = parts.len();
    let most: usize = waiting.wanted.iter().map(|wanted| wanted.bytes_max).sum();
    // Whatever the limits, there may be a first batch.
    waiting.bytes_aside = most.min(bytes_max).max(FETCH_ANSWER_BYTES_MIN);
    Step::Wait(Wait { waiting: AnyWaiting::Fetch(waiting), parts, patience: None })
}

/// An unknown session: the client begins anew with a full list.
fn refuse_session(envelope: &Envelope) -> Step {
    let response = FetchResponse {
        error: ErrorCode::FetchSessionIdNotFound,
        session_id: 0,
        throttle_ms: 0,
        topics: Vec::new(),
        node_endpoints: Vec::new(),
    };
    Step::Answer(response.encode(envelope.version, envelope.correlation_id))
}

impl Waiting {
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
                    self.wanted.push(Wanted { log, place, bytes_max, question });
                    answers.push(nothing(&partition));
                }
                None => {
                    self.urgent = true;
                    answers.push(FetchPartitionResponse { error: unknown, ..nothing(&partition) });
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

    /// One question per partition that is not at fault.
    fn questions(&self, kind: impl Fn(ReadQuestion) -> Question) -> Vec<Part> {
        let sound = |wanted: &&Wanted| {
            self.topics[wanted.place.0].partitions[wanted.place.1].error == ErrorCode::None
        };
        self.wanted
            .iter()
            .enumerate()
            .filter(|(_, wanted)| sound(wanted))
            .map(|(number, wanted)| Part {
                number: number as u32,
                to: Addressee::Owner(wanted.log),
                question: kind(wanted.question),
            })
            .collect()
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
        if self.missing > 0 {
            return Progress::Open;
        }
        if self.urgent || self.bytes >= self.bytes_min {
            return Progress::Done;
        }
        if self.watching {
            // This partition's watcher fired and is spent: set it again where we are now.
            let wanted = &self.wanted[part as usize];
            let question = Question::Watch(wanted.question);
            let to = Addressee::Owner(wanted.log);
            return Progress::Ask(vec![Part { number: part, to, question }]);
        }
        self.watching = true;
        Progress::AskWithin(self.questions(Question::Watch), self.patience)
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
        wanted.question.from = records.next;
        wanted.question.max_bytes = left as u32;
        // Its first batch may be over the limit whenever it comes.
        wanted.question.at_least_one &= bytes == 0;
        place.records.extend(records.batches);
        self.bytes += bytes;
    }

    fn fail(&mut self, part: usize, refused: Refused) {
        let (topic, partition) = self.wanted[part].place;
        let place = &mut self.topics[topic].partitions[partition];
        place.error = refused.code;
        // Whatever came before belongs to a log that is no more, or no more ours.
        place.records.clear();
        self.urgent = true;
    }

    /// The parts and logs whose owners may still push news.
    pub fn watched(&self) -> Vec<(u32, LogId)> {
        if !self.watching {
            return Vec::new();
        }
        let logs = self.wanted.iter().map(|wanted| wanted.log);
        (0..).zip(logs).collect()
    }

    /// Answers with what is there.
    pub fn close(mut self, envelope: &Envelope) -> Step {
        self.keep_to_limits();
        let response = FetchResponse {
            error: ErrorCode::None,
            session_id: 0,
            throttle_ms: 0,
            topics: self.topics,
            node_endpoints: Vec::new(),
        };
        Step::Answer(response.encode(envelope.version, envelope.correlation_id))
    }

    /// Every partition was read up to its own limit, over it for its first batch: cuts, in request
    /// order, what the limits do not let through. The first batch of all always stays (KIP-74);
    /// a small batch may follow where a large one did not fit.
    fn keep_to_limits(&mut self) {
        let mut left = self.bytes_max;
        let mut first = true;
        for wanted in &self.wanted {
            let (topic, partition) = wanted.place;
            let records = &mut self.topics[topic].partitions[partition].records;
            let mut own_left = wanted.bytes_max;
            let fitting = records.iter().take_while(|batch| {
                let fits = first || batch.len() <= left.min(own_left);
                if fits {
                    first = false;
                    left = left.saturating_sub(batch.len());
                    own_left = own_left.saturating_sub(batch.len());
                }
                fits
            });
            let keep = fitting.count();
            records.truncate(keep);
        }
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
fn nothing(partition: &FetchPartition) -> FetchPartitionResponse {
    FetchPartitionResponse {
        index: partition.index,
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

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{LeaderEpoch, PartitionIndex, TopicId};

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
            bytes: 0,
            bytes_min: *bytes.start(),
            bytes_max: *bytes.end(),
            bytes_aside: *bytes.end(),
            patience: Duration::from_secs(1),
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
            });
            waiting.topics[0].partitions.push(nothing(&asked));
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
        }))
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
