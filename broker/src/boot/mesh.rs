//! The wires between cores.
//!
//! Does: send messages to other cores, first in, first out per pair, keeping what a full wire
//! does not take; deliver what arrives to the inbox.
//! Does not: look into messages.
//! Invariants: no message is dropped; none overtakes another of the same pair.
//! Apart because the pump must not know what a wire is made of.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use flumen_protocol::ids::CoreId;
use futures_lite::StreamExt;
use glommio::channels::channel_mesh::{MeshBuilder, Receivers, Senders};

use crate::limits::MAILBOX_DEPTH;
use crate::net::inbox::Inbox;
use crate::shard::mailbox::CoreMessage;
use crate::shard::pump;

/// Builds the wires of a node; every core joins its copy.
pub type Builder = MeshBuilder<CoreMessage, glommio::channels::channel_mesh::Full>;

/// Wires for so many cores.
pub fn builder(cores: u16) -> Builder {
    MeshBuilder::full(usize::from(cores), MAILBOX_DEPTH)
}

/// One core's ends of the wires.
pub struct Mesh {
    senders: Rc<Senders<CoreMessage>>,
    /// What a full wire did not take, by core.
    unsent: RefCell<Vec<VecDeque<CoreMessage>>>,
}

impl Mesh {
    /// Joins this core. The place in the mesh is the order of joining, so cores join by number.
    ///
    /// # Errors
    /// The executor's reason.
    pub async fn join(builder: Builder, cores: u16, inbox: Rc<Inbox>) -> Result<Self, String> {
        let joined = builder.join().await.map_err(|error| error.to_string())?;
        let (senders, receivers) = joined;
        listen(receivers, &inbox);
        let unsent = (0..cores).map(|_| VecDeque::new()).collect();
        Ok(Self { senders: Rc::new(senders), unsent: RefCell::new(unsent) })
    }

    /// This core's place.
    pub fn place(&self) -> CoreId {
        CoreId(self.senders.peer_id() as u16)
    }

    /// Sends a message, or keeps it until there is room.
    pub fn send(&self, to: CoreId, message: CoreMessage) {
        let place = usize::from(to.0);
        let waiting = &mut self.unsent.borrow_mut()[place];
        if waiting.is_empty() {
            if let Err(back) = self.senders.try_send_to(place, message) {
                waiting.push_back(refused(back));
            }
        } else {
            waiting.push_back(message);
        }
    }

    /// Tries again to send what was kept.
    pub fn flush(&self) {
        for (place, waiting) in self.unsent.borrow_mut().iter_mut().enumerate() {
            while let Some(message) = waiting.pop_front() {
                if let Err(back) = self.senders.try_send_to(place, message) {
                    waiting.push_front(refused(back));
                    break;
                }
            }
        }
    }

    /// Whether something was kept.
    pub fn has_unsent(&self) -> bool {
        self.unsent.borrow().iter().any(|waiting| !waiting.is_empty())
    }
}

/// The message out of a refusal.
fn refused(error: glommio::GlommioError<CoreMessage>) -> CoreMessage {
    match error {
        glommio::GlommioError::WouldBlock(glommio::ResourceType::Channel(message))
        | glommio::GlommioError::Closed(glommio::ResourceType::Channel(message)) => message,
        other => unreachable!("a channel refuses with the message: {other}"),
    }
}

fn listen(mut receivers: Receivers<CoreMessage>, inbox: &Rc<Inbox>) {
    for (from, mut stream) in receivers.streams() {
        let inbox = inbox.clone();
        glommio::spawn_local(async move {
            while let Some(message) = stream.next().await {
                inbox.push(pump::from_core(CoreId(from as u16), message));
            }
        })
        .detach();
    }
}
