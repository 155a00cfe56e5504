//! Every limit of the storage crate, with its reason and what happens there.
//!
//! Does: hold numbers and the relations between them, checked when compiling.
//! Does not: read configuration; what an operator may change arrives as an argument.
//! Invariants: the const assertions at the end.
//! Apart because a limit nobody can find is a limit nobody keeps.

/// Unit of every direct write and read. 4 KiB is the largest logical block of the devices we know
/// and the physical block of most; a commit always starts on a fresh one (FORMAT.md).
pub const BLOCK_BYTES: usize = 4096;

/// Alignment of frames inside a commit, so that a damaged place is searched in steps of eight.
pub const FRAME_ALIGN: usize = 8;

/// Default size of a journal file: small enough to be prewritten before the first append is
/// acknowledged, large enough that rolling is rare.
pub const JOURNAL_FILE_BYTES: u64 = 16 << 20;

/// Default bound of what the journal of one core keeps on disk; bounds the scan at start.
pub const JOURNAL_WINDOW_BYTES: u64 = 256 << 20;

/// Fewest files a journal can run with: one being written, one being settled, one in reserve.
pub const JOURNAL_FILES_MIN: u64 = 3;

/// Most files a journal may have; slots are written into frames as 16 bits.
pub const JOURNAL_FILES_MAX: u64 = 4096;

/// Largest commit made of several frames: at 4 GB/s a quarter of a millisecond, so that what comes
/// next is not kept waiting. A single larger entry goes alone.
pub const COMMIT_BYTES_MAX: usize = 1 << 20;

/// Most durable writes under way. Two keep a device busy over the gap between answer and next
/// write; more only lengthen the queue. The tail after a crash is never longer than this.
pub const COMMITS_IN_FLIGHT_MAX: usize = 2;

/// Bytes waiting for a place in the journal beyond which nothing is acknowledged before it is
/// durable, whatever its topic allows: enough to keep the device busy while a file is prepared; more
/// would only be latency. The journal itself takes more. Its caller bounds that, by what of it
/// clients wait for and by refusing producers.
pub const QUEUE_BYTES_MAX: usize = JOURNAL_FILE_BYTES as usize;

/// The watermark is written at the latest after this many journal bytes (bounds the tail that
/// cannot be told from rot) …
pub const WATERMARK_EVERY_BYTES: u64 = 64 << 20;

/// … and this long after something became durable that it does not cover yet.
pub const WATERMARK_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// How long to wait after "no space" before a journal file is prepared, or the watermark written,
/// again.
pub const ERRAND_RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// Largest single write while a file is prepared: commits and reads need not wait long behind it.
pub const PREPARE_WRITE_BYTES: usize = 1 << 20;

/// Largest single read request; longer reads are made of several.
pub const READ_BYTES_MAX: usize = 1 << 20;

/// Largest file that is read as a whole: what says otherwise is not ours. The manifest is the one that
/// grows: it holds every partition's state, up to 2 MiB with 10,000 producers, and as much garbage
/// again, so some 250 such partitions per core fit. Beyond, a start says so and reads nothing.
pub const SMALL_FILE_BYTES_MAX: u64 = 1 << 30;

/// Handles of segment and small files kept open per core; the least recently used is closed, so
/// that an idle partition keeps no file open. Journal files are not counted.
pub const OPEN_FILES_MAX: usize = 64;

/// How often opening a file that is being removed, or removing one that is being opened, looks
/// whether the other has ended. Rare: a reader of the oldest segment met retention.
pub const OPEN_OR_REMOVE_RECHECK: std::time::Duration = std::time::Duration::from_millis(1);

const _: () = {
    assert!(BLOCK_BYTES.is_multiple_of(FRAME_ALIGN));
    assert!(COMMIT_BYTES_MAX.is_multiple_of(BLOCK_BYTES));
    assert!(PREPARE_WRITE_BYTES.is_multiple_of(BLOCK_BYTES));
    assert!(READ_BYTES_MAX.is_multiple_of(BLOCK_BYTES));
    assert!(JOURNAL_FILE_BYTES.is_multiple_of(BLOCK_BYTES as u64));
    assert!(COMMIT_BYTES_MAX as u64 * 2 <= JOURNAL_FILE_BYTES);
    assert!(JOURNAL_WINDOW_BYTES / JOURNAL_FILE_BYTES >= JOURNAL_FILES_MIN);
    assert!(JOURNAL_FILES_MAX <= u16::MAX as u64);
    assert!(WATERMARK_EVERY_BYTES >= JOURNAL_FILE_BYTES);
    assert!(QUEUE_BYTES_MAX >= COMMIT_BYTES_MAX * COMMITS_IN_FLIGHT_MAX);
};

/// [`BLOCK_BYTES`] as positions in files are counted.
pub const BLOCK: u64 = BLOCK_BYTES as u64;

