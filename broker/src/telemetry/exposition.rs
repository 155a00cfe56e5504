//! Snapshots as the text a Prometheus server reads (OpenMetrics 1.0).
//!
//! Does: adds the cores up, keeps per-core figures where only they make sense, writes text.
//! Does not: count anything.
//! Invariants: pure; the same snapshots give the same text; label values are escaped (the crate
//! does). How far groups are behind stands in `lag`.
//! Apart because it is the only file that names the prometheus-client crate.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::latency::Latency;
use super::metrics::{Metrics, RefusedReason, Snapshot, TopicTraffic};

/// What `encode` writes, for the Content-Type header.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The name of an API key, if it has one; others are shown as their number.
pub type ApiName = fn(i16) -> Option<&'static str>;

/// What ends the text: everything else stands before it.
pub const END: &str = "# EOF\n";

/// The text of a scrape over all cores, but for what groups add and for its [`END`].
pub fn encode_open(snapshots: &[Snapshot], api_name: ApiName) -> String {
    let mut page = encode(snapshots, api_name);
    let open_bytes = page.strip_suffix(END).map_or(page.len(), str::len);
    page.truncate(open_bytes);
    page
}

/// The text of a scrape over all cores.
fn encode(snapshots: &[Snapshot], api_name: ApiName) -> String {
    let mut total = Metrics::new();
    snapshots.iter().for_each(|snapshot| total.merge(&snapshot.metrics));
    let page = Page { total, snapshots: snapshots.to_vec(), api_name };
    let mut registry = Registry::with_prefix("flumen");
    registry.register_collector(Box::new(page));
    let mut written = String::new();
    match text::encode(&mut written, &registry) {
        Ok(()) => written,
        // Writing into a String cannot fail; an unfinished page would be refused by the reader anyway.
        Err(fmt::Error) => String::new(),
    }
}

#[derive(Debug)]
struct Page {
    total: Metrics,
    snapshots: Vec<Snapshot>,
    api_name: ApiName,
}

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer { encoder };
        writer
            .family("build", "The version that runs.", None, MetricType::Info)?
            .encode_info(&labels([("version", env!("CARGO_PKG_VERSION"))]))?;
        self.connections(&mut writer)?;
        self.apis(&mut writer)?;
        self.topics(&mut writer)?;
        self.transactions(&mut writer)?;
        self.disk(&mut writer)?;
        self.cleaner(&mut writer)?;
        self.cores(&mut writer)
    }
}

impl Page {
    fn connections(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let total = &self.total;
        writer.gauge("connections", "Client connections open now.", None, total.connections)?;
        let help = "Client connections accepted.";
        writer.counter("connections_accepted", help, None, total.connections_accepted_total)?;
        let help = "Requests read and not yet answered.";
        writer.gauge("requests_pending", help, None, total.requests_pending)?;
        let bytes = Some(Unit::Bytes);
        let help = "Bytes read from client sockets.";
        writer.counter("network_received", help, bytes.as_ref(), total.received_bytes_total)?;
        let help = "Bytes written to client sockets.";
        writer.counter("network_sent", help, bytes.as_ref(), total.sent_bytes_total)?;
        self.sessions(writer)?;
        let help = "What clients wanted and did not get, by reason.";
        let mut family = writer.family("refused", help, None, MetricType::Counter)?;
        for reason in RefusedReason::ALL {
            counter(
                &mut family,
                &labels([("reason", reason.label())]),
                total.refused_total(reason),
            )?;
        }
        Ok(())
    }

    fn sessions(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let total = &self.total;
        let help = "Incremental fetch sessions (KIP-227).";
        writer.gauge("fetch_sessions", help, None, total.fetch_sessions)?;
        let help = "Partitions in fetch sessions.";
        writer.gauge("fetch_session_partitions", help, None, total.fetch_session_partitions)?;
        let help = "Partitions in fetch sessions that wait for news.";
        writer.gauge("fetch_session_follows", help, None, total.fetch_follows)?;
        let help = "Clients with quotas that are told apart.";
        writer.gauge("quota_accounts", help, None, total.quota_accounts)?;
        let help = "Answers that told a client to wait.";
        writer.counter("throttled", help, None, total.throttled_total)?;
        let help = "Fetch sessions that ended because others needed their room.";
        let evictions = total.fetch_session_evictions_total;
        writer.counter("fetch_session_evictions", help, None, evictions)
    }

