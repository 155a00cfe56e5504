//! Numbers, durations and moments as people read them.
//!
//! Does: format, always the same way, always with a unit.
//! Does not: round anything that is computed with afterwards.
//! Invariants: three significant digits, because no machine repeats itself more closely.
//! Apart because the page, the summary and the figures must show one number in one way.

use std::cmp::Ordering;

use crate::limits::is_whole_spread;
use crate::outcome::Durability;
use crate::outcome::comparison::Interval;

/// Stands where nothing was measured.
pub const NOTHING: &str = "–";

/// Three significant digits at most, thousands separated: `12,300`, `4.56`, `0.0123`, `2`.
#[must_use]
pub fn number(value: f64) -> String {
    let text = three_digits(value);
    let trimmed = text.trim_end_matches('0').trim_end_matches('.');
    if text.contains('.') { trimmed.to_owned() } else { text }
}

/// Three significant digits even where the last are zeros, as a measured ratio has them: `1.00`.
fn three_digits(value: f64) -> String {
    if !value.is_finite() {
        return NOTHING.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor() as i32;
    let unit = 10_f64.powi((magnitude - 2).clamp(-12, 12));
    let rounded = (value / unit).round() * unit;
    // Rounding may have carried into a further digit: 9.996 is 10.0.
    let magnitude = rounded.abs().log10().floor() as i32;
    let decimals = usize::try_from((2 - magnitude).clamp(0, 12)).unwrap_or(0);
    thousands(&format!("{rounded:.decimals$}"))
}

/// A whole number with its thousands separated.
#[must_use]
pub fn count(value: u64) -> String {
    thousands(&value.to_string())
}

fn thousands(text: &str) -> String {
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut out = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

/// Microseconds in the unit that fits: `34 µs`, `4.75 ms`, `1.2 s`.
#[must_use]
pub fn duration_us(micros: f64) -> String {
    match micros {
        _ if !micros.is_finite() => NOTHING.to_owned(),
        small if small < 999.5 => format!("{} µs", number(micros)),
        middle if middle < 999_500.0 => format!("{} ms", number(micros / 1e3)),
        _ => format!("{} s", number(micros / 1e6)),
    }
}

/// `0.21×`.
#[must_use]
pub fn times(value: f64) -> String {
    format!("{}×", number(value))
}

/// [`interval`], with a word on what its brackets hold where that is no interval of 95 %.
#[must_use]
pub fn ratio(of: &Interval, pairs: usize) -> String {
    let text = interval(of);
    if is_whole_spread(pairs) && text.ends_with(']') {
        format!("{} min–max]", text.trim_end_matches(']'))
    } else {
        text
    }
}

/// What the brackets behind the mean of so many pairs hold.
#[must_use]
pub fn brackets(pairs: usize) -> &'static str {
    match pairs {
        0 | 1 => "one pair, no interval",
        few if is_whole_spread(few) => "few pairs: brackets hold the smallest and the largest",
        _ => "95 % interval",
    }
}

/// `0.210× [0.182–0.254]`; the brackets only where several runs gave a width.
#[must_use]
pub fn interval(interval: &Interval) -> String {
    if interval.low == interval.high {
        return format!("{}×", three_digits(interval.mean));
    }
    let [mean, low, high] = [interval.mean, interval.low, interval.high].map(three_digits);
    format!("{mean}× [{low}–{high}]")
}

/// `D0m`, `D0` or `D1`.
#[must_use]
pub fn class(durability: Durability) -> &'static str {
    match durability {
        Durability::D0m => "D0m",
        Durability::D0 => "D0",
        Durability::D1 => "D1",
    }
}

/// What a reader must know of a ratio between these classes; empty where they are the same. The
/// one on top either carries a weight or throws one off.
#[must_use]
pub fn match_of(of: Durability, to: Durability) -> &'static str {
    match of.cmp(&to) {
        Ordering::Greater => "handicap match",
        Ordering::Equal => "",
        Ordering::Less => "weaker promise",
    }
}

/// `2026-11-21 11:05 UTC`.
#[must_use]
pub fn moment(unix_ms: u64) -> String {
    let minutes = unix_ms / 60_000;
    let (year, month, day) = civil(minutes / 1_440);
    let (hour, minute) = (minutes / 60 % 24, minutes % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// Days since 1970 as a date, by counting in years that begin in March, so that the leap day is
/// the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.012_34, "0.0123"),
            (1.0, "1"),
            (4.567, "4.57"),
            (45.67, "45.7"),
            (99.96, "100"),
            (9.996, "10"),
            (12_345.0, "12,300"),
            (1_234_567.0, "1,230,000"),
            (-1_500.0, "-1,500"),
            (f64::NAN, NOTHING),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn durations_take_the_unit_that_fits() {
        assert_eq!(duration_us(34.0), "34 µs");
        assert_eq!(duration_us(999.0), "999 µs");
        assert_eq!(duration_us(4_751.0), "4.75 ms");
        assert_eq!(duration_us(1_200_000.0), "1.2 s");
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        assert_eq!(moment(0), "1970-01-01 00:00 UTC");
        assert_eq!(moment(951_782_400_000), "2000-02-29 00:00 UTC");
        assert_eq!(moment(1_795_259_103_000), "2026-11-21 11:05 UTC");
    }

    #[test]
    fn brackets_of_few_pairs_claim_no_confidence() {
        let of = Interval { mean: 0.5, low: 0.4, high: 0.6 };
        assert_eq!(ratio(&of, 2), "0.500× [0.400–0.600 min–max]");
        assert_eq!(ratio(&of, 8), "0.500× [0.400–0.600]");
        assert_eq!(ratio(&Interval { low: 0.5, high: 0.5, ..of }, 1), "0.500×");
        assert!(brackets(1).contains("one pair") && brackets(3).contains("smallest"));
    }

    #[test]
    fn an_interval_without_width_claims_none() {
        assert_eq!(interval(&Interval { mean: 0.5, low: 0.5, high: 0.5 }), "0.500×");
        assert_eq!(interval(&Interval { mean: 0.5, low: 0.4, high: 0.6 }), "0.500× [0.400–0.600]");
    }
}
