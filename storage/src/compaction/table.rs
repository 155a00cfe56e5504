//! The last offset of as many keys as fit a fixed number of bytes.
//!
//! Does: remember offsets by a hash of the key, in open addressing; say when it is full.
//! Does not: keep keys, or grow.
//! Invariants: 24 bytes per slot, a tenth of them free; an offset never falls; what is known of a
//! key holds up to `latest` and no further.
//! Apart because it is all the memory a cleaning takes besides what it reads and writes.
//!
//! Two keys with the same hash would cost one of them its records. 128 bits make that less likely than
//! a disk that lies: one in 10^24 for ten million keys. The hash is keyed by the caller, so that nobody who writes
//! keys can look for two such ahead.

use std::hash::{DefaultHasher, Hasher};

use flumen_protocol::ids::Offset;

/// What one key takes: two words of hash and the offset.
pub const SLOT_BYTES: usize = size_of::<Slot>();
const _: () = assert!(SLOT_BYTES == 24);

/// Hash, hash, offset and one: all zeros is free. Plain words, so that a table comes as untouched zero pages.
type Slot = [u64; 3];

/// Offsets by key.
#[derive(Debug)]
pub struct KeyTable {
    slots: Vec<Slot>,
    used: usize,
    seed: u64,
    latest: Option<Offset>,
}

impl KeyTable {
    /// An empty table of at most `bytes_max`, and no more than `keys_max` keys need.
    #[must_use]
    pub fn new(bytes_max: usize, keys_max: u64, seed: u64) -> Self {
        let wanted = usize::try_from(keys_max).unwrap_or(usize::MAX).saturating_add(1);
        let wanted = wanted.saturating_add(wanted / 8 + 8);
        let slots = (bytes_max / SLOT_BYTES).min(wanted).max(16);
        Self { slots: vec![[0; 3]; slots], used: 0, seed, latest: None }
    }

    /// Notes that `key` has a record at `offset`. Says `false`, and notes nothing, if it is a new key and
    /// there is no more room.
    #[must_use]
    pub fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = self.hash(key);
        let place = self.place(hash);
        let is_new = self.slots[place][2] == 0;
        if is_new && self.used >= self.slots.len() / 10 * 9 {
            return false;
        }
        self.used += usize::from(is_new);
        let noted = u64::try_from(offset.0).expect("offsets are not negative") + 1;
        let slot = &mut self.slots[place];
        *slot = [hash.0, hash.1, slot[2].max(noted)];
        self.know_until(offset);
        true
    }

    /// Every record up to `offset` is in here, or has no key.
    pub fn know_until(&mut self, offset: Offset) {
        self.latest = self.latest.max(Some(offset));
    }

    /// The last offset of `key`, if it is in here.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Offset> {
        let noted = self.slots[self.place(self.hash(key))][2];
        noted.checked_sub(1).map(|offset| Offset(offset as i64))
    }

    /// Up to where records are known; `None` for an empty table.
    #[must_use]
    pub fn latest(&self) -> Option<Offset> {
        self.latest
    }

    /// How many keys are in here.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.used
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slots.len() * SLOT_BYTES
    }

    /// The slot that has this hash, or the free one where it belongs. There is always a free one.
    fn place(&self, hash: (u64, u64)) -> usize {
        let count = self.slots.len();
        let mut place = ((u128::from(hash.0) * count as u128) >> 64) as usize;
        loop {
            let [one, other, noted] = self.slots[place];
            if noted == 0 || (one, other) == hash {
                return place;
            }
            place = if place + 1 == count { 0 } else { place + 1 };
        }
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        let half = |seed: u64| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(seed);
            hasher.write(key);
            hasher.finish()
        };
        (half(self.seed), half(!self.seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Vec<u8> {
        format!("key {number}").into_bytes()
    }

    #[test]
    fn the_last_offset_of_every_key_until_it_is_full() {
        let mut table = KeyTable::new(1000 * SLOT_BYTES, u64::MAX, 5);
        let mut fitted = 0;
        while table.put(&key(fitted), Offset(fitted as i64)) {
            fitted += 1;
        }
        assert_eq!((fitted, table.key_count()), (900, 900));
        assert_eq!(table.latest(), Some(Offset(899)), "what did not fit is not known");
        assert!(table.put(&key(7), Offset(2000)), "a known key always fits");
        assert!(table.put(&key(7), Offset(1500)), "and its offset never falls");
        assert_eq!(table.get(&key(7)), Some(Offset(2000)));
        assert_eq!(table.get(&key(8)), Some(Offset(8)));
        assert_eq!(table.get(&key(901)), None);
        assert_eq!(table.get(b""), None);
    }

    #[test]
    fn few_keys_take_a_small_table() {
        let mut table = KeyTable::new(64 << 20, 100, 5);
        assert!(table.bytes() < 4096);
        assert!((0..100).all(|n| table.put(&key(n), Offset(n as i64))));
    }
}
