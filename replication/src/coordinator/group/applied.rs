//! What records mean: the only place where offsets and stored groups change.
//!
//! Does: apply what a record says, live and when loading; write the records that take something away.
//! Does not: decide what is to be said.
//! Invariants: the same records lead to the same state, whoever applies them.
//! Apart because live requests and loading meet here and nowhere else.

use flumen_protocol::time::Now;

use super::any::AnyGroup;
use super::classic::Group;
use super::dispatch::GroupCoordinator;
use super::offsets::Place;
use super::requests::GroupEffect;
use super::stored::{Stored, group_gone_record, offset_gone_record};
use crate::coordinator::machine::StateRecord;
use crate::coordinator::timers::Alarm;

impl GroupCoordinator {
    pub(super) fn apply(&mut self, stored: Stored) {
        match stored {
            Stored::Consumer(record) => self.apply_consumer(*record),
            Stored::Group(group) => {
                self.consumers.take(&group.id);
                self.groups.put(*group);
            }
            Stored::GroupGone { id } => {
                let Some(group) = self.groups.take(&id) else { return };
                for member in group.members().keys().chain(group.pending()) {
                    let (group, member) = (id.clone(), member.clone());
                    self.timers.cancel(&Alarm::Session { group, member });
                }
            }
            Stored::Offset { place, committed } => {
                self.know_group(&place.group);
                self.pending.overtake(&place, None);
                self.offsets.put(place, committed);
            }
            Stored::OffsetGone { place } => {
                self.offsets.remove(&place);
                self.pending.remove(&place);
            }
            Stored::Unknown => {}
        }
    }

    pub(super) fn tombstone(&mut self, gone: Vec<Place>, records: &mut Vec<StateRecord>) {
        for place in gone {
            records.push(offset_gone_record(&place));
            self.apply(Stored::OffsetGone { place });
        }
    }

    /// Deletes an empty group of either kind.
    pub(super) fn delete_group(
        &mut self,
        now: Now,
        id: &str,
        records: &mut Vec<StateRecord>,
        out: &mut Vec<GroupEffect>,
    ) {
        if self.consumers.contains(id) {
            records.extend(self.delete_consumer_group(now, id, out));
        } else {
            records.push(group_gone_record(id));
            self.apply(Stored::GroupGone { id: id.to_owned() });
        }
    }

    /// A group that is only known by its offsets: a simple one, without a record.
    pub(super) fn know_group(&mut self, id: &str) {
        if !self.groups.contains(id) && !self.consumers.contains(id) {
            self.groups.put(Group::new(id, None));
        }
    }

    pub(super) fn any(&self, id: &str) -> Option<AnyGroup<'_>> {
        let consumer = self.consumers.get(id).map(AnyGroup::Consumer);
        consumer.or_else(|| self.groups.get(id).map(AnyGroup::Classic))
    }
}
