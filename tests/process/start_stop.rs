//! A broker starts, stops, is killed and comes back; and one data folder has one broker.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flumen_tests::broker::{Broker, Folder, START_WITHIN, free_port};
use flumen_tests::wire::{API_VERSIONS, METADATA, Wire, request};

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

/// Producers that never let up must not keep a broker from its end, and lose nothing by it.
#[test]
fn asked_to_stop_under_load_it_ends_soon_and_keeps_what_it_acknowledged() {
    for cores in ["flumen.cores=1", "flumen.cores=2"] {
        let folder = Folder::fresh();
        let broker = Broker::start_with(&folder, free_port(), &[cores]);
        let topics: Vec<String> = (0..8).map(|number| format!("loaded-{number}")).collect();
        for topic in &topics {
            assert_eq!(wire(&broker).create_topic(topic), Some(0));
        }
        let acknowledged = stop_under_load(broker, &topics);
        let broker = Broker::start(&folder);
        for (topic, acknowledged) in topics.iter().zip(acknowledged) {
            let kept = end_offset(&broker, topic);
            assert!(kept >= acknowledged, "{topic}: {acknowledged} acknowledged, {kept} kept");
        }
    }
}

/// Where a topic ends. Just after a start a leader does not know it yet, and clients ask again.
fn end_offset(broker: &Broker, topic: &str) -> i64 {
    let deadline = Instant::now() + START_WITHIN;
    loop {
        if let Some(offset) = wire(broker).end_offset(topic) {
            return offset;
        }
        assert!(Instant::now() < deadline, "no end of {topic} within {START_WITHIN:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Produces to each topic as fast as answers come, asks the broker to stop, and says how many
/// records of each topic it acknowledged until it was gone.
fn stop_under_load(broker: Broker, topics: &[String]) -> Vec<i64> {
    let address = broker.address();
    let acknowledged: Vec<AtomicI64> = topics.iter().map(|_| AtomicI64::new(0)).collect();
    thread::scope(|scope| {
        for (topic, acknowledged) in topics.iter().zip(&acknowledged) {
            scope.spawn(move || {
                let mut wire = Wire::connect(address).expect("a running broker accepts");
                let mut goes_on = wire.pipeline_produce(topic, 100, 100);
                // One more for every answer. What was answered before the end counts to the last.
                while let Some(error) = wire.produced() {
                    assert_eq!(error, 0);
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    goes_on = goes_on && wire.pipeline_produce(topic, 100, 1);
                }
            });
        }
        let loaded = Instant::now() + START_WITHIN;
        while acknowledged.iter().any(|count| count.load(Ordering::Relaxed) < 200) {
            // A producer that is refused ends, and would be waited for in vain.
            assert!(Instant::now() < loaded, "no load within {START_WITHIN:?}: {acknowledged:?}");
            thread::sleep(Duration::from_millis(5));
        }
        let asked = Instant::now();
        assert_eq!(broker.stop().code(), Some(0));
        let took = asked.elapsed();
        // It gives requests that hang five seconds; none of these does.
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
    acknowledged.into_iter().map(AtomicI64::into_inner).collect()
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

/// Where the first answer after a start sends clients to, by Metadata version 1.
fn told_port(broker: &Broker) -> i32 {
    let deadline = Instant::now() + START_WITHIN;
    let mut wire = loop {
        if let Some(wire) = Wire::connect(broker.address()) {
            break wire;
        }
        assert!(Instant::now() < deadline, "nobody listens:\n{}", broker.said());
    };
    let answer = wire.ask(&request(METADATA, 1, 1, &0_i32.to_be_bytes())).expect("metadata");
    assert_eq!(answer[4..8], 1_i32.to_be_bytes(), "one broker");
    let host = "127.0.0.1".len();
    let port = answer[14 + host..][..4].try_into().expect("four bytes");
    i32::from_be_bytes(port)
}

#[test]
fn it_never_sends_anybody_to_where_it_listened_before() {
    let folder = Folder::fresh();
    for _ in 0..4 {
        let port = free_port();
        let broker = Broker::launch(&folder, port, &[]);
        assert_eq!(told_port(&broker), i32::from(port));
        broker.kill();
    }
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

/// Whoever waits for one port and then asks on the other must find somebody there.
#[test]
fn when_clients_are_let_in_the_admin_page_is_there() {
    for _ in 0..8 {
        let (folder, admin) = (Folder::fresh(), free_port());
        let listener = format!("flumen.admin.listener=127.0.0.1:{admin}");
        let broker = Broker::launch(&folder, free_port(), &["flumen.cores=4", &listener]);
        let deadline = Instant::now() + START_WITHIN;
        while Wire::connect(broker.address()).is_none() {
            assert!(Instant::now() < deadline, "nobody listens:\n{}", broker.said());
        }
        let admin = SocketAddr::from(([127, 0, 0, 1], admin));
        let mut page = Wire::connect(admin).expect("the admin page is open before");
        assert!(page.send(b"GET /health HTTP/1.1\r\n\r\n"));
        let page = String::from_utf8(page.read_to_end()).expect("text");
        assert!(page.starts_with("HTTP/1.1 200") || page.ends_with("starting\n"), "{page}");
    }
}