/// Settled batches kept in memory per core: consumers up to this far behind never touch the disk.
pub const CACHE_BYTES_DEFAULT: usize = 64 << 20;
/// Cold data kept per core after it was verified: sixteen sequential readers a window ahead.
pub const WINDOW_BYTES_DEFAULT: usize = 16 << 20;
/// Unsettled bytes per core above which the largest log is settled, in a store that is not told
/// otherwise: an eighth of the journal's default window, so that memory asks long before the window
/// does.
pub const UNSETTLED_BYTES_DEFAULT: usize = 32 << 20;
/// Kafka's default of `segment.bytes`.
pub const SEGMENT_BYTES_DEFAULT: u64 = 1 << 30;
/// Kafka's largest `segment.bytes`; keeps positions within the index's 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;
/// How far offsets of a segment may lie from its base: Kafka's own tools count them in an `i32`.
pub const SEGMENT_OFFSETS_MAX: i64 = i32::MAX as i64;
/// A chunk is closed once it is this long: one checksum and one index entry per this many bytes.
pub const CHUNK_BYTES: u64 = 64 << 10;
/// The least a cold read asks for, so that a sequential reader needs few reads.
pub const EXTENT_BYTES_MIN: u64 = 256 << 10;
/// The most a cold read asks for, unless a single chunk is larger: reads must not crowd out
/// appends for longer than a few hundred microseconds.
pub const EXTENT_BYTES_MAX: u64 = 1 << 20;
/// Cold reads under way per core: enough to keep a device busy, few enough to stay behind appends.
pub const READS_IN_FLIGHT_MAX: usize = 8;
/// How many epochs are tried when one in a chunk must be wrong: 25 microseconds each. Chunks have few
/// leaders; one that has more is refused as before.
pub const EPOCH_TRIES_MAX: usize = 256;
/// How many unreadable pieces of one fetch are looked for block by block: 500 reads at worst, on a
/// device that is slow when it fails. After that a failing read is given up as it is.
pub const UNREADABLE_PIECES_MAX: u32 = 16;
/// How many unreadable blocks of a journal file a start looks for one by one: 4,000 reads at worst for
/// each file. What fails after that is given up as it is.
pub const JOURNAL_UNREADABLE_PIECES_MAX: u32 = 256;
/// How often a job may find that something else is missing before it is told to come back: walking
/// a whole segment of 2 GiB without its index takes 8,192 steps.
pub const JOB_TRIES_MAX: u32 = 16_384;
/// The largest write of a settle in haste, for the same reason.
pub const SETTLE_WRITE_BYTES: u64 = 1 << 20;
/// The largest write of a settle that nothing waits for: a commit of the journal that falls in
/// between is hardly held up. Measured at 2,000 commits of 16 KiB per second: p99 of produce 1.5 ms
/// instead of 2 to 5, and a fifth less throughput if it were always so.
pub const SETTLE_WRITE_BYTES_CALM: u64 = 256 << 10;
/// Batches moved by one settle, so that none takes long; the rest follows with the next.
pub const SETTLE_BYTES_MAX: usize = 8 << 20;
/// Settles in flight at once in haste: one writes while the other waits for its flush or the
/// manifest. Otherwise one.
pub const SETTLES_MAX: usize = 2;
/// Small settles in flight at once: their flushes share one commit of the file system, and their
/// records one write of the manifest. Half of the open files, so that none is closed in between.
pub const SETTLE_GROUP_MAX: usize = OPEN_FILES_MAX / 2;
/// Bytes of a group of small settles: not more in the way of appends than a single large one.
pub const SETTLE_GROUP_BYTES: usize = 1 << 20;
/// Unsettled bytes of one log from which settling it is worth a flush.
pub const SETTLE_BYTES_WORTH: usize = 1 << 20;
/// How many of the largest logs are remembered when there is too much unsettled: a look for them
/// costs a walk over all logs, which is not done for every settle.
pub const LARGEST_LOGS_MAX: usize = 64;
/// How old unsettled entries may become on an idle core.
pub const SETTLE_AGE: std::time::Duration = std::time::Duration::from_secs(10);
/// How old they may become on a core that appends: settling a thousand small logs every ten
/// seconds makes appends wait for the file system's commits; what grows large or holds the journal
/// is settled before.
pub const SETTLE_AGE_BUSY: std::time::Duration = std::time::Duration::from_secs(60);
/// How long after an append a core counts as one that appends.
pub const APPENDING_FOR: std::time::Duration = std::time::Duration::from_secs(1);
/// How long a log that could not be settled (nothing committed, disk full) is left alone.
pub const SETTLE_BACKOFF: std::time::Duration = std::time::Duration::from_secs(1);
/// What a cleaning reads at once: as little as any cold read, so that others wait as little.
pub const CLEANING_READ_BYTES: u32 = EXTENT_BYTES_MIN as u32;
/// What a cleaning writes at once: as a settle that nothing waits for.
pub const CLEANING_WRITE_BYTES: usize = SETTLE_WRITE_BYTES_CALM as usize;
/// Bytes of records a cleaning works on in one turn, and at least one record: whatever else the core has to do
/// waits for it. A batch is worked on in as many turns as it needs; only opening a compressed one, and compressing
/// what is left of it, are done at once.
pub const CLEANING_SLICE_BYTES: usize = 16 << 10;
/// What a record, or a batch without any, counts for at least in a slice: hashing its key and looking it up costs
/// as much as this many bytes, however few it has.
pub const CLEANING_RECORD_BYTES: usize = 64;
/// What a cleaning reads and writes per second while the core appends: one operation of 256 KiB every 8 ms
/// leaves the device to the journal nearly all of the time.
pub const CLEANING_BYTES_PER_SECOND_BUSY: u64 = 32 << 20;
/// How long a log is left alone whose cleaning could not begin or go on: want of room or descriptors, or a
/// transaction that holds back what is stable.
pub const CLEANING_BACKOFF: std::time::Duration = std::time::Duration::from_secs(60);
/// How long a log is left alone of which something could not be read: what was left out stays dirty, so
/// that the next cleaning walks it again.
pub const CLEANING_BACKOFF_DAMAGED: std::time::Duration = std::time::Duration::from_secs(3600);
/// What the tables of all cores take where nobody says otherwise: 2.5 million keys in one walk, and half of
/// what a node may take beyond its base while it cleans.
pub const CLEANING_TABLE_BYTES_DEFAULT: usize = 64 << 20;
/// Files being deleted, or folders listed, at once: deleting large files keeps the file system busy.
pub const REMOVALS_IN_FLIGHT_MAX: usize = 4;
/// How long removals pause when there was no descriptor for one.
pub const REMOVAL_RETRY: std::time::Duration = std::time::Duration::from_secs(1);
/// Logs whose last partial block is kept in memory between settles: at most 2 MiB together.
pub const WARM_LOGS_MAX: usize = 256;
/// Entries of loaded segment indexes, over all logs: 48 bytes each, 6 MiB together.
pub const INDEX_ENTRIES_MAX: usize = 128 << 10;
/// How long the manifest waits for room after the disk was full.
pub const MANIFEST_RETRY: std::time::Duration = std::time::Duration::from_secs(1);
/// How long the manifest's ballast is not made again after it found no room. After it was given up
/// it is made again at once: whoever wants room may come first.
pub const BALLAST_RETRY: std::time::Duration = std::time::Duration::from_secs(5);
/// How long a ballast that had no room to be larger is left as it is.
pub const BALLAST_GROWTH: std::time::Duration = std::time::Duration::from_secs(60);
/// Garbage in the manifest, beyond as much as is live, at which it is written anew.
pub const MANIFEST_GARBAGE_BYTES: u64 = 1 << 20;
/// A jump of the wall clock beyond this stops deletion by age until it is confirmed (K1), ms.
pub const CLOCK_JUMP_MS: i64 = 24 * 3600 * 1000;
/// The largest batch believed on disk: it came in a request, and those are no larger. A header that
/// says more is damaged.
pub const BATCH_BYTES_MAX: u64 = flumen_protocol::limits::FRAME_BYTES_MAX as u64;
/// How many places behind damage are looked at in one go: a place that looks like a batch takes half
/// a microsecond, and hostile bytes look like one at every twelfth, so 10 ms at worst.
pub const SEARCH_BYTES: usize = EXTENT_BYTES_MIN as usize;
/// What a search behind damage may read besides what it searches, for places that say they are a
/// large batch: the next good batch is found even if it and a forged one are as large as can be.
pub const PATIENCE_BYTES: usize = 2 * BATCH_BYTES_MAX as usize;
/// A batch up to this size is found even by a search that has lost its patience: reads are twice
/// as long, so each gets half of itself ahead.
pub const SEARCH_BATCH_BYTES: usize = EXTENT_BYTES_MIN as usize / 2;

