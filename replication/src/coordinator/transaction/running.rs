//! How the runtime runs a coordinator of transactions.
//!
//! Does: answer the runtime's questions with what the coordinator knows.
//! Does not: decide anything about transactions.
//! Invariants: none of its own.
//! Apart because these answers are about answers, not about transactions.

use std::time::Duration;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::ProducerId;
use flumen_protocol::time::{Monotonic, Now, WallTrust};

use super::TransactionConfig;
use super::dispatch::TransactionCoordinator;
use super::requests::{Outcome, Owed, TransactionEffect, TransactionRequest, TransactionResponse};
use crate::coordinator::Ticket;
use crate::coordinator::machine::{Machine, ReplayError};
use crate::dice::Dice;

impl Machine for TransactionCoordinator {
    type Config = TransactionConfig;
    type Request = TransactionRequest;
    type Response = TransactionResponse;
    type Notice = Owed;
    /// Transactions are not written down within transactions.
    const HAS_TRANSACTIONS: bool = false;

    fn new(config: TransactionConfig) -> Self {
        Self::new(config)
    }

    fn replay(
        &mut self,
        within: Option<ProducerId>,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), ReplayError> {
        assert_eq!(within, None, "the runtime refuses them");
        self.replay(key, value)
    }

    fn ended(&mut self, _producer: ProducerId, _outcome: Outcome) {}

    fn loaded(&mut self, now: Now, out: &mut Vec<TransactionEffect>) {
        self.loaded(now, out);
    }

    fn handle(
        &mut self,
        now: Now,
        _dice: &mut Dice,
        ticket: Ticket,
        request: TransactionRequest,
        out: &mut Vec<TransactionEffect>,
    ) {
        self.handle(now, ticket, request, out);
    }

    fn on_time(&mut self, now: Now, wall: WallTrust, out: &mut Vec<TransactionEffect>) {
        self.on_time(now, wall, out);
    }

    fn next_deadline(&self) -> Option<Monotonic> {
        self.next_deadline()
    }

    fn parked(&self, error: ErrorCode) -> Vec<(Ticket, TransactionResponse)> {
        self.parked(error)
    }

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
