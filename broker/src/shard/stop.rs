//! The end of a core: drain, settle, be gone.
//!
//! Does: answer what only waits for news, let the rest finish for a while, settle the journal so
//! that the next start reads nothing.
//! Does not: close sockets; the pump does.
//! Invariants: nothing that was acknowledged depends on a clean stop; it only makes the next
//! start quicker.
//! Apart because a stop is a state machine of its own: Serving → Draining → Settling → Stopped.

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
        self.standing = Standing::Draining;
        if self.identity.core == CONTROLLER_CORE {
            self.broadcast(|| CoreMessage::Stop);
        }
        self.close_idle_requests();
        self.timers.arm(Due::Drained, Some(self.now.monotonic.after(DRAIN_TIME)));
    }

    /// Open requests had their time.
    pub(super) fn stop_waiting(&mut self) {
        if matches!(self.standing, Standing::Draining) {
            self.standing = Standing::Settling;
            self.store.prepare_stop();
        }
    }

    /// Takes the next step of a stop, if it can be taken.
    pub(super) fn go_on_stopping(&mut self) {
        if matches!(self.standing, Standing::Draining) {
            // What arrives now finds nobody home soon; a fetch must not wait for it.
            self.close_idle_requests();
            if self.pending.count() == 0 {
                self.stop_waiting();
                self.settle_logs();
            }
        }
        if matches!(self.standing, Standing::Settling)
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
