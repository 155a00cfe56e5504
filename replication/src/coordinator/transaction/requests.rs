//! What a coordinator of transactions is asked, what it answers, and what it tells unasked.
//!
//! Does: name every request, response and notice; build the refusal that fits a request.
//! Does not: decide anything, or know the messages of the wire.
//! Invariants: a response is of the same kind as its request, or asks for a producer id.
//! Apart because the broker's API rooms need these words and nothing else of the coordinator.

use std::collections::BTreeSet;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{ProducerEpoch, ProducerId};
use flumen_protocol::time::Wall;

pub use super::partitions::Partitions;
pub use super::state::{ClientVersion, State};
use crate::coordinator::machine::Decision;
pub use crate::coordinator::producer::{Outcome, Producer};

/// What a coordinator may be asked.
#[derive(Clone, Debug, PartialEq)]
pub enum TransactionRequest {
    /// InitProducerId (key 22) with a transactional id, versions 0–5.
    Init {
        /// The transactional id.
        id: String,
        /// How long its transactions may take, milliseconds.
        timeout_ms: i32,
        /// Who it was, if it asks for another epoch (KIP-360).
        asked: Option<Producer>,
        /// A producer id nobody else has, once that is known to be wanted.
        fresh: Option<ProducerId>,
    },
    /// AddPartitionsToTxn (key 24), one transaction; AddOffsetsToTxn (key 25) adds the partition of its
    /// group; what a client of `transaction.version` 2 produces to is added by the broker.
    Add {
        /// The transactional id.
        id: String,
        /// Who adds.
        producer: Producer,
        /// What; exists.
        partitions: Partitions,
        /// Which way the client ends its transactions.
        version: ClientVersion,
    },
    /// Whether partitions belong to a transaction that is under way (KIP-890): what an older client
    /// produces to must, lest a batch that was late be part of a transaction nobody ends.
    Verify {
        /// The transactional id.
        id: String,
        /// Who produces.
        producer: Producer,
        /// Where to.
        partitions: Partitions,
    },
    /// EndTxn (key 26), versions 0–5.
    End {
        /// The transactional id.
        id: String,
        /// Who ends it.
        producer: Producer,
        /// How.
        outcome: Outcome,
        /// Which way: version 5 of the request is [`ClientVersion::Two`].
        version: ClientVersion,
        /// A producer id nobody else has, once that is known to be wanted.
        fresh: Option<ProducerId>,
    },
    /// All markers of this end are committed where they belong. Sent by the broker itself.
    MarkersWritten {
        /// The transactional id.
        id: String,
        /// The producer in the markers.
        producer: Producer,
    },
    /// DescribeTransactions (key 65), one id.
    Describe {
        /// The transactional id.
        id: String,
    },
    /// ListTransactions (key 66). Always answered at once, even while answers wait.
    List {
        /// Which.
        wanted: TransactionFilter,
    },
}

/// The answer to the [`TransactionRequest`] of the same name.
#[derive(Clone, Debug, PartialEq)]
pub enum TransactionResponse {
    /// To [`TransactionRequest::Init`].
    Init(Result<Producer, ErrorCode>),
    /// To [`TransactionRequest::Add`].
    Add(ErrorCode),
    /// To [`TransactionRequest::Verify`]: those that do not belong to it.
    Verify(Result<Partitions, ErrorCode>),
    /// To [`TransactionRequest::End`]: the producer of the next transaction.
    End(Result<Producer, ErrorCode>),
    /// To [`TransactionRequest::Init`] and [`TransactionRequest::End`]: nothing has happened; ask again
    /// with a fresh producer id.
    WantsProducerId,
    /// To [`TransactionRequest::MarkersWritten`].
    MarkersWritten(ErrorCode),
    /// To [`TransactionRequest::Describe`].
    Describe(Result<Box<TransactionRow>, ErrorCode>),
    /// To [`TransactionRequest::List`].
    List(Result<Vec<TransactionRow>, ErrorCode>),
}

/// An id as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRow {
    /// The transactional id.
    pub id: String,
    /// Its producer.
    pub producer: Producer,
    /// Where its transaction stands.
    pub state: State,
    /// How long it may take, milliseconds.
    pub timeout_ms: i32,
    /// When it began.
    pub started: Option<Wall>,
    /// What it has written to; not told in lists.
    pub partitions: Partitions,
}