const _: () = assert!(CHUNK_BYTES <= EXTENT_BYTES_MIN && EXTENT_BYTES_MIN <= EXTENT_BYTES_MAX);
const _: () = assert!(SETTLE_GROUP_MAX >= SETTLES_MAX && SETTLE_GROUP_BYTES <= SETTLE_BYTES_MAX);
const _: () = assert!(SETTLE_WRITE_BYTES.is_multiple_of(BLOCK));
const _: () = assert!(SETTLE_WRITE_BYTES_CALM.is_multiple_of(BLOCK));
const _: () = assert!(SETTLE_BYTES_WORTH <= SETTLE_BYTES_MAX);

/// Operations that a core's ring takes before it must hand them to the kernel. A turn asks for a
/// few; when every connection of a full core is watched at once it hands over in between.
pub const RING_SUBMISSIONS: u32 = 256;

/// Completions that wait in a core's ring for its next turn. Room for news of this many
/// connections in half a millisecond; the kernel keeps what is more.
pub const RING_COMPLETIONS: u32 = 4096;

/// News that a core takes from its ring in one turn, or a few more: a microsecond each in the kernel,
/// half a millisecond of them. The others wait in it.
pub const RING_NEWS_PER_TURN: usize = 512;

/// News of one entry to the kernel after which there may be more, for which it is entered again: newer
/// kernels tell of twenty at most (`IO_LOCAL_TW_DEFAULT_MAX`), of which some may have come to nothing. A
/// core with less to do makes no call in vain.
pub const RING_NEWS_WORTH_ENTERING: usize = 10;
