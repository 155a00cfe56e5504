//! A comparison for people.
//!
//! Does: lay out means, ratios, doubts and notes as text.
//! Does not: compute or judge.
//! Invariants: no number stands without the durability class it was measured in; a handicap match
//! and a doubted measurement say so where the numbers are.
//! Apart because the same result is also drawn and kept as JSON.

use std::collections::BTreeSet;

use comfy_table::{ContentArrangement, Table, presets};

use super::metrics::{ALL, mean, title};
use crate::outcome::comparison::{Comparison, Ratio, Round};
use crate::report::words::brackets;

/// Everything worth reading on a terminal.
#[must_use]
pub fn text(comparison: &Comparison) -> String {
    let mut out = format!("{}: {}\n", comparison.scenario.name, comparison.scenario.purpose);
    if !comparison.rounds.is_empty() {
        out += &format!("{}\n", means(comparison));
    }
    if !comparison.ratios.is_empty() {
        let pairs = pairs(&comparison.rounds);
        out += &format!("{}\n", ratios(comparison, &comparison.ratios, "ratio", pairs));
    }
    if !comparison.guards.control.is_empty() {
        let pairs = comparison.control_rounds.len() / 2;
        let control = &comparison.guards.control;
        out += &format!("{}\n", ratios(comparison, control, "A/A control", pairs));
    }
    for violation in &comparison.guards.violations {
        out += &format!("DO NOT BELIEVE: {violation}\n");
    }
    for note in &comparison.notes {
        out += &format!("note: {note}\n");
    }
    if let Some(reason) = &comparison.broken_off {
        out += &format!("BROKEN OFF: {reason}\n");
    }
    out
}

fn label(comparison: &Comparison, system: usize) -> String {
    let system = &comparison.systems[system];
    format!("{} {:?}", system.name, system.durability)
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn means(comparison: &Comparison) -> Table {
    let mut table = table();
    let names = (0..comparison.systems.len()).map(|system| label(comparison, system));
    table.set_header(std::iter::once("mean of runs".to_owned()).chain(names));
    for metric in ALL {
        let values: Vec<Option<f64>> = (0..comparison.systems.len())
            .map(|system| mean(metric, system, &comparison.rounds))
            .collect();
        if values.iter().any(Option::is_some) {
            let cells = values.into_iter().map(|value| value.map_or("–".to_owned(), short));
            table.add_row(std::iter::once(title(metric).to_owned()).chain(cells));
        }
    }
    table
}

fn pairs(rounds: &[Round]) -> usize {
    rounds.iter().map(|round| round.pair).collect::<BTreeSet<u32>>().len()
}

fn ratios(comparison: &Comparison, ratios: &[Ratio], what: &str, pairs: usize) -> Table {
    let doubted = !comparison.guards.violations.is_empty();
    let mut table = table();
    table.set_header([what, "of", "mean", brackets(pairs), ""]);
    for ratio in ratios {
        let pair = format!("{} / {}", label(comparison, ratio.of), label(comparison, ratio.to));
        let interval = &ratio.interval;
        let mut marks = Vec::new();
        if ratio.is_handicap {
            let [of, to] = [ratio.of, ratio.to].map(|s| comparison.systems[s].durability);
            marks.push(if of > to {
                "handicap: the classes differ"
            } else {
                "no equals: the first promises less"
            });
        }
        if doubted {
            marks.push("doubted");
        }
        table.add_row([
            title(ratio.metric).to_owned(),
            pair,
            format!("{:.3}", interval.mean),
            format!("{:.3} to {:.3}", interval.low, interval.high),
            marks.join("; "),
        ]);
    }
    table
}

/// A number with as many digits as anyone reads.
fn short(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 0.1 => format!("{value:.3}"),
        value => format!("{value:.5}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::ratios as all_ratios;
    use super::super::metrics::tests::{round, system};
    use super::*;
    use crate::outcome::{Durability, FORMAT};

    fn comparison() -> Comparison {
        let systems = vec![system("ours", Durability::D1), system("theirs", Durability::D0)];
        let rounds = vec![round(0, 0, 200.0, 1.0), round(0, 1, 100.0, 1.0)];
        let ratios = all_ratios(&systems, &rounds, 4);
        Comparison {
            format: FORMAT,
            scenario: rounds[0].load.scenario.clone(),
            environment: Default::default(),
            systems,
            limits_before: None,
            limits_after: None,
            guards: Default::default(),
            broken_off: None,
            rounds,
            control_rounds: Vec::new(),
            notes: vec!["one pair: no interval".to_owned()],
            ratios,
        }
    }

    #[test]
    fn every_number_stands_beside_its_class() {
        let text = text(&comparison());
        assert!(text.contains("ours D1") && text.contains("theirs D0"), "{text}");
        assert!(text.contains("ours D1 / theirs D0"), "{text}");
        assert!(text.contains("handicap: the classes differ"), "{text}");
        assert!(
            text.contains("note: one pair") && text.contains("one pair, no interval"),
            "{text}"
        );
        assert!(!text.contains("doubted"), "{text}");
    }

    #[test]
    fn a_weaker_promise_is_no_handicap_but_an_advantage() {
        let mut comparison = comparison();
        comparison.systems[0].durability = Durability::D0m;
        let text = text(&comparison);
        assert!(text.contains("ours D0m / theirs D0"), "{text}");
        assert!(text.contains("no equals: the first promises less"), "{text}");
    }

    #[test]
    fn a_doubted_measurement_says_so_beside_each_ratio() {
        let mut comparison = comparison();
        comparison.guards.violations.push("the hypervisor took 9 %".to_owned());
        comparison.broken_off = Some("it died".to_owned());
        let text = text(&comparison);
        assert!(text.contains("DO NOT BELIEVE: the hypervisor took 9 %"), "{text}");
        assert!(text.contains("handicap: the classes differ; doubted"), "{text}");
        assert!(text.ends_with("BROKEN OFF: it died\n"), "{text}");
    }
}
