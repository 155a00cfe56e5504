//! The cores: one executor and one shard each.
//!
//! Does: start a thread per core, wire the cores, recover, serve, wait for their end.
//! Does not: choose what a core does.
//! Invariants: cores are numbered by their place in the mesh; a core listens to clients only after
//! every core is ready to serve, and the admin page is there before that.
//! Apart because everything here runs once per core and touches the executor.
#![expect(
    clippy::disallowed_methods,
    reason = "a core that cannot go on takes the process with it"
)]

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use flumen_protocol::ids::NodeId;
use flumen_storage::io::driver::Driver;
use flumen_storage::io::ring::Ring;
use glommio::Placement;
use tracing::{error, info};

use super::executor::{ExecutorRing, Meeting};
use super::mesh::{self, Mesh};
use super::pulse::Pulse;
use super::{executor, open, serve};
use crate::boot::folder::Folder;
use crate::config::options::Options;
use crate::net::connection::Speech;
use crate::net::connection_limits::ConnectionLimits;
use crate::net::connections::Connections;
use crate::net::inbox::Inbox;
use crate::shard::memory::RequestMemory;
use crate::shard::pump::{self, Clock, Ended, Serve, World};
use crate::shard::shard::{Identity, Shard};

/// What every core is started with.
#[derive(Clone)]
pub struct Plan {
    /// The node's settings.
    pub options: Arc<Options>,
    /// The data folder.
    pub folder: Arc<Folder>,
    /// The seed of the process.
    pub seed: u64,
    /// Where to listen, by position in `listeners`.
    pub addresses: Arc<Vec<Vec<SocketAddr>>>,
    /// Where `/metrics` and `/health` are.
    pub admin: Option<SocketAddr>,
    /// Bytes each core may hold for requests, and for its cache.
    pub memory_per_core: usize,
    /// Connections that each core has descriptors for.
    pub connections_per_core: usize,
    /// Whether an operator gives up what is damaged.
    pub accepts_damage: bool,
    /// Whether an operator says that the wall clock is right.
    pub confirms_clock: bool,
    /// Set by a signal.
    pub stop: Arc<AtomicBool>,
    /// Cores that do not listen yet.
    pub unready: Arc<AtomicUsize>,
    /// Signs of life for the service manager.
    pub pulse: Arc<Pulse>,
}

/// Starts every core and waits for all of them to end.
///
/// # Errors
/// The first reason for which a core could not start or had to stop.
pub fn run(plan: &Plan, cpus: &[usize]) -> Result<(), String> {
    let cores = plan.folder.record.core_count;
    let wires = mesh::wires(cores).map_err(|error| format!("cannot wire the cores: {error}"))?;
    let meeting = Meeting::of(cores);
    let mut threads: Vec<JoinHandle<Result<(), String>>> = Vec::new();
    for (core, mesh) in wires.into_iter().enumerate() {
        // More cores than processors happens after a move to a smaller machine, or by the wish of
        // an operator: they share them, wherever the system puts them.
        let pinned = plan.options.cores_pinned && cpus.len() >= usize::from(cores);
        let placement = match cpus.get(core) {
            Some(cpu) if pinned => Placement::Fixed(*cpu),
            Some(_) | None => Placement::Unbound,
        };
        let (plan, name) = (plan.clone(), format!("flumen-{core}"));
        let meeting = meeting.clone();
        let thread = thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let made = executor::make(&meeting, placement, &name);
                let (executor, its_ring, own_ring) = made.unwrap_or_else(|why| give_up(&why));
                executor.run(run_core(plan, mesh, its_ring, own_ring))
            })
            .map_err(|error| format!("cannot start the thread of a core: {error}"))?;
        threads.push(thread);
    }
    let mut outcome = Ok(());
    for thread in threads {
        let ended = thread.join().unwrap_or_else(|_| Err("a core panicked".to_owned()));
        outcome = outcome.and(ended);
    }
    outcome
}

