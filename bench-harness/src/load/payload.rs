//! What records are filled with.
//!
//! Does: draw keys and values from a seed, as compressible as what people send.
//! Does not: know batches.
//! Invariants: one seed, one sequence of bytes, on every machine and in every version.
//! Apart because zeros or pure noise would flatter or punish compression.

/// A small generator of chance numbers (SplitMix64): the same seed always gives the same row.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as the seed says.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from 0 to 1, 1 not included.
    pub fn share(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Words of the even half of each value; the odd half is drawn anew each time.
const WORDS: [&str; 16] = [
    "\"order_id\":",
    "\"customer\":",
    "\"amount\":",
    "\"currency\":\"EUR\",",
    "\"status\":\"shipped\",",
    "\"warehouse\":",
    "\"created_at\":",
    "\"items\":[",
    "\"sku\":",
    "\"quantity\":1,",
    "\"price\":",
    "\"street\":",
    "\"city\":\"Utrecht\",",
    "\"country\":\"NL\",",
    "\"comment\":null,",
    "\"source\":\"web\"}",
];

const DIGITS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

/// Bytes of a drawn word: with the fixed ones beside it a value shrinks to about a half, as JSON of
/// real systems does in single batches.
const DRAWN_BYTES: usize = 10;

/// `length` bytes that look like JSON of a shop: fixed words between drawn ones.
#[must_use]
pub fn value(dice: &mut Dice, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 32);
    while bytes.len() < length {
        let bits = dice.draw();
        bytes.extend_from_slice(WORDS[(bits >> 60) as usize].as_bytes());
        for place in 0..DRAWN_BYTES {
            bytes.push(DIGITS[(bits >> (place * 6)) as usize & 63]);
        }
    }
    bytes.truncate(length);
    bytes
}

/// A key of `length` characters.
#[must_use]
pub fn key(dice: &mut Dice, length: usize) -> Vec<u8> {
    (0..length).map(|_| DIGITS[(dice.draw() >> 58) as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flumen_protocol::batch::codec::{Codec, compress};

    #[test]
    fn the_same_seed_draws_the_same_bytes() {
        let draw = |seed| value(&mut Dice::new(seed), 1_000);
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_eq!(Dice::new(0).draw(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn values_shrink_as_real_ones_do() {
        let bytes = value(&mut Dice::new(1), 64 << 10);
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let ratio = bytes.len() as f64 / compress(codec, &bytes).len() as f64;
            assert!((1.3..4.0).contains(&ratio), "{} shrinks by {ratio}", codec.name());
        }
    }

    #[test]
    fn shares_lie_between_nought_and_one() {
        let mut dice = Dice::new(3);
        let sum: f64 = (0..10_000).map(|_| dice.share()).sum();
        assert!((4_800.0..5_200.0).contains(&sum));
    }
}
