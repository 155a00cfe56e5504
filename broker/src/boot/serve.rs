//! `flumen serve`: from options to a running node.
//!
//! Does: look at the machine, find addresses free, take the folder, start the cores, wait.
//! Does not: recover or serve; the cores do.
//! Invariants: whatever keeps the node from running is said in words, with what to do, before
//! anything is written.
//! Apart because it is the one place that knows the order of a start.
#![expect(clippy::disallowed_methods, reason = "waits before any core runs")]

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{self, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;
use std::time::Duration;

use flumen_replication::dice::Dice;
use flumen_storage::answers::StoreConfig;
use flumen_storage::journal::journal::JournalConfig;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use super::cores::{self, Plan};
use super::folder::{self, Folder};
use super::pulse::Pulse;
use super::{core_change, seed};
use crate::cli::ServeArguments;
use crate::config::listener::{Listener, authority};
use crate::config::load;
use crate::config::options::Options;
use crate::doctor::{self, Verdict, machine};
use crate::limits::{CONNECTIONS_MIN, DESCRIPTORS_PER_CORE, DESCRIPTORS_READY};
use crate::net::listener;

/// Runs the broker until it is asked to stop.
///
/// # Errors
/// What kept it from starting or going on, and what to do.
pub fn run(arguments: &ServeArguments) -> Result<(), String> {
    let hostname = machine::hostname();
    let loaded = load::load(arguments.config.as_deref(), &arguments.overrides, &hostname)
        .map_err(|error| error.to_string())?;
    for note in loaded.notes() {
        info!("{note}");
    }
    let mut options = loaded.options;
    options.log_dir = absolute(&options.log_dir)?;
    let descriptors = raise_file_limit();
    widen_descriptor_table(descriptors);
    examine(&options)?;
    let addresses = find_addresses(&mut options)?;
    let admin = admin_address(&options)?;
    check_apart(&options, &addresses, admin)?;
    let cpus = allowed_cpus();
    let wanted = wanted_cores(&options, cpus.len());
    let seed = seed::seed(options.seed).map_err(|error| format!("no randomness: {error}"))?;
    info!(seed, version = env!("CARGO_PKG_VERSION"), "starting");
    let mut folder = folder::take(&options, wanted, &mut Dice::new(!seed))?;
    let memory = options.memory_budget_bytes(machine::memory_bytes());
    keep_or_change_cores(&mut folder, &options, wanted, memory, arguments.accept_damage)?;
    let cores = folder.record.core_count;
    let plan = Plan {
        options: Arc::new(options),
        folder: Arc::new(folder),
        seed,
        addresses: Arc::new(addresses),
        admin,
        memory_per_core: share_of(memory, cores),
        connections_per_core: connections_per_core(descriptors, cores),
        accepts_damage: arguments.accept_damage,
        confirms_clock: arguments.confirm_clock,
        stop: stop_signal()?,
        unready: Arc::new(AtomicUsize::new(usize::from(cores))),
        pulse: Arc::new(Pulse::new(cores)),
    };
    cores::run(&plan, &cpus)
}

/// Another number of cores than the folder's is taken only if the operator named it (decision
/// 0011): partitions are never moved because a machine, an affinity mask or a quota changed.
fn keep_or_change_cores(
    folder: &mut Folder,
    options: &Options,
    wanted: u16,
    memory: u64,
    accepts_damage: bool,
) -> Result<(), String> {
    let recorded = folder.record.core_count;
    if wanted == recorded {
        return Ok(());
    }
    if options.cores == 0 {
        warn!(
            recorded,
            machine = wanted,
            "this data folder is spread over another number of cores than the machine has, and \
             keeps it; set flumen.cores to move its partitions"
        );
        return Ok(());
    }
    let memory = share_of(memory, recorded);
    core_change::carry_out(folder, options, wanted, memory, accepts_damage)
}

fn share_of(memory: u64, cores: u16) -> usize {
    usize::try_from(memory / u64::from(cores)).unwrap_or(usize::MAX)
}

/// How a core's store shares the core's memory: a quarter each for what waits to be settled and
/// for readers near the end, an eighth for what cold readers have just read.
pub fn store_config(memory_per_core: usize) -> StoreConfig {
    StoreConfig {
        cache_bytes: memory_per_core / 4,
        window_bytes: memory_per_core / 8,
        unsettled_bytes: memory_per_core / 4,
    }
}

/// Bytes that one core may hold of requests being served, of requests arriving, and of answers,
/// each: a third of what the store leaves over.
pub fn request_bytes(plan: &Plan) -> usize {
    let store = store_config(plan.memory_per_core);
    let taken = store.cache_bytes + store.window_bytes + store.unsettled_bytes;
    (plan.memory_per_core - taken) / 3
}

/// The journal's share of the disk: what the operator says, but of a small file system at most an
/// eighth over all cores. Journal files are kept for reuse and never given back, so without this
/// bound they alone could hold a small disk below its reserve for good.
pub fn journal_config(options: &Options, folder: &Folder) -> JournalConfig {
    let positive = |value: i64| u64::try_from(value).unwrap_or(0);
    let file_bytes = positive(options.journal_file_bytes);
    let cores = u64::from(folder.record.core_count).max(1);
    let share = folder.file_system_bytes().map_or(u64::MAX, |b| b / 8 / cores);
    let fewest = JournalConfig::FILES_MIN * file_bytes;
    let window_bytes = positive(options.journal_window_bytes).min(share.max(fewest));
    JournalConfig { file_bytes, window_bytes, ..JournalConfig::default() }
}

/// The data folder as everybody is told of it: DescribeLogDirs names it to machines that do not know
/// where the broker was started.
fn absolute(folder: &Path) -> Result<PathBuf, String> {
    path::absolute(folder).map_err(|error| format!("data folder {}: {error}", folder.display()))
}

fn examine(options: &Options) -> Result<(), String> {
    let mut failed = Vec::new();
    for finding in doctor::quick(&options.log_dir, options) {
        match finding.verdict {
            Verdict::Ok => {}
            Verdict::Warn => warn!("{finding}"),
            Verdict::Fail => failed.push(finding.to_string()),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

/// Each connection and each open segment needs a descriptor: take what the system allows, and say
/// how many that is.
fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "cannot raise the limit of open files");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The kernel's table of descriptors doubles whenever it is full, and a process with several threads
/// waits each time until every processor has passed a quiet point: a crowd that connected to a young
/// broker held its core for milliseconds. Now there is one thread, and nothing to wait for.
fn widen_descriptor_table(descriptors: u64) {
    let last = descriptors.min(DESCRIPTORS_READY).saturating_sub(1);
    let last = i32::try_from(last).unwrap_or(i32::MAX);
    let any = eventfd(0, EventfdFlags::CLOEXEC);
    if let Err(error) = any.and_then(|any| fcntl_dupfd_cloexec(any, last)) {
        warn!(%error, "cannot widen the table of descriptors: connections will come in more slowly");
    }
}

/// Connections that one core may have at once: what its share of the descriptors leaves beside the
/// store's own. At least a few, so that the node can be asked what is wrong.
fn connections_per_core(descriptors: u64, cores: u16) -> usize {
    let share = usize::try_from(descriptors / u64::from(cores)).unwrap_or(usize::MAX);
    share.saturating_sub(DESCRIPTORS_PER_CORE).max(CONNECTIONS_MIN)
}

/// The addresses of every listener. A port of 0 is fixed here, so that all cores share one.
fn find_addresses(options: &mut Options) -> Result<Vec<Vec<SocketAddr>>, String> {
    let several = options.listeners.len() > 1;
    let mut found = Vec::new();
    for listener in &mut options.listeners {
        match find_address(listener) {
            Ok(address) => {
                listener.port = address.port();
                found.push(vec![address]);
            }
            // A machine without IPv6 has no [::1]; the other loopback address is enough.
            Err(error) if several && error.kind() == io::ErrorKind::AddrNotAvailable => {
                warn!(host = listener.host, %error, "this address does not exist here");
                found.push(Vec::new());
            }
            Err(error) => {
                let (host, port) = (&listener.host, listener.port);
                return Err(format!(
                    "cannot listen on {host}:{port}: {error}; is another broker running there?"
                ));
            }
        }
    }
    if found.iter().all(Vec::is_empty) {
        return Err("none of the addresses of `listeners` exists on this machine".to_owned());
    }
    Ok(found)
}

fn find_address(listener: &Listener) -> io::Result<SocketAddr> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in listener.bind_candidates() {
        match find_free(&candidate) {
            Ok(address) => return Ok(address),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The first address of a name that exists here and that nobody listens on, waiting a moment for
/// one that is being given up: the kernel takes a killed process's rings, and the sockets in
/// them, apart only after the process is gone.
fn find_free(name: &str) -> io::Result<SocketAddr> {
    let mut patience = TAKEN_LOOKS;
    loop {
        match try_free(name) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && patience > 0 => {
                patience -= 1;
                thread::sleep(TAKEN_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// How often and how far apart an address is looked at that somebody still has: two seconds.
const TAKEN_LOOKS: u32 = 80;
const TAKEN_PAUSE: Duration = Duration::from_millis(25);

/// The first address of a name that exists here and that nobody listens on.
fn try_free(name: &str) -> io::Result<SocketAddr> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in name.to_socket_addrs()? {
        match listener::check(address) {
            Ok(bound) => return Ok(bound),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && !answers(address) => {
                return Ok(address);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether somebody listens there. After a restart the last life's connections linger in
/// TIME_WAIT, and the system calls the address taken although nobody has it.
fn answers(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, PROBE_PATIENCE).is_ok()
}

/// How long to wait for a listener to answer; on this machine it takes microseconds.
const PROBE_PATIENCE: Duration = Duration::from_millis(500);

fn admin_address(options: &Options) -> Result<Option<SocketAddr>, String> {
    let Some(text) = &options.admin_listener else { return Ok(None) };
    let bound = find_free(text);
    bound.map(Some).map_err(|error| {
        format!("cannot listen on flumen.admin.listener={text}: {error}; choose another or leave it empty")
    })
}

/// Whether each listener, and the admin page, has an address of its own, whatever names were written.
/// The doors of all cores share their address on purpose, so the system would let two listeners
/// share one as well, and give each of them half of the connections. Every address of the machine
/// overlaps with itself in either family; one address beside all of them is well-defined.
fn check_apart(
    options: &Options,
    addresses: &[Vec<SocketAddr>],
    admin: Option<SocketAddr>,
) -> Result<(), String> {
    let written = |listener: &Listener| {
        format!("{}://{}", listener.name, authority(&listener.host, listener.port))
    };
    let mut taken: Vec<(String, SocketAddr)> = Vec::new();
    let listeners = options.listeners.iter().zip(addresses);
    let doors = listeners.flat_map(|(it, found)| found.iter().map(move |at| (written(it), *at)));
    let page = options.admin_listener.iter().map(|text| format!("flumen.admin.listener={text}"));
    for (name, address) in doors.chain(page.zip(admin)) {
        let is_same = |other: &SocketAddr| {
            let both_all = other.ip().is_unspecified() && address.ip().is_unspecified();
            other.port() == address.port() && (both_all || other.ip() == address.ip())
        };
        if let Some((other, _)) = taken.iter().find(|(_, other)| is_same(other)) {
            return Err(format!(
                "{name} and {other} are one address, {address}: give each a port of its own"
            ));
        }
        taken.push((name, address));
    }
    Ok(())
}

/// The processors this process may use, by affinity.
fn allowed_cpus() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
        Err(_) => (0..machine::core_count()).collect(),
    }
}

/// As many cores as the operator wants, more than there are processors if need be; else as many
/// as the cgroup's quota pays for.
fn wanted_cores(options: &Options, allowed: usize) -> u16 {
    let wanted = match usize::try_from(options.cores) {
        Ok(cores) if cores > 0 => cores,
        Ok(_) | Err(_) => machine::core_count().clamp(1, allowed.max(1)),
    };
    u16::try_from(wanted).unwrap_or(u16::MAX)
}

/// A flag that SIGTERM and SIGINT set. The cores look at it once per turn, at least every second.
fn stop_signal() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, stop.clone())
            .map_err(|error| format!("cannot listen to signals: {error}"))?;
    }
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apart(listeners: &str, found: &[&str], admin: Option<&str>) -> Result<(), String> {
        let map = "listener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT";
        let admin_text = format!("flumen.admin.listener={}", admin.unwrap_or_default());
        let text = format!("{map}\nlisteners={listeners}\n{admin_text}");
        let options = load::load_text(text.as_bytes(), &[], "box").unwrap().options;
        let found: Vec<Vec<SocketAddr>> =
            found.iter().map(|text| text.parse().into_iter().collect()).collect();
        check_apart(&options, &found, admin.map(|text| text.parse().unwrap()))
    }

    #[test]
    fn there_is_room_for_descriptors_before_anybody_connects() {
        let ready = raise_file_limit().min(DESCRIPTORS_READY);
        widen_descriptor_table(ready);
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        assert!(size.trim().parse::<u64>().unwrap() >= ready, "{size} of {ready}");
    }

    #[test]
    fn the_data_folder_is_named_from_the_root() {
        let folder = absolute(Path::new("./somewhere/data")).unwrap();
        assert!(folder.is_absolute() && folder.ends_with("somewhere/data"), "{folder:?}");
        assert_eq!(absolute(Path::new("/data")), Ok(PathBuf::from("/data")));
    }

    #[test]
    fn two_names_of_one_address_are_refused() {
        let two = "A://127.0.0.1:9,B://localhost:9";
        let error = apart(two, &["127.0.0.1:9", "127.0.0.1:9"], None).unwrap_err();
        assert_eq!(
            error,
            "B://localhost:9 and A://127.0.0.1:9 are one address, 127.0.0.1:9: give each a port of \
             its own"
        );
        assert!(apart(two, &["127.0.0.1:9", "[::1]:9"], None).is_ok(), "both families");
        assert!(apart(two, &["127.0.0.1:9", ""], None).is_ok(), "one does not exist here");
        let every = "A://:9,B://0.0.0.0:9";
        assert!(apart(every, &["[::]:9", "0.0.0.0:9"], None).is_err());
        let inside = "A://:9,B://127.0.0.1:9";
        assert!(apart(inside, &["[::]:9", "127.0.0.1:9"], None).is_ok(), "the narrower goes first");
    }

    #[test]
    fn the_admin_page_is_not_behind_the_clients_door() {
        let found = ["127.0.0.1:9"];
        let error = apart("A://localhost:9", &found, Some("127.0.0.1:9")).unwrap_err();
        assert!(error.starts_with("flumen.admin.listener=127.0.0.1:9 and"), "{error}");
        assert!(apart("A://localhost:9", &found, Some("127.0.0.1:10")).is_ok());
    }

    #[test]
    fn connections_leave_descriptors_for_the_disk() {
        assert_eq!(connections_per_core(1024, 2), 512 - DESCRIPTORS_PER_CORE);
        assert_eq!(connections_per_core(256, 4), CONNECTIONS_MIN);
        assert!(connections_per_core(u64::MAX, 1) > 1 << 40, "unlimited");
    }
}