async fn run_core(
    plan: Plan,
    mesh: Mesh,
    executor: ExecutorRing,
    ring: Ring,
) -> Result<(), String> {
    let ended = serve_core(plan, mesh, executor, ring).await;
    if let Err(why) = &ended {
        give_up(why);
    }
    ended
}

/// The other cores cannot go on without this one: what it owns would be gone for clients.
fn give_up(why: &str) -> ! {
    error!(%why, "a core ended; the process stops");
    std::process::exit(1);
}

async fn serve_core(
    plan: Plan,
    mesh: Mesh,
    executor: ExecutorRing,
    ring: Ring,
) -> Result<(), String> {
    let cores = plan.folder.record.core_count;
    let clock = Clock::start();
    let inbox = Rc::new(Inbox::default());
    let core = mesh.place();
    let driver = Rc::new(Driver::new(plan.folder.root.clone(), core));
    let identity = plan.folder.record.identity(core);
    let config = serve::store_config(plan.memory_per_core);
    let journal = serve::journal_config(&plan.options, &plan.folder);
    let opening = open::opening(config, journal, identity, plan.accepts_damage);
    let opening = if plan.confirms_clock { opening.confirm_clock() } else { opening };
    let opened = open::recover(opening, &driver, &clock, &plan.stop).await;
    let Some((store, recovered)) = opened.map_err(|error| error.to_string())? else {
        // Nobody was served yet, and no core serves before all are ready: there is nothing to end.
        std::process::exit(0);
    };
    info!(%core, partitions = recovered.logs.len(), "recovered");
    let memory = Rc::new(RequestMemory::new(serve::request_bytes(&plan)));
    let limits = ConnectionLimits::of(&plan.options, None, cores);
    let mut connections =
        Connections::new(limits, plan.connections_per_core, clock.now().monotonic);
    let identity = Identity {
        core,
        cores,
        node: NodeId(plan.options.node_id),
        cluster_id: plan.folder.cluster_id(),
        options: plan.options.clone(),
    };
    let shard = Shard::open(identity, store, recovered, memory.clone(), plan.seed, clock.now())?;
    let mut ring = ring;
    if core.0 == 0 {
        open_admin(&plan, &mut connections, &mut ring)?;
    }
    let root = plan.folder.root.clone();
    let (stop, pulse) = (plan.stop.clone(), plan.pulse.clone());
    let serve: Serve = Box::new(move |connections, ring| {
        start_listening(&plan, connections, ring);
    });
    let world = World {
        inbox,
        connections,
        memory,
        ring,
        executor,
        driver,
        mesh,
        clock,
        is_unsettled: false,
        root,
        stop,
        pulse,
        serve,
    };
    match pump::run(shard, world).await {
        Ended::Stopped => Ok(()),
        Ended::Halted(why) => Err(why),
    }
}

/// Opens the admin page before the first core takes part in the start: no core lets clients in
/// before this one has spoken, so whoever is let in finds the page there.
fn open_admin(plan: &Plan, connections: &mut Connections, ring: &mut Ring) -> Result<(), String> {
    let Some(address) = plan.admin else { return Ok(()) };
    connections
        .listen(address, Speech::Admin, ring)
        .map_err(|error| format!("cannot listen on {address} for /metrics and /health: {error}"))
}

fn start_listening(plan: &Plan, connections: &mut Connections, ring: &mut Ring) {
    for (listener, addresses) in plan.addresses.iter().enumerate() {
        for address in addresses {
            let speech = Speech::Kafka { listener };
            if let Err(error) = connections.listen(*address, speech, ring) {
                error!(%address, %error, "cannot listen");
                std::process::exit(1);
            }
        }
    }
    if plan.unready.fetch_sub(1, Ordering::AcqRel) == 1 {
        info!(addresses = ?plan.addresses, admin = ?plan.admin, "serving");
        plan.pulse.ready();
    }
}
