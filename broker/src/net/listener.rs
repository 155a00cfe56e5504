//! Opening the door of one core.
//!
//! Does: listen on an address with port reuse, so that the kernel spreads connections over the
//! cores.
//! Does not: accept.
//! Invariants: the socket never blocks.
//! Apart because it is the only place that sets options of a listening socket.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, ipproto, listen as start, socket_with, sockopt,
};

use crate::limits::ACCEPT_BACKLOG;

/// Starts to listen on an address.
///
/// # Errors
/// The operating system's reason for refusing the address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    start(&socket, ACCEPT_BACKLOG)?;
    Ok(TcpListener::from(socket))
}
