//! What damage to the journal took from each log, and what becomes of the log.
//!
//! Does: find the logs that lost entries, lay out quarantine files for what lies intact behind the
//! loss, note in the manifest's image that such a log is held and which frames are void; let go of
//! holds when an operator accepts the loss.
//! Does not: judge frames, or write; the opener writes quarantine files, then the manifest.
//! Invariants: the same bytes give the same files and the same notes, however often a start is cut
//! short; once the notes are durable no later start sees the frames behind the loss again.
//! Apart because here, and only here, acknowledged records leave a log.
//!
//! ```text
//!  journal: 1 2 x 4 5   --> quarantine files (x, and 4 5) --> manifest: held at 2, void after 2
//!  later:   1 2 x 4 5 | 3' ...     frames after the sequence the void names are the log's own
//!  accepted: the hold goes, the void stays until the watermark says that nobody needs such frames
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use flumen_protocol::entry::{Entry, Payload};
use flumen_protocol::ids::{LogId, LogIndex, Offset};

use super::damage::{SetAside, Victim};
use super::doubt::Doubt;
use super::scan::JournalScan;
use super::truncate::Replay;
use crate::manifest::hold::{Hold, Void};
use crate::manifest::image::{Image, LogImage};
use crate::op::{DiskOp, OpIds, Quarantined};

/// What this start found lost, and no earlier one had.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Logs that lost something no earlier start knew of.
    new: BTreeMap<LogId, Hold>,
}

impl Losses {
    /// Finds out which logs lost entries, and lays out what is to be set aside of them. `deleted`
    /// says which logs the journal knows as deleted.
    pub(super) fn find(
        scan: &JournalScan,
        image: &Image,
        deleted: &BTreeMap<LogId, u64>,
        replays: &mut BTreeMap<LogId, Replay>,
    ) -> (Self, Vec<SetAside>) {
        let victims = victims_by_log(scan, image, deleted);
        for log in victims.keys() {
            replays.entry(*log).or_insert_with(|| replay_after(&LogImage::empty()));
        }
        let (mut new, mut aside) = (BTreeMap::new(), Vec::new());
        for (log, replay) in replays {
            let victims = victims.get(log).map_or(&[][..], Vec::as_slice);
            if let Some((hold, behind)) = loss_of(*log, replay, victims) {
                new.insert(*log, hold);
                aside.extend(behind);
            }
        }
        (Self { new }, aside)
    }

    /// Notes in the image what the manifest is to say from now on; everything laid out is durable.
    /// With `accepts` an operator gives up what is lost: says what, a line each.
    pub(super) fn note(
        self,
        scan: &JournalScan,
        image: &mut Image,
        replays: &mut BTreeMap<LogId, Replay>,
        accepts: bool,
    ) -> Vec<String> {
        forget_what_is_gone(scan, image);
        // What tells whose they were may be recycled before they are, and then nobody could tell.
        let told = scan.damaged.iter().filter(|range| range.identified);
        image.accepted.extend(told.map(|range| (range.first_sequence, range.last_sequence)));
        let sequence = scan.start.next_sequence - 1;
        for (log, hold) in self.new {
            let replay = replays.get_mut(&log).expect("a log that lost something was replayed");
            let known = image.logs.entry(log).or_insert_with(LogImage::empty);
            known.void = Some(Void { after: replay.end().0, sequence });
            known.hold = Some(hold.joined(known.hold.take()));
            end_here(replay, known);
        }
        // A start may be recorded before the entries below it are durable: on a relaxed topic, or
        // where a disk lost them without a word. Without them the log begins where it ends.
        for (log, replay) in replays.iter() {
            let (_, end) = replay.end();
            if let Some(known) = image.logs.get_mut(log) {
                known.start = known.start.min(end);
            }
        }
        let lines = if accepts { accept(scan, image, replays) } else { Vec::new() };
        prove_promises(image, accepts, replays);
        lines
    }
}

/// A promise is no entry: where nothing is lost but it, no log misses anything. So wherever frames are known to be
/// lost, since this start or an earlier one, entries prove what was promised. Where none is, a log without
/// its promise is not ours, and does not open.
fn prove_promises(image: &Image, accepts: bool, replays: &mut BTreeMap<LogId, Replay>) {
    if accepts || !image.accepted.is_empty() {
        replays.values_mut().for_each(Replay::repair_term);
    }
}

