//! What requests cost their clients, and how long these wait (KIP-13, 124, 219, 599).
//!
//! Does: count a Produce request, a Fetch answer, partitions made or deleted on the account of whoever
//! asked, where a quota holds.
//! Does not: keep accounts (`quota` does) or hold connections back (`net` does).
//! Invariants: without quotas nothing but one look is spent.
//! Apart because several APIs count and none should know how.

use std::time::Duration;

use flumen_protocol::error_code::ErrorCode;
use flumen_replication::metadata::quota::QuotaKey;

use super::refusals::Refused;
use super::step::{Context, Envelope};
use crate::quota::ledger::{self, Purse};

impl<'a> Context<'a> {
    /// Counts a Produce request; says how many milliseconds its client is told to wait for it.
    pub fn throttle_produce(&mut self, envelope: &Envelope, bytes: usize) -> i32 {
        if self.quotas.is_idle() {
            return 0;
        }
        let purse = self.purse(QuotaKey::ProducerByteRate, envelope);
        let wait = self.quotas.spend(purse, bytes as f64).max(self.time_wait(envelope));
        self.quotas.owe(wait);
        ledger::whole_ms(wait)
    }

    /// Counts a Fetch answer, if its client need not wait for it; otherwise says for how many
    /// milliseconds, and the answer must not go (G75).
    pub fn throttle_fetch(&mut self, envelope: &Envelope, bytes: usize) -> i32 {
        if self.quotas.is_idle() {
            return 0;
        }
        let purse = self.purse(QuotaKey::ConsumerByteRate, envelope);
        // A batch that is larger than a window can hold would be waited for in vain.
        let most = self.quotas.brim(purse).unwrap_or(f64::INFINITY);
        let wait = self.quotas.wait(purse, most.min(bytes as f64)).max(self.time_wait(envelope));
        if wait.is_zero() {
            // It has enough: nothing is to be waited for.
            self.quotas.spend(purse, bytes as f64);
        }
        self.quotas.owe(wait);
        ledger::whole_ms(wait)
    }

    /// The most bytes that a Fetch answer may have, as far as quotas go: more could never be paid.
    pub fn fetch_bytes_max(&self, envelope: &Envelope) -> usize {
        if self.quotas.is_free(QuotaKey::ConsumerByteRate) {
            return usize::MAX;
        }
        let brim = self.quotas.brim(self.purse(QuotaKey::ConsumerByteRate, envelope));
        brim.map_or(usize::MAX, |brim| brim as usize)
    }

    /// Counts partitions that a client makes or deletes.
    ///
    /// # Errors
    /// It has to wait before, and knows the error that says so (from version `strict_since` of the
    /// request on); others are served and wait then (KIP-599).
    pub fn count_mutations(
        &mut self,
        envelope: &Envelope,
        partitions: usize,
        strict_since: i16,
    ) -> Result<(), Refused> {
        if self.quotas.is_free(QuotaKey::ControllerMutationRate) {
            return Ok(());
        }
        let purse = self.purse(QuotaKey::ControllerMutationRate, envelope);
        let is_strict = envelope.version >= strict_since;
        let debt = self.quotas.wait(purse, 0.0);
        if is_strict && !debt.is_zero() {
            self.quotas.owe(debt);
            return Err(ErrorCode::ThrottlingQuotaExceeded.into());
        }
        let wait = self.quotas.spend(purse, partitions as f64);
        if !is_strict {
            self.quotas.owe(wait);
        }
        Ok(())
    }

    /// How long a client waits for the time that its requests took: never longer than a window.
    pub fn time_wait(&mut self, envelope: &Envelope) -> Duration {
        if self.quotas.is_free(QuotaKey::RequestPercentage) {
            return Duration::ZERO;
        }
        let window = u64::try_from(self.options.quotas.window_size_seconds).unwrap_or(1);
        let purse = self.purse(QuotaKey::RequestPercentage, envelope);
        self.quotas.wait(purse, 0.0).min(Duration::from_secs(window))
    }

    fn purse<'b>(&self, key: QuotaKey, envelope: &'b Envelope) -> Purse<'b>
    where
        'a: 'b,
    {
        Purse::of(key, &envelope.client_id, self.options, self.now.monotonic)
    }
}
