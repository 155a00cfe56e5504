//! All causes of work on a core. A closed list: what is not here does not happen.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use flumen_protocol::frame::FrameError;
use flumen_protocol::ids::CoreId;
use flumen_storage::op::DiskDone;

use super::mailbox::CoreMessage;
use crate::net::connections::Refused;

/// A connection of this core, numbered in order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// A client connected.
    Opened {
        /// Its number.
        connection: ConnectionId,
    },
    /// A whole request arrived.
    Request {
        /// Who asked.
        connection: ConnectionId,
        /// Where the answer goes.
        slot: u64,
        /// Position of the listener it came in on.
        listener: usize,
        /// The client's address.
        peer: SocketAddr,
        /// The request without its length.
        frame: BytesMut,
        /// Bytes of memory that are set aside for its answer.
        answer_bytes: usize,
    },
    /// An HTTP request arrived on the admin listener.
    Admin {
        /// Who asked.
        connection: ConnectionId,
        /// Where the answer goes.
        slot: u64,
        /// Its head.
        head: BytesMut,
    },
    /// A connection ended.
    Closed {
        /// Its number.
        connection: ConnectionId,
        /// Who it was.
        peer: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
    /// A connection was refused at the door.
    Refused {
        /// Who it was.
        peer: SocketAddr,
        /// Which limit it hit.
        refused: Refused,
    },
    /// The operating system gave no connection.
    AcceptFailed {
        /// Its reason.
        reason: String,
    },
    /// Another core says something.
    FromCore {
        /// Who.
        from: CoreId,
        /// What.
        message: CoreMessage,
    },
    /// A disk operation ended.
    Disk {
        /// How.
        done: DiskDone,
        /// What it cost, if it was a commit of the journal: the latency every producer sees.
        journal: Option<JournalWrite>,
    },
    /// The free space of the data folder's file system, looked up by a chore.
    FreeSpace {
        /// Bytes free for us.
        free: u64,
        /// Bytes in total.
        total: u64,
    },
    /// The process was asked to stop.
    Stop,
}

impl Input {
    /// Whose request it is, if it is one.
    pub fn asked_by(&self) -> Option<ConnectionId> {
        match self {
            Self::Request { connection, .. } | Self::Admin { connection, .. } => Some(*connection),
            Self::Opened { .. }
            | Self::Closed { .. }
            | Self::Refused { .. }
            | Self::AcceptFailed { .. }
            | Self::FromCore { .. }
            | Self::Disk { .. }
            | Self::FreeSpace { .. }
            | Self::Stop => None,
        }
    }
}

/// A commit of the journal, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalWrite {
    /// Bytes written, padding included.
    pub bytes: u32,
    /// From the order to its completion.
    pub took: Duration,
}

/// Why a connection ended.
#[derive(Debug)]
pub enum CloseReason {
    /// The client closed it.
    ByPeer,
    /// We closed it: stopping, or after an answer that says so.
    ByBroker,
    /// We closed it: nothing came or went for `connections.max.idle.ms`.
    Idle,
    /// We closed it: a request began to arrive and does not go on.
    Stalled,
    /// The socket failed.
    Socket,
    /// We closed it: its client does not read its answers, and others wait for their memory.
    Unread,
    /// The bytes were no Kafka request.
    Frame(FrameError),
}
