//! What becomes of requests to a coordinator of transactions, and of its answers, where it has no say
//! itself.
//!
//! Does: refuse, take back and time out.
//! Does not: decide anything about transactions.
//! Invariants: none of its own.
//! Apart because these answers are about answers, not about transactions.

use std::time::Duration;

use flumen_protocol::error_code::ErrorCode;

use super::TransactionConfig;
use super::dispatch::TransactionCoordinator;
use super::requests::{TransactionRequest, TransactionResponse};
use crate::coordinator::machine::Exchange;

impl Exchange for TransactionCoordinator {
    type Config = TransactionConfig;
    type Request = TransactionRequest;
    type Response = TransactionResponse;

    fn commit_timeout(config: &TransactionConfig) -> Duration {
        Duration::from_millis(config.commit_timeout_ms)
    }

    fn refuse(request: &TransactionRequest, error: ErrorCode) -> TransactionResponse {
        request.refused(error)
    }

    fn take_back(response: TransactionResponse, error: ErrorCode) -> TransactionResponse {
        response.refused(error)
    }

    fn while_loading(_request: &TransactionRequest) -> ErrorCode {
        ErrorCode::CoordinatorLoadInProgress
    }

    /// That markers are written was taken note of, however long its record takes: if it is lost, so is
    /// the machine, and the one that is loaded owes them again. Who reported them must not do so once more:
    /// by then another transaction of the same producer and epoch may owe markers, and would be over.
    fn timed_out(response: TransactionResponse) -> TransactionResponse {
        match response {
            TransactionResponse::MarkersWritten(_) => {
                TransactionResponse::MarkersWritten(ErrorCode::None)
            }
            other => other.refused(ErrorCode::CoordinatorNotAvailable),
        }
    }

    /// A list says how things stand just now; nobody goes on from it.
    fn waits(response: &TransactionResponse) -> bool {
        !matches!(response, TransactionResponse::List(_))
    }
}