/// Which transactions a list shall have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionFilter {
    /// In one of these states; `None`: in any.
    pub states: Option<BTreeSet<State>>,
    /// Of one of these producers; empty: of any.
    pub producers: BTreeSet<ProducerId>,
    /// Under way for longer than so many milliseconds (KIP-994), or never begun, as in Kafka; `None`:
    /// for any time.
    pub longer_than_ms: Option<i64>,
}

/// How a transaction ends, for those who write it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The producer in the markers; its epoch may be newer than that of the records.
    pub producer: Producer,
    /// Commit or abort.
    pub outcome: Outcome,
    /// Which way its client ends transactions: from [`ClientVersion::Two`] on a marker is of a newer
    /// epoch than the records (KIP-1228).
    pub version: ClientVersion,
}

/// To be done: the end of a transaction is committed, and these markers are to be written and then
/// reported with [`TransactionRequest::MarkersWritten`]. Comes again after a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// The transactional id.
    pub id: String,
    /// What the markers say.
    pub ending: Ending,
    /// Where to; at least one.
    pub partitions: Partitions,
}

/// What a coordinator of transactions wants done.
pub type TransactionEffect = Decision<TransactionResponse, Owed>;

impl TransactionRequest {
    /// The whole answer that says `error` and nothing else.
    #[must_use]
    pub fn refused(&self, error: ErrorCode) -> TransactionResponse {
        match self {
            Self::Init { .. } => TransactionResponse::Init(Err(error)),
            Self::Add { .. } => TransactionResponse::Add(error),
            Self::Verify { .. } => TransactionResponse::Verify(Err(error)),
            Self::End { .. } => TransactionResponse::End(Err(error)),
            Self::MarkersWritten { .. } => TransactionResponse::MarkersWritten(error),
            Self::Describe { .. } => TransactionResponse::Describe(Err(error)),
            Self::List { .. } => TransactionResponse::List(Err(error)),
        }
    }

    /// The request with the producer id that nobody has for which the coordinator asked
    /// ([`TransactionResponse::WantsProducerId`]).
    ///
    /// # Panics
    /// When it is one that wants none.
    #[must_use]
    pub fn with_fresh(mut self, id: ProducerId) -> Self {
        match &mut self {
            Self::Init { fresh, .. } | Self::End { fresh, .. } => *fresh = Some(id),
            Self::Add { .. }
            | Self::Verify { .. }
            | Self::MarkersWritten { .. }
            | Self::Describe { .. }
            | Self::List { .. } => unreachable!("{self:?} wants no producer id"),
        }
        self
    }
}

impl TransactionResponse {
    /// The answer this one becomes when what it reports was not committed.
    #[must_use]
    pub fn refused(self, error: ErrorCode) -> Self {
        match self {
            Self::Init(_) => Self::Init(Err(error)),
            Self::Add(_) => Self::Add(error),
            Self::Verify(_) => Self::Verify(Err(error)),
            Self::End(_) => Self::End(Err(error)),
            // Nothing has happened that could be taken back.
            Self::WantsProducerId => Self::WantsProducerId,
            Self::MarkersWritten(_) => Self::MarkersWritten(error),
            Self::Describe(_) => Self::Describe(Err(error)),
            Self::List(_) => Self::List(Err(error)),
        }
    }

    /// Whether the coordinator vouches for what it was asked to add or to verify, as one code.
    ///
    /// # Panics
    /// When it was asked something else.
    #[must_use]
    pub fn vouches(&self) -> ErrorCode {
        match self {
            Self::Add(error) | Self::Verify(Err(error)) => *error,
            Self::Verify(Ok(strangers)) if strangers.is_empty() => ErrorCode::None,
            Self::Verify(Ok(_)) => ErrorCode::TransactionAbortable,
            Self::Init(_)
            | Self::End(_)
            | Self::WantsProducerId
            | Self::MarkersWritten(_)
            | Self::Describe(_)
            | Self::List(_) => unreachable!("nobody was to be vouched for: {self:?}"),
        }
    }
}

/// A producer as two numbers of a request; none if it names none.
///
/// # Errors
/// INVALID_REQUEST when it names only one of the two.
pub fn producer_of(id: i64, epoch: i16) -> Result<Option<Producer>, ErrorCode> {
    match (ProducerId(id), ProducerEpoch(epoch)) {
        (ProducerId::NONE, ProducerEpoch::NONE) => Ok(None),
        (ProducerId::NONE, _) | (_, ProducerEpoch::NONE) => Err(ErrorCode::InvalidRequest),
        (id, epoch) => Ok(Some(Producer { id, epoch })),
    }
}
