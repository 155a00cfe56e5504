//! The one field of a batch that neither Kafka's checksum nor the offsets give away: the epoch of the
//! leader that appended it.
//!
//! Does: find, by a chunk's checksum, the one epoch in it that is not what was written, and put it right;
//! where no checksum speaks for a batch any more, leave it out if its epoch cannot be.
//! Does not: decide that a chunk is wrong, or change what lies on the disk.
//! Invariants: what was put right fits the chunk's checksum to its last byte; nothing is left out of batches
//! whose epochs never fall and are none that is yet to come.
//! Apart because a bit flipped in these four bytes would otherwise cost a chunk all of its records, or be
//! served.

use bytes::{Bytes, BytesMut};
use flumen_protocol::batch::header::{BatchHeader, MAGIC_AT};
use flumen_protocol::batch::stamp::stamp;
use flumen_protocol::ids::{LeaderEpoch, Offset};

use super::assemble::Batch;
use crate::format::segment::Chunk;
use crate::limits::EPOCH_TRIES_MAX;

/// The epoch ends where the format byte begins.
const EPOCH_END: usize = MAGIC_AT;

/// The batches of a chunk, every one of which passes Kafka's checksum, as they were written: if one epoch
/// is all that is wrong.
pub(super) fn repaired(chunk: &Chunk, bytes: &Bytes, batches: &[Batch]) -> Option<Vec<Batch>> {
    if bytes.len() as u64 != chunk.length {
        return None;
    }
    let wrong = crc32c::crc32c(bytes) ^ chunk.crc;
    let epochs: Vec<LeaderEpoch> = batches.iter().map(epoch_of).collect();
    let is_it = |(place, epoch): &(usize, LeaderEpoch)| {
        let behind = bytes.len() - batches[*place].at - EPOCH_END;
        difference(epochs[*place], *epoch, behind) == wrong
    };
    let (place, epoch) = candidates(&epochs).take(EPOCH_TRIES_MAX).find(is_it)?;
    let mut batches = batches.to_vec();
    let mut right = BytesMut::from(&batches[place].bytes[..]);
    let base = BatchHeader::parse(&right)?.base_offset;
    stamp(&mut right, base, epoch);
    batches[place].bytes = right.freeze();
    Some(batches)
}

/// What each epoch may have been: that of a neighbour, or, where it is like none of them, itself but for
/// a bit.
fn candidates(epochs: &[LeaderEpoch]) -> impl Iterator<Item = (usize, LeaderEpoch)> + '_ {
    let others = move |place: usize| {
        let before = place.checked_sub(1).map(|before| epochs[before]);
        let neighbours = before.into_iter().chain(epochs.get(place + 1).copied());
        neighbours.map(move |other| (other != epochs[place]).then_some(other))
    };
    let places = 0..epochs.len();
    let of_others = places
        .clone()
        .flat_map(move |place| others(place).flatten().map(move |other| (place, other)));
    let lonely = places.filter(move |place| others(*place).all(|other| other.is_some()));
    let but_for_a_bit = lonely.flat_map(move |place| {
        (0..i32::BITS).map(move |bit| (place, LeaderEpoch(epochs[place].0 ^ (1 << bit))))
    });
    of_others.chain(but_for_a_bit)
}

/// By how much two checksums differ if the bytes they are over differ in one epoch, with so many bytes
/// behind it. (A cyclic checksum of a difference does not depend on what is the same.)
fn difference(one: LeaderEpoch, other: LeaderEpoch, behind: usize) -> u32 {
    let crc = |epoch: LeaderEpoch| crc32c::crc32c(&epoch.0.to_be_bytes());
    crc32c::crc32c_combine(crc(one) ^ crc(other), 0, behind)
}

fn epoch_of(batch: &Batch) -> LeaderEpoch {
    BatchHeader::parse(&batch.bytes).map_or(LeaderEpoch::UNKNOWN, |header| header.leader_epoch)
}

/// Leaves out batches whose epochs cannot be: negative, beyond the `newest` there is, or below one before them. Says
/// which offsets that are.
pub(super) fn leave_out_strange(
    batches: &mut Vec<Batch>,
    newest: LeaderEpoch,
) -> Vec<(Offset, Offset)> {
    let mut strange = Vec::new();
    let mut leave_out = |batches: &mut Vec<Batch>, place: usize| {
        let batch = batches.remove(place);
        strange.push((batch.base, batch.last.after(1)));
    };
    let can_be = |batch: &Batch| (LeaderEpoch(0)..=newest).contains(&epoch_of(batch));
    while let Some(place) = batches.iter().position(|batch| !can_be(batch)) {
        leave_out(batches, place);
    }
    loop {
        let epochs: Vec<LeaderEpoch> = batches.iter().map(epoch_of).collect();
        let falls = |two: &[LeaderEpoch]| two[0] > two[1];
        let Some(place) = epochs.windows(2).position(falls) else { break };
        // One of the two is wrong; it is the one without which there is no fall here.
        let fits_without = |left_out: usize| {
            let before = left_out.checked_sub(1).map(|before| epochs[before]);
            before.zip(epochs.get(left_out + 1)).is_none_or(|(before, after)| before <= *after)
        };
        // If that may be either, one that stands alone is less likely than one that others share.
        let is_shared = |at: usize| epochs.iter().filter(|epoch| **epoch == epochs[at]).count() > 1;
        let either = fits_without(place) == fits_without(place + 1);
        let is_known = !either || is_shared(place) != is_shared(place + 1);
        let is_first = if either { is_shared(place + 1) } else { fits_without(place) };
        if !is_known || !is_first {
            leave_out(batches, place + 1);
        }
        if !is_known || is_first {
            leave_out(batches, place);
        }
    }
    strange
}

