//! All consequences of a core's work. A closed list: the pump can do nothing else for a core.

use bytes::Bytes;
use flumen_protocol::ids::CoreId;
use flumen_protocol::time::Monotonic;
use flumen_storage::error::StorageError;
use flumen_storage::op::DiskOp;

use super::input::ConnectionId;
use super::mailbox::CoreMessage;
use crate::net::connection_limits::ConnectionLimits;

/// Something the pump must do.
#[derive(Debug)]
pub enum Effect {
    /// Carry out a disk operation.
    Disk(DiskOp),
    /// Send a message to another core; never to itself.
    ToCore {
        /// Whom.
        to: CoreId,
        /// What.
        message: CoreMessage,
    },
    /// Fill an answer slot; no buffers mean "no answer" (acks=0).
    Respond {
        /// Whose.
        connection: ConnectionId,
        /// Which.
        slot: u64,
        /// The answer, length included.
        answer: Vec<Bytes>,
    },
    /// Read nothing more from a connection until then; what it is owed is written.
    Mute {
        /// Which.
        connection: ConnectionId,
        /// Until when.
        until: Monotonic,
    },
    /// Close a connection after the answers to everything before this slot.
    CloseAt {
        /// Which.
        connection: ConnectionId,
        /// The slot of the request that has no answer.
        slot: u64,
    },
    /// Close a connection after its queued answers.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// From now on these limits hold for new connections.
    LimitConnections(ConnectionLimits),
    /// This core serves from now on: listen.
    Serve,
    /// From now on this core takes nothing more from clients: no connection and no request. Answers
    /// to the open ones still leave.
    StopListening,
    /// Look up the free space of the data folder.
    LookUpSpace,
    /// This core is done: its journal is settled, its answers are given.
    Stopped,
    /// This core must not go on: its disk broke a promise.
    Halt(StorageError),
}
