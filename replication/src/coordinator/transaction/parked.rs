//! Clients that begin their next transaction while markers of the last are still being written.
//!
//! Does: let them wait for a moment, which is shorter than their asking again would take.
//! Does not: decide what becomes of them.
//! Invariants: whoever is parked is taken, expires, or is refused with the whole coordinator.
//! Apart because it is a courtesy: Kafka answers CONCURRENT_TRANSACTIONS and has clients try again.

use std::collections::{BTreeMap, VecDeque};

use flumen_protocol::time::Monotonic;

use super::partitions::Partitions;
use super::state::{ClientVersion, Producer};
use crate::coordinator::Ticket;
use crate::limits::{TRANSACTION_PARK_PATIENCE, TRANSACTION_PARKED_MAX};

/// A request to add partitions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parked {
    pub ticket: Ticket,
    pub producer: Producer,
    pub partitions: Partitions,
    pub version: ClientVersion,
}

/// Those that wait, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(super) struct ParkedAdds {
    by_id: BTreeMap<String, Vec<(u64, Parked)>>,
    /// When whose patience ends; one that was taken meanwhile is not looked for here.
    deadlines: VecDeque<(Monotonic, String, u64)>,
    count: usize,
    next: u64,
}

impl ParkedAdds {
    /// Lets a request wait.
    ///
    /// # Errors
    /// The request, when too many wait already.
    pub(super) fn park(&mut self, now: Monotonic, id: &str, add: Parked) -> Result<(), Parked> {
        if self.count >= TRANSACTION_PARKED_MAX {
            return Err(add);
        }
        let number = self.next;
        self.next += 1;
        self.count += 1;
        self.deadlines.push_back((now.after(TRANSACTION_PARK_PATIENCE), id.to_owned(), number));
        self.by_id.entry(id.to_owned()).or_default().push((number, add));
        Ok(())
    }

    /// Those who wait for this id.
    pub(super) fn take(&mut self, id: &str) -> Vec<Parked> {
        let taken = self.by_id.remove(id).unwrap_or_default();
        self.count -= taken.len();
        if self.count == 0 {
            self.deadlines.clear();
        }
        taken.into_iter().map(|(_, add)| add).collect()
    }

    /// Those whose patience has ended.
    pub(super) fn expire(&mut self, now: Monotonic) -> Vec<Ticket> {
        let mut expired = Vec::new();
        while let Some((_, id, number)) = self.deadlines.pop_front_if(|(due, _, _)| *due <= now) {
            let Some(waiting) = self.by_id.get_mut(&id) else { continue };
            let Some(place) = waiting.iter().position(|(known, _)| *known == number) else {
                continue;
            };
            expired.push(waiting.remove(place).1.ticket);
            self.count -= 1;
            if waiting.is_empty() {
                self.by_id.remove(&id);
            }
        }
        expired
    }

    /// When somebody's patience may end next.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.deadlines.front().map(|(due, _, _)| *due)
    }

    /// Everybody who waits.
    pub(super) fn tickets(&self) -> impl Iterator<Item = Ticket> {
        self.by_id.values().flatten().map(|(_, add)| add.ticket)
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{CoreId, ProducerEpoch, ProducerId};

    use super::*;

    fn add(request: u64) -> Parked {
        Parked {
            ticket: Ticket { core: CoreId(0), request, part: 0 },
            producer: Producer { id: ProducerId(1), epoch: ProducerEpoch(0) },
            partitions: Partitions::default(),
            version: ClientVersion::Two,
        }
    }

    #[test]
    fn who_waits_is_taken_or_expires_and_never_both() {
        let mut parked = ParkedAdds::default();
        let (start, later) = (Monotonic(0), Monotonic(10));
        parked.park(start, "a", add(1)).expect("there is room");
        parked.park(later, "b", add(2)).expect("there is room");
        assert_eq!(parked.take("a"), [add(1)]);
        let end = start.after(TRANSACTION_PARK_PATIENCE);
        assert_eq!(parked.expire(end), []);
        assert_eq!(parked.tickets().count(), 1);
        assert_eq!(parked.expire(later.after(TRANSACTION_PARK_PATIENCE)), [add(2).ticket]);
        assert_eq!((parked.next_deadline(), parked.tickets().count()), (None, 0));
    }

    #[test]
    fn no_more_than_the_limit_may_wait() {
        let mut parked = ParkedAdds::default();
        for request in 0..TRANSACTION_PARKED_MAX as u64 {
            parked.park(Monotonic(0), "a", add(request)).expect("there is room");
        }
        assert!(parked.park(Monotonic(0), "b", add(0)).is_err());
        assert_eq!(parked.take("a").len(), TRANSACTION_PARKED_MAX);
        assert!(parked.park(Monotonic(0), "b", add(0)).is_ok());
    }
}
