//! Every limit of the broker, each with its reason and what happens there.

use std::time::Duration;

use flumen_replication::limits::ABORTED_TRANSACTIONS_MAX;

/// Bytes read from a socket at once. 64 KiB is one full read of a default socket buffer; one
/// such buffer serves all connections of a core.
pub const READ_SCRATCH_BYTES: usize = 64 << 10;

/// Reads of one connection in one visit, so that a flood on it delays the others by at most one scratch
/// buffer: some thirty microseconds, and several times that where memory is touched for the first time.
pub const READS_PER_TURN: usize = 1;

/// Pieces of answers written by one system call. The kernel takes up to 1024, but a list of that
/// size would be set up for every answer; most have one or two pieces. A fetch has a piece or two
/// for each batch, and takes several calls when it has many.
pub const WRITE_PIECES_MAX: usize = 64;

/// Bytes written to one connection in one visit: a tenth of a millisecond where the kernel has to find
/// new memory for them, and a client that fetches much would have the core for milliseconds. With 256
/// KiB, one visit to a client that does not read took 0.7 ms.
pub const WRITE_BYTES_PER_TURN: usize = 64 << 10;

/// Connections accepted at one door each time sockets are worked on for those that come or go: each
/// costs 20 µs, so that a storm of them delays the others by a sixth of a millisecond.
pub const ACCEPTS_PER_TURN: usize = 8;

/// Connections closed each time sockets are worked on: a crowd that goes costs 20 µs each, and nobody
/// waits for it.
pub const BURIALS_PER_TURN: usize = 8;

/// Bytes moved each time sockets are worked on, with [`LANE_VISIT_BYTES`] for each connection: half a
/// millisecond, or 128 of them. What is left has its turn after the requests that came.
pub const LANE_BYTES_PER_TURN: usize = 512 << 10;

/// What a visit costs, moving nothing: a system call or two, counted as the bytes that could be copied.
pub const LANE_VISIT_BYTES: usize = 4 << 10;

/// Of what is moved in a turn, connections that come or go have one part in so many whatever the others
/// want, and those that used much lately another one, so that no crowd starves anybody.
pub const LANE_SHARE: usize = 4;

/// How long a core works after a turn for connections that come, go, or used much lately, on their
/// sockets or on their inputs: measured between visits, since a visit may cost ten times what another
/// does. Those that are served first are not to notice much of it.
pub const OTHERS_TIME: Duration = Duration::from_micros(100);

/// The same while nobody was there to be served first for [`ALONE_AFTER`]. Who sends 64 KiB batches as
/// fast as it goes gets an eighth more through than with half of it.
pub const OTHERS_TIME_ALONE: Duration = Duration::from_micros(200);

/// How long after the last visit to who goes first the others count as alone: many times the pause
/// between the requests of a client whose delays are of interest.
pub const ALONE_AFTER: Duration = Duration::from_millis(100);

/// Answers after which a client is known. All clients ask for versions and metadata first, consumers for
/// a coordinator and their group too: before that it may be one of a crowd that came at once, after a
/// restart or to do harm, for which those that are being served do not wait.
pub const KNOWN_AFTER_ANSWERS: u32 = 8;

/// Inputs that wait for the core's turn, beyond which only connections that are known and used little
/// are visited: what the others ask for would be in the way of what these ask next. Half a turn's.
pub const INPUTS_BEFORE_OTHERS: usize = INPUTS_PER_TURN / 2;

/// What was spent on a connection counts half after this: long enough to tell who asks for much from
/// who did once.
pub const SPENT_HALF_LIFE: Duration = Duration::from_millis(500);

/// Whoever moved more than this lately goes behind those who moved less: about four milliseconds.
pub const SPENT_MUCH_BYTES: u64 = 4 << 20;

/// The same for what requests took. Five times as long, since the clock also runs where another process
/// has the processor.
pub const SPENT_MUCH_TIME: Duration = Duration::from_millis(20);

/// Whoever moved more than this lately leaves the last room for answers to others: less than what
/// the kernel takes of an answer that nobody reads, so that the first one of who does not read is not in
/// anybody's way, and the second waits.
pub const MOVED_MUCH_BYTES: u64 = 512 << 10;

/// A request that took less than this is not held against its connection: most are done in ten, and
/// looking for the connection costs one.
pub const SPENT_NOTED: Duration = Duration::from_micros(50);

