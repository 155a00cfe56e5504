//! Bars of ratios with their intervals.
//!
//! Does: draw every ratio of the referee from 1 to where it lies, on a logarithmic axis, so that
//! half and twice are equally long.
//! Does not: compute ratios.
//! Invariants: a ratio between classes is called no match of equals beside its bar.
//! Apart because it is the one figure with names for rows.

use super::canvas::{Chart, Shape, draw};
use super::{Figure, axis, colour, legend};
use crate::outcome::comparison::{Metric, Ratio};
use crate::report::palette::Palette;
use crate::report::quantity::Quantity;
use crate::report::study::Study;
use crate::report::words;
use crate::scenario::Pace;

const WIDTH: u32 = 2_360;
const ROW: u32 = 52;

/// Nothing where the referee computed nothing.
#[must_use]
pub fn figure(study: &Study, palette: &Palette) -> Option<Figure> {
    let drawable = |ratio: &&Ratio| {
        let interval = &ratio.interval;
        [interval.mean, interval.low, interval.high].iter().all(|end| end.is_finite() && *end > 0.0)
    };
    let ratios: Vec<&Ratio> = study
        .telling_ratios()
        .into_iter()
        .filter(drawable)
        .filter(|ratio| is_drawn(ratio.metric, study))
        .collect();
    let ends = ratios.iter().flat_map(|r| [r.interval.low, r.interval.high, r.interval.mean, 1.0]);
    let x = axis::logarithmic("ratio (log scale)", ends, words::times)?;
    let row = |index: usize| (ratios.len() - 1 - index) as f64 + 0.5;
    let mut shapes = Vec::new();
    for (index, ratio) in ratios.iter().enumerate() {
        let (interval, y) = (&ratio.interval, row(index));
        let bar = colour(study, palette, ratio.of);
        shapes.push(Shape::Bar(bar, (0.0, y - 0.32), (interval.mean.log10(), y + 0.32)));
        shapes.push(Shape::Whisker((interval.low.log10(), interval.high.log10()), y));
        let [of, to] = [ratio.of, ratio.to].map(|system| study.systems[system].durability);
        let words = format!("{}  {}", words::interval(interval), words::match_of(of, to));
        shapes.push(Shape::Words((x.high, y), words.trim_end().to_owned()));
    }
    shapes.push(Shape::Post(0.0));
    let ticks = ratios.iter().enumerate().map(|(index, ratio)| (row(index), label(study, ratio)));
    let y = axis::Axis {
        label: String::new(),
        low: 0.0,
        high: ratios.len() as f64,
        ticks: ticks.collect(),
        minor: Vec::new(),
    };
    let mut shown: Vec<usize> = ratios.iter().map(|ratio| ratio.of).collect();
    shown.sort_unstable();
    shown.dedup();
    let height = ROW * ratios.len() as u32 + 150;
    let size = (WIDTH, height);
    Some(Figure {
        title: "Ratios between systems".to_owned(),
        caption: format!(
            "First system over second ({}), in the first one's colour. ↑ more is better, ↓ less \
             is better. Between durability classes it is a handicap match or one of a weaker \
             promise.",
            words::brackets(study.pairs())
        ),
        svg: draw(&Chart { size, left: 760, right: 480, x, y, has_rows: false, shapes }),
        is_wide: true,
        legend: legend(study, palette, &shown),
    })
}

/// What a schedule makes equal, and what only explains another number, is left to the table.
fn is_drawn(metric: Metric, study: &Study) -> bool {
    let producers = study.scenario.producers.as_ref();
    let is_scheduled = producers.is_some_and(|producers| match producers.pace {
        Pace::PerSecond(_) => true,
        Pace::OneInFlight | Pace::AsFastAsPossible { .. } | Pace::Search { .. } => false,
    });
    match metric {
        // Of one size each, they say the same as the throughput.
        Metric::Transactions => false,
        Metric::Throughput | Metric::Delivery => !is_scheduled,
        Metric::CpuShare => producers.is_none(),
        Metric::CpuPerRequest | Metric::ContextSwitches => false,
        Metric::ProduceP50
        | Metric::ProduceP99
        | Metric::ProduceP999
        | Metric::EndToEndP50
        | Metric::EndToEndP99
        | Metric::CpuPerGb
        | Metric::WriteAmplification
        | Metric::Rss
        | Metric::Start
        | Metric::RestartFirstAck
        | Metric::RestartAllLeaders => true,
    }
}

/// `Produce p99 ↓  flumen D1 / kafka D1`.
fn label(study: &Study, ratio: &Ratio) -> String {
    let quantity = Quantity::Of(ratio.metric);
    format!(
        "{} {}  {} / {}",
        quantity.name(),
        quantity.better().arrow(),
        study.system_name(ratio.of),
        study.system_name(ratio.to)
    )
}
