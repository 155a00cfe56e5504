//! What a group was given of its own (resource GROUP of the configuration).
//!
//! Does: read the settings that members feel.
//! Does not: check them; that was done when they were given.
//! Invariants: what a group was not given is the broker's.
//! Apart because the image has texts and members need numbers.

use super::super::GroupConfig;
use crate::metadata::image::Image;

/// Kafka's name for how long a member may be silent.
pub const SESSION_TIMEOUT: &str = "consumer.session.timeout.ms";
/// Kafka's name for how often a member is told to send heartbeats.
pub const HEARTBEAT_INTERVAL: &str = "consumer.heartbeat.interval.ms";

pub(super) fn session_timeout_ms(image: &Image, config: &GroupConfig, group: &str) -> i32 {
    own(image, group, SESSION_TIMEOUT).unwrap_or(config.consumer.session_timeout_ms)
}

pub(super) fn heartbeat_interval_ms(image: &Image, config: &GroupConfig, group: &str) -> i32 {
    own(image, group, HEARTBEAT_INTERVAL).unwrap_or(config.consumer.heartbeat_interval_ms)
}

fn own(image: &Image, group: &str, name: &str) -> Option<i32> {
    image.group_configs.get(group)?.get(name)?.parse().ok()
}