    fn apis(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let named = |key: i16| (self.api_name)(key).map_or_else(|| key.to_string(), str::to_owned);
        let help = "Requests answered with an error, by API.";
        let mut family = writer.family("request_errors", help, None, MetricType::Counter)?;
        for (key, api) in self.total.apis() {
            counter(&mut family, &labels([("api", &named(key))]), api.errors)?;
        }
        let help = "From the last byte of a request to its answer, by API.";
        let seconds = Some(Unit::Seconds);
        let mut family =
            writer.family("request_duration", help, seconds.as_ref(), MetricType::Histogram)?;
        for (key, api) in self.total.apis() {
            let labels = labels([("api", &named(key))]);
            histogram(&mut family.encode_family(&labels)?, &api.latency)?;
        }
        Ok(())
    }

    fn topics(&self, writer: &mut Writer<'_>) -> fmt::Result {
        type Read = fn(&TopicTraffic) -> u64;
        let bytes = Some(Unit::Bytes);
        let families: [(&str, &str, Option<&Unit>, Read); 4] = [
            ("topic_in", "Bytes of batches appended.", bytes.as_ref(), |t| t.in_bytes),
            ("topic_out", "Bytes of batches sent to consumers.", bytes.as_ref(), |t| t.out_bytes),
            ("topic_in_records", "Records appended.", None, |t| t.in_records),
            ("topic_in_batches", "Batches appended.", None, |t| t.in_batches),
        ];
        // Brackets cannot occur in a topic name, so the sum of the rest has a name of its own.
        let rest = [("(other)", self.total.other_topics())];
        let rest = rest.into_iter().filter(|(_, traffic)| **traffic != TopicTraffic::default());
        let rows: Vec<_> = self.total.topics().chain(rest).collect();
        for (name, help, unit, read) in families {
            let mut family = writer.family(name, help, unit, MetricType::Counter)?;
            for (topic, traffic) in &rows {
                counter(&mut family, &labels([("topic", topic)]), read(traffic))?;
            }
        }
        Ok(())
    }

    fn transactions(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let (total, seconds) = (&self.total, Some(Unit::Seconds));
        let help = "Transactional ids that are remembered.";
        writer.gauge("transactional_ids", help, None, total.transactional_ids)?;
        let help = "Transactions under way.";
        writer.gauge("transactions_open", help, None, total.transactions_open)?;
        let help = "Transactions whose end is decided and not yet written to every partition.";
        writer.gauge("transactions_ending", help, None, total.transactions_ending)?;
        let help = "Age of the oldest transaction: readers of committed records wait for it.";
        let oldest = total.transaction_oldest_ms / 1000;
        writer.gauge("transaction_oldest_age", help, seconds.as_ref(), oldest)
    }

    fn disk(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let (total, bytes, seconds) = (&self.total, Some(Unit::Bytes), Some(Unit::Seconds));
        let help = "A durable journal write, from the order to its completion.";
        let mut family = writer.family(
            "journal_write_duration",
            help,
            seconds.as_ref(),
            MetricType::Histogram,
        )?;
        histogram(&mut family, &total.journal_write)?;
        let help = "Bytes written to the journal, with padding.";
        writer.counter("journal_written", help, bytes.as_ref(), total.journal_bytes_total)?;
        let help = "Journal bytes not yet moved into segments.";
        writer.gauge("journal_window", help, bytes.as_ref(), total.journal_window_bytes)?;
        writer.counter(
            "disk_errors",
            "Disk operations that failed.",
            None,
            total.disk_errors_total,
        )?;
        let help = "Partitions that take no records: some are lost and nobody accepted that.";
        writer.gauge("partitions_held", help, None, total.partitions_held)?;
        let help = "1 while nothing is deleted by age because the wall clock jumped.";
        writer.gauge("clock_doubted", help, None, total.clock_doubted)?;
        writer.gauge("partitions", "Partitions on this broker.", None, total.partitions)
    }

    fn cleaner(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let (total, bytes, seconds) = (&self.total, Some(Unit::Bytes), Some(Unit::Seconds));
        let help = "Cleanings of compacted partitions.";
        writer.counter("cleanings", help, None, total.cleanings_total)?;
        let counters = [
            ("cleaner_read", "Bytes read by cleanings.", total.cleaner_read_bytes_total),
            ("cleaner_written", "Bytes written by cleanings.", total.cleaner_written_bytes_total),
            (
                "cleaner_freed",
                "Bytes of disk that cleanings gave back.",
                total.cleaner_freed_bytes_total,
            ),
        ];
        for (name, help, value) in counters {
            writer.counter(name, help, bytes.as_ref(), value)?;
        }
        let help =
            "Segments left uncleaned because something in them cannot be read, at each cleaning.";
        let damaged = total.cleaner_damaged_segments_total;
        writer.counter("cleaner_damaged_segments", help, None, damaged)?;
        let help = "Bytes of compacted partitions that could be cleaned.";
        writer.gauge("cleaner_dirty", help, bytes.as_ref(), total.cleaner_dirty_bytes)?;
        let help = "How long the last cleaning took, of the cores' the longest.";
        let last = total.cleaner_last_ms / 1000;
        writer.gauge("cleaner_last_duration", help, seconds.as_ref(), last)
    }

