//! A consumer without a group: reads somewhere, follows, jumps; and in the end reads everything.
//!
//! Does: fetch with all kinds of limits and waits.
//! Does not: write or commit.
//! Invariants: its last reading of a place begins where the log begins and ends where it ended when it got there.
//! Apart because it is the witness of everything else.

use std::collections::VecDeque;

use bytes::Bytes;
use flumen_protocol::error_code::ErrorCode;

use super::client::{Context, Line, PARTITIONS, TOPICS};
use super::fetching::{self, EARLIEST, FETCH, LATEST, LIST_OFFSETS};
use super::heap::{MILLIS, Nanos};
use super::history::{Happening, Place, Since, Value};
use super::writer::is_retriable;

const RETRY: Nanos = 50 * MILLIS;

/// What a reader asks.
pub enum Question {
    Fetch(Since),
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
    line: Line<Question>,
    place: Place,
    position: Option<i64>,
    /// Places to be read whole, once it is the end. `None` before.
    left: Option<VecDeque<Place>>,
    whole: Option<Whole>,
}

impl Reader {
    /// A reader that has read nothing.
    pub fn new() -> Self {
        let place = Place { topic: 0, partition: 0 };
        Self { line: Line::new(), place, position: Some(0), left: None, whole: None }
    }

    /// From now on it reads everything there is, once.
    pub fn read_all_once(&mut self, partitions: i32) {
        if self.left.is_some() {
            return;
        }
        let count = |topic| if topic == 0 { partitions } else { PARTITIONS };
        let topics = 0..TOPICS.len() as u8;
        let places = topics
            .flat_map(|topic| (0..count(topic)).map(move |partition| Place { topic, partition }));
        self.left = Some(places.collect());
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
        let Some(position) = self.position else {
            let which =
                if self.left.is_some() || context.dice.below(2) == 0 { EARLIEST } else { LATEST };
            let since = context.ask();
            let request = fetching::offset_request(self.place, which);
            return self.line.send(context, LIST_OFFSETS, &request, Question::Offset(which, since));
        };
        let (wait_ms, max_bytes) = match self.left {
            Some(_) => (0, 1 << 20),
            None => (context.dice.below(2000) as i32, 1 << context.dice.below(21)),
        };
        let since = context.ask();
        let request = fetching::request(&[(self.place, position)], wait_ms, max_bytes);
        self.line.send(context, FETCH, &request, Question::Fetch(since));
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
                let told = fetching::take_offset(context, answer, self.place, which, since);
                told.map(|offset| self.begin_at(offset))
            }
            Question::Fetch(since) => {
                let wanted = [(self.place, self.position.expect("a fetch has a position"))];
                let given = fetching::take(context, answer, &wanted, since).remove(0);
                self.take(context, given)
            }
        };
        match outcome {
            Ok(()) => self.go_on(context),
            Err(code) => {
                assert!(is_retriable(code), "{:?} cannot be read: {code:?}", self.place);
                context.wake_in(RETRY);
            }
        }
    }

    fn begin_at(&mut self, offset: i64) {
        self.position = Some(offset);
        if let Some(whole) = &mut self.whole {
            (whole.start, whole.records) = (offset, Vec::new());
        }
    }

    fn take(&mut self, context: &mut Context<'_>, given: fetching::Given) -> Result<(), ErrorCode> {
        match given.code {
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
            let Whole { start, end, records } = self.whole.take().expect("it was just there");
            let place = self.place;
            context.history.note(Happening::ReadWhole { place, start, end, records });
            self.left.as_mut().expect("it reads whole logs").pop_front();
        }
        Ok(())
    }

    /// The connection is gone.
    pub fn closed(&mut self, context: &mut Context<'_>) {
        self.line.closed();
        context.wake_in(RETRY);
    }
}