/// Open connections looked at in one turn when all are looked through for idle ones: a microsecond for
/// ten. Ten thousand take forty turns.
pub const SWEEP_PER_TURN: usize = 256;

/// Connections that go on in one turn when there is room again for what they send, of known ones and of
/// others.
pub const RESUMED_PER_TURN: usize = 64;

/// Descriptors that a core keeps from its connections: handles of segments, indexes and small
/// files (64), journal files (16 with the default window), rings, doors and pipes (16), and as many
/// again for what is open only for a moment. Design D13: no append fails for want of one.
pub const DESCRIPTORS_PER_CORE: usize = 192;

/// Descriptors that the kernel has room for before the first is needed, if the system allows as many:
/// eight bytes each, half a MiB. More come in as before, with a wait at each doubling.
pub const DESCRIPTORS_READY: u64 = 65_536;

/// Connections of a core where the system's limit of open files leaves hardly any.
pub const CONNECTIONS_MIN: usize = 16;

/// Connections that wait to be accepted, per door and core; the kernel's own bound is 4096.
pub const ACCEPT_BACKLOG: i32 = 1024;

/// Requests of one connection that are served at once; beyond it the socket is not read.
/// librdkafka pipelines up to a million, which would be memory without a bound.
pub const REQUESTS_IN_FLIGHT_PER_CONNECTION: usize = 128;

/// Answers queued for one connection before its socket is no longer read, so that a client that
/// never reads holds one large answer at most. What all of them hold is bounded by the budget of
/// answers.
pub const RESPONSE_BYTES_QUEUED_PER_CONNECTION: usize = 1 << 20;

/// A request of this size is read even when the budget of requests is used up, one per connection.
/// Metadata of a hundred topics, heartbeats and most commits fit; of ten thousand connections these
/// are 40 MiB.
pub const SMALL_REQUEST_BYTES: usize = 4 << 10;

/// How slowly the first bytes of a request may come without anybody looking at the clock. A client
/// that was suspended for a moment is no attacker.
pub const REQUEST_ARRIVAL_GRACE: Duration = Duration::from_secs(30);

/// The same while there is no room for more: others wait for what this one holds, as for unread answers.
pub const REQUEST_ARRIVAL_GRACE_WHEN_FULL: Duration = ANSWER_GRACE;

/// Bytes per second at which a request must arrive on average; slower, its connection is closed. A
/// modem is faster.
pub const REQUEST_BYTES_PER_SECOND: u64 = 1 << 10;

/// The same while there is no room for more: as much as is asked of those that take answers, half a Mbit/s.
pub const REQUEST_BYTES_PER_SECOND_WHEN_FULL: u64 = ANSWER_BYTES_PER_SECOND_WHEN_FULL;

/// Large requests of known clients may take one part in so many of their budget whatever others send,
/// and those of others whatever known ones do: half requests that are sent to hold memory keep no known
/// client from writing.
pub const ARRIVAL_SHARE: usize = 4;

/// How long a client that has ended its side is given to hear the answers that it still has to come.
/// Most such clients are gone. Long enough for any answer that does not wait for news, short enough
/// for fetches of dead consumers not to pile up.
pub const HEARD_OUT_TIME: Duration = Duration::from_secs(5);

/// How long a connection that the broker ends stays open for its client to hear of it and to stop
/// sending: many round trips to anywhere. A client that goes on sending after that is reset, and
/// may lose answers that it has not received by then.
pub const PARTING_TIME: Duration = Duration::from_secs(1);

/// Bytes of one client that are thrown away meanwhile: what clients have under way, several times
/// over. One that sends more is reset.
pub const PARTING_BYTES_MAX: usize = 16 << 20;

/// Connections of one core that part at once. Each costs a descriptor; with more, the oldest is
/// closed at once.
pub const PARTINGS_MAX: usize = 1024;

/// How long the end of a stop waits for clients to take the answers that are ready, and for other
/// cores to take messages. A client that does not read must not hold up a stop.
pub const FAREWELL_TIME: Duration = Duration::from_secs(2);

/// Pause after a failed accept (no descriptors left), so that a full table does not spin.
pub const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Messages that wait for one other core. When it is full the sender keeps what is more and reads
/// no socket until the last of it is sent; none is dropped. What it keeps is thereby bounded by what
/// open requests, here and on the other cores, still lead to.
pub const MAILBOX_DEPTH: usize = 1024;

