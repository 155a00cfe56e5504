//! From the ratios of pairs to a statement.
//!
//! Does: geometric means and bootstrap intervals.
//! Does not: know what was measured.
//! Invariants: the same ratios and the same seed give the same interval on every machine.
//! Apart because arithmetic is proven with numbers, not with brokers.

use crate::limits::BOOTSTRAP_RESAMPLES;
use crate::outcome::comparison::Interval;

/// The geometric mean; nothing where a ratio is missing, infinite, zero or negative, for then
/// there is no statement to make.
#[must_use]
pub fn geometric_mean(ratios: &[f64]) -> Option<f64> {
    let usable = |ratio: &f64| ratio.is_finite() && *ratio > 0.0;
    if ratios.is_empty() || !ratios.iter().all(usable) {
        return None;
    }
    Some((ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp())
}

/// Mean and 95 % interval: the pairs are drawn again with replacement, many times, and the middle
/// 95 % of the means kept. One pair has no spread to draw from: its interval is the point itself.
#[must_use]
pub fn interval(ratios: &[f64], seed: u64) -> Option<Interval> {
    let mean = geometric_mean(ratios)?;
    let mut dice = Dice(seed);
    let mut means: Vec<f64> = (0..BOOTSTRAP_RESAMPLES)
        .filter_map(|_| {
            let drawn: Vec<f64> = ratios.iter().map(|_| ratios[dice.below(ratios.len())]).collect();
            geometric_mean(&drawn)
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((means.len() - 1) as f64 * share).round() as usize];
    Some(Interval { mean, low: at(0.025), high: at(0.975) })
}

/// `SplitMix64`: ten lines that every machine agrees on are worth more here than better dice.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        // A modulus of a handful out of 2^64: the bias is far below what anyone could measure.
        (self.next() % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_and_doubles_cancel() {
        assert!((geometric_mean(&[0.5, 2.0]).expect("a mean") - 1.0).abs() < 1e-12);
        assert!((geometric_mean(&[3.0, 3.0, 3.0]).expect("a mean") - 3.0).abs() < 1e-12);
    }

    #[test]
    fn without_usable_ratios_there_is_no_statement() {
        for ratios in [&[][..], &[1.0, 0.0], &[1.0, f64::NAN], &[f64::INFINITY], &[-1.0]] {
            assert_eq!(geometric_mean(ratios), None);
            assert_eq!(interval(ratios, 1), None);
        }
    }

    #[test]
    fn the_interval_is_repeatable_and_holds_the_mean() {
        let ratios = [0.9, 1.0, 1.1, 1.3, 0.8, 1.05, 0.97, 1.2];
        let first = interval(&ratios, 4).expect("an interval");
        assert_eq!(Some(first), interval(&ratios, 4));
        assert!(first.low < first.mean && first.mean < first.high, "{first:?}");
        assert!(first.low > 0.8 && first.high < 1.3, "{first:?}");
    }

    #[test]
    fn agreement_narrows_the_interval() {
        let width = |ratios: &[f64]| interval(ratios, 4).map(|i| i.high - i.low).expect("one");
        assert!(width(&[1.0, 1.01, 0.99, 1.0]) < width(&[0.5, 2.0, 0.7, 1.4]));
        assert_eq!(width(&[1.7]), 0.0);
    }

    #[test]
    fn the_interval_of_known_noise_covers_what_theory_says() {
        // Sixteen ratios with logarithms evenly from -0.15 to 0.15: their standard error is 0.0231,
        // so 95 % of resampled means lie within about 1.96 of those.
        let ratios: Vec<f64> =
            (0..16).map(|i| f64::from(-15 + 2 * i) / 100.0).map(f64::exp).collect();
        let found = interval(&ratios, 4).expect("an interval");
        assert!((found.mean - 1.0).abs() < 1e-9);
        assert!((found.high.ln() - 0.045).abs() < 0.006, "{found:?}");
        assert!((found.low.ln() + 0.045).abs() < 0.006, "{found:?}");
    }
}
