//! A few bits of one file, changed.
//!
//! Does: draw a file and what is changed in it: mostly one bit, now and then several, a stretch, a
//! sector or a block of zeros or noise; say which bytes are other ones now.
//! Does not: change a file's length, or more than one file.
//! Invariants: the same number changes the same bytes; at least one byte changes, unless zeros were
//! drawn where zeros were.
//! Apart because what disks do to bits is a list that grows.

use std::fmt;

use bytes::Bytes;
use flumen_storage::op::FileName;
use flumen_storage::sim_disk::{Dice, SECTOR_BYTES};

/// What kinds of files there are, and how often of a hundred one of each is hit.
const SHARES: [(Kind, u64); 6] = [
    (Kind::Journal, 42),
    (Kind::Segment, 34),
    (Kind::Manifest, 10),
    (Kind::Index, 7),
    (Kind::Watermark, 5),
    (Kind::Other, 2),
];

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Journal,
    Segment,
    Index,
    Manifest,
    Watermark,
    /// What was set aside once.
    Other,
}

impl Kind {
    /// The kind of this file.
    pub fn of(file: FileName) -> Self {
        match file {
            FileName::Journal(_) => Self::Journal,
            FileName::Segment { .. } => Self::Segment,
            FileName::Index { .. } => Self::Index,
            FileName::Manifest => Self::Manifest,
            FileName::Watermark => Self::Watermark,
            FileName::Node
            | FileName::Ballast
            | FileName::Quarantine(_)
            | FileName::CoreFolder
            | FileName::PartitionsFolder
            | FileName::LogFolder(_) => Self::Other,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Journal => "journal",
            Self::Segment => "segment",
            Self::Index => "index",
            Self::Manifest => "manifest",
            Self::Watermark => "watermark",
            Self::Other => "quarantine",
        })
    }
}

/// A damaged file.
pub struct Damage {
    pub core: usize,
    pub file: FileName,
    pub after: Bytes,
    /// Which bytes are other ones than before, ascending.
    pub changed: Vec<u64>,
    how: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { core, file, how, changed, after: _ } = self;
        let first = changed.first();
        write!(f, "{how} in {file} of core {core}, {} bytes from {first:?} on", changed.len())
    }
}

impl Damage {
    /// Draws a file out of these, and what becomes of it.
    pub fn draw(files: &[(usize, FileName, Bytes)], dice: &mut Dice) -> Self {
        let (core, file, before) = draw_file(files, dice);
        let mut after = before.to_vec();
        let how = spoil(&mut after, dice);
        let both = before.iter().zip(&after).enumerate();
        let changed = both.filter(|(_, (before, after))| before != after);
        let changed = changed.map(|(at, _)| at as u64).collect();
        Self { core: *core, file: *file, after: after.into(), changed, how }
    }
}

fn draw_file<'a>(
    files: &'a [(usize, FileName, Bytes)],
    dice: &mut Dice,
) -> &'a (usize, FileName, Bytes) {
    loop {
        let mut throw = dice.below(SHARES.iter().map(|(_, share)| share).sum());
        let kind = SHARES.iter().find(|(_, share)| {
            let is_it = throw < *share;
            throw = throw.saturating_sub(*share);
            is_it
        });
        let kind = kind.expect("the shares are all there is").0;
        let of_kind: Vec<_> = files.iter().filter(|(_, file, _)| Kind::of(*file) == kind).collect();
        if !of_kind.is_empty() {
            return of_kind[dice.below(of_kind.len() as u64) as usize];
        }
    }
}

/// Changes some of the bytes; says how.
fn spoil(bytes: &mut [u8], dice: &mut Dice) -> &'static str {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    // Now and then anywhere, most of the time where something is, or close behind it.
    let within =
        if dice.below(8) == 0 { bytes.len() } else { bytes.len().min(used + SECTOR_BYTES) };
    let place = |dice: &mut Dice, unit: usize| dice.below((within / unit).max(1) as u64) as usize;
    let mut flip = |at: usize, dice: &mut Dice| bytes[at] ^= 1 << dice.below(8);
    match dice.below(20) {
        0..13 => {
            flip(place(dice, 1), dice);
            return "a bit";
        }
        13..15 => {
            for _ in 0..2 + dice.below(7) {
                flip(place(dice, 1), dice);
            }
            return "some bits";
        }
        15 => {
            let first = place(dice, 1);
            for at in first..(first + 2 + dice.below(62) as usize).min(within) {
                flip(at, dice);
            }
            return "a stretch";
        }
        _ => {}
    }
    let unit = if dice.below(3) == 0 { 8 * SECTOR_BYTES } else { SECTOR_BYTES };
    let from = place(dice, unit) * unit;
    let to = (from + unit).min(bytes.len());
    let is_noise = dice.below(3) == 0;
    for byte in &mut bytes[from..to] {
        *byte = if is_noise { dice.below(256) as u8 } else { 0 };
    }
    if is_noise { "a sector of noise" } else { "a sector of zeros" }
}
