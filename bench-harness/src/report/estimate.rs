//! Medians and ratios with their intervals.
//!
//! Does: the little statistics that a report needs where an outcome does not bring its own.
//! Does not: decide what is divided by what.
//! Invariants: the same input gives the same interval, because resampling has a fixed seed.
//! Apart because goals, tables and figures must agree on what "the" number of several runs is.

use crate::limits::REPORT_RESAMPLES;
use crate::outcome::comparison::Interval;

/// The middle of several runs; nothing without a run.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Geometric mean of the ratios of pairs and its bootstrap interval; nothing unless every pair is
/// positive and there is one.
#[must_use]
pub fn ratio_of_pairs(pairs: &[(f64, f64)]) -> Option<Interval> {
    let logs: Option<Vec<f64>> = pairs.iter().map(|(of, to)| Some(log(*of)? - log(*to)?)).collect();
    let logs = logs.filter(|logs| !logs.is_empty())?;
    Some(interval(mean(&logs), |dice| resampled_mean(&logs, dice)))
}

/// Geometric mean of one group over that of another, measured apart from each other.
#[must_use]
pub fn ratio_of_groups(of: &[f64], to: &[f64]) -> Option<Interval> {
    let of: Option<Vec<f64>> = of.iter().map(|value| log(*value)).collect();
    let to: Option<Vec<f64>> = to.iter().map(|value| log(*value)).collect();
    let (of, to) = (of.filter(|logs| !logs.is_empty())?, to.filter(|logs| !logs.is_empty())?);
    Some(interval(mean(&of) - mean(&to), |dice| {
        resampled_mean(&of, dice) - resampled_mean(&to, dice)
    }))
}

fn log(value: f64) -> Option<f64> {
    (value.is_finite() && value > 0.0).then(|| value.ln())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn interval(middle: f64, mut draw: impl FnMut(&mut Dice) -> f64) -> Interval {
    let mut dice = Dice(0x0046_6c75_6d65_6e00);
    let mut drawn: Vec<f64> = (0..REPORT_RESAMPLES).map(|_| draw(&mut dice)).collect();
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn[((drawn.len() - 1) as f64 * share).round() as usize].exp();
    Interval { mean: middle.exp(), low: at(0.025), high: at(0.975) }
}

fn resampled_mean(values: &[f64], dice: &mut Dice) -> f64 {
    (0..values.len()).map(|_| values[dice.below(values.len())]).sum::<f64>() / values.len() as f64
}

/// SplitMix64: small, seeded, good enough to resample a dozen runs.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_runs() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn pairs_that_agree_have_no_width_and_pairs_that_do_not_have_one() {
        let same = ratio_of_pairs(&[(1.0, 2.0), (2.0, 4.0)]).expect("positive pairs");
        assert!((same.low - 0.5).abs() < 1e-12 && (same.high - 0.5).abs() < 1e-12);
        let wide = ratio_of_pairs(&[(1.0, 2.0), (2.0, 1.0), (1.0, 1.0)]).expect("positive pairs");
        assert!((wide.mean - 1.0).abs() < 1e-12);
        assert!(wide.low < 0.9 && wide.high > 1.1, "{wide:?}");
        assert_eq!(ratio_of_pairs(&[(0.0, 2.0)]), None, "nothing has a ratio to nothing");
    }

    #[test]
    fn groups_repeat_to_the_last_bit() {
        let draw = || ratio_of_groups(&[5.0, 6.0, 7.0], &[1.0, 1.2]).expect("positive groups");
        assert_eq!(draw(), draw());
        assert!(draw().low < draw().mean && draw().mean < draw().high);
    }
}
