//! Every limit of the bench harness, each with its reason.

/// The smallest latency a histogram tells apart: below a microsecond loopback itself is noise.
pub const HISTOGRAM_LOWEST_NANOS: u64 = 1_000;

/// The largest latency a histogram can hold; a longer one counts as this. Nobody waits longer.
pub const HISTOGRAM_HIGHEST_NANOS: u64 = 100_000_000_000;

/// Significant digits of a histogram: 0.1 % is finer than any machine repeats itself.
pub const HISTOGRAM_DIGITS: u8 = 3;

/// Partitions of a scenario: brokers serve more, but none in less than minutes on one machine.
pub const PARTITIONS_MAX: u32 = 100_000;

/// Partitions that are made by one request: Kafka's controller writes each as a record and refuses
/// more than ten thousand records at once.
pub const PARTITIONS_AT_ONCE: u32 = 5_000;

/// Connections of one kind: loopback has about this many ports for one listening address.
pub const CONNECTIONS_MAX: u32 = 28_000;

/// Seconds of a part of a scenario: a day. Longer is a typing error.
pub const SECONDS_MAX: u32 = 86_400;

/// Requests per second of a schedule: beyond what one thread can write.
pub const RATE_MAX: f64 = 10_000_000.0;

/// Bytes of a record's key or value: larger ones pass no broker's default limits.
pub const RECORD_BYTES_MAX: u32 = 100 * 1024 * 1024;

/// Bytes of a produce request: what brokers accept by default (`socket.request.max.bytes`).
pub const REQUEST_BYTES_MAX: u32 = 100 * 1024 * 1024;

/// MiB written before a run: a TiB. More is a typing error.
pub const PREFILL_MIB_MAX: u32 = 1024 * 1024;

/// Requests in flight for which brokers remember an idempotent producer's sequence numbers.
pub const SEQUENCED_IN_FLIGHT_MAX: u32 = 5;

/// Resamplings of a bootstrap interval: its ends then repeat to the second digit.
pub const BOOTSTRAP_RESAMPLES: usize = 2_000;

/// Share of CPU time that a hypervisor may take before a measurement is doubted.
pub const STEAL_SHARE_MAX: f64 = 0.02;

/// Share of the machine's CPU time that others may use during a run: a clock tick of a desktop is
/// not felt, a build on one of two cores is.
pub const FOREIGN_SHARE_MAX: f64 = 0.05;

/// CPUs that may be busy before the first run: somebody else's work would be measured.
pub const BUSY_BEFORE_MAX: f64 = 0.1;

/// How far a latency of the machine may move during a measurement, relative.
pub const LIMITS_DRIFT_MAX: f64 = 0.15;

/// How far a rate of the machine may: bandwidth of a shared disk is what its other users leave. 52
/// probes of an idle machine lay between 1.43 and 2.56 GB/s, so that less says nothing.
pub const LIMITS_RATE_DRIFT_MAX: f64 = 0.80;

/// How far a system's rates and CPU costs may be from its own, relative.
pub const CONTROL_RATE_MAX: f64 = 0.03;

/// How far a system's 99th percentiles may be from its own, relative: tails repeat less well.
pub const CONTROL_LATENCY_MAX: f64 = 0.10;

/// Seconds a system may need to end after SIGTERM before it is killed: a JVM with ten thousand
/// partitions closes each of them.
pub const STOP_SECONDS_MAX: u64 = 90;

/// Milliseconds between two looks at what a broker consumes: seldom enough not to disturb the
/// generator beside which it runs, often enough to cut the measured part out.
pub const WATCH_EVERY_MS: u64 = 500;

/// Lines of a broker's log that are shown when it fails.
pub const LOG_TAIL_LINES: usize = 12;

/// Seconds a generator may take beyond its scenario: making ten thousand partitions, writing what
/// cold readers read, the steps of a search.
pub const LOAD_GRACE_SECONDS: u64 = 300;

/// Seconds before the first run during which the machine's own work is watched.
pub const QUIET_LOOK_SECONDS: u64 = 1;

/// Seconds a program may take to say its version.
pub const VERSION_SECONDS_MAX: u64 = 5;

/// Pairs below which an interval says little: resampling two or three ratios shows their spread,
/// not that of the machine.
pub const PAIRS_FOR_AN_INTERVAL: u32 = 8;

/// Whether so many pairs are too few for an interval of 95 %: of three, one resampling in 27 draws
/// the smallest alone, so that the interval is nothing but the smallest to the largest.
#[must_use]
pub const fn is_whole_spread(pairs: usize) -> bool {
    pairs <= 3
}

/// Least a probe's histogram tells apart: system calls and cached writes take well below a
/// microsecond, and one small table per probe costs nothing.
pub const PROBE_LOWEST_NANOS: u64 = 1;

