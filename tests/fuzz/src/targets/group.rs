//! The log of a group coordinator, replayed.
//!
//! Oracle: a log of records nobody promised anything about is replayed or refused; what was replayed
//! answers, lets time pass, and writes only records that are replayed in turn, to the same groups and
//! offsets.

use std::collections::BTreeSet;

use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::stamp::stamp;
use flumen_protocol::ids::{LeaderEpoch, Offset};
use flumen_protocol::internal_topics::offsets::write_group_key;
use flumen_protocol::time::{Monotonic, Now, Wall, WallTrust};
use flumen_replication::coordinator::group::{GroupConfig, GroupCoordinator};
use flumen_replication::coordinator::runtime::{Coordinator, CoordinatorEffect, EffectOf};

use super::offsets::{group_value, offset_key, offset_value};
use crate::draw::Draw;

/// How often time is allowed to pass.
const ALARMS_MAX: usize = 8;

/// Records: the length of a key, the key, the length of a value (255: none), the value.
pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let mut log = vec![batch_of(&mut draw)];
    let now = Now { monotonic: Monotonic(1), wall: Wall(1_700_000_000_000) };
    let mut effects = Vec::new();
    let Some(mut coordinator) = replayed(&log, now, &mut effects) else { return };
    for _ in 0..ALARMS_MAX {
        let Some(due) = coordinator.next_deadline() else { break };
        let now = Now { monotonic: due.max(now.monotonic), wall: now.wall };
        coordinator.on_time(now, WallTrust::Trusted, &mut effects);
        coordinator.settle(now, &mut effects);
        for effect in std::mem::take(&mut effects) {
            let CoordinatorEffect::Append { batch, id } = effect else { continue };
            log.push(batch.to_vec());
            coordinator.appended(id, Ok(()), &mut effects);
        }
    }
    let again = replayed(&log, now, &mut effects).expect("what a coordinator writes is replayed");
    let offsets = |coordinator: &Coordinator<GroupCoordinator>| -> BTreeSet<String> {
        coordinator.committed().map(|row| format!("{row:?}")).collect()
    };
    assert_eq!(offsets(&again), offsets(&coordinator));
}

/// A coordinator after a start with this log; `None` if that is refused.
fn replayed(
    log: &[Vec<u8>],
    now: Now,
    out: &mut Vec<EffectOf<GroupCoordinator>>,
) -> Option<Coordinator<GroupCoordinator>> {
    let mut coordinator = Coordinator::new(GroupConfig::default());
    coordinator.begin_load();
    let mut next = 0;
    for batch in log {
        let mut batch = batch.clone();
        stamp(&mut batch, Offset(next), LeaderEpoch(1));
        next += 1000;
        coordinator.replay_batch(&batch).ok()?;
    }
    coordinator.finish_load(now, out);
    let groups = coordinator.groups().count();
    assert!(groups <= log.iter().map(Vec::len).sum(), "a group takes bytes");
    Some(coordinator)
}

fn batch_of(draw: &mut Draw<'_>) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    loop {
        let key_bytes = usize::from(draw.byte());
        let key = draw.slice(key_bytes);
        let value = match draw.byte() {
            u8::MAX => None,
            bytes => Some(draw.slice(usize::from(bytes))),
        };
        builder.push(&NewRecord { timestamp: 5, key: Some(key), value, headers: &[] });
        if draw.is_over() {
            return builder.finish().to_vec();
        }
    }
}

/// A group with members, offsets, their ends, and what is no subscription.
pub fn seeds() -> Vec<Vec<u8>> {
    let record = |key: &[u8], value: Option<&[u8]>| {
        let mut bytes = vec![key.len() as u8];
        bytes.extend(key);
        bytes.push(value.map_or(u8::MAX, |value| value.len() as u8));
        bytes.extend(value.unwrap_or_default());
        bytes
    };
    let group_key = write_group_key("g");
    let group = |subscription: &[u8]| record(&group_key, Some(&group_value(subscription)));
    let offset = record(&offset_key(), Some(&offset_value(None)));
    let expiring = record(&offset_key(), Some(&offset_value(Some(1_600_000_000_000))));
    let subscribed = group(b"\0\x01\0\0\0\x01\0\x06orders\xff\xff\xff\xff");
    vec![
        [subscribed.clone(), offset.clone()].concat(),
        [group(b"{}"), offset.clone(), record(&offset_key(), None)].concat(),
        [subscribed, offset.clone(), record(&group_key, None)].concat(),
        [offset, expiring].concat(),
        record(b"\0\x09new", Some(b"\0\0")),
    ]
}
