//! The rows of the table of settings that are about groups of the new kind (KIP-848).
//!
//! Does: declare them, as `declaration` declares all others.
//! Does not: read or check them.
//! Invariants: those of `declaration`.
//! Apart because that table is as long as a file may be.

use super::declared::{Declaration, Field, row};
use super::kind::Kind;

/// The rows.
pub(super) const CONSUMER_GROUPS: &[Declaration] = &[
    row(
        "group.coordinator.rebalance.protocols",
        Kind::List(&["classic", "consumer", "streams", "share"]),
        "classic,consumer,streams",
        "Protocols groups may speak. `classic` cannot be left out; without `consumer` there are no groups of the new kind (KIP-848). `streams` and `share` are not served, named or not.",
        Field::Combined,
    ),
    row(
        "group.consumer.session.timeout.ms",
        Kind::int_from(1),
        "45000",
        "How long a member of a group of the new kind (KIP-848) may be silent, where the group has no value of its own.",
        Field::I32(|o| &mut o.consumer_groups.session_timeout_ms),
    ),
    row(
        "group.consumer.min.session.timeout.ms",
        Kind::int_from(1),
        "45000",
        "Shortest consumer.session.timeout.ms a group may be given.",
        Field::I32(|o| &mut o.consumer_groups.min_session_timeout_ms),
    ),
    row(
        "group.consumer.max.session.timeout.ms",
        Kind::int_from(1),
        "60000",
        "Longest consumer.session.timeout.ms a group may be given.",
        Field::I32(|o| &mut o.consumer_groups.max_session_timeout_ms),
    ),
    row(
        "group.consumer.heartbeat.interval.ms",
        Kind::int_from(1),
        "5000",
        "How often members of groups of the new kind are told to send heartbeats, where the group has no value of its own.",
        Field::I32(|o| &mut o.consumer_groups.heartbeat_interval_ms),
    ),
    row(
        "group.consumer.min.heartbeat.interval.ms",
        Kind::int_from(1),
        "5000",
        "Shortest consumer.heartbeat.interval.ms a group may be given.",
        Field::I32(|o| &mut o.consumer_groups.min_heartbeat_interval_ms),
    ),
    row(
        "group.consumer.max.heartbeat.interval.ms",
        Kind::int_from(1),
        "15000",
        "Longest consumer.heartbeat.interval.ms a group may be given.",
        Field::I32(|o| &mut o.consumer_groups.max_heartbeat_interval_ms),
    ),
    row(
        "group.consumer.max.size",
        Kind::int_from(1),
        "2147483647",
        "Most members of one group of the new kind.",
        Field::I32(|o| &mut o.consumer_groups.max_size),
    ),
    row(
        "group.consumer.assignors",
        Kind::List(&["uniform", "range"]),
        "uniform,range",
        "Assignors of groups of the new kind. Members may ask for these; the first is for groups whose members ask for none.",
        Field::OptionalText(|o| &mut o.consumer_groups.assignors),
    ),
    row(
        "group.consumer.migration.policy",
        Kind::Choice(&[
            "bidirectional",
            "upgrade",
            "downgrade",
            "disabled",
            "BIDIRECTIONAL",
            "UPGRADE",
            "DOWNGRADE",
            "DISABLED",
        ]),
        "bidirectional",
        "Whether running groups are converted from classic to the new kind, back, both, or not, when members of the other protocol join or leave.",
        Field::OptionalText(|o| &mut o.consumer_groups.migration_policy),
    ),
];
