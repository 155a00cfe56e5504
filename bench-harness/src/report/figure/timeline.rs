//! Second by second.
//!
//! Does: draw p99 latency and throughput over the seconds of a run.
//! Does not: hide a bad second: latency shows the worst run of each second.
//! Invariants: seconds without a sample are left out, not drawn as zero latency.
//! Apart because only here runs are laid over each other in time.

use std::collections::BTreeMap;

use super::canvas::{Chart, HALF, Shape, draw};
use super::{Figure, axis, colour, legend};
use crate::outcome::load::Slice;
use crate::report::estimate;
use crate::report::palette::Palette;
use crate::report::study::Study;
use crate::report::words;

/// 99th percentile of each second.
#[must_use]
pub fn latency(study: &Study, palette: &Palette) -> Option<Figure> {
    let worst = |values: &[f64]| values.iter().copied().reduce(f64::max);
    let seconds = per_second(study, |slice| Some(slice.p99_us).filter(|p99| *p99 > 0.0), worst);
    let all = seconds.iter().flat_map(|(_, points)| points.iter().map(|(_, value)| *value));
    let y = axis::logarithmic("p99 latency (log scale)", all, words::duration_us)?;
    let mut drawn = figure(study, palette, &seconds, y, f64::log10)?;
    drawn.title = "Produce p99 by second".to_owned();
    drawn.caption = "Each second of the worst run of a system; lower is better.".to_owned();
    Some(drawn)
}

/// Record bytes acknowledged, or delivered where nothing was produced, in each second.
#[must_use]
pub fn throughput(study: &Study, palette: &Palette) -> Option<Figure> {
    let produces = study.scenario.producers.is_some();
    let megabytes = move |slice: &Slice| {
        let bytes = if produces { slice.acknowledged_bytes } else { slice.delivered_bytes };
        Some(bytes as f64 / 1e6)
    };
    let seconds = per_second(study, megabytes, estimate::median);
    let all = seconds.iter().flat_map(|(_, points)| points.iter().map(|(_, value)| *value));
    let y = axis::linear("record bytes, MB/s", all, words::number)?;
    let mut drawn = figure(study, palette, &seconds, y, |value| value)?;
    let what = if produces { "acknowledged" } else { "delivered" };
    drawn.title = format!("Record bytes {what} by second");
    drawn.caption = "Each second in the middle of all runs of a system.".to_owned();
    if seconds.len() > 1 {
        drawn.caption += " Systems that keep up with the same rate hide each other.";
    }
    Some(drawn)
}

type Seconds = Vec<(usize, Vec<(f64, f64)>)>;

fn per_second(
    study: &Study,
    read: impl Fn(&Slice) -> Option<f64>,
    combine: impl Fn(&[f64]) -> Option<f64>,
) -> Seconds {
    let of_system = |system: usize| {
        let mut seconds: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
        for run in study.runs.iter().filter(|run| run.system == system) {
            for slice in &run.load.slices {
                seconds.entry(slice.second).or_default().extend(read(slice));
            }
        }
        let combined = seconds
            .into_iter()
            .filter_map(|(second, values)| Some((f64::from(second), combine(&values)?)));
        (system, combined.collect::<Vec<_>>())
    };
    (0..study.systems.len()).map(of_system).filter(|(_, points)| points.len() > 1).collect()
}

fn figure(
    study: &Study,
    palette: &Palette,
    seconds: &Seconds,
    y: axis::Axis,
    place: fn(f64) -> f64,
) -> Option<Figure> {
    let last = seconds.iter().flat_map(|(_, points)| points.iter().map(|(second, _)| *second));
    let ends = last.clone().map(|second| second + 1.0);
    let mut x = axis::linear("seconds since the measured part began", ends, words::number)?;
    // The last second ends where the next would begin.
    x.high = last.fold(0.0, f64::max) + 1.0;
    x.ticks.retain(|(at, _)| *at <= x.high);
    let line = |(system, points): &(usize, Vec<(f64, f64)>)| {
        let points = points.iter().map(|(second, value)| (*second, place(*value)));
        Shape::Line(colour(study, palette, *system), points.collect())
    };
    let shapes = seconds.iter().map(line).collect();
    let shown: Vec<usize> = seconds.iter().map(|(system, _)| *system).collect();
    Some(Figure {
        title: String::new(),
        caption: String::new(),
        svg: draw(&Chart { size: HALF, left: 170, right: 40, x, y, has_rows: true, shapes }),
        is_wide: false,
        legend: legend(study, palette, &shown),
    })
}
