//! Journal files whose readable frames may be of an earlier use than their latest.
//!
//! Does: tell which files lost the opening of their use, and may have been begun again by a use of
//! which nothing is readable; put the frames of all others in order.
//! Does not: decide what becomes of them; the scan does.
//! Invariants: a file is not doubted if its use's own opening is readable, or if the next use's
//! opening continues it.
//! Apart because it looks at uses, and the scan at frames.
//!
//! A recycled or torn file keeps frames of its earlier use behind the blocks written since. As long
//! as one frame of the latest use is readable, its number says that the others are older. If none
//! is, they look like a use whose first block rotted. What they lack is proof: every start counts
//! uses on, so a number that was given out and stands in no file may belong to this one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;

use super::damage::{SetAside, covers};
use super::survey::{Candidate, Survey};
use crate::format::frame::FrameKind;

/// Frames that do not count, as it cannot be told whose they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// In which journal file.
    pub slot: u64,
    /// The lowest sequence among them that would count.
    pub first_sequence: u64,
    /// The highest.
    pub last_sequence: u64,
    /// The last of them that no frame to come can have: those behind it were never proven durable, and
    /// the journal goes on with their sequences.
    spent: u64,
    /// The bytes from the first to the end of the file.
    bytes: Bytes,
}

impl Doubt {
    /// One line for the operator and the log.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { slot, first_sequence, last_sequence, spent: _, bytes: _ } = self;
        format!(
            "journal file {slot} has lost its beginning, and sequences {first_sequence} to \
             {last_sequence} in it may be left over from an earlier use"
        )
    }

    /// The file its bytes are set aside in.
    #[must_use]
    pub fn set_aside(&self) -> SetAside {
        SetAside::new(self.first_sequence, &self.describe(), vec![self.bytes.clone()])
    }

    /// The range that is accepted with them. Not all of them: what is lost later of frames that got the
    /// same sequences would be accepted as well.
    pub(super) fn acceptance(&self) -> (u64, u64) {
        (self.first_sequence, self.spent)
    }

    /// Whether an operator accepted before that they do not count.
    pub(super) fn is_accepted(&self, accepted: &BTreeSet<(u64, u64)>) -> bool {
        covers(accepted, self.acceptance())
    }
}

/// The files in doubt. `known`: the highest use given out, as the watermark's file says; `None` if
/// that is unreadable.
pub(super) fn in_doubt(surveys: &BTreeMap<u16, Survey>, known: Option<u64>) -> BTreeSet<u16> {
    let mut uses: Vec<(u16, &Survey)> =
        surveys.iter().filter(|it| it.1.counter > 0).map(|(slot, it)| (*slot, it)).collect();
    uses.sort_unstable_by_key(|(_, survey)| survey.counter);
    let highest = uses.last().map_or(0, |(_, survey)| survey.counter).max(known.unwrap_or(0));
    let mut doubted = BTreeSet::new();
    for (at, (slot, survey)) in uses.iter().enumerate() {
        let later = &uses[at + 1..];
        let are_all_readable = highest - survey.counter == later.len() as u64;
        let is_latest = are_all_readable && known.is_some();
        let is_continued = later.first().is_some_and(|(_, next)| continues(next, survey));
        if !has_opening(survey) && !is_latest && !is_continued {
            doubted.insert(*slot);
        }
    }
    doubted
}

/// The frames of the latest use of every file, by use and position, without what is no longer
/// needed and without what a later use declared void: it began again at the sequence where an
/// earlier start had cut. Apart from them those of files in doubt, which do not count.
pub(super) fn in_order(
    surveys: &BTreeMap<u16, Survey>,
    doubted: &BTreeSet<u16>,
    floor: u64,
    durable: u64,
) -> (Vec<Candidate>, Vec<Doubt>) {
    let mut uses: Vec<(&u16, &Survey)> = surveys.iter().filter(|it| it.1.counter > 0).collect();
    uses.sort_unstable_by_key(|(_, survey)| survey.counter);
    let (mut limit, mut counted, mut doubts) = (u64::MAX, Vec::new(), Vec::new());
    for (slot, survey) in uses.into_iter().rev() {
        let doubt = doubt_of(*slot, survey, floor..limit, durable);
        let doubt = doubt.filter(|_| doubted.contains(slot));
        // Frames behind a beginning that was never durable are the trace of a torn write.
        if let Some(doubt) = doubt.filter(|doubt| doubt.first_sequence <= durable + 1) {
            doubts.push(doubt);
            continue;
        }
        let frames = survey.current.iter();
        counted.push(frames.clone().filter(move |it| (floor..limit).contains(&it.header.sequence)));
        let first = frames.map(|found| found.header.sequence).min();
        limit = limit.min(first.unwrap_or(u64::MAX));
    }
    (counted.into_iter().rev().flatten().copied().collect(), doubts)
}

/// What those files hold that would count: frames within these sequences. `durable`: what is proven to
/// have been.
fn doubt_of(slot: u16, survey: &Survey, needed: Range<u64>, durable: u64) -> Option<Doubt> {
    let frames = survey.current.iter();
    let counting = frames.filter(|found| needed.contains(&found.header.sequence));
    let sequences = counting.clone().map(|found| found.header.sequence);
    let at = counting.map(|found| found.header.position).min()?;
    let (first_sequence, last_sequence) = (sequences.clone().min()?, sequences.max()?);
    Some(Doubt {
        slot: u64::from(slot),
        first_sequence,
        last_sequence,
        // At least one, so that a start cut short is not followed by the same question.
        spent: last_sequence.min(durable).max(first_sequence),
        bytes: survey.range(at, u64::MAX),
    })
}

fn has_opening(survey: &Survey) -> bool {
    survey.current.first().is_some_and(|found| {
        found.header.kind == FrameKind::Opening && found.header.position == 0 && found.payload_ok
    })
}

/// Whether the opening of `next` follows a frame of `before`.
fn continues(next: &Survey, before: &Survey) -> bool {
    let Some(opening) = next.current.first().filter(|_| has_opening(next)) else { return false };
    before.current.iter().any(|found| {
        found.header.sequence + 1 == opening.header.sequence
            && found.checksum == opening.header.previous
    })
}
