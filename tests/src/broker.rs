//! A real broker process: on a free port, in a folder of its own, started, stopped and killed like anywhere else.
//!
//! Does: find the program, start it, wait until its port answers, signal it, and remove what it left behind.
//! Does not: look inside. All it knows of the program is its command line and its exit status.
//! Invariant: no process and no folder outlives the value that owns it.
//! Apart, because every process test needs it and none should repeat its waiting.

use crate::wire::Wire;
use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a start may take before a test gives up. A calm machine needs well below a second; a busy one does not.
pub const START_WITHIN: Duration = Duration::from_secs(30);
/// How long a stop after SIGTERM may take before a test gives up.
pub const STOP_WITHIN: Duration = Duration::from_secs(30);
const POLL_EVERY: Duration = Duration::from_millis(20);

/// A data folder that is removed when dropped, unless its test failed.
pub struct Folder(PathBuf);

impl Folder {
    /// An empty folder below the build folder: on a real disk, where direct writes work.
    ///
    /// # Panics
    /// Where the folder cannot be made.
    #[must_use]
    pub fn fresh() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = target_folder().join("process").join(format!("{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a data folder below the build folder");
        Self(path)
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("kept for you to look at: {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A running broker. Dropping it kills it.
pub struct Broker {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Broker {
    /// Starts a broker in `folder` on a free port and waits until it answers.
    ///
    /// # Panics
    /// With the broker's own words when it ends or stays silent instead.
    #[must_use]
    pub fn start(folder: &Folder) -> Self {
        Self::start_on(folder, free_port())
    }

    /// Starts a broker in `folder` on this port and waits until it answers.
    ///
    /// # Panics
    /// As [`Broker::start`].
    #[must_use]
    pub fn start_on(folder: &Folder, port: u16) -> Self {
        Self::start_with(folder, port, &[])
    }

    /// Starts a broker with further `KEY=VALUE` overrides (or `--flags`) and waits until it answers.
    ///
    /// # Panics
    /// As [`Broker::start`].
    #[must_use]
    pub fn start_with(folder: &Folder, port: u16, more: &[&str]) -> Self {
        Self::launch(folder, port, more).awaited()
    }

    /// Starts a broker that may have so many files and connections open, and waits until it answers.
    ///
    /// # Panics
    /// As [`Broker::start`].
    #[must_use]
    pub fn start_with_descriptors(folder: &Folder, count: u32, more: &[&str]) -> Self {
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--nofile={count}:{count}"));
        Self::start_under(limited, folder, more)
    }

    /// Starts a broker as the last argument of another program, such as `taskset`, and waits until it answers. That
    /// program must become the broker, not its parent.
    ///
    /// # Panics
    /// As [`Broker::start`].
    #[must_use]
    pub fn start_under(wrapper: Command, folder: &Folder, more: &[&str]) -> Self {
        Self::launch_under(wrapper, folder, more).awaited()
    }

    /// As [`Broker::start_under`], and does not wait for it.
    ///
    /// # Panics
    /// As [`Broker::launch`].
    #[must_use]
    pub fn launch_under(mut wrapper: Command, folder: &Folder, more: &[&str]) -> Self {
        wrapper.arg(program());
        Self::spawn(wrapper, folder, free_port(), more)
    }

    fn awaited(mut self) -> Self {
        let broker = &mut self;
        let deadline = Instant::now() + START_WITHIN;
        while Wire::connect(broker.address).is_none_or(|mut wire| wire.api_versions().is_none()) {
            if let Some(status) = broker.child.try_wait().expect("the child can be asked") {
                panic!("the broker ended with {status} instead of serving:\n{}", broker.said());
            }
            assert!(
                Instant::now() < deadline,
                "no answer within {START_WITHIN:?}:\n{}",
                broker.said()
            );
            thread::sleep(POLL_EVERY);
        }
        self
    }

    /// Starts the program with further `KEY=VALUE` overrides and does not wait for it.
    ///
    /// # Panics
    /// Where the program cannot be started at all.
    #[must_use]
    pub fn launch(folder: &Folder, port: u16, more: &[&str]) -> Self {
        Self::launch_with(folder, port, more, &[])
    }

    /// As [`Broker::launch`], with further variables in its environment. A service manager that
    /// may watch over these tests is not passed on.
    ///
    /// # Panics
    /// As [`Broker::launch`].
    #[must_use]
    pub fn launch_with(folder: &Folder, port: u16, more: &[&str], told: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program());
        command.envs(told.iter().copied());
        Self::spawn(command, folder, port, more)
    }

    fn spawn(mut command: Command, folder: &Folder, port: u16, more: &[&str]) -> Self {
        let log = folder.path().with_extension(format!("{port}.log"));
        let out = File::create(&log).expect("a log beside the data folder");
        command.arg("serve");
        for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC"] {
            if !command.get_envs().any(|(name, _)| name == variable) {
                command.env_remove(variable);
            }
        }
        let listen: &str = &format!("listeners=PLAINTEXT://127.0.0.1:{port}");
        let data: &str = &format!("log.dirs={}", folder.path().join("data").display());
        for option in [listen, data, "flumen.admin.listener="].iter().chain(more) {
            match option.starts_with("--") {
                true => command.arg(option),
                false => command.args(["--override", option]),
            };
        }
        command.stdin(Stdio::null()).stderr(out.try_clone().expect("a second handle")).stdout(out);
        let child = command.spawn().expect("the broker's program can be started");
        Self { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), log }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it as a crash would, without a word (SIGKILL).
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    ///
    /// # Panics
    /// Where it does not end in time.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("-TERM");
        self.wait(STOP_WITHIN)
    }

    /// Stops all its threads where they are (SIGSTOP).
    ///
    /// # Panics
    /// Where it has ended.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Panics
    /// Where it has ended.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status().expect("kill can be run");
        assert!(sent.success(), "the broker had ended before {name}:\n{}", self.said());
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// Where it still runs after `within`.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                return status;
            }
            assert!(Instant::now() < deadline, "still running after {within:?}:\n{}", self.said());
            thread::sleep(POLL_EVERY);
        }
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Panics
    /// Where the system does not say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child can be asked")
    }

    /// Everything it printed so far.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Bytes of memory it has resident.
    ///
    /// # Panics
    /// Where the kernel does not say.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("a running broker");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).map(str::trim);
        kib.and_then(|kib| kib.parse::<usize>().ok()).expect("its size") << 10
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
        if !thread::panicking() {
            let _ = fs::remove_file(&self.log);
        }
    }
}

