//! Sockets: the only rooms that know them.
//!
//! Does: accept connections, cut their bytes into frames, write answers in request order.
//! Does not: know requests, partitions or time-outs of requests.
//! Invariants: nothing here blocks or awaits; answers leave in the order in which their requests
//! came; what the ring of the core says is the only cause to look at a socket.
//! Apart so that nobody else need know what a connection is made of (decision 0012).

pub mod alone;
pub mod arrivals;
pub mod connection;
pub mod connection_limits;
pub mod connections;
pub mod flow;
pub mod inbox;
pub mod incoming;
pub mod lanes;
pub mod listener;
pub mod outgoing;
pub mod parting;
pub mod paused;
pub mod slots;
pub mod spent;
