//! What the runtime asks of a state machine that keeps its truth in records.
//!
//! Does: name the questions, and what a machine may want.
//! Does not: decide or carry out anything.
//! Invariants: a machine changes its state together with the record that says so, and in no other way but
//! what may be lost with the leader.
//! Apart because groups and transactions share the runtime and nothing else.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::batch::builder::BatchBuilder;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{Offset, ProducerId};
use flumen_protocol::time::{Monotonic, Now, WallTrust};
use flumen_protocol::wire::read::DecodeError;

use super::Ticket;
use super::producer::{Outcome, Producer};
use crate::dice::Dice;

/// A record for an internal topic, in Kafka's own format. No value: a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRecord {
    /// The record's key.
    pub key: Bytes,
    /// The record's value.
    pub value: Option<Bytes>,
}

/// What a machine wants done: answers `R`, and notices `N` to its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision<R, N> {
    /// Answer, as soon as everything appended so far is committed.
    Reply {
        /// Whom.
        ticket: Ticket,
        /// With what.
        response: R,
    },
    /// Append these records, in this order, and answer when they are committed. If that fails the
    /// answers are turned into refusals ([`Exchange::take_back`]) and the machine is dropped.
    Append {
        /// At least one record; the machine has applied them already.
        records: Vec<StateRecord>,
        /// Who waits for them.
        replies: Vec<(Ticket, R)>,
    },
    /// The same for records that took several turns to pack. All of them count: those of a turn are
    /// written to the disk together.
    AppendPacked {
        /// At least one, each with a record, none larger than a coordinator's batch may be; the machine
        /// has applied their records already.
        batches: Vec<BatchBuilder>,
        /// Who waits for them.
        replies: Vec<(Ticket, R)>,
    },
    /// The same, as part of a producer's transaction: a batch of its own, which counts when the
    /// transaction is committed ([`Machine::ended`]).
    AppendWithin {
        /// Whose transaction it is.
        producer: Producer,
        /// At least one record, and no more than one batch holds; the machine has applied them already.
        records: Vec<StateRecord>,
        /// Who waits for them.
        replies: Vec<(Ticket, R)>,
    },
    /// Tell the owner, as soon as everything appended so far is committed, however long that takes.
    /// If it fails nobody is told: the machine that is loaded again says it anew.
    Announce(N),
}

/// Why a record of an internal topic cannot be replayed. The partition cannot be loaded then: going
/// on would lose what the record says without anybody noticing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// The key is none of Kafka's.
    Key(DecodeError),
    /// The value does not fit its key.
    Value(DecodeError),
    /// The bytes given are no whole, valid batches; where the first bad one begins.
    Batch {
        /// Offset of the batch, or of the first one after it that was expected.
        offset: Offset,
    },
    /// The batch is part of a transaction, and this machine's log has none.
    Transactional {
        /// Its first offset.
        offset: Offset,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(error) => write!(f, "a record's key cannot be read: {error}"),
            Self::Value(error) => write!(f, "a record's value cannot be read: {error}"),
            Self::Batch { offset } => write!(f, "the batch at offset {offset} is damaged"),
            Self::Transactional { offset } => {
                write!(f, "the batch at offset {offset} is part of a transaction")
            }
        }
    }
}

impl std::error::Error for ReplayError {}

/// What a machine wants, in its own words.
pub type DecisionOf<M> = Decision<<M as Exchange>::Response, <M as Machine>::Notice>;

/// A state machine on the leader of a partition of an internal topic.
pub trait Machine: Exchange {
    /// What it tells its owner unasked.
    type Notice;
    /// Whether its log holds records that are part of transactions. A marker in a log that does not ends
    /// nothing.
    const HAS_TRANSACTIONS: bool;

    /// A machine that knows nothing, to be filled by [`Machine::replay`].
    fn new(config: Self::Config) -> Self;

    /// Applies a record of the log, oldest first; `within` the transaction of a producer, or none.
    ///
    /// # Errors
    /// When it is none that Kafka writes; nothing has changed then.
    fn replay(
        &mut self,
        within: Option<ProducerId>,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), ReplayError>;

    /// The transaction of this producer has ended in this log: its marker is committed, or was read
    /// from the log. Told more than once it changes nothing more.
    fn ended(&mut self, producer: ProducerId, outcome: Outcome);

    /// The log has been replayed to its end.
    fn loaded(&mut self, now: Now, out: &mut Vec<DecisionOf<Self>>);

    /// Handles a request. It is answered now, with a later decision, or when something happens.
    fn handle(
        &mut self,
        now: Now,
        dice: &mut Dice,
        ticket: Ticket,
        request: Self::Request,
        out: &mut Vec<DecisionOf<Self>>,
    );

    /// Does what has fallen due. Nothing expires by a wall clock that is in doubt.
    fn on_time(&mut self, now: Now, wall: WallTrust, out: &mut Vec<DecisionOf<Self>>);

    /// When [`Machine::on_time`] must be called next.
    fn next_deadline(&self) -> Option<Monotonic>;

    /// What it weighs in memory, bytes, roughly.
    fn weight_bytes(&self) -> usize;

    /// How many bytes it may weigh from now on, whatever its own limits are: machines share the memory of
    /// their core. What is there stays, and what the log holds is taken in, even beyond it.
    fn set_weight_max(&mut self, bytes: usize);

    /// Every request that waits for something to happen: to be refused when the machine is dropped.
    fn parked(&self, error: ErrorCode) -> Vec<(Ticket, Self::Response)>;
}

/// What a machine is asked and answers, and what becomes of both where the machine itself has no say.
pub trait Exchange {
    /// How the machine behaves.
    type Config: Clone;
    /// What it is asked.
    type Request;
    /// What it answers.
    type Response;

    /// How long an answer waits for its records to be committed.
    fn commit_timeout(config: &Self::Config) -> Duration;

    /// The whole answer to a request that says `error` and nothing else.
    fn refuse(request: &Self::Request, error: ErrorCode) -> Self::Response;

    /// The answer this one becomes when what it reports was not committed.
    fn take_back(response: Self::Response, error: ErrorCode) -> Self::Response;

    /// What to answer while the log is replayed.
    fn while_loading(request: &Self::Request) -> ErrorCode;

    /// What an answer becomes when its records are not committed in time.
    fn timed_out(response: Self::Response) -> Self::Response;

    /// Whether an answer waits for what was written before it. One that says how things stand just
    /// now, and nothing that must not be taken back, need not.
    fn waits(response: &Self::Response) -> bool;
}