/// Bytes of inflated records that one ListOffsets request may have looked at, divided among its
/// partitions. Inflating takes a millisecond for each MiB, nobody else is served meanwhile, and the
/// request is a hundred bytes. A batch that inflates to more than its share is not opened: its first
/// offset is the answer. Eight times what a batch may have on the wire by default.
pub const LOOK_UPS_INFLATED_BYTES_MAX: usize = 8 << 20;

/// The least that each partition gets of it: what a batch of default size is uncompressed, at the
/// most. From eight partitions on it is more in sum than the limit above.
pub const LOOK_UP_INFLATED_BYTES_MIN: usize = 1 << 20;

/// Inputs that one turn takes of those that go first, and of those behind them, so that a flood on one
/// source delays the others by at most a turn.
pub const INPUTS_PER_TURN: usize = 512;

/// How long one turn may take inputs that go first, measured between inputs. Half a millisecond is
/// Seastar's task quota. A disk completion waits longer where a single input takes longer, and for the
/// end of the turn, which has no limit of its own: it begins settles, expires requests and writes
/// answers.
pub const TURN_TIME: Duration = Duration::from_micros(500);

/// How often the processor is given up while a commit is under way, at most (decision 0017): several
/// times what a kernel thread needs that carries it on, which waits for this and for the part of a
/// turn that is under way.
pub const GIVE_WAY_INTERVAL: Duration = Duration::from_micros(100);

/// Whoever has the processor longer than this when it was given up is no kernel thread that carries a
/// commit on: those take some ten microseconds.
pub const GIVE_WAY_LOST: Duration = Duration::from_micros(500);

/// After such a loss nothing is given up for so many times as long: two hundredths of the time are lost
/// that way, at most.
pub const GIVE_WAY_PAUSE: u32 = 50;

/// How long the pump sleeps at most while the executor carries out an operation. Its thread for
/// blocking calls wakes nobody, and its rings may lose a wake-up (decision 0012): either costs this
/// much at most. Few acknowledgements wait for it: those that need a new journal file, and the first
/// in each, whose file the executor opens.
pub const GUARD_BUSY: Duration = Duration::from_millis(1);

/// How long the pump sleeps at most when nothing is outstanding. One wake-up a second costs no
/// measurable processor time.
pub const GUARD_IDLE: Duration = Duration::from_secs(1);

/// A disk operation without an answer for so long is told in the log, once. Removing or listing the
/// largest things there are takes less; a device that resets itself takes more.
pub const DISK_SILENCE_TOLD: Duration = Duration::from_secs(10);

/// Without an answer for so long, a core gives no sign of life to the service manager, which then ends
/// the process. Linux itself gives a device 30 s per try and calls a task hung after two minutes.
pub const DISK_SILENCE_HUNG: Duration = Duration::from_secs(120);

/// How often a change of the number of cores looks, a guard interval apart and with nothing under
/// way, whether an old core's journal is empty: about ten seconds, several times what the store
/// leaves a log alone for that could not be settled.
pub const CORE_CHANGE_LOOKS: u32 = 10_000;

/// glommio's preemption timer: never, because a core's pump bounds its own turn and a short
/// timer can park a core with runnable tasks (architecture D11).
pub const PREEMPT_TIMER: Duration = Duration::from_secs(36_000);

/// Pinned I/O memory per core, counted as resident from the start. Two commits of a MiB and a
/// few reads fit; what does not fit is allocated unpinned.
pub const IO_MEMORY_BYTES: usize = 4 << 20;

/// Entries of a core's submission queue.
pub const RING_DEPTH: usize = 128;

/// Bytes of one fetch answer whatever the client asks for; Kafka's `fetch.max.bytes` default.
pub const FETCH_ANSWER_BYTES: usize = 55 << 20;

/// Set aside for the answer to a fetch before anything is known of it, at least for a listing, and
/// what an answer may always have: a batch of the default `max.message.bytes` fits, or a list of
/// 30,000 partitions. Without any room the request waits.
pub const FETCH_ANSWER_BYTES_MIN: usize = (1 << 20) + (4 << 10);

/// The last of so many parts of the room for answers is for connections that were given little lately: who
/// asks for much waits for those who do not read, who asks for a little does not.
pub const FETCH_RESERVE_SHARE: usize = 4;

/// An answer to a fetch has at most one part in so many of the room for answers that is left. At
/// four, a dozen clients that do not read leave a thirtieth of it to the others.
pub const FETCH_ANSWER_SHARE: usize = 4;

