//! Chance that a seed decides.
//!
//! Does: give numbers below a bound.
//! Does not: need to be good enough for anything but tests.
//! Invariants: the same seed falls the same way for ever, on every machine.
//! Apart because disks and simulated worlds throw the same dice.

/// A small seeded generator (xorshift64*), enough to choose orders and sectors.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that always fall the same way for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`, which must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}
