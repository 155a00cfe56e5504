//! Every limit of this crate, with its reason and what happens when it is reached.
//!
//! Does: name the numbers. Does not: enforce them; the file that owns the queue does.
//! Invariants: numbers that depend on each other are related by the assertions below.
//! Apart so that one page answers "how much can this hold?".

use std::time::Duration;

use flumen_protocol::ids::Offset;

// --- Partitions and Raft ---

/// Batches remembered per producer to recognise a repeated one. Kafka's number, and clients rely
/// on it: they keep at most five requests in flight. Older batches are forgotten.
pub const PRODUCER_BATCHES_MAX: usize = 5;

/// Records of a producer, before the remembered batches, that are known to have been written. Half of the
/// sequence numbers there are: further back cannot be told from ahead.
pub const FORGOTTEN_RECORDS_MAX: u32 = 1 << 30;

/// Clients waiting for their append to become durable, per partition. Each costs about 64 bytes.
/// Beyond it appends are refused as busy, which clients retry.
pub const WAITING_MAX: usize = 16_384;

/// Entries of one partition that were ordered but are not committed. Bounds what `acks=0`
/// producers, who wait for nothing, can pile up before a stalled disk. Beyond it appends are
/// refused as busy.
pub const UNCOMMITTED_ENTRIES_MAX: usize = 16_384;

/// Fetch requests parked on one partition. Each costs 32 bytes and a look per high watermark
/// move. Beyond it a watch is refused and its fetch is answered when its own deadline comes.
pub const WATCHERS_MAX: usize = 16_384;

/// Leader epochs remembered per partition, 16 bytes each. An epoch per second would need 18 hours
/// of elections with data in every one. The oldest are forgotten, and asked about, unknown.
pub const EPOCHS_MAX: usize = 65_536;

/// How often producers are looked at for expiry; Kafka's
/// `producer.id.expiration.check.interval.ms`. An expired producer may live that much longer.
pub const EXPIRY_SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// The share of producers forgotten at once when their number reaches its setting. One by one
/// would search all of them for every newcomer.
pub const EVICTION_SHARE: usize = 8;

/// Unknown producers of a partition whose first batch was refused for now and is waited for: more than
/// begin while a disk is full. Beyond it what they sent behind that batch may overtake it, as in Kafka.
pub const REFUSED_PRODUCERS_MAX: usize = 1024;

/// Batches of one partition that wait for the transaction coordinator's word, and producers it was
/// asked about: more than begin a transaction within the microseconds that takes. Beyond it they are
/// refused as busy, which clients retry.
pub const UNVERIFIED_BATCHES_MAX: usize = 4096;

/// Transactions under way on one partition, some 400 bytes each with their producers, who are not
/// forgotten meanwhile. Beyond it a further one is refused with POLICY_VIOLATION, which its producer
/// cannot retry; each of those there ends with its own time-out at the latest.
pub const OPEN_TRANSACTIONS_MAX: usize = 65_536;

/// Aborted transactions one partition keeps, 32 bytes each here and as much in the manifest's image,
/// until retention, DeleteRecords or a cleaning takes their records. A row too few would show records that
/// never happened, so that none is ever dropped: beyond it no transaction may begin (POLICY_VIOLATION). One
/// that aborts a transaction every second would take 12 days.
pub const ABORTED_TRANSACTIONS_MAX: usize = 1 << 20;

/// What a partition's state may weigh as bytes. A million producers with five batches each weigh
/// 176 MiB; anything larger is not a state but damage.
pub const STATE_BYTES_MAX: usize = 256 << 20;

/// Unanswered append messages per follower. Sixteen fill a 10 ms link at over a thousand round
/// trips a second, and keep the window small in memory for thousands of idle groups.
pub const RAFT_INFLIGHT_MAX: usize = 16;

/// Ticks without a word from the leader before a follower may campaign; up to twice that, drawn.
pub const ELECTION_TICKS: usize = 10;

/// Ticks between two heartbeats of a leader.
pub const HEARTBEAT_TICKS: usize = 2;

/// The highest offset a log may end at. Half of what there are: sums with a segment's or a batch's
/// width stay within an `i64`, and the other half serves as "no limit". A million records a second
/// would take 146,000 years. Beyond it appends are refused for good.
pub const LOG_END_MAX: Offset = Offset(i64::MAX / 2);

/// Slots of the log view kept allocated while idle: a small burst needs no allocation.
pub const VIEW_SLOTS_IDLE: usize = 32;

