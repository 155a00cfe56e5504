//! What a probe says at its end.
//!
//! Does: gather times into percentiles; tell "not possible here" from "went wrong".
//! Does not: read a clock or print.
//! Invariant: a [`Measured`] latency has at least one sample.
//! Apart because every probe ends with one of these and the room treats them all alike.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::limits;
use crate::outcome::probes::Spread;

/// A number with its kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measured {
    /// How long one operation took.
    Latency(Spread),
    /// How much went through in a second.
    Rate {
        /// Amount per second.
        per_second: f64,
        /// Of what.
        unit: Unit,
    },
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 10^6 bytes.
    Megabytes,
    /// Single operations.
    Operations,
}

impl Unit {
    /// As it stands in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Megabytes => "MB",
            Self::Operations => "operations",
        }
    }
}

/// Why a probe has no number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// This machine or file system cannot do it; that is an answer.
    Impossible(String),
    /// It can, and something went wrong.
    Failed(String),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<rustix::io::Errno> for Refused {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// What a probe returns.
pub type Answer = Result<Measured, Refused>;

/// Bytes in some seconds, as a rate.
pub fn bandwidth(bytes: u64, seconds: f64) -> Answer {
    rate(bytes as f64 / 1e6, seconds, Unit::Megabytes)
}

/// Operations in some seconds, as a rate.
pub fn frequency(operations: u64, seconds: f64) -> Answer {
    rate(operations as f64, seconds, Unit::Operations)
}

fn rate(amount: f64, seconds: f64, unit: Unit) -> Answer {
    if amount > 0.0 && seconds > 0.0 {
        Ok(Measured::Rate { per_second: amount / seconds, unit })
    } else {
        Err(Refused::Failed("nothing was done in the given time".to_owned()))
    }
}

/// Times of one repeated operation.
#[derive(Debug)]
pub struct Tally {
    nanos: Histogram<u64>,
}

impl Default for Tally {
    /// Without a sample.
    fn default() -> Self {
        let nanos = Histogram::new_with_bounds(
            limits::PROBE_LOWEST_NANOS,
            limits::HISTOGRAM_HIGHEST_NANOS,
            limits::HISTOGRAM_DIGITS,
        );
        Self { nanos: nanos.expect("the bounds in limits.rs make a histogram") }
    }
}

impl Tally {
    /// One more operation took this long.
    pub fn add(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.saturating_record(nanos.max(limits::PROBE_LOWEST_NANOS));
    }

    /// The percentiles, if there is anything to speak of.
    pub fn latency(&self) -> Answer {
        if self.nanos.is_empty() {
            return Err(Refused::Failed("no operation ended in the given time".to_owned()));
        }
        let at = |quantile| self.nanos.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Measured::Latency(Spread {
            samples: self.nanos.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: at(1.0),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread_of(tally: &Tally) -> Spread {
        match tally.latency() {
            Ok(Measured::Latency(spread)) => spread,
            other => panic!("a latency was expected, not {other:?}"),
        }
    }

    fn is_near(seen: f64, wanted: f64) -> bool {
        (seen - wanted).abs() <= wanted * 0.002
    }

    #[test]
    fn percentiles_stand_where_they_belong() {
        let mut tally = Tally::default();
        for micros in 1..=1000 {
            tally.add(Duration::from_micros(micros));
        }
        let spread = spread_of(&tally);
        assert_eq!(spread.samples, 1000);
        assert!(is_near(spread.p50_us, 500.0), "{spread:?}");
        assert!(is_near(spread.p99_us, 990.0), "{spread:?}");
        assert!(is_near(spread.p999_us, 999.0), "{spread:?}");
        assert!(is_near(spread.max_us, 1000.0), "{spread:?}");
    }

    #[test]
    fn nothing_and_eternity_are_both_counted() {
        let mut tally = Tally::default();
        tally.add(Duration::ZERO);
        tally.add(Duration::MAX);
        let spread = spread_of(&tally);
        assert_eq!(spread.samples, 2);
        assert!(is_near(spread.max_us, limits::HISTOGRAM_HIGHEST_NANOS as f64 / 1e3));
    }

    #[test]
    fn no_sample_is_no_latency_and_no_time_no_rate() {
        assert!(matches!(Tally::default().latency(), Err(Refused::Failed(_))));
        assert!(matches!(bandwidth(0, 1.0), Err(Refused::Failed(_))));
        assert!(matches!(frequency(1, 0.0), Err(Refused::Failed(_))));
        let per_second = Measured::Rate { per_second: 2.0, unit: Unit::Megabytes };
        assert_eq!(bandwidth(1_000_000, 0.5), Ok(per_second));
    }
}
