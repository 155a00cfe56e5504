//! A broker under a service manager says when it serves, and goes on giving signs of life.

use flumen_tests::broker::{Broker, Folder, START_WITHIN, free_port};
use flumen_tests::wire::Wire;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// How long the service manager of these tests would wait for a sign: half of it is the interval.
const WATCHDOG: Duration = Duration::from_secs(2);

/// The end of the service manager: a datagram socket beside the data folder.
struct ServiceManager {
    socket: UnixDatagram,
    path: String,
}

impl ServiceManager {
    fn beside(folder: &Folder) -> Self {
        let path = folder.path().join("notify").display().to_string();
        let socket = UnixDatagram::bind(&path).expect("a socket beside the data folder");
        Self { socket, path }
    }

    fn start(&self, folder: &Folder, port: u16) -> Broker {
        let watchdog = WATCHDOG.as_micros().to_string();
        let told = [("NOTIFY_SOCKET", self.path.as_str()), ("WATCHDOG_USEC", watchdog.as_str())];
        Broker::launch_with(folder, port, &[], &told)
    }

    /// The next thing it is told, or nothing within the time.
    fn hears(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).expect("a time above zero");
        let mut told = [0; 4096];
        let length = self.socket.recv(&mut told).ok()?;
        Some(String::from_utf8_lossy(&told[..length]).into_owned())
    }

    /// Waits for a message with this line.
    fn waits_for(&self, line: &str, within: Duration, broker: &Broker) {
        let deadline = Instant::now() + within;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            let told = self.hears(left.max(Duration::from_millis(1)));
            if told.is_some_and(|told| told.lines().any(|said| said == line)) {
                return;
            }
        }
        panic!("no {line} within {within:?}:\n{}", broker.said());
    }
}

#[test]
fn it_says_ready_only_when_it_answers() {
    let (folder, port) = (Folder::fresh(), free_port());
    let manager = ServiceManager::beside(&folder);
    let broker = manager.start(&folder, port);
    manager.waits_for("READY=1", START_WITHIN, &broker);
    let mut wire = Wire::connect(broker.address()).expect("a broker that is ready accepts");
    assert!(wire.api_versions().is_some(), "a broker that is ready answers");
}

#[test]
fn it_gives_signs_of_life_as_long_as_its_cores_turn() {
    let (folder, port) = (Folder::fresh(), free_port());
    let manager = ServiceManager::beside(&folder);
    let broker = manager.start(&folder, port);
    manager.waits_for("READY=1", START_WITHIN, &broker);
    for _ in 0..3 {
        // An idle broker, too: it must not need a client to show that it lives.
        manager.waits_for("WATCHDOG=1", START_WITHIN, &broker);
    }
    broker.freeze();
    // What was sent before the freeze is still in the socket.
    while manager.hears(Duration::from_millis(100)).is_some() {}
    assert_eq!(manager.hears(WATCHDOG), None, "a frozen broker gives no sign");
    broker.thaw();
    manager.waits_for("WATCHDOG=1", START_WITHIN, &broker);
}
