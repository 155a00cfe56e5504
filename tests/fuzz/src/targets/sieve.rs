//! Good batches out of bytes that nothing vouches for.
//!
//! Oracle: batches and lost ranges follow each other without gap or overlap; every batch that is given
//! has a right checksum, lies where it is said to and has the offset it was written with; those nobody
//! touched are found where a neighbour was not touched either, however the bytes are cut into pieces; the
//! checksum of any stretch is that of a pass over it.

use bytes::Bytes;
use flumen_protocol::batch::check::verify_crc;
use flumen_protocol::batch::header::HEADER_BYTES;
use flumen_protocol::batch::stamp::stamp;
use flumen_protocol::ids::{LeaderEpoch, Offset};
use flumen_storage::reader::assemble::{Gaps, split};
use flumen_storage::reader::sieve::Sieve;
use flumen_storage::reader::sums::Sums;

use super::batch::sample;
use crate::draw::Draw;

/// Some batches and what was done to them.
#[derive(Default)]
struct Bytestream {
    bytes: Vec<u8>,
    /// The offset of the next batch.
    next: i64,
    /// The offset of each batch, and whether nobody touched it.
    batches: Vec<(Offset, bool)>,
    /// Whether there are bytes in it that could be a batch nobody wrote.
    has_foreign: bool,
}

/// Pieces' size, a stretch, then batches and what becomes of them.
pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let piece = draw.one_of(&[usize::MAX / 2, 1000, 200, HEADER_BYTES]);
    let stretch = (draw.word(), draw.word());
    let mut stream = Bytestream::default();
    while !draw.is_over() {
        stream.grow(&mut draw);
    }
    sums_up(&stream.bytes, stretch);
    let bytes = Bytes::from(std::mem::take(&mut stream.bytes));
    if let Some(batches) = split(&bytes, Offset(0), Offset(stream.next), Gaps::None) {
        assert!(batches.iter().map(|batch| batch.bytes.len()).sum::<usize>() == bytes.len());
    }
    is_sifted(&bytes, &stream, piece);
}

impl Bytestream {
    fn grow(&mut self, draw: &mut Draw<'_>) {
        let what = draw.byte();
        let (count, value_bytes) = (1 + what % 4, usize::from(draw.byte()));
        let mut batch = sample(count, value_bytes / usize::from(count));
        stamp(&mut batch, Offset(self.next), LeaderEpoch(1));
        self.batches.push((Offset(self.next), what >> 4 < 8));
        match what >> 4 {
            0..8 => {}
            8..12 => {
                // The leader's epoch, behind the length, is under no checksum.
                let place = usize::from(draw.word()) % batch.len();
                batch[place] ^= 1 << (what & 7);
                batch[HEADER_BYTES - 1] ^= 0x80;
            }
            12 | 13 => {
                // At least a byte: a batch of a later offset at the very place of an earlier one is not
                // believed, since a flipped bit of an offset looks the same.
                let kept = 1 + usize::from(draw.word()) % (batch.len() - 1);
                batch.truncate(kept);
                // What follows could be the very bytes that are cut off.
                if let Some(count) = batch.get_mut(HEADER_BYTES - 1) {
                    *count ^= 0x80;
                }
            }
            _ => {
                batch = draw.slice(usize::from(what)).to_vec();
                self.has_foreign = true;
            }
        }
        self.bytes.extend(batch);
        self.next += i64::from(count);
    }
}

fn sums_up(bytes: &[u8], (from, length): (u16, u16)) {
    let from = usize::from(from) % (bytes.len() + 1);
    let until = from + usize::from(length) % (bytes.len() - from + 1);
    let sum = Sums::of(bytes).between(bytes, from, until);
    assert_eq!(sum, crc32c::crc32c(&bytes[from..until]), "{from}..{until}");
}

fn is_sifted(bytes: &Bytes, stream: &Bytestream, piece: usize) {
    let mut sieve = Sieve::new(Offset(0), Offset(stream.next), Gaps::None);
    let (mut at, mut wanted, mut reached) = (0, 0, Offset(0));
    let mut found = Vec::new();
    while !sieve.is_over() {
        let until = bytes.len().min(at + piece.max(wanted));
        let sifted = sieve.take(&bytes.slice(at..until), (bytes.len() - at) as u64);
        let moves = sifted.used > 0 || sifted.wanted > until - at || sieve.is_over();
        assert!(moves, "it goes on");
        let mut ranges = sifted.damaged.clone();
        for batch in &sifted.batches {
            assert!(verify_crc(&batch.bytes));
            assert_eq!(bytes[at + batch.at..][..batch.bytes.len()], batch.bytes[..]);
            found.push(batch.base);
            ranges.push((batch.base, batch.last.after(1)));
        }
        ranges.sort_unstable();
        for (from, until) in ranges {
            assert!(from == reached && from < until, "{from} after {reached}");
            reached = until;
        }
        (at, wanted) = (at + sifted.used, sifted.wanted);
    }
    assert_eq!(reached, Offset(stream.next));
    let is_whole = |n: usize| stream.batches.get(n).is_none_or(|(_, is_whole)| *is_whole);
    let is_vouched_for = |n: &usize| is_whole(n + 1) || n.checked_sub(1).is_none_or(is_whole);
    let due = (0..stream.batches.len()).filter(|n| is_whole(*n)).filter(is_vouched_for);
    let missing = due.map(|n| stream.batches[n].0).find(|base| !found.contains(base));
    assert!(stream.has_foreign || missing.is_none(), "{missing:?} was whole");
    let made_up = found.iter().find(|base| !stream.batches.iter().any(|(known, _)| known == *base));
    assert!(stream.has_foreign || made_up.is_none(), "nobody wrote {made_up:?}");
}

/// Sound batches, and each kind of damage between two of them.
pub fn seeds() -> Vec<Vec<u8>> {
    let sound = [0x01, 60];
    let damages: [&[u8]; 4] =
        [&[0x81, 40, 30, 0], &[0xc2, 90, 70, 0], &[0xe8, 0], &[0x93, 20, 9, 0]];
    let of = |piece: u8, parts: &[&[u8]]| [&[piece, 5, 0, 90, 0][..], &parts.concat()].concat();
    let mut seeds = vec![of(0, &[]), of(0, &[&sound, &sound, &sound])];
    for (piece, damage) in damages.into_iter().enumerate() {
        seeds.push(of(piece as u8, &[&sound, damage, &sound, &sound]));
    }
    seeds
}
