//! A start on damaged files: the journal's alone, or any of the folder's.
//!
//! Oracle: a start succeeds or is refused, and never panics; what it gives back was once written, at that
//! offset of that log (but for the epoch, once a chunk's own checksum is wrong); no batch is served whose checksum is wrong; what is appended then and reported
//! durable is there after the next start.

use bytes::Bytes;
use flumen_protocol::batch::header::{BatchHeader, MAGIC_AT};
use flumen_protocol::entry::Payload;
use flumen_protocol::ids::{LeaderEpoch, LogId};
use flumen_storage::op::FileName;
use flumen_storage::recovery::open::Opening;
use flumen_storage::sim_disk::{SECTOR_BYTES, SimDisk};

use crate::draw::Draw;
use crate::filled::{Folder, Life, folder};

/// How often a folder is hurt.
const WOUNDS_MAX: usize = 12;

/// Damage to the journal and its watermark.
pub fn journal(input: &[u8]) {
    let of_journal = |name: &FileName| matches!(name, FileName::Journal(_) | FileName::Watermark);
    starts_again(input, of_journal, |folder, log, bytes| {
        let base = BatchHeader::parse(bytes).expect("a batch").base_offset;
        folder.written.get(&(log, base)).is_some_and(|all| all.contains(bytes))
    });
}

/// Damage to any file.
pub fn any_file(input: &[u8]) {
    // Neither Kafka's checksum nor a neighbour vouches for the leader's epoch, once that of a chunk is wrong.
    const EPOCH_AT: usize = MAGIC_AT - size_of::<LeaderEpoch>();
    starts_again(
        input,
        |_| true,
        |folder, log, bytes| {
            let rest = |one: &Bytes| (one.slice(..EPOCH_AT), one.slice(MAGIC_AT..));
            let base = BatchHeader::parse(bytes).expect("a batch").base_offset;
            let written = folder.written.get(&(log, base));
            written.is_some_and(|all| all.iter().any(|one| rest(one) == rest(bytes)))
        },
    );
}

fn starts_again(
    input: &[u8],
    is_hurt: impl Fn(&FileName) -> bool,
    is_written: impl Fn(&Folder, LogId, &Bytes) -> bool,
) {
    let mut draw = Draw::new(input);
    let how = draw.byte();
    let folder = folder();
    let mut wounded = Wounded {
        disk: folder.disk.clone(),
        files: folder.files.iter().copied().filter(|(name, _)| is_hurt(name)).collect(),
        is_misplaced: false,
    };
    for _ in 0..WOUNDS_MAX {
        if draw.is_over() || wounded.files.is_empty() {
            break;
        }
        wounded.hurt(&mut draw, folder);
    }
    let accepts =
        move |opening: Opening| if how & 1 == 1 { opening.accept_damage() } else { opening };
    let Wounded { disk, is_misplaced, .. } = wounded;
    let Ok(mut life) = Life::begin(disk, accepts) else { return };
    was_written(&life, folder);
    life.read_all(|log, bytes| {
        // What lies at the right offset of the wrong log has a right checksum all the same.
        assert!(is_misplaced || is_written(folder, log, bytes), "{log}: nobody wrote {bytes:?}");
    });
    if how & 2 == 2 {
        goes_on(life);
    }
}

fn was_written(life: &Life, folder: &Folder) {
    for log in &life.recovered.logs {
        let mut next = log.settled.0;
        for entry in &log.entries {
            assert_eq!(entry.index, next.next(), "{}: entries without gaps", log.log);
            next = entry.index;
            let Payload::Records(records) = &entry.payload else { continue };
            let known = folder.written.get(&(log.log, records.base_offset));
            assert!(
                known.is_some_and(|all| all.contains(&records.bytes)),
                "{}: nobody wrote this at {}",
                log.log,
                records.base_offset
            );
        }
    }
}

/// Appends to every log that takes records, and starts again: what was lost by then was accepted, or is held.
fn goes_on(mut life: Life) {
    let logs = life.taking();
    let appended: Vec<_> = logs.iter().map(|log| (*log, life.append_batch(*log, 2, 30))).collect();
    life.run().expect("the disk works");
    let durable = |(log, _): &(LogId, Bytes)| life.is_durable(*log);
    let expected: Vec<_> = appended.into_iter().filter(durable).collect();
    let mut disk = life.disk;
    disk.kill();
    let mut again = Life::begin(disk, |opening| opening).expect("a start after a start");
    let mut found = Vec::new();
    again.read_all(|log, bytes| found.push((log, bytes.clone())));
    for (log, bytes) in expected {
        assert!(found.contains(&(log, bytes)), "{log}: what was durable is lost");
    }
}

struct Wounded {
    disk: SimDisk,
    /// What may still be hurt, and how long it is.
    files: Vec<(FileName, usize)>,
    /// Whether bytes of one file stand in another.
    is_misplaced: bool,
}

impl Wounded {
    fn hurt(&mut self, draw: &mut Draw<'_>, folder: &Folder) {
        let what = draw.byte();
        let which = draw.below(self.files.len());
        let (name, length) = self.files[which];
        let place = (usize::from(draw.word()) | usize::from(draw.byte()) << 16) % length.max(1);
        let sector = place / SECTOR_BYTES * SECTOR_BYTES;
        match what % 8 {
            0..3 if length > 0 => self.disk.flip_bit(name, place as u64, what >> 5),
            3 => {
                let bytes = draw.slice(usize::from(what >> 3));
                let room = bytes.len().min(length - place.min(length));
                self.disk.overwrite(name, place as u64, &bytes[..room]);
            }
            4 => {
                let count = SECTOR_BYTES.min(length - sector);
                self.disk.overwrite(name, sector as u64, &vec![draw.byte(); count]);
            }
            5 => {
                self.disk.shorten(name, Some(place as u64));
                self.files[which].1 = place;
            }
            6 if what > 200 => {
                self.disk.shorten(name, None);
                self.files.swap_remove(which);
            }
            _ => self.misplace(draw, folder, name, sector, length),
        }
    }

    /// A sector, or a few, of any file of the folder as it was land here.
    fn misplace(
        &mut self,
        draw: &mut Draw<'_>,
        folder: &Folder,
        name: FileName,
        at: usize,
        length: usize,
    ) {
        let (source, source_length) = folder.files[draw.below(folder.files.len())];
        let from = usize::from(draw.byte()) * SECTOR_BYTES % source_length.max(1);
        let count = (1 + draw.below(16)) * SECTOR_BYTES;
        let contents = folder.disk.contents(source).expect("a file of the folder");
        let until = source_length.min(from + count).min(from + (length - at));
        self.disk.overwrite(name, at as u64, &contents[from..until]);
        self.is_misplaced = true;
    }
}

/// Nothing done, and each kind of damage to several files.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0], vec![2], vec![3]];
    for what in [0_u8, 3, 4, 5, 7, 206] {
        for file in [0_u8, 1, 2, 5] {
            seeds.push(vec![what % 4, what, file, 16, 37, 0, what, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        }
    }
    seeds
}