/// A port that nobody listened on a moment ago, below those the system gives to outgoing
/// connections: a client of another test must not take it in between.
///
/// # Panics
/// Where the machine has none left.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const PORTS: u32 = 12_000;
    let start = std::process::id().wrapping_mul(97);
    let mut tries = (0..PORTS).map(|_| {
        let place = start.wrapping_add(u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % PORTS;
        20_000 + place as u16
    });
    tries
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("one of twelve thousand ports is free")
}

/// What `flumen inspect` says of a folder whose broker has ended.
///
/// # Panics
/// Where it refuses.
#[must_use]
pub fn inspect(folder: &Folder) -> String {
    let mut command = Command::new(program());
    let output = command.arg("inspect").arg(folder.path().join("data")).output();
    let output = output.expect("the broker's program can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "inspect ended with {}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command of the program with this on its standard input, and waits for its end.
///
/// # Panics
/// Where it cannot be started, or takes no input.
#[must_use]
pub fn run(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be started");
    let mut stdin = child.stdin.take().expect("its input was asked for");
    stdin.write_all(input.as_bytes()).expect("it takes its input");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

/// `FLUMEN_BIN`, or what was built last in the usual place.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("FLUMEN_BIN") {
        return PathBuf::from(path);
    }
    let built = ["release", "debug"].map(|profile| target_folder().join(profile).join("flumen"));
    let found = built.into_iter().find(|path| path.exists());
    found.expect("no broker to test: run `cargo build --release`, or set FLUMEN_BIN to its program")
}

fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| crate::workspace_root().join("target"), PathBuf::from)
}