/// How long a probe runs unless asked otherwise, seconds: all of them stay below a minute.
pub const PROBE_SECONDS: f64 = 3.0;

/// Longest a single probe may be asked to run, seconds: above it the user mistyped.
pub const PROBE_SECONDS_MAX: f64 = 600.0;

/// How long each probe of the quick round runs, seconds: before and after a comparison nobody
/// waits longer than eight seconds for all of them.
pub const QUICK_PROBE_SECONDS: f64 = 1.0;

/// Size of a small durable write: the block that common disks and page caches write whole.
pub const PROBE_BLOCK_BYTES: usize = 4096;

/// Size of a write or read that counts bandwidth: large enough that no disk gains from more.
pub const PROBE_STREAM_BYTES: usize = 1 << 20;

/// Streams at once where bandwidth is counted: enough to hide the way to a virtual disk.
pub const PROBE_STREAM_DEPTH: usize = 4;

/// The pre-written file that is overwritten and read, bytes: more than a small disk's own cache.
pub const PROBE_FILE_BYTES: u64 = 256 << 20;

/// The same in the quick round.
pub const QUICK_FILE_BYTES: u64 = 64 << 20;

/// The pre-written file may be this small where the disk is slow, bytes.
pub const PROBE_FILE_BYTES_MIN: u64 = 8 << 20;

/// How long the file is pre-written at most, seconds; what is there by then is used.
pub const PROBE_FILE_SECONDS: f64 = 6.0;

/// The same in the quick round.
pub const QUICK_FILE_SECONDS: f64 = 2.0;

/// How far a growing file grows before it is emptied again, bytes.
pub const PROBE_GROWING_BYTES: u64 = 64 << 20;

/// How much a probe of bandwidth writes at most, bytes: flash wears, and a disk that does this in
/// less than its time has shown what it can.
pub const PROBE_WRITTEN_BYTES_MAX: u64 = 8 << 30;

/// What must be free beyond the files of the probes, bytes: a full disk hurts its other users and
/// measures badly.
pub const PROBE_SPARE_BYTES: u64 = 256 << 20;

/// Distance between paced writes, microseconds: one client that waits for each answer.
pub const PROBE_PACE_MICROS: u64 = 150;

/// A write of the loaded probe is due each so many microseconds: 2,000 a second, the rate of B2.
pub const PROBE_LOADED_PACE_MICROS: u64 = 500;

/// Size of such a write: a request of 16 records of 1 KiB.
pub const PROBE_LOADED_BYTES: usize = 16 << 10;

/// Size of a message on loopback where its round trip is measured.
pub const PROBE_MESSAGE_BYTES: usize = 1024;

/// Size of a write where the bandwidth of loopback is measured.
pub const PROBE_SOCKET_BYTES: usize = 256 << 10;

/// How long a loopback connection may stay silent before the probe gives up, seconds.
pub const PROBE_SILENCE_SECONDS: u64 = 10;

/// Bytes that are summed at once: a produce request of usual size, which lies in the cache.
pub const PROBE_CHECKSUM_BYTES: usize = 64 << 10;

/// Bytes that are copied at once: more than a core's own caches hold.
pub const PROBE_COPY_BYTES: usize = 16 << 20;

/// System calls timed together: one alone is shorter than reading the clock.
pub const PROBE_CALLS_PER_SAMPLE: u32 = 1000;

/// Share of CPU time taken by others above which a run of probes warns: a build on one of many
/// cores is felt, a clock tick of a desktop is not.
pub const PROBE_DISTURBED_SHARE_MAX: f64 = 0.05;
/// What a fresh histogram holds before it grows: one is kept per second of a run.
pub const HISTOGRAM_START_NANOS: u64 = 10_000_000;

/// Requests closer to each other than this are due together. A processor that wakes for every
/// request of 30,000 per second spends more on waking than on sending: grains of 100, 200 and 500 µs
/// were seen to cost 40, 27 and 23 % of a busy core at that rate. Latency counts from the grain's
/// beginning, so what is grouped is never flattered.
pub const PACING_GRAIN_NANOS: u64 = 200_000;

/// What brokers see as `client.id`.
pub const CLIENT_ID: &str = "flumen-bench";

/// How long a broker may take for an acknowledgement, as Kafka's clients ask by default.
pub const PRODUCE_TIMEOUT_MS: i32 = 30_000;

/// Requests in flight per connection of an open loop: Kafka's own
/// `max.in.flight.requests.per.connection`. More wait, and their clock runs.
pub const OPEN_LOOP_IN_FLIGHT: usize = 5;

/// How long a connection may take to come about, and a question outside the measured part.
pub const CONNECT_TIMEOUT_MS: u64 = 5_000;

