//! A coordinator that lives on this core, of whichever kind.
//!
//! Does: run the coordinator of groups or of transactions of one partition alike, and put what it
//! wants into the same words.
//! Does not: carry anything out, or know how either works.
//! Invariants: a wish of a coordinator comes out in the order in which it was wished.
//! Apart because loading, appending and dropping are the same for both.

use std::sync::Arc;

use bytes::BytesMut;
use flumen_protocol::ids::ProducerId;
use flumen_protocol::time::{Monotonic, Now, WallTrust};
use flumen_replication::coordinator::group::{GroupConfig, GroupCoordinator};
use flumen_replication::coordinator::machine::{Machine, ReplayError};
use flumen_replication::coordinator::producer::Outcome;
use flumen_replication::coordinator::runtime::{
    AppendFailure, Coordinator, CoordinatorEffect, EffectOf, Phase,
};
use flumen_replication::coordinator::transaction::{
    Owed, TransactionConfig, TransactionCoordinator,
};
use flumen_replication::metadata::image::Image;
use flumen_replication::outbox::Ticket;

use super::mailbox::Answer;

/// What coordinators are made with.
#[derive(Clone, Debug)]
pub struct CoordinatorConfigs {
    /// Those of groups.
    pub groups: GroupConfig,
    /// Those of transactions.
    pub transactions: TransactionConfig,
}

/// What a partition of an internal topic holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomKind {
    /// Groups and their offsets.
    Groups,
    /// Transactional ids.
    Transactions,
}

/// What a coordinator wants done.
#[derive(Debug)]
pub enum Wish {
    /// Answer.
    Answer(Ticket, Answer),
    /// Append a batch to its partition; its number there.
    Append(BytesMut, u64),
    /// Write the markers of a transaction whose end is decided.
    End(Owed),
}

/// A coordinator.
pub enum Room {
    /// Of groups.
    Groups(Box<Coordinator<GroupCoordinator>>),
    /// Of transactions.
    Transactions(Box<Coordinator<TransactionCoordinator>>),
}

impl Room {
    /// An idle one.
    pub fn new(kind: RoomKind, configs: &CoordinatorConfigs) -> Self {
        match kind {
            RoomKind::Groups => Self::Groups(Box::new(Coordinator::new(configs.groups.clone()))),
            RoomKind::Transactions => {
                Self::Transactions(Box::new(Coordinator::new(configs.transactions.clone())))
            }
        }
    }

    /// The coordinator of groups, if it is one.
    pub fn groups(&self) -> Option<&Coordinator<GroupCoordinator>> {
        match self {
            Self::Groups(room) => Some(room),
            Self::Transactions(_) => None,
        }
    }

