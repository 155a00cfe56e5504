//! Good batches out of bytes that nothing vouches for, however they were cut into pieces.
//!
//! Does: walk from batch to batch; where one is not what it should be, look for the next one that
//! is, over as many pieces as it takes; name what is lost in between by offsets.
//! Does not: read; say what was wrong.
//! Invariants: a batch is given only if checksum and offset are right; batches and lost ranges
//! follow each other without gap or overlap from the first offset on; what lies behind the bytes
//! at hand is never called lost.
//!
//! No checksum of Kafka's covers a batch's offset. While walking the batch before says what it must
//! be; behind damage a neighbour has to vouch for it: the damaged batches before (their lengths and
//! counts of offsets lead to this place and this offset), the one behind (it begins with the offset
//! after this one's last), or the end. A batch that stands alone between two damaged ones that say
//! nothing is lost with them: one with a wrong offset would look the same. Where a cleaning left
//! gaps, neighbours only say what an offset is not.
//!
//! Apart because what it costs must be bounded whatever the bytes are: they are a client's.
//!
//! What a piece costs at most: one pass over it for checksums and, while searching, one look at
//! each of [`SEARCH_BYTES`] places. A place that looks like a batch is judged by [`Sums`], which
//! costs the same however long it says it is; else a payload full of forged headers would make the
//! search quadratic. A place whose batch goes on behind the piece asks for more bytes, which a
//! forged one does as well: together at most [`PATIENCE_BYTES`] and twice what is searched.
//!
//! ```text
//!  Walking --sound batch--> Walking --goes on behind the piece--> (more bytes) --> Walking
//!     | not sound               ^
//!     v                         | sound batch of a later offset that is vouched for
//!  Searching -------------------+--nothing up to the end of the piece--> (next piece) Searching
//! ```

use bytes::Bytes;
use flumen_protocol::batch::check::verify_crc;
use flumen_protocol::batch::header::{BatchHeader, CRC_COVERS_FROM, HEADER_BYTES, MAGIC, MAGIC_AT};
use flumen_protocol::ids::Offset;

use super::assemble::{Batch, Gaps, batch_at};
use super::sums::Sums;
use crate::limits::{BATCH_BYTES_MAX, PATIENCE_BYTES, SEARCH_BATCH_BYTES, SEARCH_BYTES};

/// A batch begins with its offset.
const OFFSET_BYTES: usize = size_of::<Offset>();

/// A walk over the bytes of a range of offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sieve {
    /// The offset of the next batch; while searching, that of the first one lost.
    expected: Offset,
    end: Offset,
    gaps: Gaps,
    is_searching: bool,
    /// Bytes of the pieces that are done with.
    done: u64,
    /// While searching, what the damaged batches say of the one behind them.
    claim: Option<Claim>,
    /// What places of a search that go on behind their piece may still ask for.
    patience: usize,
}

/// What a batch that nothing vouches for says of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    /// Where it begins, in bytes from the beginning of the walk.
    place: u64,
    /// Its offset; the least it can be where offsets may be missing.
    offset: Offset,
}

/// What was found in a piece.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sifted {
    /// Good batches, in order.
    pub batches: Vec<Batch>,
    /// Ranges of offsets that are lost.
    pub damaged: Vec<(Offset, Offset)>,
    /// How many bytes are done with: the next piece begins there.
    pub used: usize,
    /// The least the next piece must have, if less would be in vain.
    pub wanted: usize,
}

/// What a search came to.
enum Search {
    /// A sound batch at this place with this offset.
    Found(usize, Offset),
    /// Nothing before this place; there, that many bytes are needed to see.
    Nothing(usize, usize),
}

impl Sieve {
    /// A walk that begins at the batch with offset `first` and ends before `end`.
    #[must_use]
    pub fn new(first: Offset, end: Offset, gaps: Gaps) -> Self {
        Self {
            expected: first,
            end,
            gaps,
            is_searching: false,
            done: 0,
            claim: None,
            patience: PATIENCE_BYTES,
        }
    }

