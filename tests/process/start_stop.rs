//! A broker starts, stops, is killed and comes back; and one data folder has one broker.

use flumen_tests::broker::{Broker, Folder, START_WITHIN, free_port};
use flumen_tests::wire::{API_VERSIONS, Wire};

fn wire(broker: &Broker) -> Wire {
    Wire::connect(broker.address()).expect("a running broker accepts")
}

#[test]
fn a_running_broker_lists_what_it_serves() {
    let folder = Folder::fresh();
    let broker = Broker::start(&folder);
    let served = wire(&broker).api_versions().expect("an answer");
    assert_eq!(served.error, 0);
    for key in [0, 1, 3, API_VERSIONS] {
        assert!(served.ranges.iter().any(|range| range.0 == key), "no API {key} in {served:?}");
    }
}

#[test]
fn asked_to_stop_it_ends_well() {
    let folder = Folder::fresh();
    let broker = Broker::start(&folder);
    let mut held = wire(&broker); // an idle connection must not hold up the stop
    let status = broker.stop();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(held.is_hung_up());
}

#[test]
fn it_keeps_its_identity_over_a_stop_and_a_crash() {
    let folder = Folder::fresh();
    let port = free_port();
    let broker = Broker::start_on(&folder, port);
    let id = wire(&broker).cluster_id().expect("metadata");
    assert!(!id.is_empty(), "a cluster has an id");
    assert_eq!(broker.stop().code(), Some(0));

    let broker = Broker::start_on(&folder, port);
    assert_eq!(wire(&broker).cluster_id().as_ref(), Some(&id), "after a stop");
    broker.kill();

    let broker = Broker::start_on(&folder, port);
    assert_eq!(wire(&broker).cluster_id(), Some(id), "after a crash");
}

#[test]
fn killed_while_starting_it_starts_the_next_time() {
    let folder = Folder::fresh();
    for _ in 0..5 {
        Broker::launch(&folder, free_port(), &[]).kill();
    }
    assert!(wire(&Broker::start(&folder)).api_versions().is_some());
}

#[test]
fn a_second_broker_on_the_same_folder_is_refused() {
    let folder = Folder::fresh();
    let first = Broker::start(&folder);
    let mut second = Broker::launch(&folder, free_port(), &[]);
    let status = second.wait(START_WITHIN);
    assert!(!status.success(), "two brokers on one folder would tear its files apart");
    assert!(!second.said().trim().is_empty(), "it must say why");
    assert!(wire(&first).api_versions().is_some(), "the first one goes on");
}

#[test]
fn an_option_that_does_not_exist_is_refused() {
    let folder = Folder::fresh();
    let mut broker = Broker::launch(&folder, free_port(), &["no.such.option=1"]);
    let status = broker.wait(START_WITHIN);
    assert!(!status.success(), "a misspelt option must not be ignored");
    assert!(broker.said().contains("no.such.option"), "it must name it: {}", broker.said());
}