/// How long a broker may take to create a topic and name its leaders: ten thousand partitions with
/// a directory each take a slow disk half a minute.
pub const TOPIC_TIMEOUT_MS: u64 = 120_000;

/// How long answers are waited for after the end of the measured part. What is not answered then
/// counts with its age.
pub const DRAIN_MS: u64 = 10_000;

/// Pause before a request is sent again after a retriable error: Kafka's `retry.backoff.ms`.
pub const RETRY_BACKOFF_MS: u64 = 100;

/// Pause before a transaction asks again to begin while the one before it is still being ended: what
/// Kafka's own client waits then, in place of [`RETRY_BACKOFF_MS`].
pub const CONCURRENT_BACKOFF_MS: u64 = 20;

/// How long a transaction may stay open before its coordinator aborts it: Kafka's
/// `transaction.timeout.ms`.
pub const TRANSACTION_TIMEOUT_MS: i32 = 60_000;

/// How often one request is sent again before the run is broken off.
pub const RETRIES_MAX: u32 = 100;

/// Bytes of different request templates that are kept, so that payload comes from memory as it
/// does in real clients, not always from the same cache line.
pub const TEMPLATE_BYTES: usize = 4 << 20;

/// Different templates at most.
pub const TEMPLATES_MAX: usize = 64;

/// Requests at least this large are written straight from their template; smaller ones are
/// gathered, since one system call costs more than their copy.
pub const COPY_BYTES_MAX: usize = 8 << 10;

/// A fetch that finds nothing waits this long at the broker.
pub const FETCH_WAIT_MS: i32 = 500;

/// `fetch.max.bytes` and `max.partition.fetch.bytes` where the scenario names none: Kafka's own.
pub const FETCH_BYTES: i32 = 50 << 20;

/// See [`FETCH_BYTES`].
pub const FETCH_PARTITION_BYTES: i32 = 1 << 20;

/// The largest answer that is read.
pub const ANSWER_BYTES_MAX: usize = flumen_protocol::limits::ANSWER_BYTES_MAX;

/// How long a member of a measured group may be silent, and how long it may take to join again: Kafka's
/// `session.timeout.ms` and `max.poll.interval.ms` lie on both sides of it, and nobody is ever silent.
pub const GROUP_SESSION_TIMEOUT_MS: i32 = 60_000;

/// Members of a measured group: one thread plays them all, each with a connection.
pub const GROUP_MEMBERS_MAX: u32 = 4_096;

/// Events taken from the kernel at once.
pub const EVENTS_MAX: usize = 1_024;

/// How often the progress line is written anew.
pub const PROGRESS_MS: u64 = 250;

/// Steps of a search: at 1.05 from 100 per second on, two hundred reach 1.7 million.
pub const SEARCH_STEPS_MAX: usize = 200;

/// The generator may use this share of a core against the null responder at the published rates.
pub const SELF_TEST_CPU_SHARE: f64 = 0.25;

/// Requests in flight per connection while a topic is filled beforehand.
pub const PREFILL_IN_FLIGHT: usize = 5;

/// Records of a KiB per batch where a topic is filled for a scenario without producers.
pub const PREFILL_RECORDS_PER_BATCH: u32 = 64;

/// How long tail consumers may take for what was acknowledged last.
pub const TAIL_GRACE_MS: u64 = 300;

/// Batches above this need a topic that allows them: Kafka's default `max.message.bytes`.
pub const MESSAGE_BYTES_DEFAULT: u64 = 1_048_588;

/// How often the null responder looks whether it shall end, when nobody asks anything.
pub const NULL_PATIENCE_MS: u64 = 200;

/// How long the null responder may take to say where it listens.
pub const NULL_START_MS: u64 = 5_000;

/// Seconds that a self-test measures at each rate.
pub const SELF_TEST_SECONDS: u32 = 5;

/// How long a passing connection may take to come about and be answered; then it counts as failed.
pub const CHURN_TIMEOUT_MS: u64 = 5_000;

/// Largest outcome that a report reads, unpacked: a comparison of ten thousand seconds has a tenth
/// of it, and a file that unpacks to more is an accident or an attack.
pub const OUTCOME_FILE_BYTES_MAX: u64 = 256 << 20;

/// Raw outcomes that a report keeps beside its summary, packed: what a repository carries gladly.
/// What does not fit is left out and named.
pub const KEPT_BYTES_MAX: u64 = 5 << 20;

/// Resamplings of an interval that the report computes itself: its ends repeat to the second digit.
pub const REPORT_RESAMPLES: usize = 2_000;

/// Points of a drawn curve: twice as many as anyone can tell apart on a screen's half.
pub const CURVE_POINTS_MAX: usize = 120;