    /// Whether everything up to the end was found or is lost.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.expected >= self.end
    }

    /// The offsets that are neither found nor lost yet.
    #[must_use]
    pub fn rest(&self) -> (Offset, Offset) {
        (self.expected, self.end)
    }

    /// Goes on with a piece, which begins where the last one was done with. `left`: how many bytes
    /// there are from there to the end; there is nothing beyond.
    pub fn take(&mut self, bytes: &Bytes, left: u64) -> Sifted {
        let mut found = Sifted::default();
        let mut sums = None;
        while !self.is_over() && found.used < bytes.len() {
            let left = left - found.used as u64;
            if self.is_searching {
                let sums = sums.get_or_insert_with(|| Sums::of(bytes));
                match self.search(bytes, found.used, left, sums) {
                    Search::Found(at, offset) => {
                        found.damaged.push((self.expected, offset));
                        (self.expected, self.is_searching) = (offset, false);
                        (self.claim, found.used) = (None, at);
                    }
                    Search::Nothing(at, wanted) => {
                        (found.used, found.wanted) = (at, wanted);
                        break;
                    }
                }
            }
            let offsets = (self.expected, self.end);
            let batch = batch_at(bytes, found.used, offsets, self.gaps);
            if let Some(batch) = batch.filter(|batch| verify_crc(&batch.bytes)) {
                found.used += batch.bytes.len();
                self.expected = batch.last.after(1);
                found.batches.push(batch);
            } else if let Some(wanted) = self.cut_off(&bytes[found.used..], left) {
                found.wanted = wanted;
                break;
            } else {
                let place = self.done + found.used as u64;
                let header = BatchHeader::parse(&bytes[found.used..]);
                self.claim = header.and_then(|it| self.claim_behind(&it, place, self.expected));
                self.is_searching = true;
                found.used += 1;
            }
        }
        if found.used as u64 >= left && !self.is_over() {
            found.damaged.push((self.expected, self.end));
            self.expected = self.end;
        }
        self.done += found.used as u64;
        found
    }

    /// If `rest` is the beginning of a plausible batch that goes on behind it: how long that is.
    fn cut_off(&self, rest: &[u8], left: u64) -> Option<usize> {
        let Some(header) = BatchHeader::parse(rest) else {
            return (left >= HEADER_BYTES as u64).then_some(HEADER_BYTES);
        };
        let total = header.total_bytes();
        let is_expected =
            header.magic == MAGIC && self.gaps.allow(self.expected, header.base_offset);
        (is_expected && total > rest.len() && can_be(total, left)).then_some(total)
    }

    /// Looks for a sound batch of a later offset from `from` on.
    fn search(&mut self, bytes: &Bytes, from: usize, left: u64, sums: &Sums) -> Search {
        let until = bytes.len().min(from + SEARCH_BYTES);
        for at in from..until {
            let left = left - (at - from) as u64;
            let (place, rest) = (self.done + at as u64, &bytes[at..]);
            let claimed = self.claim.filter(|claim| claim.place == place).map(|claim| claim.offset);
            // The format byte first: it rules out nearly every place before anything is computed.
            let may_be = rest.get(MAGIC_AT).is_none_or(|byte| *byte == MAGIC as u8);
            if !may_be && claimed.is_none() {
                continue;
            }
            let Some(header) = BatchHeader::parse(rest) else {
                let wanted = if left >= HEADER_BYTES as u64 { HEADER_BYTES } else { continue };
                return Search::Nothing(at, wanted);
            };
            let total = header.total_bytes();
            if self.is_later(&header) && can_be(total, left) {
                // With it the offset of the one behind it, if there is one.
                let wanted = left.min((total + OFFSET_BYTES) as u64) as usize;
                if wanted > rest.len() {
                    if total <= self.patience.max(SEARCH_BATCH_BYTES) {
                        self.patience = self.patience.saturating_sub(total);
                        return Search::Nothing(at, wanted);
                    }
                } else if sums.between(bytes, at + CRC_COVERS_FROM, at + total) == header.crc
                    && self.is_vouched_for(&header, claimed, &rest[total..wanted], left)
                    && verify_crc(&rest[..total])
                {
                    return Search::Found(at, header.base_offset);
                }
            }
            if let Some(offset) = claimed {
                self.claim = self.claim_behind(&header, place, offset);
            }
        }
        Search::Nothing(until, 0)
    }

    /// Whether it says that it is a batch behind the first one lost.
    fn is_later(&self, header: &BatchHeader) -> bool {
        header.magic == MAGIC
            && header.base_offset > self.expected
            && header.last_offset() >= header.base_offset
            && header.last_offset() < self.end
    }

    /// Whether anything but itself says that a sound batch has the right offset. `claimed`: what the
    /// damaged ones before it say; `behind`: the offset of the next one, if there is one.
    fn is_vouched_for(
        &self,
        header: &BatchHeader,
        claimed: Option<Offset>,
        behind: &[u8],
        left: u64,
    ) -> bool {
        let next = header.last_offset().after(1);
        let behind = behind.first_chunk().map(|bytes| Offset(i64::from_be_bytes(*bytes)));
        claimed.is_some_and(|offset| self.gaps.allow(offset, header.base_offset))
            || behind.is_some_and(|offset| self.gaps.allow(next, offset) && offset < self.end)
            || (next == self.end && header.total_bytes() as u64 == left)
    }

    /// What follows for the next batch if one that has offset `offset` begins at `place`, and length
    /// and count of offsets are as its header says.
    fn claim_behind(&self, header: &BatchHeader, place: u64, offset: Offset) -> Option<Claim> {
        let last = BatchHeader { base_offset: offset, ..*header }.last_offset();
        let can_be = (offset..self.end).contains(&last) && header.total_bytes() >= HEADER_BYTES;
        can_be.then(|| Claim { place: place + header.total_bytes() as u64, offset: last.after(1) })
    }
}