    /// The coordinator of transactions, if it is one.
    pub fn transactions(&self) -> Option<&Coordinator<TransactionCoordinator>> {
        match self {
            Self::Groups(_) => None,
            Self::Transactions(room) => Some(room),
        }
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Groups(room) => room.phase(),
            Self::Transactions(room) => room.phase(),
        }
    }

    /// Whether a request would be looked at now.
    pub fn takes_requests(&self) -> bool {
        match self {
            Self::Groups(room) => room.takes_requests(),
            Self::Transactions(room) => room.takes_requests(),
        }
    }

    /// When it wants to be looked at.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        match self {
            Self::Groups(room) => room.next_deadline(),
            Self::Transactions(room) => room.next_deadline(),
        }
    }

    /// The cluster's metadata is this.
    pub fn learn(&mut self, image: &Arc<Image>) {
        match self {
            Self::Groups(room) => room.machine_mut().learn(image.clone()),
            Self::Transactions(_) => {}
        }
    }

    /// Its log is going to be replayed.
    pub fn begin_load(&mut self) {
        match self {
            Self::Groups(room) => room.begin_load(),
            Self::Transactions(room) => room.begin_load(),
        }
    }

    /// Replays whole batches of its log.
    pub fn replay_batch(&mut self, bytes: &[u8]) -> Result<(), ReplayError> {
        match self {
            Self::Groups(room) => room.replay_batch(bytes),
            Self::Transactions(room) => room.replay_batch(bytes),
        }
    }

    /// Its log was replayed.
    pub fn finish_load(&mut self, now: Now) -> Vec<Wish> {
        match self {
            Self::Groups(room) => group_wishes(|out| room.finish_load(now, out)),
            Self::Transactions(room) => transaction_wishes(|out| room.finish_load(now, out)),
        }
    }

    /// It is dropped.
    pub fn resign(&mut self) -> Vec<Wish> {
        match self {
            Self::Groups(room) => group_wishes(|out| room.resign(out)),
            Self::Transactions(room) => transaction_wishes(|out| room.resign(out)),
        }
    }

    /// Something of it is due.
    pub fn on_time(&mut self, now: Now, wall: WallTrust) -> Vec<Wish> {
        match self {
            Self::Groups(room) => group_wishes(|out| room.on_time(now, wall, out)),
            Self::Transactions(room) => transaction_wishes(|out| room.on_time(now, wall, out)),
        }
    }

    /// The turn ends.
    pub fn settle(&mut self, now: Now) -> Vec<Wish> {
        match self {
            Self::Groups(room) => group_wishes(|out| room.settle(now, out)),
            Self::Transactions(room) => transaction_wishes(|out| room.settle(now, out)),
        }
    }

    /// What it weighs in memory, bytes.
    pub fn weight_bytes(&self) -> usize {
        match self {
            Self::Groups(room) => room.weight_bytes(),
            Self::Transactions(room) => room.weight_bytes(),
        }
    }

    /// It may weigh so much from now on.
    pub fn set_weight_max(&mut self, bytes: usize) {
        match self {
            Self::Groups(room) => room.set_weight_max(bytes),
            Self::Transactions(room) => room.set_weight_max(bytes),
        }
    }

    /// A batch of it is committed, or failed.
    pub fn appended(&mut self, id: u64, outcome: Result<(), AppendFailure>) -> Vec<Wish> {
        match self {
            Self::Groups(room) => group_wishes(|out| room.appended(id, outcome, out)),
            Self::Transactions(room) => transaction_wishes(|out| room.appended(id, outcome, out)),
        }
    }

    /// A transaction with records in its log has ended.
    pub fn transaction_ended(&mut self, producer: ProducerId, outcome: Outcome) {
        match self {
            Self::Groups(room) => room.transaction_ended(producer, outcome),
            Self::Transactions(room) => room.transaction_ended(producer, outcome),
        }
    }
}

/// What a coordinator of groups wants, in the words of all.
pub fn group_wishes(ask: impl FnOnce(&mut Vec<EffectOf<GroupCoordinator>>)) -> Vec<Wish> {
    wishes::<GroupCoordinator>(
        ask,
        |response| Answer::Group(Box::new(response)),
        |never| match never {},
    )
}

/// What a coordinator of transactions wants, in the words of all.
pub fn transaction_wishes(
    ask: impl FnOnce(&mut Vec<EffectOf<TransactionCoordinator>>),
) -> Vec<Wish> {
    let answer = |response| Answer::Transaction(Box::new(response));
    wishes::<TransactionCoordinator>(ask, answer, Wish::End)
}

fn wishes<M: Machine>(
    ask: impl FnOnce(&mut Vec<EffectOf<M>>),
    answer: impl Fn(M::Response) -> Answer,
    notice: impl Fn(M::Notice) -> Wish,
) -> Vec<Wish> {
    let mut out = Vec::new();
    ask(&mut out);
    let wishes = out.into_iter().map(|effect| match effect {
        CoordinatorEffect::Reply { ticket, response } => Wish::Answer(ticket, answer(response)),
        CoordinatorEffect::Append { batch, id } => Wish::Append(batch, id),
        CoordinatorEffect::Announce(told) => notice(told),
    });
    wishes.collect()
}
