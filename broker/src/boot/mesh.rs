//! The wires between cores.
//!
//! Does: send messages to other cores, first in, first out per pair, keeping what a full wire
//! does not take; ring the bell of a core that sleeps; deliver what arrives to the inbox.
//! Does not: look into messages.
//! Invariants: no message to a core that runs is dropped; none overtakes another of the same pair; a core that says it
//! sleeps is woken by what is sent afterwards, and sees what was sent before.
//! Apart because the pump must not know what a wire is made of.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use flumen_protocol::ids::CoreId;
use rustix::event::{EventfdFlags, eventfd};
use tracing::error;

use crate::limits::MAILBOX_DEPTH;
use crate::net::inbox::Inbox;
use crate::shard::mailbox::CoreMessage;
use crate::shard::pump;

/// What wakes a sleeping core: a descriptor that its ring watches.
struct Bell {
    descriptor: OwnedFd,
    /// Set by its core before it looks at its wires for the last time and sleeps.
    is_needed: AtomicBool,
}

impl Bell {
    fn ring(&self) {
        // Pairs with the fence in `Mesh::fall_asleep`: either we see that the core sleeps, or it
        // sees what we have sent.
        fence(Ordering::SeqCst);
        if self.is_needed.load(Ordering::Relaxed)
            && self.is_needed.swap(false, Ordering::Relaxed)
            && let Err(error) = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes())
        {
            // Only a full counter refuses, after 2^64 bells. The guard wakes the core late.
            error!(%error, "cannot wake another core");
        }
    }
}

/// One core's ends of the wires.
pub struct Mesh {
    place: CoreId,
    bells: Arc<Vec<Bell>>,
    /// To every core, this one included, by place.
    senders: Vec<SyncSender<CoreMessage>>,
    /// From every core, by place.
    receivers: Vec<Receiver<CoreMessage>>,
    /// What a full wire did not take, by core.
    unsent: RefCell<Vec<VecDeque<CoreMessage>>>,
}

/// The ends of the wires of a node with so many cores, by place.
///
/// # Errors
/// The operating system has no descriptor left.
pub fn wires(cores: u16) -> io::Result<Vec<Mesh>> {
    let bell = || {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Bell { descriptor, is_needed: AtomicBool::new(false) })
    };
    let bells = (0..cores).map(|_| bell()).collect::<io::Result<Vec<_>>>()?;
    let bells = Arc::new(bells);
    let mut meshes: Vec<Mesh> = (0..cores)
        .map(|place| Mesh {
            place: CoreId(place),
            bells: bells.clone(),
            senders: Vec::new(),
            receivers: Vec::new(),
            unsent: RefCell::new((0..cores).map(|_| VecDeque::new()).collect()),
        })
        .collect();
    for from in 0..meshes.len() {
        for to in 0..meshes.len() {
            let (sender, receiver) = sync_channel(MAILBOX_DEPTH);
            meshes[from].senders.push(sender);
            meshes[to].receivers.push(receiver);
        }
    }
    Ok(meshes)
}

impl Mesh {
    /// This core's place.
    pub fn place(&self) -> CoreId {
        self.place
    }