/// Listings may take one part in so many of the room for answers beyond what fetches of clients that are
/// not known may fill.
pub const LISTINGS_SHARE: usize = 8;

/// Known clients that were given little may take one part in so many of the room for answers beyond
/// what fetches of others may fill. More than listings, so that something is left to them whoever does
/// not read: where 128 MiB of memory leave 16 to answers, two fetches of unknown length.
pub const KNOWN_ANSWERS_SHARE: usize = 4;

/// Listings that are made at once while fetches wait for room: a listing waits for others seldom and
/// shortly, and two keep the core busy.
pub const LISTINGS_BESIDE_FETCHES: usize = 2;

/// Fetch sessions take at most one part in so many of the budget of requests. A core of the smallest
/// broker has room for the sessions of ten consumers with 1,000 partitions each, the largest for a
/// thousand such; beyond it a new session is declined, and a growing one ends: its client does
/// without.
pub const FETCH_SESSIONS_SHARE: usize = 4;

/// How many times as much as its requests may hold ([`crate::shard::memory`]) the coordinators of a core may
/// weigh together: groups with their members and offsets, and transactional ids. They stay, where requests
/// come and go, so they have their own part, about half as large as all others together. Beyond it what makes them
/// grow is refused with COORDINATOR_NOT_AVAILABLE, new offsets with INVALID_COMMIT_OFFSET_SIZE. Their own
/// limits, each coordinator's alone, would add up to gigabytes.
pub const COORDINATORS_SHARE: usize = 4;

/// What they may weigh at least: some fifteen thousand small groups, on the smallest machine.
pub const COORDINATORS_BYTES_MIN: usize = 32 << 20;

/// What a fetch session takes beside its partitions.
pub const FETCH_SESSION_BYTES: usize = 512;

/// What a partition takes in a session: 150 bytes in its slot, 60 to find it, and 120 with its owner.
pub const FETCH_SESSION_PARTITION_BYTES: usize = 336;

/// How long a client may leave its answers unread, or take them slowly, while others wait for their
/// memory. A consumer that works on a batch for longer is disconnected then, and asks again when it
/// is done; otherwise nobody hurries it. Short, since a client behind many that never read waits
/// for all of them.
pub const ANSWER_GRACE: Duration = Duration::from_secs(3);

/// Bytes per second that a client must read on average while others wait for their memory.
pub const ANSWER_BYTES_PER_SECOND_WHEN_FULL: u64 = 64 << 10;

/// Batches up to this size are copied out of their request, so that one small batch in the tail
/// cache does not pin a whole read buffer. A copy of 16 KiB costs about a microsecond.
pub const COPY_BATCH_BYTES: usize = 16 << 10;

/// Bytes of records that are inflated or looked at in one piece, where a topic or a producer leaves no
/// other way to judge a batch: a quarter of a millisecond. What takes more goes on after the next turns,
/// and what its client asks next waits for it.
pub const INSPECTED_BYTES_PER_PIECE: usize = 256 << 10;

/// How long a produce request waits for this node's own disk, however short its time-out: a
/// client that says 0 still wants its acknowledgement, and a disk that takes longer is failing.
pub const APPEND_PATIENCE_MIN: Duration = Duration::from_secs(5);

/// How many times a core's budget of requests may wait for a place in its journal before producers
/// are told to come again. Twice, because clients of other cores write here too: those who still
/// wait for their answer hardly ever reach it, those who gave up do not get beyond it.
pub const JOURNAL_QUEUE_BUDGETS: usize = 2;

/// Bytes replayed per step when a core loads a metadata log or a group's partition.
pub const REPLAY_CHUNK_BYTES: u32 = 1 << 20;

/// How long a load waits when its log cannot be read just now: descriptors come back when others
/// close theirs.
pub const LOAD_RETRY: Duration = Duration::from_secs(1);

/// Commands that wait for the controller. Each is decided in microseconds and then waits for the
/// disk, so these are seconds of work; beyond it clients are told that it took too long, and ask
/// again.
pub const COMMANDS_WAITING: usize = 1024;

/// Bytes of the commands that wait for the controller, whose requests may be answered (too late) and
/// so are no longer in the budget of requests. A request that makes ten thousand topics has about two
/// MiB; one is taken whatever its size.
pub const COMMANDS_WAITING_BYTES: usize = 16 << 20;

