//! Percentile curves.
//!
//! Does: draw latency over percentile, as HdrHistogram's own plots do: each decade of x leaves a
//! tenth of the requests.
//! Does not: smooth or extrapolate: a curve ends where its samples end.
//! Invariants: all runs of a system are one histogram, so that a bad run is not averaged away.
//! Apart because it alone reads histograms.

use super::canvas::{Chart, HALF, Shape, draw};
use super::{Figure, axis, colour, legend};
use crate::histogram::{self, Nanos};
use crate::limits::CURVE_POINTS_MAX;
use crate::outcome::load::{Latency, Load};
use crate::report::palette::Palette;
use crate::report::study::Study;
use crate::report::words;

/// How many requests there are for each that is slower: 1 for the fastest, 10,000 for p99.99.
const ONE_IN_MAX: f64 = 10_000.0;

const PERCENTILES: [(f64, &str); 6] =
    [(1.0, "0"), (2.0, "50"), (10.0, "90"), (100.0, "99"), (1_000.0, "99.9"), (10_000.0, "99.99")];

/// Of produce requests, from the intended send time.
#[must_use]
pub fn produce(study: &Study, palette: &Palette) -> Option<Figure> {
    figure(study, palette, |load| load.produce.as_ref(), "Produce latency by percentile")
}

/// Of records, from the intended send time to the consumer.
#[must_use]
pub fn end_to_end(study: &Study, palette: &Palette) -> Option<Figure> {
    figure(study, palette, |load| load.end_to_end.as_ref(), "End-to-end latency by percentile")
}

fn figure(
    study: &Study,
    palette: &Palette,
    which: fn(&Load) -> Option<&Latency>,
    title: &str,
) -> Option<Figure> {
    let curves: Vec<(usize, Vec<(f64, f64)>)> = (0..study.systems.len())
        .map(|system| {
            let seen: Vec<&Latency> =
                study.runs_of(system).into_iter().filter_map(|run| which(&run.load)).collect();
            (system, curve(&seen))
        })
        .filter(|(_, points)| points.len() > 1)
        .collect();
    let all = curves.iter().flat_map(|(_, points)| points.iter().map(|(_, micros)| *micros));
    let y = axis::logarithmic("latency (log scale)", all, words::duration_us)?;
    let ticks = PERCENTILES.iter().map(|(one_in, text)| (one_in.log10(), (*text).to_owned()));
    let x = axis::Axis {
        label: "percentile (log scale of the share above)".to_owned(),
        low: 0.0,
        high: ONE_IN_MAX.log10(),
        ticks: ticks.collect(),
        minor: Vec::new(),
    };
    let line = |(system, points): &(usize, Vec<(f64, f64)>)| {
        let points = points.iter().map(|(one_in, micros)| (one_in.log10(), micros.log10()));
        Shape::Line(colour(study, palette, *system), points.collect())
    };
    let shapes = curves.iter().map(line).collect();
    let shown: Vec<usize> = curves.iter().map(|(system, _)| *system).collect();
    Some(Figure {
        title: title.to_owned(),
        caption: "All runs of a system together; lower is better.".to_owned(),
        svg: draw(&Chart { size: HALF, left: 170, right: 40, x, y, has_rows: true, shapes }),
        is_wide: false,
        legend: legend(study, palette, &shown),
    })
}

/// Latency in microseconds by "one in how many".
fn curve(seen: &[&Latency]) -> Vec<(f64, f64)> {
    let histograms: Option<Vec<Nanos>> =
        seen.iter().map(|latency| unpack(&latency.histogram)).collect();
    match histograms.as_deref() {
        None => by_percentiles(seen),
        Some([]) => Vec::new(),
        Some([first, rest @ ..]) => {
            let mut sum = first.clone();
            sum.auto(true);
            for histogram in rest {
                // A growing histogram takes whatever another one held.
                if sum.add(histogram).is_err() {
                    return by_percentiles(seen);
                }
            }
            by_histogram(&sum)
        }
    }
}

fn by_histogram(histogram: &Nanos) -> Vec<(f64, f64)> {
    let end = ONE_IN_MAX.min(histogram.len() as f64).log10();
    let at = |step: usize| 10_f64.powf(end * step as f64 / (CURVE_POINTS_MAX - 1) as f64);
    (0..CURVE_POINTS_MAX)
        .map(at)
        .map(|one_in| (one_in, histogram.value_at_quantile(1.0 - 1.0 / one_in) as f64 / 1e3))
        .filter(|(_, micros)| *micros > 0.0)
        .collect()
}

/// Where a file carries no histogram: the few points that it names, in the middle of all runs.
fn by_percentiles(seen: &[&Latency]) -> Vec<(f64, f64)> {
    type Point = (f64, fn(&Latency) -> f64);
    let points: [Point; 5] = [
        (2.0, |latency| latency.p50_us),
        (10.0, |latency| latency.p90_us),
        (100.0, |latency| latency.p99_us),
        (1_000.0, |latency| latency.p999_us),
        (10_000.0, |latency| latency.p9999_us),
    ];
    let samples: u64 = seen.iter().map(|latency| latency.samples).sum();
    points
        .into_iter()
        .filter(|(one_in, _)| *one_in <= samples as f64)
        .filter_map(|(one_in, read)| {
            let values: Vec<f64> = seen.iter().map(|latency| read(latency)).collect();
            crate::report::estimate::median(&values).map(|micros| (one_in, micros))
        })
        .filter(|(_, micros)| *micros > 0.0)
        .collect()
}

fn unpack(packed: &str) -> Option<Nanos> {
    histogram::decode(packed).filter(|histogram| !histogram.is_empty())
}
