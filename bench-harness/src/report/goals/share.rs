//! How much of its best a system gave where goals were measured.
//!
//! Does: hold the fixed rate of a scenario against the most that each system did elsewhere.
//! Does not: judge.
//! Invariants: what the files cannot show is said to be unknown.
//! Apart because a fixed rate is half of one system's most and a tenth of another's, and a tail says
//! little to a reader who does not know which.

use super::table::{B2_MOST, B2_RATE};
use super::{find, has_prefix, system};
use crate::outcome::comparison::{Metric, System};
use crate::report::estimate;
use crate::report::quantity::Quantity;
use crate::report::study::{Run, Studies, Study};
use crate::report::words;
use crate::scenario::Pace;

const RATE: Quantity = Quantity::Of(Metric::Throughput);

/// One sentence for each system of the fixed rate's scenario; nothing where that did not run.
#[must_use]
pub fn of_their_most(studies: &Studies) -> Option<String> {
    let fixed = find(studies, &B2_RATE, |_| true)?;
    let shares = (0..fixed.systems.len()).map(|place| {
        let named = fixed.system_name(place);
        let known = fixed.median(place, RATE).zip(most_of(studies, &fixed.systems[place]));
        known.map_or_else(
            || format!("of {named}'s most it is not known which share"),
            |(rate, (most, shown_in))| {
                let percent = words::number(100.0 * rate / most);
                format!("{percent} % of {named}'s most ({}, {shown_in})", RATE.show(most))
            },
        )
    });
    let shares: Vec<String> = shares.collect();
    Some(format!(
        "{} (P2 to P5) runs at a fixed rate, not at half of anybody's most. It is {}.",
        fixed.scenario.name,
        shares.join("; ")
    ))
}

/// Bytes per second and the scenario that shows it: as fast as it goes, else the knee of a search.
fn most_of<'a>(studies: &'a Studies, who: &System) -> Option<(f64, &'a str)> {
    let takes_part = |study: &&Study| system(study, &who.name, who.durability).is_some();
    if let Some(study) = find(studies, &B2_MOST, takes_part) {
        let most = study.median(system(study, &who.name, who.durability)?, RATE)?;
        return Some((most, &study.scenario.name));
    }
    let searches = |study: &&Study| {
        let pace = study.scenario.producers.as_ref().map(|producers| producers.pace);
        matches!(pace, Some(Pace::Search { .. }))
            && has_prefix(&study.scenario.name, B2_MOST.prefix)
    };
    let study = studies.studies.iter().filter(searches).find(takes_part)?;
    let runs = study.runs_of(system(study, &who.name, who.durability)?);
    let tops: Vec<f64> = runs.into_iter().filter_map(knee_bytes).collect();
    Some((estimate::median(&tops)?, &study.scenario.name))
}

/// The most of all sustained steps.
fn knee_bytes(run: &Run) -> Option<f64> {
    let sustained = run.load.steps.iter().filter(|step| step.sustained);
    sustained.map(|step| step.achieved_bytes_per_second).reduce(f64::max)
}