const _: () = assert!(OPEN_TRANSACTIONS_MAX < ABORTED_TRANSACTIONS_MAX, "each may be aborted");
const _: () = assert!(ELECTION_TICKS > 2 * HEARTBEAT_TICKS, "one lost heartbeat is no election");
const _: () = assert!(WAITING_MAX >= UNCOMMITTED_ENTRIES_MAX, "every entry may have a waiter");

// --- Metadata ---

/// Partitions of one topic. One record holds the places of all of them, some 24 bytes each. Beyond
/// it INVALID_PARTITIONS.
pub const TOPIC_PARTITIONS_MAX: usize = 10_000;

/// Partitions one request may make, over all its topics; Kafka's number. Each of them opens a log
/// on some core, and nothing else happens to metadata meanwhile. Beyond it POLICY_VIOLATION for
/// the rest of the request, which may be asked for again.
pub const COMMAND_PARTITIONS_MAX: usize = 10_000;

/// Partitions of the whole cluster, about 100 bytes each in the image. Beyond it
/// POLICY_VIOLATION.
pub const CLUSTER_PARTITIONS_MAX: usize = 1_000_000;

/// Groups that may have settings of their own, a few hundred bytes each in the image. Beyond it
/// POLICY_VIOLATION.
pub const GROUP_CONFIGS_MAX: usize = 10_000;

/// Bytes of the records one command may lead to. They are appended as one batch, so that all or
/// none of them happen; ten thousand ordinary topics fit. Beyond it POLICY_VIOLATION for the rest
/// of the request.
pub const COMMAND_BYTES_MAX: usize = 4 << 20;

/// Entities with quotas of their own, about 300 bytes each in the image, which every core reads for
/// every request once there is one. Beyond it POLICY_VIOLATION.
pub const QUOTA_ENTITIES_MAX: usize = 10_000;

/// Bytes of a user's name, a client id or an address with a quota. Beyond it POLICY_VIOLATION.
pub const QUOTA_NAME_BYTES_MAX: usize = 1 << 10;

// --- Coordinators ---

/// Bytes of one batch a coordinator appends: Kafka's default `max.message.bytes`, which every
/// reader of the offsets topic is prepared for. A turn's records beyond it go into a further
/// batch; one group whose record alone does not fit cannot become stable
/// (UNKNOWN_SERVER_ERROR to its members, as in Kafka). Also what the records of one OffsetCommit may
/// take together: beyond it INVALID_COMMIT_OFFSET_SIZE for the whole of it, as Kafka refuses it too,
/// and a client has to commit in smaller portions. Some 10,000 partitions fit, less with long names.
pub const COORDINATOR_BATCH_BYTES_MAX: usize = 1 << 20;

/// Bytes of one record inside such a batch: what header, lengths and a key may take is left out.
pub const COORDINATOR_RECORD_BYTES_MAX: usize = COORDINATOR_BATCH_BYTES_MAX - 34 * 1024;

/// Batches of one coordinator that are appended and not committed. Beyond it requests are refused
/// with COORDINATOR_NOT_AVAILABLE, which clients retry: the log does not keep up.
pub const COORDINATOR_BATCHES_IN_FLIGHT_MAX: usize = 1024;

/// Answers that one call of a coordinator lets go: each is encoded and handed to its connection in the
/// same turn, and a group that ends a rebalance has one for each of its members (decision 0010). The
/// others leave in the next turns.
pub const COORDINATOR_ANSWERS_PER_STEP: usize = 128;

/// Groups one coordinator holds, members or not: two or three KiB each with a member or an offset, up
/// to [`GROUP_MEMBERS_BYTES_MAX`] and [`GROUP_OFFSETS_MAX`] for a large one. Beyond it a new group is
/// refused with COORDINATOR_NOT_AVAILABLE, since expiry may make room.
pub const GROUPS_MAX: usize = 100_000;

/// Bytes that all groups of one coordinator may weigh together, offsets left out: half of
/// [`GROUPS_MAX`] with an ordinary member, or sixteen of the largest. Less where the coordinators of its
/// core have less together ([`crate::coordinator::machine::Machine::set_weight_max`]). Beyond it what
/// makes a group grow, a join or an assignment, is refused with COORDINATOR_NOT_AVAILABLE, which
/// clients retry; heartbeats, commits and members that come back as they were go on.
pub const COORDINATOR_GROUPS_BYTES_MAX: usize = 128 << 20;

/// Members of one group, joined or pending, whatever `group.max.size` says: their metadata goes
/// into one record, so some 200 bytes are left for each. Beyond it GROUP_MAX_SIZE_REACHED.
pub const GROUP_MEMBERS_MAX: usize = 4096;

