//! How often connections may come, in all and from one address (KIP-612).
//!
//! Does: say how long a door must wait, and whether an address comes too often.
//! Does not: accept or refuse; `connections` does.
//! Invariants: pure; the number of addresses remembered is bounded.
//! Apart because the doors know connections, not rates.
//!
//! Each core has its share of a rate: the kernel spreads connections over the cores by their ports,
//! evenly where there are many.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use flumen_protocol::time::Monotonic;

use crate::limits::{ARRIVAL_ADDRESSES_MAX, QUOTA_SWEEP_INTERVAL};
use crate::quota::bucket::{Bound, Bucket};
use crate::quota::rules::Rules;

/// How often connections may come to one core.
#[derive(Clone, Debug, Default)]
pub struct ArrivalLimits {
    /// In all, per second; `None`: as often as they like.
    pub per_second: Option<f64>,
    /// Quotas of addresses for the whole node.
    pub addresses: Arc<Rules>,
    /// How many cores share a quota.
    pub cores: u16,
}

/// How often connections came lately.
#[derive(Debug)]
pub struct Arrivals {
    all: Option<Bucket>,
    addresses: BTreeMap<IpAddr, (Bucket, Bound)>,
    swept: Monotonic,
}

/// A second's worth may come at once, at least one.
fn bound(per_second: f64) -> Bound {
    Bound { per_second, seconds: (1.0 / per_second).max(1.0) }
}

impl Arrivals {
    /// None came yet.
    pub fn new(now: Monotonic) -> Self {
        Self { all: None, addresses: BTreeMap::new(), swept: now }
    }

    /// How long no connection is to be accepted.
    pub fn wait(&mut self, limits: &ArrivalLimits, now: Monotonic) -> Duration {
        let Some(bound) = limits.per_second.map(bound) else { return Duration::ZERO };
        self.all.get_or_insert_with(|| Bucket::full(bound, now)).wait(1.0, bound, now)
    }

    /// A connection was accepted.
    pub fn count(&mut self, limits: &ArrivalLimits, now: Monotonic) {
        if let (Some(bucket), Some(bound)) = (&mut self.all, limits.per_second.map(bound)) {
            bucket.take(1.0, bound, now);
        }
    }

    /// Whether this address may come in; counts it if so.
    pub fn admit(&mut self, address: IpAddr, limits: &ArrivalLimits, now: Monotonic) -> bool {
        if limits.addresses.is_empty() {
            return true;
        }
        let address = address.to_canonical();
        let Some(quota) = limits.addresses.find_address(&address.to_string()) else { return true };
        let bound = bound(quota / f64::from(limits.cores.max(1)));
        if !self.addresses.contains_key(&address) && !self.has_place(now) {
            return false;
        }
        let (bucket, known) =
            self.addresses.entry(address).or_insert_with(|| (Bucket::full(bound, now), bound));
        *known = bound;
        let may = bucket.wait(1.0, bound, now).is_zero();
        if may {
            bucket.take(1.0, bound, now);
        }
        may
    }

    /// Whether one more address can be remembered. Those that have not come for long are forgotten: a
    /// new bucket would be as full.
    fn has_place(&mut self, now: Monotonic) -> bool {
        let is_full = self.addresses.len() >= ARRIVAL_ADDRESSES_MAX;
        if is_full && now.since(self.swept) >= QUOTA_SWEEP_INTERVAL {
            self.swept = now;
            self.addresses.retain(|_, (bucket, bound)| bucket.level(*bound, now) < bound.brim());
        }
        self.addresses.len() < ARRIVAL_ADDRESSES_MAX
    }
}

#[cfg(test)]
mod tests {
    use flumen_replication::metadata::quota::{QuotaBound, QuotaEntity, QuotaKey, QuotaPart};

    use super::*;

    fn limits(per_second: Option<f64>, of_addresses: &[(Option<&str>, f64)]) -> ArrivalLimits {
        const KEY: QuotaKey = QuotaKey::ConnectionCreationRate;
        let quota = |(address, bound): &(Option<&str>, f64)| {
            let parts = BTreeMap::from([(QuotaPart::Ip, address.map(str::to_owned))]);
            let bounds = BTreeMap::from([(KEY, QuotaBound::new(*bound).unwrap())]);
            (QuotaEntity::new(parts).unwrap(), bounds)
        };
        let quotas = of_addresses.iter().map(quota).collect();
        ArrivalLimits { per_second, addresses: Arc::new(Rules::new(&quotas, KEY)), cores: 2 }
    }

    fn at(millis: u64) -> Monotonic {
        Monotonic(0).after(Duration::from_millis(millis))
    }

    #[test]
    fn a_door_waits_when_a_second_s_worth_has_come() {
        let (mut arrivals, limits) = (Arrivals::new(at(0)), limits(Some(4.0), &[]));
        for _ in 0..4 {
            assert!(arrivals.wait(&limits, at(0)).is_zero());
            arrivals.count(&limits, at(0));
        }
        assert_eq!(arrivals.wait(&limits, at(0)), Duration::from_millis(250));
        assert!(arrivals.wait(&limits, at(250)).is_zero());
    }

    #[test]
    fn an_address_has_its_share_and_others_theirs() {
        let limits = limits(None, &[(Some("10.0.0.1"), 4.0), (None, 1.0)]);
        let mut arrivals = Arrivals::new(at(0));
        let mut admitted = |address: &str, millis| {
            let address = address.parse().unwrap();
            (0..10).filter(|_| arrivals.admit(address, &limits, at(millis))).count()
        };
        assert_eq!(admitted("10.0.0.1", 0), 2, "half of it on each of two cores");
        assert_eq!(admitted("::ffff:10.0.0.1", 500), 1, "the same address in other words");
        assert_eq!(admitted("10.0.0.2", 500), 1, "less than one a second is one at a time");
        assert_eq!((admitted("10.0.0.2", 2400), admitted("10.0.0.2", 2500)), (0, 1));
    }

    #[test]
    fn addresses_are_bounded() {
        let limits = limits(None, &[(None, 1.0)]);
        let mut arrivals = Arrivals::new(at(0));
        for number in 0..2 * ARRIVAL_ADDRESSES_MAX as u32 {
            arrivals.admit(IpAddr::from(number.to_be_bytes()), &limits, at(0));
        }
        assert_eq!(arrivals.addresses.len(), ARRIVAL_ADDRESSES_MAX);
        assert!(arrivals.admit(IpAddr::from([9; 4]), &limits, at(10_000)));
    }
}