/// Deleted topics that one coordinator still has to forget, because it is loading or overloaded. Beyond
/// it some are left to the next load, which finds offsets of topics that are not there.
pub const TOPICS_TO_FORGET: usize = 1000;

/// Blocks of producer ids that a core keeps: as many as the requests of one connection may have asked
/// for at once, for each that finds none asks for one. Beyond it a block is dropped.
pub const PRODUCER_ID_BLOCKS: usize = REQUESTS_IN_FLIGHT_PER_CONNECTION;

/// Lines of the log about one reason to refuse a client, per core and [`LINES_INTERVAL`]. Beyond it
/// they are counted and told of in one line: 120 bytes for each of many thousand tries a second would
/// fill a disk in a day.
pub const LINES_PER_INTERVAL: u32 = 10;

/// How long that number of lines has to last.
pub const LINES_INTERVAL: Duration = Duration::from_secs(10);

/// Damaged ranges one core remembers, and tells of: a line for each, so that what a reader meets again
/// and again is said once. Beyond it nothing more is said until the next start: the operator knows.
pub const UNREADABLE_RANGES_MAX: usize = 1000;

/// Producers of which one core remembers that their first batch came before its partition, up to 400
/// bytes each: more than begin within the moment in which the cores hear of a new topic. Beyond it the
/// oldest are forgotten, and what they sent behind that batch may overtake it, as in Kafka.
pub const EARLY_BATCHES_MAX: usize = 1024;

/// Accounts of limited clients that one core keeps, about 200 bytes each. Client ids come from clients,
/// and a quota for every one of them would otherwise be a way to fill the memory. Beyond it the
/// accounts that have nothing against them go, and then the others share one.
pub const QUOTA_ACCOUNTS_MAX: usize = 10_000;

/// How often accounts may be looked through for such that have nothing against them: 10,000 take a
/// millisecond.
pub const QUOTA_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Addresses with a quota of connections that one core remembers, about 100 bytes each. Beyond it
/// further addresses are refused until some have not come for a while.
pub const ARRIVAL_ADDRESSES_MAX: usize = 10_000;

/// How soon the other cores are told what clients with a quota have spent on one. Short beside the
/// seconds of a quota's window, long beside the microseconds that a message costs.
pub const QUOTA_EXCHANGE: Duration = Duration::from_millis(50);

/// How long the end of a transaction waits before a partition that could not write its marker is asked
/// again: it loads, or its disk is slow, and readers of committed records wait for it. Twice as long each
/// time, up to the second limit: what lasts costs next to nothing, and is noticed soon when it is over.
pub const END_RETRY: Duration = Duration::from_millis(100);
/// The longest that it waits.
pub const END_RETRY_MAX: Duration = Duration::from_secs(1);

/// How long a partition may take to write a marker before it is asked again, which is answered with the
/// same marker: only a disk that stands still takes so long.
pub const END_PATIENCE: Duration = Duration::from_secs(30);

/// Commits of offsets within transactions that wait on one core for the coordinator's word: more than
/// come within the milliseconds that takes. Beyond it COORDINATOR_NOT_AVAILABLE, which clients retry.
pub const CLAIMS_MAX: usize = 10_000;

/// Aborted transactions that all partitions of a core keep, 64 bytes each with the manifest's image of
/// them, until retention, DeleteRecords or a cleaning takes their records; the manifest, written anew at
/// every start, must stay far below the GiB it may have. Beyond it no client's transaction begins on this
/// core (POLICY_VIOLATION).
pub const ABORTED_TRANSACTIONS_PER_CORE_MAX: usize = 4 << 20;

/// How often idle connections, retention and free space are looked at.
pub const CHORE_INTERVAL: Duration = Duration::from_secs(1);

/// How long a stop waits for open requests before it settles without them. No request is taken
/// from the beginning of a stop on, and those that wait for news are answered at once, so this is
/// for appends and commands that take long. What is still open when the journal is settled ends
/// with its connection, unanswered.
pub const DRAIN_TIME: Duration = Duration::from_secs(5);

/// How often idle connections are looked for; `connections.max.idle.ms` is minutes.
pub const IDLE_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Free space must exceed the reserve by this share before records are taken again, so that the
/// broker does not flap at the edge.
pub const SPACE_HYSTERESIS_PERCENT: u64 = 5;

