//! A consumer without a group: reads somewhere, follows, jumps; and in the end reads everything.
//!
//! Does: fetch with all kinds of limits and waits, everything or only what is committed in transactions.
//! Does not: write or commit.
//! Invariants: its last reading of a place begins where the log begins and ends where it ended when it got there.
//! Apart because it is the witness of everything else.

use std::collections::VecDeque;

use bytes::Bytes;
use flumen_protocol::error_code::ErrorCode;
use flumen_replication::partition::Isolation;

use super::client::{Context, Line, PARTITIONS, TABLE, TOPICS};
use super::fetching::{self, EARLIEST, FETCH, LATEST, LIST_OFFSETS};
use super::heap::{MILLIS, Nanos};
use super::history::{BIRTH, Happening, Place, Since, Value};
use super::transacted::Transacted;
use super::writer::is_retriable;

const RETRY: Nanos = 50 * MILLIS;
/// So many refusals of what is known to be damaged are no accident, and so many of what is not.
const REFUSALS: u32 = 5;
const REFUSALS_UNEXPLAINED: u32 = 400;
/// How long it waits in the end for transactions that are not decided, in milliseconds: longer than any may take.
const PATIENCE_MS: u64 = 40_000;

/// What a reader asks.
pub enum Question {
    Fetch(Since),
    /// The first record of a time or later.
    Time(i64, Since),
    /// EARLIEST or LATEST.
    Offset(i64, Since),
}

/// The reading of a whole log, so far.
struct Whole {
    start: i64,
    end: i64,
    records: Vec<(i64, Value)>,
}

/// A consumer without a group.
pub struct Reader {
    isolation: Isolation,
    line: Line<Question>,
    place: Place,
    position: Option<i64>,
    /// Places to be read whole, once it is the end. `None` before.
    left: Option<VecDeque<Place>>,
    whole: Option<Whole>,
    /// It asks behind the end, to hear whether something is lost there.
    is_probing: bool,
    /// How often the same fetch was refused.
    refusals: u32,
    /// Something was refused for good that nobody damaged: the life is broken.
    is_wronged: bool,
    /// Since when it reads everything and waits for transactions, if it does.
    waits_since: Option<(Since, Nanos)>,
}

impl Reader {
    /// A reader that has read nothing.
    pub fn new(isolation: Isolation) -> Self {
        Self {
            isolation,
            line: Line::new(),
            place: Place { topic: 0, partition: 0 },
            position: Some(0),
            left: None,
            whole: None,
            is_probing: false,
            refusals: 0,
            is_wronged: false,
            waits_since: None,
        }
    }

    /// From now on it reads everything there is, once; but what is compacted once more: a deletion may be
    /// forgotten between what it deletes and itself, where somebody reads while that is cleaned.
    pub fn read_all_once(&mut self, partitions: i32) {
        if self.left.is_some() {
            return;
        }
        let count = |topic| if topic == 0 { partitions } else { PARTITIONS };
        let topics = 0..TOPICS.len() as u8;
        let places = topics
            .flat_map(|topic| (0..count(topic)).map(move |partition| Place { topic, partition }));
        let again = (0..PARTITIONS).map(|partition| Place { topic: TABLE, partition });
        self.left = Some(places.chain(again).collect());
    }

    /// Whether it has read everything.
    pub fn is_done(&self) -> bool {
        self.left.as_ref().is_some_and(VecDeque::is_empty)
    }

    /// What it waits for, for a report.
    pub fn describe(&self) -> String {
        format!(
            "a reader is at {:?}@{:?}, {} left",
            self.place,
            self.position,
            self.left.as_ref().map_or(0, VecDeque::len)
        )
    }

    /// Time has come to do something.
    pub fn wake(&mut self, context: &mut Context<'_>) {
        self.line.mind_patience(context);
        if self.line.open() == 0 {
            self.go_on(context);
        }
        context.wake_in(500 * MILLIS);
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        match self.left.as_ref().map(|left| left.front().copied()) {
            None => self.wander(context),
            Some(Some(place)) if self.whole.is_none() || self.place != place => {
                (self.place, self.position) = (place, None);
                self.whole = Some(Whole { start: -1, end: -1, records: Vec::new() });
            }
            Some(Some(_)) => {}
            Some(None) => return,
        }
        let may_look_up = self.isolation == Isolation::ReadUncommitted && self.left.is_none();
        if may_look_up && context.dice.below(12) == 0 {
            return self.ask_time(context);
        }
        let Some(position) = self.position else {
            let which =
                if self.left.is_some() || context.dice.below(2) == 0 { EARLIEST } else { LATEST };
            let since = context.ask();
            let request = fetching::offset_request(self.isolation, self.place, which);
            return self.line.send(context, LIST_OFFSETS, &request, Question::Offset(which, since));
        };
        let (wait_ms, max_bytes) = match self.left {
            Some(_) if self.waits_since.is_some() => (1_000, 1 << 20),
            Some(_) => (0, 1 << 20),
            None => (context.dice.below(2000) as i32, 1 << context.dice.below(21)),
        };
        let since = context.ask();
        let wanted = [(self.place, position)];
        let request = fetching::request(self.isolation, &wanted, wait_ms, max_bytes);
        self.line.send(context, FETCH, &request, Question::Fetch(since));
    }

