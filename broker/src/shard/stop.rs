//! The end of a core: drain, settle, be gone.
//!
//! Does: have no more taken from clients, answer what only waits for news, let the rest finish for
//! a while, settle the journal so that the next start reads nothing.
//! Does not: close sockets; the pump does.
//! Invariants: nothing that was acknowledged depends on a clean stop; it only makes the next
//! start quicker. What a stop waits for is never added to by clients: it ends under any load.
//! Apart because a stop is a state machine of its own: Serving → Draining → Settling → Stopped.

use flumen_protocol::ids::CoreId;
use tracing::info;

use super::effect::Effect;
use super::mailbox::CoreMessage;
use super::metadata::Standing;
use super::routing::CONTROLLER_CORE;
use super::shard::Shard;
use super::timers::Due;
use crate::limits::DRAIN_TIME;

impl Shard {
    /// The process was asked to stop.
    pub(super) fn begin_stop(&mut self) {
        if !matches!(self.standing, Standing::Opening { .. } | Standing::Serving) {
            return;
        }
        info!(core = %self.identity.core, open = self.pending.count(), "stopping");
        self.standing = Standing::draining(self.identity.cores);
        self.effects.push(Effect::StopListening);
        if self.identity.core == CONTROLLER_CORE {
            self.broadcast(|| CoreMessage::Stop);
        }
        self.timers.arm(Due::Drained, Some(self.now.monotonic.after(DRAIN_TIME)));
    }

    /// Nothing of another core is open any more. That may be how this one hears of the stop.
    pub(super) fn note_drained(&mut self, core: CoreId) {
        self.begin_stop();
        if let Standing::Draining { busy } = &mut self.standing {
            busy.remove(&core);
        }
    }

    /// Open requests had their time.
    pub(super) fn stop_waiting(&mut self) {
        if matches!(self.standing, Standing::Draining { .. }) {
            self.standing = Standing::Settling;
            self.store.prepare_stop();
        }
    }

    /// Answers what waits for news, and goes on to settle once no core has anything open: a core
    /// that went earlier would leave the others' questions unanswered.
    pub(super) fn go_on_draining(&mut self) {
        if !matches!(self.standing, Standing::Draining { .. } | Standing::Settling) {
            return;
        }
        // A fetch that was read before the stop and opened after it must not wait either.
        self.close_idle_requests();
        if self.has_open_requests() {
            return;
        }
        let Standing::Draining { busy } = &mut self.standing else { return };
        let is_news = busy.remove(&self.identity.core);
        let is_over = busy.is_empty();
        if is_news {
            self.broadcast(|| CoreMessage::Drained);
        }
        if is_over {
            self.stop_waiting();
        }
    }

    /// Ends this core if nothing is left to be done.
    pub(super) fn stop_if_settled(&mut self) {
        let has_time = self.timers.is_armed(Due::Drained);
        if matches!(self.standing, Standing::Settling)
            && (!self.has_open_requests() || !has_time)
            && !self.store.outstanding()
            && self.store.next_settle(self.now).is_none()
        {
            self.standing = Standing::Stopped;
            self.timers.arm(Due::Drained, None);
            info!(core = %self.identity.core, "stopped: everything is on disk");
            self.effects.push(Effect::Stopped);
        }
    }
}
