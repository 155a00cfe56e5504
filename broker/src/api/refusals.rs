//! From our refusals to Kafka's codes: the only place where that is decided.
//!
//! Does: map every way in which a lower room says no to the code and message a client gets.
//! Does not: decide whether to refuse.
//! Invariants: no default arm: a new refusal does not compile before it has a code here.
//! Apart because clients act on codes, and one wrong code is an outage for somebody.

use flumen_protocol::batch::check::BatchFault;
use flumen_protocol::batch::records::RecordFault;
use flumen_protocol::error_code::ErrorCode;
use flumen_replication::error::Refusal;
use flumen_replication::metadata::command::{MetadataRefusal, MetadataRule, Outcome};
use flumen_storage::answers::ReadError;

use crate::limits::{RECORD_REASONS_MAX, REFUSAL_MESSAGE_BYTES};
use crate::shard::mailbox::{Answer, LogFault};

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Kafka's code.
    pub code: ErrorCode,
    /// What happened, to what, and what to do.
    pub message: Option<String>,
    /// Which records of the batch are at fault, by position (KIP-467).
    pub records: Vec<(i32, Option<String>)>,
}

impl Refused {
    /// A refusal with a message of its own, cut to [`REFUSAL_MESSAGE_BYTES`].
    pub fn with(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > REFUSAL_MESSAGE_BYTES {
            message.truncate(message.floor_char_boundary(REFUSAL_MESSAGE_BYTES));
            message.push('…');
        }
        Self { code, message: Some(message), records: Vec::new() }
    }
}

impl From<ErrorCode> for Refused {
    /// A refusal with the code's own message.
    fn from(code: ErrorCode) -> Self {
        Self::with(code, code.message())
    }
}

/// A batch that must not be appended.
pub fn of_batch(fault: BatchFault) -> Refused {
    let code = match fault {
        BatchFault::Truncated
        | BatchFault::MoreThanOneBatch
        | BatchFault::BaseOffset
        | BatchFault::RecordCount
        | BatchFault::Control
        | BatchFault::DeleteHorizon
        | BatchFault::Producer => ErrorCode::InvalidRecord,
        BatchFault::LengthTooSmall | BatchFault::MagicUnknown | BatchFault::Crc => {
            ErrorCode::CorruptMessage
        }
        BatchFault::MagicOld => ErrorCode::UnsupportedForMessageFormat,
        BatchFault::CodecUnknown => ErrorCode::UnsupportedCompressionType,
        BatchFault::AppendTime => ErrorCode::InvalidTimestamp,
    };
    Refused::with(code, format!("{}: {fault:?}", code.message()))
}

/// A record inside a batch that must not be appended.
pub fn of_records(fault: RecordFault) -> Refused {
    Refused {
        code: ErrorCode::InvalidRecord,
        message: Some(format!("{}: {:?}", ErrorCode::InvalidRecord.message(), fault.reason)),
        records: vec![(fault.record_index, None)],
    }
}

/// Records without key in a compacted topic. All are named: clients tell the senders of the others
/// that theirs were sound and may be sent again.
pub fn of_keyless(positions: &[i32]) -> Refused {
    let why = "a compacted topic takes no record without a key";
    of_named(ErrorCode::InvalidRecord, why, why, positions)
}

/// Records of a time the topic does not take; all are named, as above.
pub fn of_misdated(positions: &[i32]) -> Refused {
    let all = "One or more records have been rejected due to invalid timestamp";
    let each = "the record's timestamp is out of the range the topic allows";
    of_named(ErrorCode::InvalidTimestamp, all, each, positions)
}

/// `all` is said of the batch, `each` of its first records at fault; clients take what is said of the
/// batch for the others, and many a record is smaller than a sentence.
fn of_named(code: ErrorCode, all: &str, each: &str, positions: &[i32]) -> Refused {
    let why = |at| (at < RECORD_REASONS_MAX).then(|| each.to_owned());
    let named = positions.iter().enumerate().map(|(at, position)| (*position, why(at)));
    Refused { code, message: Some(all.to_owned()), records: named.collect() }
}

/// A partition that says no.
pub fn of_partition(refusal: Refusal) -> Refused {
    let code = match refusal {
        Refusal::NotLeader { .. } => ErrorCode::NotLeaderOrFollower,
        Refusal::FencedLeaderEpoch => ErrorCode::FencedLeaderEpoch,
        Refusal::UnknownLeaderEpoch => ErrorCode::UnknownLeaderEpoch,
        Refusal::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        Refusal::OffsetNotAvailable => ErrorCode::OffsetNotAvailable,
        Refusal::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        Refusal::StaleProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        Refusal::NoTransaction => ErrorCode::InvalidTxnState,
        Refusal::NotVerified(code) => of_unverified(code, NEWEST_PRODUCE),
        Refusal::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        Refusal::TooManyTransactions => ErrorCode::PolicyViolation,
        Refusal::TimedOut | Refusal::Busy => ErrorCode::RequestTimedOut,
        Refusal::OffsetsUsedUp => ErrorCode::PolicyViolation,
        Refusal::NoRoom | Refusal::Storage => ErrorCode::KafkaStorageError,
        Refusal::Gone => ErrorCode::UnknownTopicOrPartition,
    };
    Refused::with(code, format!("{}: {refusal}", code.message()))
}

/// A partition that does not take a batch of a request of this version.
pub fn of_append(refusal: Refusal, version: i16) -> Refused {
    match refusal {
        Refusal::NotVerified(code) => {
            let code = of_unverified(code, version);
            Refused::with(code, format!("{}: {refusal}", code.message()))
        }
        other => of_partition(other),
    }
}

