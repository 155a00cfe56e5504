//! Notes the keys of one batch in the table, in slices.
//!
//! Does: walk a batch twice: is all of it readable, then what are its keys.
//! Does not: read batches, or choose them.
//! Invariants: a batch that cannot be read to its end stays as it is in a cleaning, so nothing in it supersedes
//! anything and none of its keys is noted.
//! Apart because a batch may be larger than what a turn may take.

use bytes::Bytes;
use flumen_protocol::batch::limits::inflated_bytes_max;
use flumen_protocol::batch::walk::Walk;
use flumen_protocol::ids::Offset;

use super::table::KeyTable;
use crate::limits::CLEANING_RECORD_BYTES;

/// How far a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noting {
    /// There is more to do.
    More,
    /// It is done.
    Done,
    /// The table has no more room.
    Full,
}

/// A batch whose keys are being noted.
#[derive(Debug)]
pub struct Mapping {
    /// `None` if it cannot be read, or counts for nothing.
    walk: Option<Walk>,
    /// Invariant: only then it can be read to its end.
    was_read: bool,
}

impl Mapping {
    /// A batch of which nothing was noted. `counts`: its records are data, and not aborted.
    #[must_use]
    pub fn new(batch: &Bytes, counts: bool) -> Self {
        let open = || Walk::open(batch, inflated_bytes_max(batch.len())).ok();
        Self { walk: counts.then(open).flatten(), was_read: false }
    }

    /// Bytes of memory, roughly.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.walk.as_ref().map_or(0, Walk::payload_bytes)
    }

    /// Goes on for `left` bytes of records, and takes them off. Records before `from` are known already.
    pub fn go_on(&mut self, left: &mut usize, from: Offset, table: &mut KeyTable) -> Noting {
        let Some(walk) = &mut self.walk else {
            *left = left.saturating_sub(CLEANING_RECORD_BYTES);
            return Noting::Done;
        };
        while *left > 0 {
            let Some(next) = walk.next_record() else {
                if self.was_read {
                    return Noting::Done;
                }
                self.was_read = true;
                walk.rewind();
                continue;
            };
            let Ok((record, bytes)) = next else { return Noting::Done };
            if !self.was_read {
                // Without a look into the table a record costs little.
                *left = left.saturating_sub(bytes.max(CLEANING_RECORD_BYTES) / 4);
                continue;
            }
            *left = left.saturating_sub(bytes.max(CLEANING_RECORD_BYTES));
            let is_new = record.offset >= from;
            if is_new && record.key.is_some_and(|key| !table.put(key, record.offset)) {
                return Noting::Full;
            }
        }
        Noting::More
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
    use flumen_protocol::batch::header::HEADER_BYTES;

    use super::*;

    fn batch() -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        for key in ["a", "b", "a", "c"] {
            let (key, value) = (Some(key.as_bytes()), Some(&b"v"[..]));
            builder.push(&NewRecord { timestamp: 5, key, value, headers: &[] });
        }
        builder.finish().to_vec()
    }

    /// Notes everything with a rest after each record.
    fn note(bytes: Vec<u8>, counts: bool, from: i64, table: &mut KeyTable) -> (Noting, usize) {
        let mut mapping = Mapping::new(&Bytes::from(bytes), counts);
        let mut turns = 1;
        loop {
            let noting = mapping.go_on(&mut 1, Offset(from), table);
            if noting != Noting::More {
                return (noting, turns);
            }
            turns += 1;
        }
    }

    #[test]
    fn all_keys_are_noted_in_many_turns_or_none_of_a_batch_that_is_broken() {
        let mut table = KeyTable::new(4096, 100, 1);
        let mut broken = batch();
        *broken.last_mut().expect("not empty") = 9;
        assert_eq!(note(broken, true, 0, &mut table).0, Noting::Done);
        assert_eq!(note(batch(), false, 0, &mut table), (Noting::Done, 1));
        assert_eq!(note(batch()[..HEADER_BYTES].to_vec(), true, 0, &mut table).0, Noting::Done);
        assert_eq!(table.key_count(), 0);
        let (noting, turns) = note(batch(), true, 1, &mut table);
        assert_eq!(noting, Noting::Done);
        assert!(turns > 8, "four records, each looked at twice");
        let last = |key: &str| table.get(key.as_bytes());
        assert_eq!((last("a"), last("b")), (Some(Offset(2)), Some(Offset(1))));
        assert_eq!(last("c"), Some(Offset(3)));
    }

    #[test]
    fn a_full_table_is_said() {
        let mut table = KeyTable::new(0, 0, 1);
        let mut n = 0_u32;
        while table.put(&n.to_be_bytes(), Offset(0)) {
            n += 1;
        }
        assert_eq!(note(batch(), true, 0, &mut table).0, Noting::Full);
    }
}
