//! How far behind groups are, as the text a Prometheus server reads.
//!
//! Does: take rows in the order of groups and topics, write a line for each and for their sums.
//! Does not: ask for anything, or hold the rows.
//! Invariants: each row is written when it comes, so that a page of any length grows in short steps;
//! label values are escaped, because group names are whatever a client chose.
//! Apart because the rest of the page is small and written in one go, by a crate that wants it whole.
//!
//! Names and labels are those of kafka_exporter (`kafka_consumergroup_current_offset`, `…_lag`,
//! `…_lag_sum`, with `consumergroup`, `topic`, `partition`), so that dashboards made for it work. It
//! has no lag in seconds; those names are made in its manner.

use std::fmt::Write;

use super::metrics::LagRow;
use crate::limits::LAG_SERIES_MAX;

/// A page that grows.
#[derive(Debug)]
pub struct LagPage {
    /// Whether there is a line for each partition.
    tells_partitions: bool,
    offsets: String,
    lags: String,
    seconds: String,
    sums: String,
    worst: String,
    partitions: usize,
    left_out: usize,
    /// What the rows of the current group and topic come to.
    sum: Option<Sum>,
}

#[derive(Debug)]
struct Sum {
    group: String,
    topic: String,
    records: u64,
    seconds: Option<f64>,
}

impl LagPage {
    /// An empty page.
    pub fn new(tells_partitions: bool) -> Self {
        let family = |name: &str, help: &str| {
            format!(
                "# HELP kafka_consumergroup_{name} {help}\n# TYPE kafka_consumergroup_{name} gauge\n"
            )
        };
        Self {
            tells_partitions,
            offsets: family("current_offset", "The next offset a group wants."),
            lags: family("lag", "Offsets between that and the end of the partition."),
            seconds: family("lag_seconds", "Age of the record at that offset; 0 when caught up."),
            sums: family("lag_sum", "Offsets a group is behind in a topic."),
            worst: family("lag_seconds_max", "The largest age among the partitions of a topic."),
            partitions: 0,
            left_out: 0,
            sum: None,
        }
    }

    /// Adds a row. Rows of the same group and topic must follow each other.
    pub fn add(&mut self, row: &LagRow) {
        let is_same = |sum: &Sum| sum.group == row.group && sum.topic == row.topic;
        if !self.sum.as_ref().is_some_and(is_same) {
            self.close_sum();
            self.sum = Some(Sum {
                group: row.group.clone(),
                topic: row.topic.clone(),
                records: 0,
                seconds: None,
            });
        }
        if let Some(sum) = &mut self.sum {
            sum.records = sum.records.saturating_add(row.records);
            sum.seconds = match (sum.seconds, row.seconds) {
                (Some(one), Some(other)) => Some(one.max(other)),
                (one, other) => one.or(other),
            };
        }
        if self.tells_partitions {
            self.add_partition(row);
        }
    }

    fn add_partition(&mut self, row: &LagRow) {
        if self.partitions == LAG_SERIES_MAX {
            self.left_out += 1;
            return;
        }
        self.partitions += 1;
        let labels = format!(
            "{{consumergroup=\"{}\",topic=\"{}\",partition=\"{}\"}}",
            escaped(&row.group),
            escaped(&row.topic),
            row.partition
        );
        // Writing into a String cannot fail.
        let _ = writeln!(self.offsets, "kafka_consumergroup_current_offset{labels} {}", row.offset);
        let _ = writeln!(self.lags, "kafka_consumergroup_lag{labels} {}", row.records);
        if let Some(seconds) = row.seconds {
            let _ = writeln!(self.seconds, "kafka_consumergroup_lag_seconds{labels} {seconds:.3}");
        }
    }

    fn close_sum(&mut self) {
        let Some(sum) = self.sum.take() else { return };
        let labels = format!(
            "{{consumergroup=\"{}\",topic=\"{}\"}}",
            escaped(&sum.group),
            escaped(&sum.topic)
        );
        // Writing into a String cannot fail.
        let _ = writeln!(self.sums, "kafka_consumergroup_lag_sum{labels} {}", sum.records);
        if let Some(seconds) = sum.seconds {
            let _ =
                writeln!(self.worst, "kafka_consumergroup_lag_seconds_max{labels} {seconds:.3}");
        }
    }

    /// The text, in pieces that need not be put together.
    pub fn finish(mut self) -> Vec<String> {
        self.close_sum();
        let left_out = format!(
            "# HELP flumen_lag_partitions_left_out Partitions of groups without lines of their own.\n\
             # TYPE flumen_lag_partitions_left_out gauge\n\
             flumen_lag_partitions_left_out {}\n",
            self.left_out
        );
        let mut pieces = vec![self.sums, self.worst, left_out];
        if self.tells_partitions {
            pieces.extend([self.offsets, self.lags, self.seconds]);
        }
        pieces
    }
}

/// A label's value as the format wants it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(group: &str, partition: i32, records: u64, seconds: Option<f64>) -> LagRow {
        let (group, topic) = (group.to_owned(), "orders".to_owned());
        LagRow { group, topic, partition, offset: 7, records, seconds }
    }

    fn page(rows: &[LagRow], tells_partitions: bool) -> String {
        let mut page = LagPage::new(tells_partitions);
        rows.iter().for_each(|row| page.add(row));
        page.finish().concat()
    }

    #[test]
    fn partitions_have_lines_and_topics_have_sums() {
        let rows =
            [row("a", 0, 9, Some(1.5)), row("a", 1, 1, Some(4.0)), row("b", 0, 0, Some(0.0))];
        let page = page(&rows, true);
        for line in [
            "kafka_consumergroup_current_offset{consumergroup=\"a\",topic=\"orders\",partition=\"0\"} 7",
            "kafka_consumergroup_lag{consumergroup=\"a\",topic=\"orders\",partition=\"0\"} 9",
            "kafka_consumergroup_lag_seconds{consumergroup=\"a\",topic=\"orders\",partition=\"1\"} 4.000",
            "kafka_consumergroup_lag_sum{consumergroup=\"a\",topic=\"orders\"} 10",
            "kafka_consumergroup_lag_seconds_max{consumergroup=\"a\",topic=\"orders\"} 4.000",
            "kafka_consumergroup_lag_sum{consumergroup=\"b\",topic=\"orders\"} 0",
            "flumen_lag_partitions_left_out 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
        }
    }

    #[test]
    fn partitions_can_be_left_to_their_sums() {
        let page = page(&[row("a", 0, 9, None)], false);
        assert!(page.contains("lag_sum{consumergroup=\"a\",topic=\"orders\"} 9"), "{page}");
        assert!(!page.contains("partition=") && !page.contains("lag_seconds_max{"), "{page}");
    }

    #[test]
    fn a_group_name_cannot_write_lines_of_its_own() {
        let page = page(&[row("a\"b\\\nc", 3, 9, None)], true);
        let expected =
            r#"kafka_consumergroup_lag{consumergroup="a\"b\\\nc",topic="orders",partition="3"} 9"#;
        assert!(page.lines().any(|line| line == expected), "{page}");
    }

    #[test]
    fn beyond_the_limit_partitions_are_counted_and_still_summed_up() {
        let mut page = LagPage::new(true);
        let partitions = LAG_SERIES_MAX as i32 + 2;
        (0..partitions).for_each(|partition| page.add(&row("a", partition, 1, None)));
        let page = page.finish().concat();
        assert!(page.contains("flumen_lag_partitions_left_out 2\n"));
        assert!(page.contains(&format!("topic=\"orders\"}} {partitions}\n")));
    }
}
