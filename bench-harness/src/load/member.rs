//! A connection of the run and what it is for.
//!
//! Does: hold a connection together with its role, and ask the same of both kinds of producers.
//! Does not: send, wait, or decide what is due when.
//! Invariants: what is due is put to its producer at once, whatever the connection does, so that its
//! clock runs.
//! Apart because the loop that sends and receives should not have to care who queues how.

use super::lane::Lane;
use super::measure::Measure;
use super::reader::Reader;
use super::routes::Routes;
use super::template::Templates;
use super::transactor::Transactor;
use super::wire::Wire;

/// What a connection is for.
#[derive(Debug)]
pub enum Role {
    /// It produces.
    Producer(Lane),
    /// It produces in transactions.
    Transactor(Transactor),
    /// It reads.
    Consumer(Reader),
}

/// A connection of the run.
#[derive(Debug)]
pub struct Member {
    /// Its bytes.
    pub wire: Wire,
    /// Whom it is connected to.
    pub address: String,
    /// The place of that broker.
    pub broker: usize,
    /// What it is for.
    pub role: Role,
    /// The kernel tells when there is room to write.
    pub watches_write: bool,
}

/// Which connections a producer has.
#[derive(Clone, Debug)]
pub enum Reach {
    /// One to each of so many brokers, those of one producer together.
    Everywhere(usize),
    /// One, to its coordinator; by producer, the place of that broker.
    Home(Vec<usize>),
}

/// How produce requests look.
#[derive(Debug)]
pub struct Manner {
    /// Requests to be patched, in turn.
    pub templates: Templates,
    /// Version of Produce.
    pub version: i16,
    /// No answers come.
    pub silent: bool,
    /// Where requests go.
    pub routes: Routes,
    /// How many produce.
    pub producers: usize,
    /// Which connections each of them has.
    pub reach: Reach,
}

impl Manner {
    /// Connections of all producers.
    #[must_use]
    pub fn connections(&self) -> usize {
        match &self.reach {
            Reach::Everywhere(brokers) => self.producers * brokers,
            Reach::Home(homes) => homes.len(),
        }
    }

    /// The place of the connection that a producer's next request leaves by, and the group of
    /// partitions it goes to; nothing where the producer's only broker leads none.
    pub fn next(&mut self, producer: usize) -> Option<(usize, usize)> {
        match &self.reach {
            Reach::Everywhere(brokers) => {
                let group = self.routes.next(producer);
                Some((producer * brokers + self.routes.groups[group].broker, group))
            }
            Reach::Home(homes) => Some((producer, self.routes.next_at(producer, homes[producer])?)),
        }
    }
}

impl Member {
    /// A connection that has not sent anything.
    #[must_use]
    pub fn new(wire: Wire, address: String, broker: usize, role: Role) -> Self {
        Self { wire, address, broker, role, watches_write: false }
    }

    /// How many may be in flight from now on. Transactions of one producer follow each other.
    pub fn limit(&mut self, in_flight_max: usize) {
        match &mut self.role {
            Role::Producer(lane) => lane.limit(in_flight_max),
            Role::Transactor(_) | Role::Consumer(_) => {}
        }
    }

    /// Which producer it belongs to, and how many requests a closed loop may put in; nothing for a
    /// consumer.
    #[must_use]
    pub fn vacancies(&self) -> Option<(usize, usize)> {
        match &self.role {
            Role::Producer(lane) => Some((lane.producer, lane.vacancies())),
            Role::Transactor(transactor) => Some((transactor.producer, transactor.vacancies())),
            Role::Consumer(_) => None,
        }
    }

    /// A request to a group of partitions is due.
    pub fn enqueue(&mut self, due_ns: u64, group: usize) {
        let flushed = self.wire.is_flushed();
        match &mut self.role {
            Role::Producer(lane) => lane.enqueue(due_ns, group, flushed),
            Role::Transactor(transactor) => transactor.enqueue(due_ns, group, flushed),
            Role::Consumer(_) => {}
        }
    }

    /// Whether something was produced that has no answer yet, or is still to be.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match &self.role {
            Role::Producer(lane) => !lane.is_idle(),
            Role::Transactor(transactor) => !transactor.is_idle(),
            Role::Consumer(_) => false,
        }
    }

    /// What has no answer counts with its age; what never left is dropped.
    pub fn give_up(&mut self, now_ns: u64, measure: &mut Measure) {
        match &mut self.role {
            Role::Producer(lane) => {
                lane.leftovers().for_each(|due_ns| measure.on_given_up(due_ns, now_ns));
                lane.forget_unsent();
            }
            Role::Transactor(transactor) => {
                transactor.leftovers().for_each(|due_ns| measure.on_given_up(due_ns, now_ns));
                transactor.forget_unsent();
            }
            Role::Consumer(_) => {}
        }
    }

    /// When its pause ends.
    #[must_use]
    pub fn held_until_ns(&self) -> u64 {
        match &self.role {
            Role::Producer(lane) => lane.held_until_ns,
            Role::Transactor(transactor) => transactor.held_until_ns,
            Role::Consumer(reader) => reader.held_until_ns(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::options::plain_producers;
    use crate::load::payload::Dice;
    use crate::load::template::Address;
    use flumen_protocol::ids::TopicId;

    /// Two producers and four partitions, led by two brokers in turn.
    fn manner(reach: Reach) -> Manner {
        let address = Address { name: "t".to_owned(), id: TopicId([1; 16]), version: 13 };
        Manner {
            templates: Templates::new(&plain_producers(), &address, &mut Dice::new(1)),
            version: 13,
            silent: false,
            routes: Routes::new(&[0, 1, 0, 1], 1, 2, 0.0, Dice::new(1)),
            producers: 2,
            reach,
        }
    }

    fn next_of(manner: &mut Manner, producer: usize) -> Vec<Option<(usize, usize)>> {
        (0..4).map(|_| manner.next(producer)).collect()
    }

    #[test]
    fn a_producer_that_reaches_every_broker_goes_to_each_by_its_own_connection() {
        let mut manner = manner(Reach::Everywhere(2));
        assert_eq!(manner.connections(), 4);
        let first = [Some((0, 0)), Some((1, 1)), Some((0, 2)), Some((1, 3))];
        assert_eq!(next_of(&mut manner, 0), first);
        let second = [Some((2, 2)), Some((3, 3)), Some((2, 0)), Some((3, 1))];
        assert_eq!(next_of(&mut manner, 1), second);
    }

    #[test]
    fn one_that_has_a_home_writes_to_what_is_led_there() {
        let mut manner = manner(Reach::Home(vec![1, 7]));
        assert_eq!(manner.connections(), 2);
        assert_eq!(next_of(&mut manner, 0), [1, 3, 1, 3].map(|group| Some((0, group))));
        assert_eq!(manner.next(1), None, "nothing is led there");
    }
}