/// Whether a batch may be that long where there are `left` bytes.
fn can_be(total: usize, left: u64) -> bool {
    (HEADER_BYTES as u64..=left.min(BATCH_BYTES_MAX)).contains(&(total as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim_disk::Dice;
    use crate::testing::{batch, sized_batch};

    /// What a walk came to.
    #[derive(Debug, Default)]
    struct Walked {
        batches: Vec<Batch>,
        damaged: Vec<(Offset, Offset)>,
        /// Bytes of all pieces together, and of the largest.
        read: usize,
        largest: usize,
    }

    /// Walks in pieces of `piece` bytes, as a reader does; batches are placed in all of the bytes.
    fn walk(bytes: &[u8], end: i64, piece: usize) -> Walked {
        walk_with(Gaps::None, bytes, end, piece)
    }

    fn walk_with(gaps: Gaps, bytes: &[u8], end: i64, piece: usize) -> Walked {
        let bytes = Bytes::copy_from_slice(bytes);
        let mut sieve = Sieve::new(Offset(0), Offset(end), gaps);
        let (mut walked, mut at, mut wanted) = (Walked::default(), 0, 0);
        while !sieve.is_over() {
            let until = bytes.len().min(at + piece.max(wanted));
            let found = sieve.take(&bytes.slice(at..until), (bytes.len() - at) as u64);
            assert!(found.used > 0 || found.wanted > until - at || sieve.is_over(), "it goes on");
            walked.read += until - at;
            walked.largest = walked.largest.max(until - at);
            let placed = found.batches.into_iter().map(|b| Batch { at: at + b.at, ..b });
            walked.batches.extend(placed);
            walked.damaged.extend(found.damaged);
            (at, wanted) = (at + found.used, found.wanted);
        }
        walked
    }

    fn bases(walked: &Walked) -> Vec<i64> {
        walked.batches.iter().map(|batch| batch.base.0).collect()
    }

    fn three() -> (Vec<u8>, usize) {
        let bytes: Vec<u8> = [batch(0, 3, 10), batch(3, 2, 11), batch(5, 1, 12)].concat();
        let second = batch(0, 3, 10).len();
        (bytes, second)
    }

    #[test]
    fn a_cut_batch_is_left_for_later() {
        let whole = Bytes::from(three().0);
        let cut = whole.slice(..whole.len() - 1);
        let found = Sieve::new(Offset(0), Offset(6), Gaps::None).take(&cut, whole.len() as u64);
        assert_eq!((found.batches.len(), found.damaged.len()), (2, 0));
        assert_eq!(found.wanted, whole.len() - found.used);
        assert_eq!(walk(&cut, 6, 1000).damaged, [(Offset(5), Offset(6))]);
    }

    #[test]
    fn any_flipped_bit_costs_only_its_own_batch() {
        let (bytes, second) = three();
        let length = batch(3, 2, 11).len();
        for place in second..second + length {
            let mut rotten = bytes.clone();
            rotten[place] ^= 0x10;
            for piece in [1000, 100, 61] {
                let walked = walk(&rotten, 6, piece);
                if (12..16).contains(&(place - second)) {
                    // The leader epoch is under no checksum of Kafka's; the chunk's covers it.
                    assert_eq!(bases(&walked), [0, 3, 5]);
                } else {
                    assert_eq!(bases(&walked), [0, 5], "byte {place}");
                    assert_eq!(walked.damaged, [(Offset(3), Offset(5))]);
                }
            }
        }
    }

    /// Six batches of two records each, as long as each other.
    fn six() -> (Vec<u8>, usize) {
        let bytes = (0..6).flat_map(|n| batch(2 * n, 2, 10)).collect();
        (bytes, batch(0, 2, 10).len())
    }

    /// The bases of what is found in six batches after `spoil`, which gets each batch's bytes; the
    /// same however the bytes are cut into pieces.
    fn left_of_six(spoil: impl Fn(&mut [&mut [u8]])) -> Vec<i64> {
        let (mut bytes, length) = six();
        spoil(&mut bytes.chunks_mut(length).collect::<Vec<_>>());
        let found = [1000, 2 * length + 3, 61].map(|piece| bases(&walk(&bytes, 12, piece)));
        assert!(found.iter().all(|bases| *bases == found[0]), "{found:?}");
        found[0].clone()
    }

    /// Kafka's checksum leaves out the offset: such a batch once was given for one of a later offset.
    #[test]
    fn a_flipped_offset_behind_damage_is_not_believed() {
        let length = six().1;
        for place in (0..12).chain(16..length) {
            for bit in 0..16 {
                let left = left_of_six(|batches| {
                    batches[1][place] ^= 0x04;
                    batches[2][7 - bit / 8] ^= 1 << (bit % 8);
                });
                assert_eq!(left, [0, 6, 8, 10], "byte {place}, bit {bit}");
            }
        }
        let left = left_of_six(|batches| {
            batches[3][40] ^= 1;
            // As if it were the last one, which it is not.
            batches[4][7] = 10;
        });
        assert_eq!(left, [0, 2, 4, 10]);
    }

    #[test]
    fn one_neighbour_is_enough_for_a_batch_between_damaged_ones() {
        let (payload, offset, length, last) = (65, 5, 10, 26);
        let between = |first: usize, second: usize| {
            left_of_six(|batches| {
                batches[2][payload] ^= 1;
                (batches[2][first], batches[4][second]) = (0x55, 0x55);
                batches[4][payload] ^= 1;
            })
        };
        assert_eq!(between(payload, payload), [0, 2, 6, 10], "both say it");
        assert_eq!(
            between(offset, offset),
            [0, 2, 6, 10],
            "the one before needs no offset for that"
        );
        assert_eq!(between(length, payload), [0, 2, 6, 10], "the one behind says it");
        assert_eq!(between(last, payload), [0, 2, 6, 10], "the one behind says it");
        assert_eq!(between(length, offset), [0, 2, 10], "nobody says it");
        assert_eq!(between(last, offset), [0, 2, 10], "nobody says it");
    }

    #[test]
    fn several_damaged_batches_lead_to_the_one_behind_them() {
        let spoil = |batches: &mut [&mut [u8]], broken: &[usize]| {
            (1..4).for_each(|n| batches[n][65] ^= 1);
            broken.iter().for_each(|n| batches[*n][10] ^= 1);
            // The one behind what they lead to says nothing.
            batches[5][..12].fill(0xaa);
        };
        assert_eq!(left_of_six(|batches| spoil(batches, &[])), [0, 8]);
        (1..4).for_each(|n| assert_eq!(left_of_six(|batches| spoil(batches, &[n])), [0]));
    }

    #[test]
    fn where_offsets_may_be_missing_a_neighbour_says_what_an_offset_is_not() {
        let whole = [batch(0, 2, 10), batch(5, 2, 11), batch(9, 1, 12), batch(20, 1, 13)];
        let found = |base: i64| {
            let mut bytes = whole.concat();
            let (second, third) = (whole[0].len(), whole[0].len() + whole[1].len());
            bytes[second..second + 12].fill(0x55);
            bytes[second + 65] ^= 1;
            bytes[third..third + 8].copy_from_slice(&base.to_be_bytes());
            walk_with(Gaps::Between, &bytes, 21, 1000)
        };
        let right = found(9);
        assert_eq!(right.batches.iter().map(|it| it.last.0).collect::<Vec<_>>(), [1, 9, 20]);
        assert_eq!(right.damaged, [(Offset(2), Offset(9))]);
        let wrong = found(20);
        assert_eq!(wrong.batches.iter().map(|it| it.last.0).collect::<Vec<_>>(), [1, 20]);
        assert_eq!(wrong.damaged, [(Offset(2), Offset(20))]);
    }

    #[test]
    fn damage_at_the_end_of_a_piece_does_not_cost_what_lies_behind_it() {
        let (bytes, second) = three();
        let mut rotten = bytes.clone();
        rotten[second + 30] ^= 1;
        let piece = second + batch(3, 2, 11).len();
        let mut sieve = Sieve::new(Offset(0), Offset(6), Gaps::None);
        let found = sieve.take(&Bytes::copy_from_slice(&rotten[..piece]), bytes.len() as u64);
        assert_eq!((found.batches.len(), found.damaged), (1, vec![]));
        assert_eq!(bases(&walk(&rotten, 6, piece)), [0, 5]);
    }

    #[test]
    fn a_rotten_length_is_not_read_after() {
        let (bytes, second) = three();
        for length in [i32::MAX, 200 << 20, 300, 0, -1] {
            let mut rotten = bytes.clone();
            rotten[second + 8..second + 12].copy_from_slice(&length.to_be_bytes());
            // There may be a lot behind these bytes.
            let piece = Bytes::copy_from_slice(&rotten);
            let found = Sieve::new(Offset(0), Offset(1000), Gaps::None).take(&piece, 1 << 30);
            assert!(found.wanted <= BATCH_BYTES_MAX as usize, "{length}: {}", found.wanted);
            let walked = walk(&rotten, 6, 150);
            assert_eq!(bases(&walked), [0, 5], "{length}");
            assert!(walked.largest <= bytes.len());
        }
    }

    /// A damaged batch full of headers that claim to be large batches, then sound ones.
    fn forged(payload: usize, claims: impl Fn(usize) -> usize) -> Vec<u8> {
        let mut bytes = sized_batch(0, 1, 7, payload);
        bytes[30] ^= 1;
        for at in (100..payload - 100).step_by(62) {
            bytes[at..at + HEADER_BYTES].fill(0);
            bytes[at..at + 8].copy_from_slice(&2_i64.to_be_bytes());
            let length = (claims(at) - 12) as u32;
            bytes[at + 8..at + 12].copy_from_slice(&length.to_be_bytes());
            bytes[at + MAGIC_AT] = MAGIC as u8;
        }
        (1..200).for_each(|n| bytes.extend(batch(n, 1, 7)));
        bytes
    }

    /// Judging every forged batch by a pass over it takes ten times as long as all the rest of this.
    #[test]
    fn forged_headers_do_not_make_a_search_quadratic() {
        let payload = 1 << 20;
        let all = forged(payload, |at| payload - at);
        let walked = walk(&all, 200, SEARCH_BYTES);
        assert_eq!(walked.damaged, [(Offset(0), Offset(1))]);
        assert_eq!(walked.batches.len(), 199);
        let bytes = forged(payload, |_| 200 << 10);
        let walked = walk(&bytes, 200, SEARCH_BYTES);
        assert_eq!(walked.damaged, [(Offset(0), Offset(1))]);
        assert!(walked.read <= PATIENCE_BYTES + 3 * bytes.len(), "{} bytes read", walked.read);
    }

    #[test]
    fn a_search_that_lost_its_patience_still_goes_on() {
        let bytes = forged(1 << 20, |_| SEARCH_BATCH_BYTES);
        let (mut sieve, mut at, mut read) = (Sieve::new(Offset(0), Offset(200), Gaps::None), 0, 0);
        sieve.patience = 0;
        let mut found = Sifted::default();
        while found.batches.is_empty() {
            let until = bytes.len().min(at + SEARCH_BYTES.max(found.wanted));
            let piece = Bytes::copy_from_slice(&bytes[at..until]);
            found = sieve.take(&piece, (bytes.len() - at) as u64);
            read += until - at;
            at += found.used;
        }
        assert_eq!(found.batches[0].base, Offset(1));
        assert!(read <= 3 * bytes.len(), "{read} bytes read");
    }

    /// Does something to the bytes of some batches; says which ones were not touched.
    fn corrupt(dice: &mut Dice, bytes: &mut [u8], places: &[(usize, usize)]) -> Vec<bool> {
        let mut whole = vec![true; places.len()];
        for _ in 0..1 + dice.below(6) {
            let place = dice.below(places.len() as u64) as usize;
            let (from, until) = places[place];
            whole[place] = false;
            let at = from + dice.below((until - from) as u64) as usize;
            match dice.below(4) {
                0 => bytes[at] ^= 1 << dice.below(8),
                1 => bytes[from..until].fill(dice.below(3) as u8),
                2 => bytes[from + 8..from + 12]
                    .copy_from_slice(&(dice.below(1 << 28) as u32).to_be_bytes()),
                _ => {
                    let copied = bytes[from..from + 61].to_vec();
                    let at = at.min(until - 61);
                    bytes[at..at + 61].copy_from_slice(&copied);
                }
            }
            // Neither offset nor epoch is under the checksum: break something that is.
            bytes[from + 22] ^= 0x80;
            if bytes[from + 22] == 0 {
                bytes[from + 23] = 0xff;
            }
        }
        whole
    }

    /// A batch alone between two that are not what they were may be lost with them: nobody vouches for it.
    #[test]
    fn whatever_is_done_to_some_batches_all_others_with_a_neighbour_are_found() {
        for seed in 0..400 {
            let mut dice = Dice::new(seed);
            let (mut bytes, mut places, mut next) = (Vec::new(), Vec::new(), 0);
            for _ in 0..2 + dice.below(12) {
                let (count, size) = (1 + dice.below(4) as i64, 10 + dice.below(400) as usize);
                let batch = sized_batch(next, count, 5, size);
                places.push((bytes.len(), bytes.len() + batch.len(), next, next + count));
                bytes.extend(batch);
                next += count;
            }
            let ranges: Vec<_> = places.iter().map(|p| (p.0, p.1)).collect();
            let mut whole = corrupt(&mut dice, &mut bytes, &ranges);
            if dice.below(3) == 0 {
                let cut = dice.below(bytes.len() as u64) as usize;
                bytes.truncate(cut);
                whole.iter_mut().zip(&places).for_each(|(whole, p)| *whole &= p.1 <= cut);
            }
            for piece in [usize::MAX / 2, 1000, 200, 61] {
                let walked = walk(&bytes, next, piece);
                let mut ranges = walked.damaged.clone();
                for batch in &walked.batches {
                    assert!(verify_crc(&batch.bytes));
                    assert_eq!(bytes[batch.at..][..batch.bytes.len()], batch.bytes[..]);
                    ranges.push((batch.base, batch.last.after(1)));
                }
                ranges.sort();
                assert_eq!(ranges.first().map(|r| r.0), Some(Offset(0)));
                assert_eq!(ranges.last().map(|r| r.1), Some(Offset(next)));
                assert!(
                    ranges.windows(2).all(|two| two[0].1 == two[1].0),
                    "seed {seed}: {ranges:?}"
                );
                let is_whole = |n: usize| whole.get(n).copied().unwrap_or(true);
                let has_neighbour =
                    |n: &usize| is_whole(*n + 1) || n.checked_sub(1).is_none_or(is_whole);
                let due = (0..places.len()).filter(|n| is_whole(*n)).filter(has_neighbour);
                for place in due.map(|n| places[n]) {
                    assert!(
                        bases(&walked).contains(&place.2),
                        "seed {seed}, piece {piece}: {place:?}"
                    );
                }
            }
        }
    }
}
