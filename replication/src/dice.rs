//! The only randomness of this crate: a small generator whose seed is the caller's.
//!
//! Does: draw numbers and UUIDs, the same ones again for the same seed.
//! Does not: find entropy; the broker owns the seed. Not for secrets.
//! Invariants: the state moves with every draw and by nothing else.
//! Apart because a run must be repeatable from its seed, and a generator hidden in a state machine
//! would not be.

/// A seeded generator (SplitMix64: one addition and three multiplications a draw).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// A generator that draws what `seed` says.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number, evenly drawn from all 64-bit numbers.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A random UUID (RFC 9562, version 4) as its 16 bytes.
    pub fn uuid_bytes(&mut self) -> [u8; 16] {
        let high = (self.draw() & !0xf000) | 0x4000;
        let low = (self.draw() & !(0b11 << 62)) | (0b10 << 62);
        ((u128::from(high) << 64) | u128::from(low)).to_be_bytes()
    }

    /// A random UUID (RFC 9562, version 4) as text: 36 lower-case characters.
    pub fn uuid(&mut self) -> String {
        let digits = format!("{:032x}", u128::from_be_bytes(self.uuid_bytes()));
        let groups = [0..8, 8..12, 12..16, 16..20, 20..32];
        groups.map(|group| &digits[group]).join("-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_uuids_and_no_two_alike() {
        let mut dice = Dice::new(7);
        let mut again = Dice::new(7);
        let drawn: Vec<String> = (0..100).map(|_| dice.uuid()).collect();
        assert!(drawn.iter().all(|uuid| *uuid == again.uuid()));
        let mut distinct = drawn.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), 100);
        for uuid in &drawn {
            assert_eq!(uuid.len(), 36);
            assert_eq!(&uuid[14..15], "4");
            assert!("89ab".contains(&uuid[19..20]));
        }
    }
    #[test]
    fn a_uuid_is_the_same_as_text_and_as_bytes() {
        let bytes = Dice::new(3).uuid_bytes();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(Dice::new(3).uuid().replace('-', ""), hex);
        assert_eq!((bytes[6] >> 4, bytes[8] >> 6), (4, 0b10));
    }
}