/// Producers remembered per partition. Each costs about 300 bytes; short-lived idempotent
/// producers (serverless) would otherwise grow without bound (G87).
pub const PRODUCER_IDS_PER_PARTITION: usize = 10_000;

/// Bytes of the message beside an error code. Messages repeat what the client sent, and an answer's
/// string cannot be longer than 32,767 bytes; nobody reads more than this.
pub const REFUSAL_MESSAGE_BYTES: usize = 1 << 10;

/// Records of a refused batch that have a sentence each: whoever looks for the reason finds it beside
/// the first ones, and a batch may hold a million records that are smaller than a sentence.
pub const RECORD_REASONS_MAX: usize = 16;

/// Head of an HTTP request on the admin listener. Scrapers send a few hundred bytes; more is refused
/// with 431.
pub const ADMIN_HEAD_BYTES: usize = 4 << 10;

/// Partitions of one topic, and of one request that creates them: each costs about 4 KiB of
/// memory, and Kafka users rarely have more than a few hundred.
pub const PARTITIONS_PER_TOPIC: i32 = 10_000;

/// Committed offsets that one step of a scrape deals with. Each costs a few microseconds for its names,
/// its place and its lines: a step stays below half a millisecond, however many groups there are.
pub const LAG_ROWS_PER_STEP: usize = 128;

/// Reads of the disk that one step waits for. Their answers may come in the same turn, and each may
/// have a batch to open.
pub const LAG_READS_PER_STEP: usize = 4;

/// What the records of one batch may inflate to if a committed offset lies inside it; some 200 µs. A
/// batch beyond is taken by its first record's timestamp.
pub const LAG_INFLATED_BYTES_MAX: usize = 128 << 10;

/// Bytes of batches that one step opens; the step ends at the first that reaches it.
pub const LAG_OPENED_BYTES_PER_STEP: usize = 256 << 10;

/// Timestamps of records at committed offsets that a core keeps in mind, at some 60 bytes each; then
/// it begins anew.
pub const LAG_TIMES_MAX: usize = 50_000;

/// How long a scrape lets a core do other work between two steps.
pub const LAG_STEP_PAUSE: Duration = Duration::from_micros(200);

/// Partitions of groups with lines of their own in one scrape: some 30 MB of text. Further ones are
/// counted, and summed up with the others of their topic.
pub const LAG_SERIES_MAX: usize = 100_000;

/// How often a command of daily work asks again where a leader or coordinator is moving: with
/// [`CLI_BACKOFF`] some ten seconds, longer than an election takes; then its refusal is shown.
pub const CLI_ATTEMPTS_MAX: u32 = 40;

/// How long such a command waits in between: short for whoever watches, long for a broker.
pub const CLI_BACKOFF: Duration = Duration::from_millis(250);

/// Bytes that `flumen consume` asks for at once, of all partitions of a leader: Kafka's own default
/// for consumers. One batch more may come.
pub const CLI_FETCH_BYTES: i32 = 50 << 20;

/// Bytes that it asks for of one partition: Kafka's own default for consumers.
pub const CLI_PARTITION_BYTES: i32 = 1 << 20;

/// How long a broker may hold a fetch of `flumen consume` back for records: Kafka's own default for
/// consumers, and less than the shortest `--timeout`.
pub const CLI_FETCH_WAIT_MS: i32 = 500;

/// Bytes of records that `flumen produce` gathers before it sends them: below Kafka's default for
/// the largest batch (1,048,588 bytes).
pub const CLI_BATCH_BYTES: usize = 512 << 10;

/// Bytes of one line that `flumen produce` reads. Larger records have no place in a shell; a line
/// beyond is refused, so that a stream without lines does not fill the memory.
pub const CLI_RECORD_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(LAG_INFLATED_BYTES_MAX <= LAG_OPENED_BYTES_PER_STEP);
const _: () = assert!((CLI_FETCH_WAIT_MS as u128) < Duration::from_secs(1).as_millis());
const _: () = assert!(ABORTED_TRANSACTIONS_MAX < ABORTED_TRANSACTIONS_PER_CORE_MAX);
const _: () = assert!(SMALL_REQUEST_BYTES <= READ_SCRATCH_BYTES);
const _: () = assert!(PARTING_TIME.as_nanos() < FAREWELL_TIME.as_nanos());
const _: () = assert!(GUARD_BUSY.as_nanos() < GUARD_IDLE.as_nanos());
