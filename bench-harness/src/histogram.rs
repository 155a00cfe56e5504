//! Latency histograms.
//!
//! Does: record nanoseconds, sum them up as the outcome wants them, and write the interval log that
//! other tools of the HdrHistogram family read.
//! Does not: decide what is recorded.
//! Invariants: what is longer than the histogram holds counts as the longest it holds, never as
//! nothing.
//! Apart because bounds and digits must be the same wherever two histograms are compared.

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use crate::limits::{
    HISTOGRAM_DIGITS, HISTOGRAM_HIGHEST_NANOS, HISTOGRAM_LOWEST_NANOS, HISTOGRAM_START_NANOS,
};
use crate::outcome::load::Latency;

/// Counts of one second or of a whole run.
pub type Nanos = Histogram<u64>;

/// An empty histogram that grows with what it is given: one is kept per second, and most seconds
/// see nothing long.
#[must_use]
pub fn empty() -> Nanos {
    let mut histogram =
        Histogram::new_with_bounds(HISTOGRAM_LOWEST_NANOS, HISTOGRAM_START_NANOS, HISTOGRAM_DIGITS)
            .expect("the bounds are constants");
    histogram.auto(true);
    histogram
}

/// Counts one latency.
pub fn record(histogram: &mut Nanos, nanos: u64) {
    histogram
        .record(nanos.min(HISTOGRAM_HIGHEST_NANOS))
        .expect("a growing histogram takes every bounded value");
}

/// A percentile in microseconds; 0 of an empty histogram.
#[must_use]
pub fn percentile_us(histogram: &Nanos, percentile: f64) -> f64 {
    if histogram.is_empty() {
        return 0.0;
    }
    // The upper end of a bucket may exceed the longest value that was seen.
    micros(histogram.value_at_percentile(percentile).min(histogram.max()))
}

/// The longest value, microseconds.
#[must_use]
pub fn max_us(histogram: &Nanos) -> f64 {
    micros(histogram.max())
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1_000.0
}

/// All the outcome says of a distribution; nothing where nothing was measured.
#[must_use]
pub fn latency(histogram: &Nanos) -> Option<Latency> {
    if histogram.is_empty() {
        return None;
    }
    Some(Latency {
        samples: histogram.len(),
        mean_us: histogram.mean() / 1_000.0,
        p50_us: percentile_us(histogram, 50.0),
        p90_us: percentile_us(histogram, 90.0),
        p99_us: percentile_us(histogram, 99.0),
        p999_us: percentile_us(histogram, 99.9),
        p9999_us: percentile_us(histogram, 99.99),
        max_us: max_us(histogram),
        histogram: encode(histogram),
    })
}

/// HdrHistogram V2, deflated, base64.
#[must_use]
pub fn encode(histogram: &Nanos) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect("a vector takes every byte");
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Reads what [`encode`] wrote; nothing when it is damaged.
#[must_use]
pub fn decode(text: &str) -> Option<Nanos> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).ok()
}

/// One stretch of a run for the interval log.
#[derive(Clone, Copy, Debug)]
pub struct Interval<'a> {
    /// What was measured, such as `produce`.
    pub tag: &'static str,
    /// Its beginning, seconds after the log's.
    pub begin: Duration,
    /// Its length.
    pub length: Duration,
    /// What was counted in it.
    pub histogram: &'a Nanos,
}

/// Writes the standard interval log; maxima in its plain column are milliseconds.
///
/// # Errors
/// What the file says.
pub fn write_log(
    file: &mut impl io::Write,
    began_unix_ms: u64,
    intervals: &[Interval<'_>],
) -> io::Result<()> {
    let began = UNIX_EPOCH + Duration::from_millis(began_unix_ms);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Logged with flumen-bench; values are nanoseconds]")
        .with_start_time(began)
        .with_base_time(began)
        .with_max_value_divisor(1_000_000.0)
        .begin_log_with(file, &mut serializer)?;
    for interval in intervals {
        let tag = Tag::new(interval.tag).expect("tags of this crate have no odd characters");
        log.write_histogram(interval.histogram, interval.begin, interval.length, Some(tag))
            .map_err(|error| io::Error::other(error.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    fn filled() -> Nanos {
        let mut histogram = empty();
        for micros in 1..=1_000 {
            record(&mut histogram, micros * 1_000);
        }
        histogram
    }

    #[test]
    fn percentiles_are_within_a_thousandth() {
        let summed = latency(&filled()).expect("samples");
        assert_eq!(summed.samples, 1_000);
        assert!((summed.p50_us - 500.0).abs() < 1.0, "{}", summed.p50_us);
        assert!((summed.p99_us - 990.0).abs() < 1.5, "{}", summed.p99_us);
        assert!((summed.max_us - 1_000.0).abs() < 1.5, "{}", summed.max_us);
    }

    #[test]
    fn what_is_too_long_counts_as_the_longest() {
        let mut histogram = empty();
        record(&mut histogram, u64::MAX);
        record(&mut histogram, 0);
        assert_eq!(histogram.len(), 2);
        assert!(max_us(&histogram) >= 99_000_000.0);
    }

    #[test]
    fn a_histogram_survives_its_text() {
        let histogram = filled();
        assert_eq!(decode(&encode(&histogram)), Some(histogram));
        assert_eq!(decode("nonsense"), None);
        assert!(latency(&empty()).is_none());
    }

    #[test]
    fn the_interval_log_is_read_by_the_standard_reader() {
        let histogram = filled();
        let mut log = Vec::new();
        let second = Duration::from_secs(1);
        let interval =
            Interval { tag: "produce", begin: second, length: second, histogram: &histogram };
        write_log(&mut log, 1_700_000_000_000, &[interval, interval]).expect("written");
        let entries: Vec<_> =
            IntervalLogIterator::new(&log).map(|entry| entry.expect("sound")).collect();
        let intervals: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry {
                LogEntry::Interval(found) => Some(found),
                LogEntry::StartTime(_) | LogEntry::BaseTime(_) => None,
            })
            .collect();
        assert_eq!(intervals.len(), 2);
        assert_eq!(intervals[0].tag().map(|tag| tag.as_str()), Some("produce"));
        assert_eq!(decode(intervals[0].encoded_histogram()), Some(histogram));
    }
}
