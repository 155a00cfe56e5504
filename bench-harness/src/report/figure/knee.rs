//! Rate against latency, from the steps of a search.
//!
//! Does: draw p99 over the rate that was due, one line per run, and mark where it stopped being
//! sustained.
//! Does not: search.
//! Invariants: a step that was not sustained is an empty circle.
//! Apart because only searches have steps.

use super::canvas::{Chart, HALF, Shape, draw};
use super::{Figure, axis, colour, legend};
use crate::outcome::load::Step;
use crate::report::palette::Palette;
use crate::report::study::{Run, Study};
use crate::report::words;

/// The highest sustained rate of a run, requests per second: as its generator says it, or from the
/// steps of a file that does not say it.
#[must_use]
pub fn knee(run: &Run) -> Option<f64> {
    let sustained = run.load.steps.iter().filter(|step| step.sustained);
    let highest = sustained.map(|step| step.achieved_per_second).reduce(f64::max);
    run.load.knee_per_second.or(highest)
}

/// Nothing where no run searched.
#[must_use]
pub fn figure(study: &Study, palette: &Palette) -> Option<Figure> {
    let searched: Vec<&Run> = study.runs.iter().filter(|run| run.load.steps.len() > 1).collect();
    let steps = || searched.iter().flat_map(|run| &run.load.steps);
    let x = axis::logarithmic(
        "requests due per second (log scale)",
        steps().map(|step| step.offered_per_second),
        words::number,
    )?;
    let y = axis::logarithmic(
        "p99 latency (log scale)",
        steps().map(|step| step.p99_us),
        words::duration_us,
    )?;
    let mut shapes = Vec::new();
    for run in &searched {
        let colour = colour(study, palette, run.system);
        let drawable = || {
            run.load.steps.iter().filter(|step| step.p99_us > 0.0 && step.offered_per_second > 0.0)
        };
        let at = |step: &Step| (step.offered_per_second.log10(), step.p99_us.log10());
        shapes.push(Shape::Line(colour, drawable().map(at).collect()));
        shapes.extend(drawable().map(|step| {
            if step.sustained {
                Shape::Dot(colour, at(step))
            } else {
                Shape::Ring(colour, at(step))
            }
        }));
    }
    let mut shown: Vec<usize> = searched.iter().map(|run| run.system).collect();
    shown.sort_unstable();
    shown.dedup();
    Some(Figure {
        title: "Rate against latency".to_owned(),
        caption: "Full circles: the system kept up. Empty ones: it did not. One line per run; \
                  further right and lower is better."
            .to_owned(),
        svg: draw(&Chart { size: HALF, left: 170, right: 40, x, y, has_rows: true, shapes }),
        is_wide: false,
        legend: legend(study, palette, &shown),
    })
}