    /// What becomes readable when another core wakes this one.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bells[usize::from(self.place.0)].descriptor.as_fd()
    }

    /// Sends a message, or keeps it until there is room.
    pub fn send(&self, to: CoreId, message: CoreMessage) {
        let waiting = &mut self.unsent.borrow_mut()[usize::from(to.0)];
        if !waiting.is_empty() {
            waiting.push_back(message);
        } else if let Some(back) = self.try_send(to, message) {
            waiting.push_back(back);
        }
    }

    /// Tries again to send what was kept, and wakes those to whom something was sent.
    pub fn flush(&self) {
        for (place, waiting) in self.unsent.borrow_mut().iter_mut().enumerate() {
            while let Some(message) = waiting.pop_front() {
                if let Some(back) = self.try_send(CoreId(place as u16), message) {
                    waiting.push_front(back);
                    break;
                }
            }
        }
    }

    /// The message again, if the wire takes no more.
    fn try_send(&self, to: CoreId, message: CoreMessage) -> Option<CoreMessage> {
        let place = usize::from(to.0);
        let back = match self.senders[place].try_send(message) {
            // A core that ended needs no messages; the process is about to end, too.
            Ok(()) | Err(TrySendError::Disconnected(_)) => None,
            Err(TrySendError::Full(back)) => Some(back),
        };
        self.bells[place].ring();
        back
    }

    /// Whether something was kept.
    pub fn has_unsent(&self) -> bool {
        self.unsent.borrow().iter().any(|waiting| !waiting.is_empty())
    }

    /// Puts what has arrived into the inbox.
    pub fn receive(&self, inbox: &Inbox) {
        for (from, wire) in self.receivers.iter().enumerate() {
            while let Ok(message) = wire.try_recv() {
                inbox.push(pump::from_core(CoreId(from as u16), message));
            }
        }
    }

    /// Asks for the bell, then looks a last time: what arrives after this rings.
    pub fn fall_asleep(&self, inbox: &Inbox) {
        self.bells[usize::from(self.place.0)].is_needed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.receive(inbox);
    }

    /// No bell is needed any more.
    pub fn wake_up(&self) {
        self.bells[usize::from(self.place.0)].is_needed.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{LeaderEpoch, LogId, PartitionIndex, TopicId};

    use super::*;
    use crate::net::inbox::Queue;
    use crate::shard::input::Input;
    use crate::shard::mailbox::Leader;

    fn message(number: usize) -> CoreMessage {
        let log = LogId { topic: TopicId([0; 16]), partition: PartitionIndex(number as i32) };
        let leaders = vec![Leader { log, node: None, epoch: LeaderEpoch(0) }];
        CoreMessage::Leaders { as_of: 0, leaders }
    }

    fn number(input: Input) -> usize {
        let Input::FromCore { from: CoreId(0), message: CoreMessage::Leaders { leaders, .. } } =
            input
        else {
            panic!("a message of the first core")
        };
        leaders[0].log.partition.0 as usize
    }

    /// Whether the bell of a core rang since the last time.
    fn rang(mesh: &Mesh) -> bool {
        rustix::io::read(mesh.bell(), &mut [0; 8]).is_ok()
    }

    #[test]
    fn what_a_full_wire_does_not_take_follows_in_order() {
        let meshes = wires(2).unwrap();
        let inbox = Inbox::default();
        let count = MAILBOX_DEPTH + 10;
        (0..count).for_each(|number| meshes[0].send(CoreId(1), message(number)));
        assert!(meshes[0].has_unsent());
        meshes[1].receive(&inbox);
        meshes[0].flush();
        assert!(!meshes[0].has_unsent());
        meshes[1].receive(&inbox);
        let arrived: Vec<usize> =
            std::iter::from_fn(|| inbox.pop(Queue::First)).map(number).collect();
        assert_eq!(arrived, (0..count).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_kept_for_a_core_that_ended() {
        let mut meshes = wires(2).unwrap();
        drop(meshes.pop());
        meshes[0].send(CoreId(1), message(0));
        assert!(!meshes[0].has_unsent());
    }

    #[test]
    fn a_core_that_sleeps_is_rung_once_and_one_that_is_awake_is_not() {
        let meshes = wires(2).unwrap();
        let inbox = Inbox::default();
        meshes[0].send(CoreId(1), message(0));
        assert!(!rang(&meshes[1]), "it is awake");
        meshes[1].fall_asleep(&inbox);
        assert!(!inbox.is_empty(), "sent before: seen before it sleeps");
        meshes[0].send(CoreId(1), message(1));
        assert!(rang(&meshes[1]));
        meshes[0].send(CoreId(1), message(2));
        assert!(!rang(&meshes[1]), "it was rung for already");
        meshes[1].wake_up();
        meshes[1].receive(&inbox);
        assert_eq!(
            std::iter::from_fn(|| inbox.pop(Queue::First)).map(number).collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }
}
