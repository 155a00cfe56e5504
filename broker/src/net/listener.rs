//! Opening the door of one core.
//!
//! Does: say whether an address can be had; listen on it with port reuse, so that the kernel spreads
//! connections over the cores.
//! Does not: accept.
//! Invariants: the socket never blocks.
//! Apart because it is the only place that sets options of a listening socket.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, listen as start,
    socket_with, sockopt,
};

use crate::limits::ACCEPT_BACKLOG;

/// Starts to listen on an address.
///
/// # Errors
/// The operating system's reason for refusing the address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    start(&socket, ACCEPT_BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// The address if it exists here and nobody listens there; for port 0, one that the system picks.
///
/// Nobody listens because of the question, not even for a moment: a client that waits for the broker
/// would be let in, and hung up on. And it is asked without port reuse: with it a second broker of the
/// same user would share the address and take half of the connections.
///
/// # Errors
/// The operating system's reason for refusing the address.
pub fn check(address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = open(address)?;
    bind(&socket, &address)?;
    Ok(getsockname(&socket)?.try_into()?)
}

fn open(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpStream;
    use std::thread;

    use super::*;

    /// Whoever connects comes from 127.0.0.1: nobody can meet himself on a port that nobody has.
    fn any() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 2], 0))
    }

    #[test]
    fn an_address_where_somebody_listens_cannot_be_had() {
        let listening = listen(any()).unwrap();
        let address = listening.local_addr().unwrap();
        assert_eq!(check(address).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(listening);
        assert_eq!(check(address).unwrap(), address);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "one asks while the other knocks")]
    fn nobody_is_let_in_by_the_question() {
        let address = check(any()).unwrap();
        let asking = thread::spawn(move || (0..1000).all(|_| check(address).is_ok()));
        while !asking.is_finished() {
            assert!(TcpStream::connect(address).is_err(), "nobody was to listen");
        }
        assert!(asking.join().unwrap(), "it is free each time");
    }
}