/// Bytes of protocol names and metadata one member may bring, all protocols together. Beyond it
/// INVALID_REQUEST: it could never be stored with more than a few like it.
pub const GROUP_MEMBER_METADATA_BYTES_MAX: usize = 512 * 1024;

/// Bytes of names, protocols and metadata the members of one group may bring together. Only what they
/// say about the chosen protocol goes into the group's record, so a group that names up to eight, as
/// clients that change their assignor name two, may fill its record. Without it 4,096 members of half
/// a MiB would be two GiB. Beyond it GROUP_MAX_SIZE_REACHED.
pub const GROUP_MEMBERS_BYTES_MAX: usize = 8 * COORDINATOR_RECORD_BYTES_MAX;

/// Protocols one request may name for its member (clients name one to four), repeated ones included:
/// each is compared with all others. Beyond it INVALID_REQUEST, before any is looked at.
pub const GROUP_MEMBER_PROTOCOLS_MAX: usize = 64;

/// Bytes of a group id, client id, instance id, protocol or topic name. Kafka stores them with a
/// length of 16 bits, and a member id is one of them and a UUID. Beyond it INVALID_GROUP_ID,
/// INVALID_REQUEST or INVALID_TOPIC_EXCEPTION.
pub const GROUP_NAME_BYTES_MAX: usize = i16::MAX as usize - 64;

/// Bytes of the partitions one member of a group of the new kind shall have, some 100,000 of them: what
/// it has and what it must give up stand in one record. Beyond it a new target assignment is refused
/// with UNKNOWN_SERVER_ERROR, as Kafka refuses one whose records are too large.
pub const CONSUMER_MEMBER_PARTITIONS_BYTES_MAX: usize = 480 * 1024;

/// Bytes of a regular expression of a subscription or a filter: far more than is written by hand, and its
/// compilation takes well below a millisecond. Beyond it INVALID_REGULAR_EXPRESSION.
pub const PATTERN_BYTES_MAX: usize = 4096;

/// Bytes a regular expression may take when compiled, and again for what matching remembers: some
/// thousand states. Beyond it INVALID_REGULAR_EXPRESSION: repetitions of repetitions explode.
pub const PATTERN_COMPILED_BYTES_MAX: usize = 256 * 1024;

/// How deeply the brackets of a regular expression may be nested: reading them recurs. Beyond it
/// INVALID_REGULAR_EXPRESSION.
pub const PATTERN_NESTING_MAX: u32 = 64;

/// Different regular expressions that the members of one group may subscribe to. Each is matched with
/// every topic whenever topics come. Beyond it INVALID_REGULAR_EXPRESSION.
pub const CONSUMER_PATTERNS_MAX: usize = 64;

/// Names matched with patterns by one step of a look through the topics; the next step follows in the
/// next turn. A match takes a microsecond at most, unless a pattern was made to be slow.
pub const PATTERN_MATCHES_PER_STEP: usize = 256;

/// Work on a group's target assignment that is done in one turn; the next turn goes on with it. A unit
/// is what it takes to look at a partition. A group of a hundred members is assigned at once, one of
/// thousands in some turns of well below a millisecond each, and everything it then has to write down
/// in one.
pub const ASSIGNING_UNITS_PER_STEP: usize = 1 << 15;

/// Work on the conversion of a group that is done in one turn. A unit is what it takes to convert a
/// partition, a fifth of a microsecond, and a member is sixteen. A group below it is converted at once.
pub const CONVERTING_UNITS_PER_STEP: usize = 1 << 11;

/// Records of a conversion that are packed in one turn. They are written together, when all are.
pub const CONVERTING_RECORDS_PER_STEP: usize = 512;

/// Requests that wait for the conversion of their group, which takes some ten milliseconds at most. Beyond
/// it COORDINATOR_LOAD_IN_PROGRESS, which clients retry.
pub const CONVERTING_REQUESTS_MAX: usize = 1024;

/// Of those, how many are heard in one turn when it is over.
pub const CONVERTING_REQUESTS_PER_STEP: usize = 16;

/// Milliseconds after which members are told to ask again while their assignment is being worked out,
/// which takes some milliseconds; else they would hear of it with their next ordinary heartbeat.
pub const ASSIGNING_HEARTBEAT_MS: i32 = 500;

/// Offsets one group may hold, about 100 bytes each in topics of many partitions. Beyond it further
/// partitions are refused with INVALID_COMMIT_OFFSET_SIZE.
pub const GROUP_OFFSETS_MAX: usize = 200_000;

