//! Limits as a table for people.
//!
//! Does: lay out what a [`Limits`] holds, with units and explanations.
//! Does not: print or measure.
//! Invariants: every number stands beside its unit; what was not measured is listed with its
//! reason, never left out.
//! Apart because the JSON is the result and this only its picture.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use crate::limits::PROBE_DISTURBED_SHARE_MAX;
use crate::outcome::environment::Environment;
use crate::outcome::probes::{LatencyLimit, Limits, RateLimit};

/// The whole result, as lines of plain text.
pub fn drawn(limits: &Limits) -> String {
    let mut text = place(&limits.environment);
    if !limits.latencies.is_empty() {
        text += &format!("\n{}\n", latencies(&limits.latencies).trim_fmt());
    }
    if !limits.rates.is_empty() {
        text += &format!("\n{}\n", rates(&limits.rates).trim_fmt());
    }
    if !limits.unmeasured.is_empty() {
        text += "\nNot measured\n";
    }
    for missing in &limits.unmeasured {
        text += &format!("  {}: {}\n", missing.name, missing.reason);
    }
    if limits.disturbed_share > PROBE_DISTURBED_SHARE_MAX {
        let percent = limits.disturbed_share * 100.0;
        text += &format!(
            "\nOther programs took {percent:.0} % of the CPU time meanwhile: these are no limits of \
             the machine. Repeat this when it is quiet.\n"
        );
    }
    if let Some(why) = &limits.broken_off {
        text += &format!("\nIncomplete: {why}\n");
    }
    text
}

fn place(environment: &Environment) -> String {
    let unknown = |word: &str| if word.is_empty() { "unknown".to_owned() } else { word.to_owned() };
    format!(
        "{}, {} CPUs, {} MiB memory, kernel {}\nfolder on {} ({}), flumen-bench {}\n",
        unknown(&environment.cpu_model),
        environment.cpus,
        environment.memory_mib,
        unknown(&environment.kernel),
        unknown(&environment.file_system),
        unknown(&environment.device),
        environment.tool_version,
    )
}

fn latencies(limits: &[LatencyLimit]) -> Table {
    let mut table = plain();
    table.set_header(["latency, us", "p50", "p99", "p99.9", "max", "samples", "what"]);
    for limit in limits {
        let spread = &limit.spread;
        let micros = [spread.p50_us, spread.p99_us, spread.p999_us, spread.max_us].map(short);
        let [p50, p99, p999, max] = micros;
        let samples = spread.samples.to_string();
        table.add_row([&limit.name, &p50, &p99, &p999, &max, &samples, &limit.what]);
    }
    to_the_right(&mut table, 1..=5);
    table
}

fn rates(limits: &[RateLimit]) -> Table {
    let mut table = plain();
    table.set_header(["rate", "per second", "unit", "what"]);
    for limit in limits {
        table.add_row([&limit.name, &short(limit.per_second), &limit.unit, &limit.what]);
    }
    to_the_right(&mut table, 1..=1);
    table
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

fn to_the_right(table: &mut Table, columns: std::ops::RangeInclusive<usize>) {
    for index in columns {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// Three digits that matter, and no more behind the point than help.
fn short(number: f64) -> String {
    let decimals = match number.abs() {
        small if small < 1.0 => 3,
        small if small < 10.0 => 2,
        medium if medium < 100.0 => 1,
        _ => 0,
    };
    format!("{number:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::probes::{Spread, Unmeasured};

    fn limits() -> Limits {
        let spread =
            Spread { samples: 7, p50_us: 41.04, p99_us: 123.4, p999_us: 0.0625, max_us: 9.876 };
        let latency =
            |name: &str| LatencyLimit { name: name.to_owned(), what: "writes".to_owned(), spread };
        Limits {
            latencies: vec![latency("a"), latency("much_longer")],
            rates: vec![RateLimit {
                name: "b".to_owned(),
                what: "copies".to_owned(),
                per_second: 12_345.6,
                unit: "MB".to_owned(),
            }],
            ..Limits::default()
        }
    }

    #[test]
    fn columns_stand_below_each_other_with_their_units() {
        let text = drawn(&limits());
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("writes")).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].find("41.0"), lines[1].find("41.0"), "{text}");
        for piece in ["latency, us", "41.0", "123", "0.062", "9.88", "12346", "MB", "copies"] {
            assert!(text.contains(piece), "{piece} is missing in\n{text}");
        }
        assert!(!text.contains("Not measured") && !text.contains("Incomplete"));
    }

    #[test]
    fn a_busy_machine_is_told() {
        let busy = |disturbed_share| drawn(&Limits { disturbed_share, ..limits() });
        assert!(busy(0.4).contains("took 40 % of the CPU time"));
        assert!(!busy(0.01).contains("CPU time"));
    }

    #[test]
    fn what_is_missing_is_told() {
        let missing = Unmeasured { name: "c".to_owned(), reason: "no disk".to_owned() };
        let text = drawn(&Limits {
            unmeasured: vec![missing],
            broken_off: Some("interrupted".to_owned()),
            ..limits()
        });
        assert!(text.contains("c: no disk") && text.contains("Incomplete: interrupted"));
    }
}
