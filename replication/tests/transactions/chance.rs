//! Random producers, crashes and lost batches against the coordinator's promises.
//!
//! - every request is answered, and once;
//! - no epoch is given to two clients;
//! - a coordinator loaded from the log knows the same of every id as the one that wrote it, and owes
//!   the same markers.

use std::collections::BTreeSet;
use std::time::Duration;

use flumen_replication::coordinator::transaction::requests::{
    ClientVersion, Outcome, Producer, TransactionFilter, TransactionRequest, TransactionResponse,
};
use flumen_replication::dice::Dice;

use crate::world::{World, add};

const SEEDS: u64 = 40;
const STEPS: usize = 300;
const IDS: [&str; 3] = ["a", "b", "c"];

#[test]
fn a_loaded_coordinator_is_the_one_that_wrote_the_log() {
    let ended: usize = (0..SEEDS).map(live).sum();
    assert!(ended > 500, "only {ended} transactions ended");
}

fn live(seed: u64) -> usize {
    let mut dice = Dice::new(seed);
    let mut world = World::new();
    let mut clients: Vec<(usize, Producer)> = Vec::new();
    let mut given = BTreeSet::new();
    let mut ended = 0;
    for _ in 0..STEPS {
        let mut draw = |count: u64| (dice.draw() % count) as usize;
        let version = if draw(2) == 0 { ClientVersion::Zero } else { ClientVersion::Two };
        let client = (!clients.is_empty()).then(|| draw(clients.len() as u64));
        match (draw(10), client) {
            (0, _) | (_, None) => {
                let id = draw(3);
                if let Ok(producer) = world.init(IDS[id]) {
                    assert!(given.insert(producer), "seed {seed}: {producer:?} has two clients");
                    // Now and then the client before lives on as a zombie.
                    if draw(4) > 0 {
                        clients.retain(|(known, _)| *known != id);
                    }
                    clients.push((id, producer));
                }
            }
            (1..4, Some(client)) => {
                let (id, producer) = clients[client];
                let request = add(IDS[id], producer, &[("t", draw(4) as i32)], version);
                world.ask(request);
            }
            (4..6, Some(client)) => {
                let (id, producer) = clients[client];
                let outcome = if draw(2) == 0 { Outcome::Commit } else { Outcome::Abort };
                if let Ok(next) = world.end(IDS[id], producer, outcome, version) {
                    ended += 1;
                    given.insert(next);
                    clients[client].1 = next;
                }
            }
            (6..9, Some(_)) => {
                world.write_markers();
            }
            (_, Some(_)) => match draw(6) {
                0 => world.wait(Duration::from_secs(61)),
                1 => {
                    world.is_holding = true;
                    let timeout_ms = 60_000;
                    let id = IDS[draw(3)].to_owned();
                    let request =
                        TransactionRequest::Init { id, timeout_ms, asked: None, fresh: None };
                    world.ask(request);
                    world.fail();
                    if !world.coordinator.takes_requests() {
                        world.load();
                    }
                }
                2 => world.reload(),
                _ => world.wait(Duration::from_millis(300)),
            },
        }
        compare(&mut world, seed);
    }
    world.write_markers();
    world.wait(Duration::from_secs(10));
    ended
}

fn compare(world: &mut World, seed: u64) {
    let mut loaded = world.loaded();
    for id in world.list(TransactionFilter::default()) {
        assert_eq!(world.describe(&id), loaded.describe(&id), "seed {seed}");
    }
    let owed = |world: &World| -> BTreeSet<String> {
        world.owed.iter().map(|owed| format!("{owed:?}")).collect()
    };
    assert_eq!(owed(world), owed(&loaded), "seed {seed}");
    let stray = |answer: &TransactionResponse| matches!(answer, TransactionResponse::Verify(_));
    assert!(!world.answers.iter().any(|(_, answer)| stray(answer)));
}
