//! How many connections a core lets in, and from whom.
//!
//! Does: take them from the settings, and divide them among the cores.
//! Does not: count or refuse connections; `connections.rs` does.
//! Apart because settings are read once, and connections come all the time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::arrivals::ArrivalLimits;
use crate::config::options::Options;
use crate::quota::rules::Rules;

/// The limits that a door checks; each core has its share.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Connections on this core at once.
    pub total: usize,
    /// Connections from one address on this core at once.
    pub per_address: usize,
    /// Other numbers for single addresses.
    pub overrides: Arc<BTreeMap<IpAddr, usize>>,
    /// How often connections may come.
    pub arrivals: ArrivalLimits,
    /// Idle time after which a connection is closed.
    pub idle: Duration,
    /// Largest request.
    pub request_bytes: usize,
}

impl ConnectionLimits {
    /// The share that one of so many cores has.
    pub fn of(options: &Options, addresses: Option<&Rules>, cores: u16) -> Self {
        let positive = |value: i32| usize::try_from(value).unwrap_or(usize::MAX);
        let share = |value: i32| positive(value).div_ceil(usize::from(cores));
        Self {
            total: share(options.max_connections),
            // The kernel spreads one client's connections by chance: its share is no share.
            per_address: positive(options.max_connections_per_ip),
            overrides: Arc::new(overrides(options)),
            arrivals: ArrivalLimits {
                per_second: (options.max_connection_creation_rate < i32::MAX)
                    .then(|| f64::from(options.max_connection_creation_rate) / f64::from(cores)),
                addresses: Arc::new(addresses.cloned().unwrap_or_default()),
                cores,
            },
            idle: u64::try_from(options.connections_max_idle_ms)
                .map_or(Duration::MAX, Duration::from_millis),
            request_bytes: positive(options.socket_request_max_bytes),
        }
    }
}

/// `max.connections.per.ip.overrides`; what is no address has no effect.
fn overrides(options: &Options) -> BTreeMap<IpAddr, usize> {
    let written = options.max_connections_per_ip_overrides.as_deref().unwrap_or_default();
    let pairs = written.split(',').filter_map(|pair| pair.trim().rsplit_once(':'));
    let read = pairs.filter_map(|(address, number)| {
        let address = address.trim_start_matches('[').trim_end_matches(']');
        Some((address.parse::<IpAddr>().ok()?.to_canonical(), number.trim().parse().ok()?))
    });
    read.collect()
}