/// What a producer is told whose transaction the coordinator does not vouch for, as Kafka tells it
/// (G91, G94, G95). Older clients take what is over soon for the end of everything, but for a code that
/// has nothing to do with transactions.
fn of_unverified(code: ErrorCode, version: i16) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if version < ABORTABLE_SINCE => ErrorCode::InvalidTxnState,
        ErrorCode::ConcurrentTransactions if version >= IMPLICIT_SINCE => code,
        ErrorCode::ConcurrentTransactions
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator
        | ErrorCode::RequestTimedOut => ErrorCode::NotEnoughReplicas,
        other => other,
    }
}

/// The first version of Produce that knows TRANSACTION_ABORTABLE (KIP-890).
const ABORTABLE_SINCE: i16 = 11;
/// The first version of Produce that adds partitions to transactions (KIP-890).
pub const IMPLICIT_SINCE: i16 = 12;
/// The newest version of Produce.
const NEWEST_PRODUCE: i16 = 13;

/// A log that cannot answer.
pub fn of_log(fault: LogFault) -> Refused {
    match fault {
        LogFault::Refused(refusal) => of_partition(refusal),
        LogFault::Unreadable(error) => {
            let code = match error {
                ReadError::UnknownLog => ErrorCode::NotLeaderOrFollower,
                ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
                ReadError::Damaged { .. } | ReadError::Unavailable { .. } => {
                    ErrorCode::KafkaStorageError
                }
            };
            Refused::with(code, format!("{}: {error}", code.message()))
        }
    }
}

/// The controller says no to one item.
pub fn of_metadata(refusal: MetadataRefusal) -> Refused {
    let code = match refusal.kind {
        MetadataRule::TopicExists => ErrorCode::TopicAlreadyExists,
        MetadataRule::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
        MetadataRule::UnknownTopicId => ErrorCode::UnknownTopicId,
        MetadataRule::NameCollision => ErrorCode::InvalidTopicException,
        MetadataRule::Partitions => ErrorCode::InvalidPartitions,
        MetadataRule::ReplicationFactor => ErrorCode::InvalidReplicationFactor,
        MetadataRule::TooMuch => ErrorCode::PolicyViolation,
        MetadataRule::Outdated => ErrorCode::RequestTimedOut,
        MetadataRule::FeatureLevel => ErrorCode::InvalidUpdateVersion,
        MetadataRule::Assignment => ErrorCode::InvalidReplicaAssignment,
    };
    Refused::with(code, refusal.message)
}

/// An answer that is none: the partition has moved, or was never here.
///
/// # Panics
/// When the answer belongs to another question: two rooms disagree, which is our own bug.
pub fn of_misplaced(answer: &Answer) -> Refused {
    assert!(matches!(answer, Answer::NotHere), "an answer to another question: {answer:?}");
    ErrorCode::NotLeaderOrFollower.into()
}

/// An answer that is none: the controller is not where it was asked.
///
/// # Panics
/// When the answer belongs to another question: two rooms disagree, which is our own bug.
pub fn of_no_controller(answer: &Answer) -> Refused {
    assert!(matches!(answer, Answer::NotHere), "an answer to another question: {answer:?}");
    ErrorCode::NotController.into()
}

/// What became of each of `count` changes the controller was asked for, in the order of asking;
/// nothing where it cannot say.
///
/// # Panics
/// When the answer belongs to another question: two rooms disagree, which is our own bug.
pub fn of_changes(answer: Answer, count: usize) -> Vec<Result<(), Refused>> {
    let outcome = match answer {
        Answer::Control(outcome) => *outcome,
        other => return vec![Err(of_no_controller(&other)); count],
    };
    match outcome {
        Outcome::Changed(results) => {
            assert_eq!(results.len(), count, "one result per change");
            results.into_iter().map(|result| result.map_err(of_metadata)).collect()
        }
        Outcome::Unavailable => Vec::new(),
        other => panic!("an answer to another command: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinators_word_is_told_as_each_version_of_a_client_takes_it() {
        let told = |code, version| of_append(Refusal::NotVerified(code), version).code;
        let table = [
            (ErrorCode::TransactionAbortable, 10, ErrorCode::InvalidTxnState),
            (ErrorCode::TransactionAbortable, 11, ErrorCode::TransactionAbortable),
            (ErrorCode::ConcurrentTransactions, 11, ErrorCode::NotEnoughReplicas),
            (ErrorCode::ConcurrentTransactions, 12, ErrorCode::ConcurrentTransactions),
            (ErrorCode::NotCoordinator, 12, ErrorCode::NotEnoughReplicas),
            (ErrorCode::ProducerFenced, 9, ErrorCode::InvalidProducerEpoch),
            (ErrorCode::ProducerFenced, 12, ErrorCode::InvalidProducerEpoch),
            (ErrorCode::InvalidProducerIdMapping, 3, ErrorCode::InvalidProducerIdMapping),
        ];
        for (code, version, wanted) in table {
            assert_eq!(told(code, version), wanted, "{code:?} in version {version}");
        }
    }

    #[test]
    fn a_message_fits_an_answer_whatever_the_client_sent() {
        let refused = Refused::with(ErrorCode::InvalidConfig, "ä".repeat(40_000));
        let message = refused.message.unwrap();
        assert!(message.len() <= REFUSAL_MESSAGE_BYTES + '…'.len_utf8() && message.ends_with('…'));
    }
}
