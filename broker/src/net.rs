//! Sockets: the only rooms that know them.
//!
//! Does: accept connections, cut their bytes into frames, write answers in request order.
//! Does not: know requests, partitions or time-outs of requests.
//! Invariants: nothing outside this module and the pump awaits; answers leave in the order in
//! which their requests came.
//! Apart so that it can move from glommio's streams to a ring of its own (architecture D10).

pub mod connection;
pub mod connections;
pub mod inbox;
pub mod listener;
pub mod slots;