    /// What makes sense only per core: a sum would hide the one that is full or stuck.
    fn cores(&self, writer: &mut Writer<'_>) -> fmt::Result {
        type Read = fn(&Metrics) -> u64;
        let (bytes, gauge, count) = (Some(Unit::Bytes), MetricType::Gauge, MetricType::Counter);
        let families: [(&str, &str, Option<&Unit>, MetricType, Read); 6] = [
            ("memory_used", "Memory budget in use.", bytes.as_ref(), gauge, |m| {
                m.memory_used_bytes
            }),
            ("memory_budget", "Memory budget.", bytes.as_ref(), gauge, |m| m.memory_budget_bytes),
            (
                "disk_silence",
                "For how long the oldest disk operation has no answer.",
                Some(&Unit::Seconds),
                gauge,
                |m| m.disk_silence_seconds,
            ),
            ("turns", "Turns of the loop.", None, count, |m| m.turns_total),
            ("guard_wakes", "Work found that nothing woke the core for.", None, count, |m| {
                m.guard_wakes_total
            }),
            ("core_messages", "Messages to other cores.", None, count, |m| m.core_messages_total),
        ];
        for (name, help, unit, kind, read) in families {
            let mut family = writer.family(name, help, unit, kind)?;
            for snapshot in &self.snapshots {
                let labels = labels([("core", &snapshot.core.to_string())]);
                match kind {
                    MetricType::Gauge => family
                        .encode_family(&labels)?
                        .encode_gauge(&as_gauge(read(&snapshot.metrics)))?,
                    _ => counter(&mut family, &labels, read(&snapshot.metrics))?,
                }
            }
        }
        Ok(())
    }
}

struct Writer<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Writer<'_> {
    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.encoder.encode_descriptor(name, help, unit, kind)
    }

    fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        self.family(name, help, unit, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        self.family(name, help, unit, MetricType::Gauge)?.encode_gauge(&as_gauge(value))
    }
}

type Labels = Vec<(&'static str, String)>;

fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Labels {
    pairs.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

fn counter(family: &mut MetricEncoder<'_>, labels: &Labels, value: u64) -> fmt::Result {
    family.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn histogram(encoder: &mut MetricEncoder<'_>, latency: &Latency) -> fmt::Result {
    let sum_seconds = latency.sum_us() as f64 / 1e6;
    let buckets = latency.buckets_in_seconds();
    encoder.encode_histogram::<NoLabelSet>(sum_seconds, latency.count(), &buckets, None)
}

fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(key: i16) -> Option<&'static str> {
        (key == 0).then_some("Produce")
    }

    fn snapshot(core: usize) -> Snapshot {
        let mut metrics = Metrics::new();
        metrics.connections = 2;
        metrics.memory_used_bytes = 100;
        metrics.answered(0, 20, false);
        metrics.answered(90, 20, true);
        metrics.topic("orders").in_bytes = 7;
        metrics.refused(RefusedReason::NotKafka);
        Snapshot { core, metrics }
    }

    #[test]
    fn cores_are_added_up_or_told_apart() {
        let page = encode(&[snapshot(0), snapshot(1)], name);
        for line in [
            "flumen_connections 4",
            concat!("flumen_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "flumen_memory_used_bytes{core=\"1\"} 100",
            "flumen_topic_in_bytes_total{topic=\"orders\"} 14",
            "flumen_refused_total{reason=\"not_kafka\"} 2",
            "flumen_request_errors_total{api=\"90\"} 2",
            "flumen_request_duration_seconds_count{api=\"Produce\"} 2",
            "flumen_request_duration_seconds_bucket{le=\"0.000032\",api=\"Produce\"} 2",
            "flumen_request_duration_seconds_bucket{le=\"+Inf\",api=\"Produce\"} 2",
            "# UNIT flumen_journal_written_bytes bytes",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is missing in\n{page}");
        }
        assert!(page.ends_with(END));
        let open = encode_open(&[snapshot(0), snapshot(1)], name);
        assert_eq!(open + END, page, "more can stand before the end");
        assert!(!page.contains("(other)"));
    }

    #[test]
    fn no_cores_is_a_page_too() {
        assert!(encode(&[], name).contains("flumen_connections 0"));
    }
}