/// Frames that were void, or given up, need no note any more once the watermark's file, which was flushed,
/// says that nobody needs them. What only the opening of a file says is not enough: a start may find that
/// this file ends before its opening, and write over it.
fn forget_what_is_gone(scan: &JournalScan, image: &mut Image) {
    let is_gone = |sequence: u64| sequence < scan.start.watermark.floor;
    image.accepted.retain(|(_, last)| !is_gone(*last));
    for known in image.logs.values_mut() {
        known.void = known.void.filter(|void| !is_gone(void.sequence));
    }
}

/// The replay a log begins with: what is in segments.
pub(super) fn replay_after(image: &LogImage) -> Replay {
    Replay::new(image.settled, image.settled_end, image.hard_state)
}

/// Names an operator's decision: everything that is lost is given up.
fn accept(
    scan: &JournalScan,
    image: &mut Image,
    replays: &mut BTreeMap<LogId, Replay>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for range in scan.damaged.iter().filter(|range| !range.identified) {
        if !range.is_accepted(&image.accepted) {
            image.accepted.insert((range.first_sequence, range.last_sequence));
            lines.push(format!("{}; they are in {}", range.describe(), range.set_aside().name));
        }
    }
    for doubt in scan.doubts.iter().filter(|doubt| !doubt.is_accepted(&image.accepted)) {
        lines.push(format!("{}; they are in {}", doubt.describe(), doubt.set_aside().name));
    }
    image.accepted.extend(scan.doubts.iter().map(Doubt::acceptance));
    if scan.is_suspicious {
        let sequence = scan.start.next_sequence;
        lines.push(format!("the journal from sequence {sequence} on, where it is broken"));
    }
    for (log, replay) in replays {
        let known = image.logs.entry(*log).or_insert_with(LogImage::empty);
        let (last, end) = replay.end();
        if let Some(hold) = known.hold.take() {
            lines.push(format!("{log}: {hold}; the log goes on from offset {end}"));
        }
        // Of what was lost without a trace only a promise may still speak.
        if replay.hard_state.commit > last {
            let commit = replay.hard_state.commit;
            lines.push(format!("{log}: entries {} to {commit} are gone", last.next()));
            end_here(replay, known);
        }
    }
    lines
}

/// The log ends where its replay does, also for what the manifest says of it.
fn end_here(replay: &mut Replay, known: &mut LogImage) {
    replay.end_here();
    let (last, end) = replay.end();
    known.hard_state = replay.hard_state;
    known.start = known.start.min(end);
    // The state may know of records that are gone. Its owner forgets those; without any of it, it would
    // forget what was under way before them.
    known.applied = known.applied.min(last);
}

/// What is known to be damaged of each log, and in which files it is set aside. What an earlier
/// start has dealt with, or a deletion, is left out.
fn victims_by_log(
    scan: &JournalScan,
    image: &Image,
    deleted: &BTreeMap<LogId, u64>,
) -> BTreeMap<LogId, Vec<(Victim, Quarantined)>> {
    let mut victims: BTreeMap<LogId, Vec<(Victim, Quarantined)>> = BTreeMap::new();
    for range in scan.damaged.iter().filter(|range| !range.victims.is_empty()) {
        let name = range.set_aside().name;
        for victim in &range.victims {
            let log = victim.log;
            let ended = image.deleted.get(&log).max(deleted.get(&log));
            let void = image.logs.get(&log).and_then(|known| known.void);
            let counts = ended.is_none_or(|ended| range.first_sequence > *ended);
            let frames = (range.first_sequence, range.last_sequence);
            if let Some(victim) = left_of(*victim, frames, void).filter(|_| counts) {
                victims.entry(log).or_default().push((victim, name));
            }
        }
    }
    victims
}

/// What is left to miss of a victim whose frames lie between these sequences, both included, where the
/// manifest calls some void. What was void and is damaged again must not be missed again: entries that
/// were appended since have the same indexes, so that the log would end in the midst of what it seems
/// to miss.
fn left_of(victim: Victim, (first, last): (u64, u64), void: Option<Void>) -> Option<Victim> {
    let Some(void) = void.filter(|void| void.covers(first, victim.last)) else {
        return Some(victim);
    };
    if void.covers(first, victim.first) {
        return None;
    }
    // Frames that are younger than the note may be of any of them.
    let is_older = last <= void.sequence;
    Some(if is_older { Victim { last: void.after, until: None, ..victim } } else { victim })
}