    fn ask_time(&mut self, context: &mut Context<'_>) {
        let time = BIRTH + context.dice.below(2_000) as i64;
        let since = context.ask();
        let request = fetching::offset_request(self.isolation, self.place, time);
        self.line.send(context, LIST_OFFSETS, &request, Question::Time(time, since));
    }

    /// Now and then it reads elsewhere.
    fn wander(&mut self, context: &mut Context<'_>) {
        if context.dice.below(20) == 0 {
            let topic = context.dice.below(TOPICS.len() as u64) as u8;
            let partitions = if topic == 0 { *context.partitions } else { PARTITIONS };
            let partition = context.dice.below(partitions as u64) as i32;
            self.place = Place { topic, partition };
            self.position = (context.dice.below(3) == 0).then_some(0);
        }
    }

    /// A frame came.
    pub fn answered(&mut self, context: &mut Context<'_>, frame: Bytes) {
        let (question, answer) = self.line.answered(context.now, frame);
        let outcome = match question {
            Question::Offset(which, since) => {
                let asked = (self.place, which);
                let told = fetching::take_offset(context, answer, self.isolation, asked, since);
                told.map(|offset| self.begin_at(offset))
            }
            Question::Time(time, since) => {
                fetching::take_time(context, answer, self.place, time, since)
            }
            Question::Fetch(since) => {
                let wanted = [(self.place, self.position.expect("a fetch has a position"))];
                let mut given = fetching::take(context, answer, self.isolation, &wanted, since);
                self.take(context, given.remove(0))
            }
        };
        match outcome {
            Ok(()) => self.go_on(context),
            Err(code) => {
                assert!(is_retriable(code), "{:?} cannot be read: {code:?}", self.place);
                if code == ErrorCode::KafkaStorageError {
                    self.meet_damage(context);
                }
                context.wake_in(RETRY);
            }
        }
    }

    /// A fetch is refused: goes on behind what is damaged, if it is; at the end only when the refusal lasts.
    fn meet_damage(&mut self, context: &mut Context<'_>) {
        let Some(from) = self.position else { return };
        if self.is_probing {
            context.history.note(Happening::Held(self.place));
            return self.end_whole(context);
        }
        let damage = context.history.past_damage(self.place, from);
        if self.left.is_none() {
            // Whatever it was, there are other places.
            self.position = damage;
            return;
        }
        self.refusals += 1;
        let enough = match damage {
            Some(_) => REFUSALS,
            // The next offsets are refused as well, and the life is not to end before all of it was read.
            None if self.is_wronged => 1,
            None => REFUSALS_UNEXPLAINED,
        };
        if self.refusals >= enough {
            self.is_wronged |= damage.is_none();
            let (place, to) = (self.place, damage.unwrap_or(from + 1));
            context.history.note(Happening::Denied { place, from, to });
            (self.refusals, self.position) = (0, Some(to));
        }
    }

    /// The log was read whole.
    fn end_whole(&mut self, context: &mut Context<'_>) {
        let Whole { start, end, records } = self.whole.take().expect("it reads a whole log");
        let place = self.place;
        context.history.note(match self.isolation {
            Isolation::ReadUncommitted => Happening::ReadWhole { place, start, end, records },
            Isolation::ReadCommitted => {
                Happening::Transacted(Transacted::ReadCommitted { place, start, end, records })
            }
        });
        self.left.as_mut().expect("it reads whole logs").pop_front();
        (self.refusals, self.is_probing) = (0, false);
    }

    fn begin_at(&mut self, offset: i64) {
        self.position = Some(offset);
        if let Some(whole) = &mut self.whole {
            (whole.start, whole.records) = (offset, Vec::new());
        }
    }

    fn take(&mut self, context: &mut Context<'_>, given: fetching::Given) -> Result<(), ErrorCode> {
        match given.code {
            ErrorCode::None | ErrorCode::OffsetOutOfRange if self.is_probing => {
                self.end_whole(context);
                return Ok(());
            }
            ErrorCode::None => {}
            // Deleted while we read, or lost by a relaxed topic in a power cut.
            ErrorCode::OffsetOutOfRange => {
                self.position = None;
                return Ok(());
            }
            refused => return Err(refused),
        }
        self.position = Some(given.next);
        let Some(whole) = &mut self.whole else { return Ok(()) };
        whole.end = given.end;
        whole.records.extend(given.records);
        if given.next >= given.end {
            if given.is_undecided && self.waits(context) {
                return Ok(());
            }
            if !context.history.may_miss_its_end(self.place) {
                self.end_whole(context);
            } else {
                (self.is_probing, self.position) = (true, Some(given.end + 1));
            }
        }
        Ok(())
    }

    /// Something is not decided here, when nobody begins anything any more. Whether that may still be.
    fn waits(&mut self, context: &mut Context<'_>) -> bool {
        let begun = self.waits_since.unwrap_or_else(|| (context.ask(), context.now));
        self.waits_since = Some(begun);
        let (since, waited_ms) = (begun.0, (context.now - begun.1) / MILLIS);
        let place = self.place;
        context.history.note_transacted(Transacted::Undecided { place, waited_ms, since });
        waited_ms < PATIENCE_MS
    }

    /// The connection is gone.
    pub fn closed(&mut self, context: &mut Context<'_>) {
        self.line.closed();
        context.wake_in(RETRY);
    }
}
