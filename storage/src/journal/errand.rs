//! What the journal has done beside its commits: files made ready, watermarks written.
//!
//! Does: name the errands of a journal, and hold up one that found no room.
//! Does not: begin or end them; the journal does.
//! Invariants: an errand held up is tried again after [`ERRAND_RETRY`], not before.
//! Apart because appends go on whatever becomes of an errand.

use flumen_protocol::time::Monotonic;

use crate::format::watermark::Watermark;
use crate::limits::ERRAND_RETRY;
use crate::op::OpId;

/// A single operation off the append path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// Make the file of this slot ready to be written.
    PrepareJournal { id: OpId, slot: u16 },
    /// Make the watermark's file.
    PrepareWatermark { id: OpId },
    /// Write this watermark.
    WriteWatermark { id: OpId, record: Watermark },
}

impl Errand {
    /// The operation it waits for.
    pub(super) fn id(&self) -> OpId {
        match self {
            Self::PrepareJournal { id, .. }
            | Self::PrepareWatermark { id }
            | Self::WriteWatermark { id, .. } => *id,
        }
    }
}

/// Whether an errand is held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// It is not.
    No,
    /// It just failed for want of room; the clock is not known yet.
    Noted,
    /// It waits until then.
    Until(Monotonic),
}

impl Hold {
    /// Lets go after a while; whether it holds still.
    pub(super) fn holds(&mut self, now: Monotonic) -> bool {
        match *self {
            Self::Noted => *self = Self::Until(now.after(ERRAND_RETRY)),
            Self::Until(then) if now >= then => *self = Self::No,
            Self::Until(_) | Self::No => {}
        }
        *self != Self::No
    }
}