/// What a log lost, if it did: what lies in segments already was not lost with its frame, nor what
/// a later frame repeats.
fn loss_of(
    log: LogId,
    replay: &Replay,
    victims: &[(Victim, Quarantined)],
) -> Option<(Hold, Option<SetAside>)> {
    let (last_kept, end) = replay.end();
    let lost: Vec<&(Victim, Quarantined)> =
        victims.iter().filter(|(victim, _)| victim.last > last_kept).collect();
    let behind = replay.behind();
    let last_lost = lost.iter().map(|(victim, _)| victim.last);
    let last = last_lost.chain(behind.last().map(|(_, entry)| entry.index)).max()?;
    let known_ends = lost.iter().filter_map(|(victim, _)| victim.until);
    let ends_behind = behind.iter().filter_map(|(_, entry)| end_of(entry));
    let until = known_ends.chain(ends_behind).fold(end, Offset::max);
    let aside = set_aside(log, last_kept, behind);
    let mut files: Vec<Quarantined> = lost.iter().map(|(_, name)| *name).collect();
    files.extend(aside.iter().map(|aside| aside.name));
    files.sort_unstable();
    files.dedup();
    Some((Hold { first: last_kept.next(), last, end, until, files }, aside))
}

/// Intact batches behind a gap, back to back as in a segment.
fn set_aside(log: LogId, last_kept: LogIndex, behind: &[(u64, Entry)]) -> Option<SetAside> {
    let (sequence, first) = behind.first()?;
    let (_, last) = behind.last()?;
    let batches = behind.iter().filter_map(|(_, entry)| match &entry.payload {
        Payload::Records(records) => Some(records.bytes.clone()),
        Payload::Empty | Payload::Control(_) => None,
    });
    let batches: Vec<Bytes> = batches.collect();
    let (first, last, count) = (first.index, last.index, batches.len());
    let text = format!(
        "{count} intact batches of {log}, of entries {first} to {last}, which could not be kept \
         because what follows entry {last_kept} is damaged"
    );
    Some(SetAside::new(*sequence, &text, batches))
}

fn end_of(entry: &Entry) -> Option<Offset> {
    match &entry.payload {
        Payload::Records(records) => Some(records.last_offset.after(1)),
        Payload::Empty | Payload::Control(_) => None,
    }
}

/// The operations that write what is laid out.
pub(super) fn ops(aside: Vec<SetAside>, ids: &mut OpIds, out: &mut Vec<DiskOp>) {
    out.extend(aside.into_iter().map(|aside| aside.into_op(ids)));
}

#[cfg(test)]
mod tests {
    use flumen_protocol::entry::{Entry, HardState, Payload};
    use flumen_protocol::ids::{PartitionIndex, Term, TopicId};

    use super::*;

    /// Simulated life 11028939: the promise of a term was lost, its entries were not, and the node did not start.
    #[test]
    fn entries_prove_a_promise_where_frames_are_lost_and_only_there() {
        let log = LogId { topic: TopicId([1; 16]), partition: PartitionIndex(0) };
        let term_after = |lost: &[(u64, u64)], accepts| {
            let mut image = Image::default();
            image.accepted.extend(lost);
            let promise = HardState { term: Term(2), vote: None, commit: LogIndex(1) };
            let mut replay = Replay::new((LogIndex(0), Term(0)), Offset::ZERO, promise);
            let entry = Entry { index: LogIndex(1), term: Term(3), payload: Payload::Empty };
            replay.take_entry(60, entry);
            let mut replays = BTreeMap::from([(log, replay)]);
            prove_promises(&image, accepts, &mut replays);
            replays[&log].hard_state.term
        };
        assert_eq!(term_after(&[(52, 52)], false), Term(3));
        assert_eq!(term_after(&[], true), Term(3), "a journal that broke was accepted as it is");
        assert_eq!(term_after(&[], false), Term(2));
    }

    #[test]
    fn what_is_void_is_not_missed_again() {
        let log = LogId { topic: TopicId([1; 16]), partition: PartitionIndex(0) };
        let until = Some(Offset(90));
        let victim =
            |first, last| Victim { log, first: LogIndex(first), last: LogIndex(last), until };
        let void = Void { after: LogIndex(45), sequence: 265 };
        let left = |first, last, frames| left_of(victim(first, last), frames, Some(void));
        assert_eq!(left(42, 45, (239, 261)), Some(victim(42, 45)), "none of it is void");
        assert_eq!(left(46, 47, (239, 261)), None, "all of it is void");
        let clipped = Victim { until: None, ..victim(42, 45) };
        assert_eq!(left(42, 47, (239, 265)), Some(clipped));
        assert_eq!(left(42, 47, (239, 266)), Some(victim(42, 47)), "some of it is younger");
        assert_eq!(left(46, 47, (266, 270)), Some(victim(46, 47)), "all of it is younger");
        assert_eq!(left_of(victim(46, 47), (1, 2), None), Some(victim(46, 47)));
    }
}
