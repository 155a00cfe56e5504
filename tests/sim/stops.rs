//! How a node stops.
//!
//! Does: ask it to while something is open, and look at what is answered and in which order.
//! Does not: close connections; the pump does that.
//! Invariants: partitions 0 to 3 of a topic lie on different cores by turns.
//! Apart because a stop is the one story that ends a world.

use flumen_protocol::api_table::ApiKey;
use flumen_protocol::messages::{FetchRequest, ProduceRequest};

use crate::fetches::{FETCH, request};
use crate::stories::{PRODUCE, make_topic, produce_request};
use crate::world::{Awaited, End, World};

fn node() -> World {
    let mut world = World::new(3);
    make_topic(&mut world, "t");
    world.run();
    world
}

fn produce(world: &mut World, core: usize, partition: i32) -> Awaited {
    world.send(core, ApiKey::Produce, PRODUCE, &produce_request("t", partition, "x"))
}

fn is_acknowledged(world: &mut World, awaited: Awaited) -> bool {
    let answer = world.answer::<ProduceRequest>(awaited, ApiKey::Produce, PRODUCE);
    answer.is_some_and(|answer| answer.responses[0].partition_responses[0].error_code == 0)
}

#[test]
fn a_stop_answers_what_is_open_on_any_core_and_is_then_over_at_once() {
    let mut world = node();
    let waiting = world.send(2, ApiKey::Fetch, FETCH, &request(&[(0, 0, 100)], 1..=100));
    world.run();
    world.ask_to_stop();
    // These were on their way; all other cores hear of the stop before their owners are asked.
    let open: Vec<Awaited> = (0..4).map(|partition| produce(&mut world, 2, partition)).collect();
    world.run_without_disks();
    assert!(world.ends.iter().all(|(_, end)| *end == End::Deaf), "{:?}", world.ends);
    world.run();
    for awaited in open {
        assert!(is_acknowledged(&mut world, awaited));
    }
    assert!(world.answer::<FetchRequest>(waiting, ApiKey::Fetch, FETCH).is_some());
    for core in 0..3 {
        let ends: Vec<End> = world.ends.iter().filter(|end| end.0 == core).map(|e| e.1).collect();
        assert_eq!(ends, [End::Deaf, End::Stopped]);
    }
}
