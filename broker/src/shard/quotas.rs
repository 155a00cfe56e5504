//! Clients that have to wait: told so, and held back.
//!
//! Does: put the wait into an answer, mute its connection, count the time that requests take, tell
//! other cores what was spent on this one.
//! Does not: say how long; `quota` does.
//! Invariants: an answer leaves at once, and nothing more is read from its connection until the wait
//! is over (KIP-219).
//! Apart because without quotas none of it happens.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::throttle;
use flumen_replication::metadata::image::Image;
use flumen_replication::metadata::quota::QuotaKey;

use super::effect::Effect;
use super::input::ConnectionId;
use super::mailbox::CoreMessage;
use super::shard::Shard;
use super::timers::Due;
use crate::api::step::Envelope;
use crate::limits::QUOTA_EXCHANGE;
use crate::net::connection_limits::ConnectionLimits;
use crate::quota::ledger::{self, Purse, Spending};

impl Shard {
    /// Settles what a client owes for a request whose answer is ready: says it in the answer, if the
    /// answer can, and has the connection muted after it.
    pub(super) fn settle_quotas(
        &mut self,
        connection: ConnectionId,
        envelope: &Envelope,
        answer: Vec<Bytes>,
    ) -> (Vec<Bytes>, Option<Effect>) {
        if self.quotas.is_idle() {
            return (answer, None);
        }
        if self.quotas.has_unsaid() {
            let soon = self.now.monotonic.after(QUOTA_EXCHANGE);
            self.timers.arm_earlier(Due::QuotaExchange, Some(soon));
        }
        let for_time = self.context().time_wait(envelope);
        self.quotas.owe(for_time);
        let wait = self.quotas.take_owed();
        if wait.is_zero() {
            return (answer, None);
        }
        let until = self.now.monotonic.after(wait);
        let muted = Effect::Mute { connection, until };
        match envelope.key {
            // They say it themselves, and what they say has other consequences.
            ApiKey::Produce | ApiKey::Fetch => (answer, Some(muted)),
            key => (told(key, envelope.version, answer, wait), Some(muted)),
        }
    }

    /// Takes over what the image says of quotas.
    pub(super) fn adopt_quotas(&mut self, image: &Image) {
        let before = self.quotas.connection_rules().cloned();
        self.quotas.adopt(&image.client_quotas);
        if self.quotas.connection_rules() != before.as_ref() {
            self.limit_connections();
        }
    }

    /// Tells the doors of this core what holds now.
    pub(super) fn limit_connections(&mut self) {
        let rules = self.quotas.connection_rules();
        let limits = ConnectionLimits::of(&self.options, rules, self.identity.cores);
        self.effects.push(Effect::LimitConnections(limits));
    }

    /// A request of this client is being served: what it takes of the core's time is counted.
    pub(super) fn begin_counting_time(&mut self, client_id: &str) {
        if !self.quotas.is_free(QuotaKey::RequestPercentage) {
            self.served = Some(client_id.to_owned());
        }
    }

    /// The last input took so long. What other inputs do for the same request, an append on another
    /// core or a read from the disk, is not counted.
    pub fn count_time(&mut self, took: Duration) {
        let Some(client_id) = self.served.take() else { return };
        let key = QuotaKey::RequestPercentage;
        let purse = Purse::of(key, &client_id, &self.options, self.now.monotonic);
        // Percent of a core, for a second.
        self.quotas.spend(purse, took.as_secs_f64() * 100.0);
    }

    /// Tells the other cores what was spent on this one.
    pub(super) fn exchange_quotas(&mut self) {
        let spent = self.quotas.take_unsaid();
        if !spent.is_empty() {
            self.broadcast(|| CoreMessage::Spent(spent.clone()));
        }
    }

    /// Another core tells what was spent there.
    pub(super) fn hear_spent(&mut self, spent: Vec<Spending>) {
        self.quotas.hear(spent, &self.options, self.now.monotonic);
    }
}

fn told(key: ApiKey, version: i16, answer: Vec<Bytes>, wait: Duration) -> Vec<Bytes> {
    let mut pieces = answer.into_iter();
    let Some(first) = pieces.next() else { return Vec::new() };
    let mut first = first.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    // An answer without the field is one of an old client: it is held back all the same.
    let _told = throttle::stamp(key, version, &mut first, ledger::whole_ms(wait));
    std::iter::once(first.freeze()).chain(pieces).collect()
}
