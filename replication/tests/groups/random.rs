//! Random clients, crashes and lost batches against the coordinator's global promises.
//!
//! - every request is answered, and once (the world checks);
//! - what was acknowledged survives a change of leaders: a coordinator loaded from the log has the
//!   same offsets and the same stable groups as the one that wrote it.

use flumen_replication::coordinator::group::{GroupRequest, GroupState, StateName};
use flumen_replication::coordinator::runtime::Phase;
use flumen_replication::dice::Dice;

use crate::script::World;

const SEEDS: u64 = 60;
const STEPS: usize = 400;

#[test]
fn a_loaded_coordinator_is_the_one_that_wrote_the_log() {
    let compared: usize = (0..SEEDS).map(live).sum();
    assert!(compared > 1000, "only {compared} stable groups were compared");
}

/// Lives through one seed; how many stable groups were compared.
fn live(seed: u64) -> usize {
    let mut dice = Dice::new(seed);
    let mut world = World::new(seed);
    let mut compared = 0;
    if seed.is_multiple_of(3) {
        world.run("config delay=3s max_size=3 retention=2m check=30s");
    }
    for _ in 0..STEPS {
        step(&mut world, &mut dice);
        if world.coordinator.phase() == Phase::Idle {
            world.load();
        }
        if world.is_quiet() {
            compared += compare_with_loaded(&mut world, seed);
        }
    }
    world.run("release");
    // Nobody may wait for longer than a rebalance, a session and a commit take.
    world.wait(30 * 60_000);
    let transcript = world.take_output();
    assert_eq!(world.waiting(), 0, "seed {seed}: somebody was never answered\n{transcript}");
    compared
}

fn step(world: &mut World, dice: &mut Dice) {
    let mut draw = |count: u64| dice.draw() % count;
    let client = ["a", "b", "c", "d"][draw(4) as usize];
    let group = ["g", "h"][draw(2) as usize];
    let partition = draw(4);
    let command = match draw(24) {
        0..7 => {
            let version = [3, 5, 8, 9][draw(4) as usize];
            let topics = ["t", "t+u", "u"][draw(3) as usize];
            let protocols = ["range", "range:t,sticky"][draw(2) as usize];
            let id = ["", " member=none"][usize::from(draw(5) == 0)];
            let instance = match draw(3) {
                0 => format!(" instance=i{}", draw(2)),
                _ => String::new(),
            };
            format!(
                "join {client} {group} v={version} protocols={protocols}:{topics}{id}{instance}"
            )
        }
        7..12 => format!("sync {client} {group} assign=a:1,b:2,c:3,d:4"),
        12..15 => format!("beat {client} {group}"),
        15 => format!("leave {client} {group} v={}", [1, 5][draw(2) as usize]),
        16..18 => format!("commit {client} {group} t/{partition}@{}", draw(1000)),
        18 => format!("commit - simple u/{partition}@{}", draw(1000)),
        19 => match draw(4) {
            0 => format!("delete {group}"),
            1 => "topics_deleted u".to_owned(),
            2 => format!("forget {group} t/{partition}"),
            _ => format!("fetch {group}"),
        },
        20 => format!("wait {}ms", draw(4_000)),
        21 => format!("wait {}ms", draw(40_000) * draw(2)),
        22 => ["hold", "release"][draw(2) as usize].to_owned(),
        _ => match draw(6) {
            0 => "fail not_leader".to_owned(),
            1 => "fail unavailable".to_owned(),
            2 => "resign".to_owned(),
            _ => "wait 0".to_owned(),
        },
    };
    world.run(&command);
}

/// Compares the coordinator with one that was loaded from its log.
fn compare_with_loaded(world: &mut World, seed: u64) -> usize {
    let transcript = world.take_output();
    let stable: Vec<String> = world
        .coordinator
        .groups()
        .filter(|row| row.state == GroupState::Classic(StateName::Stable))
        .map(|row| row.id.to_owned())
        .collect();
    let mut twin = world.twin();
    let expected = show(world, &stable);
    let loaded = show(&mut twin, &stable);
    assert_eq!(expected, loaded, "seed {seed}, after\n{transcript}");
    stable.len()
}

fn show(world: &mut World, groups: &[String]) -> String {
    world.run("offsets");
    for group_id in groups {
        let request = GroupRequest::Describe { group_id: group_id.clone(), version: 6 };
        world.request("describe", request);
    }
    world.take_output()
}
