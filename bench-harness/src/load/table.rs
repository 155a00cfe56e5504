//! The table at the end of a run.
//!
//! Does: lay an outcome out for eyes.
//! Does not: compute.
//! Invariants: the durability class stands in the title; what makes a number doubtful stands below
//! it.
//! Apart because printing is nobody else's business.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};

use crate::outcome::load::{Latency, Load};
use crate::scenario::Pace;

/// The whole text.
#[must_use]
pub fn of(load: &Load) -> String {
    let mut text = format!(
        "{} on {} [{}], {:.1} s measured\n{}\n{}\n",
        load.scenario.name,
        load.system,
        load.durability,
        load.measured_seconds,
        rates(load),
        latencies(load)
    );
    for line in remarks(load) {
        text += &line;
        text.push('\n');
    }
    text.trim_end().to_owned()
}

fn fresh(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(header.to_vec());
    for place in 1..header.len() {
        if let Some(column) = table.column_mut(place) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn rates(load: &Load) -> Table {
    let mut table = fresh(&["per second", "requests", "records", "MB"]);
    let number = |value: f64| format!("{value:.0}");
    let megabytes = |value: f64| format!("{:.2}", value / 1e6);
    if load.offered_per_second > 0.0 {
        let blank = String::new;
        table.add_row(["due".to_owned(), number(load.offered_per_second), blank(), blank()]);
    }
    table.add_row([
        "acknowledged".to_owned(),
        number(load.requests_per_second),
        number(load.records_per_second),
        megabytes(load.bytes_per_second),
    ]);
    if load.delivered_bytes_per_second > 0.0 {
        let tail = load.delivered_bytes_per_second - load.cold_bytes_per_second;
        for (name, bytes) in
            [("delivered to tail", tail), ("delivered to cold", load.cold_bytes_per_second)]
        {
            table.add_row([name.to_owned(), String::new(), String::new(), megabytes(bytes)]);
        }
    }
    table
}

fn latencies(load: &Load) -> Table {
    let header = ["µs", "p50", "p90", "p99", "p99.9", "p99.99", "max", "samples"];
    let mut table = fresh(&header);
    let [since_due, since_written] = if load.scenario.is_transactional() {
        ["transaction, since due", "transaction, since begun"]
    } else {
        ["produce, since due", "produce, since written"]
    };
    let rows = [
        (since_due, &load.produce),
        (since_written, &load.service),
        ("end to end, since due", &load.end_to_end),
    ];
    for (name, latency) in rows {
        if let Some(latency) = latency {
            table.add_row(row(name, latency));
        }
    }
    table
}

fn row(name: &str, latency: &Latency) -> Vec<String> {
    let number = |value: f64| format!("{value:.0}");
    vec![
        name.to_owned(),
        number(latency.p50_us),
        number(latency.p90_us),
        number(latency.p99_us),
        number(latency.p999_us),
        number(latency.p9999_us),
        number(latency.max_us),
        latency.samples.to_string(),
    ]
}

fn remarks(load: &Load) -> Vec<String> {
    let mut lines = Vec::new();
    let closed = load.scenario.producers.as_ref().is_some_and(|producers| match producers.pace {
        Pace::OneInFlight | Pace::AsFastAsPossible { .. } => true,
        Pace::PerSecond(_) | Pace::Search { .. } => false,
    });
    if closed {
        lines.push(
            "closed loop: the broker set the pace; latency is not that of a fixed rate".into(),
        );
    }
    if load.scenario.is_transactional() {
        lines.push("each request is a transaction, counted when its end is answered".into());
    }
    for step in &load.steps {
        let verdict = if step.sustained { "kept up" } else { "fell behind" };
        lines.push(format!(
            "step {:.0}/s: {:.0}/s, p50 {:.0} µs, p99 {:.0} µs, {verdict}",
            step.offered_per_second, step.achieved_per_second, step.p50_us, step.p99_us
        ));
    }
    if let Some(knee) = load.knee_per_second {
        lines.push(format!("knee: {knee:.0} requests/s"));
    }
    let worst = load.worst_second.and_then(|worst| load.slices.get(worst as usize));
    if let Some(slice) = worst {
        lines.push(format!("worst second: {} (p99 {:.0} µs)", slice.second, slice.p99_us));
    }
    if let Some(seconds) = load.drain_seconds {
        lines.push(format!("paused consumers caught up within {seconds:.2} s"));
    } else if load.scenario.consumers.pause_seconds > 0 {
        lines.push("paused consumers never caught up".into());
    }
    lines.extend(load.undelivered_words());
    if let Some(crowd) = &load.crowd {
        let p99_us = crowd.churn.as_ref().map_or(0.0, |churn| churn.p99_us);
        lines.push(format!(
            "crowd: {} idle ({} lost), {} passed ({} failed), p99 {p99_us:.0} µs to the first answer",
            crowd.idle, crowd.idle_lost, crowd.churned, crowd.churn_failed
        ));
    }
    for (name, count) in &load.errors {
        lines.push(format!("error {name}: {count} times"));
    }
    if load.scenario.producers.as_ref().is_some_and(|producers| producers.written_partitions > 0) {
        lines.push(format!("{:.0} fetches/s were answered", load.fetches_per_second));
    }
    if load.unanswered > 0 {
        lines.push(format!("{} requests were never answered; their age counts", load.unanswered));
    }
    lines.push(format!(
        "generator: {:.1} % of a core, at most {:.0} µs late",
        load.generator.cpu_share * 100.0,
        load.generator.worst_lateness_us
    ));
    if load.generator.was_the_limit {
        lines.push(format!("THE GENERATOR WAS THE LIMIT: {}", load.generator.reason));
    }
    if let Some(reason) = &load.broken_off {
        lines.push(format!("BROKEN OFF: {reason}"));
    }
    lines
}