/// Bytes that all offsets of one coordinator may weigh together, with the notes beside them: nearly
/// all of [`GROUPS_MAX`] with an offset each, a million offsets of large groups, or 30,000 notes of
/// `offset.metadata.max.bytes`. Without it commits alone fill the memory, a group at a time. Beyond
/// it INVALID_COMMIT_OFFSET_SIZE for whatever would make it more, partition by partition: clients
/// tell their application, where a retriable error would have them try until offsets expire. Who
/// commits what it has committed before, with a note no longer than that, goes on. What a log holds
/// is loaded, however much it is.
pub const COORDINATOR_OFFSETS_BYTES_MAX: usize = 128 << 20;

/// Bytes of the metadata string beside an offset, whatever `offset.metadata.max.bytes` says,
/// since its length is stored in 16 bits. Beyond it OFFSET_METADATA_TOO_LARGE.
pub const OFFSET_METADATA_BYTES_MAX: usize = i16::MAX as usize;

/// Groups looked at by one step of the expiry sweep; the next step follows in the next turn.
pub const EXPIRY_GROUPS_PER_STEP: usize = 500;

/// Members of a classic group that are answered in one turn when a wait of all of them is over; beyond it
/// all of them are in later turns, since the wait's end is work enough for one (decision 0010).
pub const GROUP_ANSWERS_PER_STEP: usize = 256;

/// Alarms a coordinator acts on in one turn; the rest follows in the next, since it is due.
pub const ALARMS_PER_TURN_MAX: usize = 256;

/// Members of groups of the new kind taken out in one turn for their silence, each up to fifty microseconds
/// where the group has thousands of partitions, which are looked through for its next epoch; or one step of
/// longer work. The rest follows in the next turn.
pub const ALARM_EFFORT_PER_TURN_MAX: usize = 16;

const _: () = assert!(GROUP_MEMBER_METADATA_BYTES_MAX < COORDINATOR_RECORD_BYTES_MAX);
const _: () = assert!(GROUP_MEMBER_METADATA_BYTES_MAX < GROUP_MEMBERS_BYTES_MAX);
const _: () = assert!(2 * CONSUMER_MEMBER_PARTITIONS_BYTES_MAX < COORDINATOR_RECORD_BYTES_MAX);
const _: () = assert!(GROUPS_MAX * 1024 < COORDINATOR_GROUPS_BYTES_MAX);
const _: () = assert!(GROUP_OFFSETS_MAX * 200 < COORDINATOR_OFFSETS_BYTES_MAX);
const _: () = assert!(3 * GROUP_NAME_BYTES_MAX + OFFSET_METADATA_BYTES_MAX < 1 << 18);
const _: () = assert!(COORDINATOR_RECORD_BYTES_MAX < COORDINATOR_BATCH_BYTES_MAX);
const _: () = assert!(TOPIC_PARTITIONS_MAX <= COMMAND_PARTITIONS_MAX, "every topic can be made");
const _: () = assert!(TOPIC_PARTITIONS_MAX * 64 < COMMAND_BYTES_MAX, "in one record");

// --- Transactions ---

/// Bytes that all transactional ids of one coordinator may weigh together, with the partitions of what
/// is under way: some 60,000 ordinary ids, which expire when nobody uses them. Beyond it a new id, or
/// a partition more, is refused with COORDINATOR_NOT_AVAILABLE, which clients retry. What a log holds
/// is loaded, however much it is.
pub const COORDINATOR_TRANSACTIONS_BYTES_MAX: usize = 32 << 20;

/// Partitions of one transaction; Kafka has no limit but the record they must fit into. Beyond it, or
/// where their names do not fit, INVALID_TXN_STATE: the client's transaction cannot go on.
pub const TRANSACTION_PARTITIONS_MAX: usize = 10_000;

/// Ids that a sweep for unused ones looks at in one step; the next step follows in the next turn.
pub const TRANSACTION_IDS_PER_STEP: usize = 256;

/// Transactions that are late and aborted in one turn; the rest follows in the next, since it is due.
pub const TRANSACTIONS_ENDED_PER_TURN_MAX: usize = 256;

/// Requests of one coordinator that wait for the markers of the transaction before theirs. Beyond it
/// CONCURRENT_TRANSACTIONS at once, as Kafka always answers.
pub const TRANSACTION_PARKED_MAX: usize = 4096;

/// How long such a request waits before it is answered so: markers take a few milliseconds, and much
/// longer only where something is wrong that the client should hear of.
pub const TRANSACTION_PARK_PATIENCE: Duration = Duration::from_secs(1);

const _: () = assert!(TRANSACTION_PARTITIONS_MAX * 200 < COORDINATOR_TRANSACTIONS_BYTES_MAX);