#[cfg(test)]
mod tests {
    use super::super::assemble::Gaps;
    use super::*;
    use crate::testing::batch;

    /// Ten batches of three records; the first four are of epoch 2, the others of epoch 5.
    fn chunk() -> (Chunk, Vec<Bytes>) {
        let batches = (0..10_i64).map(|n| {
            let mut bytes = BytesMut::from(&batch(3 * n, 3, 100 + n)[..]);
            stamp(&mut bytes, Offset(3 * n), LeaderEpoch(if n < 4 { 2 } else { 5 }));
            bytes.freeze()
        });
        let batches: Vec<Bytes> = batches.collect();
        let bytes = batches.concat();
        let (length, crc) = (bytes.len() as u64, crc32c::crc32c(&bytes));
        let (first, end) = (Offset(0), Offset(30));
        (Chunk { first, end, max_timestamp: 109, position: 0, length, crc }, batches)
    }

    fn with_epoch(batches: &[Bytes], place: usize, epoch: i32) -> Bytes {
        let mut batches = batches.to_vec();
        let mut bytes = BytesMut::from(&batches[place][..]);
        stamp(&mut bytes, Offset(3 * place as i64), LeaderEpoch(epoch));
        batches[place] = bytes.freeze();
        batches.concat().into()
    }

    fn split(bytes: &Bytes) -> Vec<Batch> {
        super::super::assemble::split(bytes, Offset(0), Offset(30), Gaps::None)
            .expect("sound batches")
    }

    #[test]
    fn an_epoch_that_flipped_is_put_right_wherever_it_is() {
        let (chunk, batches) = chunk();
        for place in 0..batches.len() {
            for wrong in [0, 3, 7, 2 | 1 << 20, -1] {
                let bytes = with_epoch(&batches, place, wrong);
                let found = repaired(&chunk, &bytes, &split(&bytes)).expect("it can be told");
                let found: Vec<Bytes> = found.into_iter().map(|batch| batch.bytes).collect();
                assert_eq!(found, batches, "batch {place} as if of {wrong}");
            }
        }
    }

    #[test]
    fn an_epoch_like_no_other_is_put_right_if_it_is_a_bit() {
        let alone = batch(0, 3, 100);
        let (length, crc) = (alone.len() as u64, crc32c::crc32c(&alone));
        let (first, end) = (Offset(0), Offset(3));
        let chunk = Chunk { first, end, max_timestamp: 100, position: 0, length, crc };
        for bit in 0..32 {
            let mut bytes = alone.to_vec();
            bytes[12 + bit / 8] ^= 1 << (bit % 8);
            let bytes = Bytes::from(bytes);
            let split = super::super::assemble::split(&bytes, first, end, Gaps::None)
                .expect("a sound batch");
            let found = repaired(&chunk, &bytes, &split).expect("it can be told");
            assert_eq!(found[0].bytes, alone, "bit {bit}");
        }
    }

    #[test]
    fn two_wrong_epochs_cannot_be_told() {
        let (chunk, batches) = chunk();
        let one = with_epoch(&batches, 1, 6);
        let both = [&one[..one.len() / 2], &with_epoch(&batches, 8, 3)[one.len() / 2..]].concat();
        let both = Bytes::from(both);
        assert_eq!(repaired(&chunk, &both, &split(&both)), None);
    }

    #[test]
    fn epochs_that_cannot_be_are_left_out_and_others_are_not() {
        let (_, batches) = chunk();
        let mut sound = split(&batches.concat().into());
        assert_eq!(leave_out_strange(&mut sound, LeaderEpoch(5)), []);
        assert_eq!(sound.len(), 10);
        for (place, wrong) in [(1, 3), (1, 0), (4, 6), (9, 6), (9, 1), (0, 3), (7, 4), (0, -9)] {
            let mut left = split(&with_epoch(&batches, place, wrong));
            let (from, until) = (Offset(3 * place as i64), Offset(3 * place as i64 + 3));
            assert_eq!(leave_out_strange(&mut left, LeaderEpoch(5)), [(from, until)]);
            assert_eq!(left.len(), 9, "batch {place} as if of {wrong}");
        }
    }
}
