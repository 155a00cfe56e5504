//! Accepting connections on one core.
//!
//! Does: listen on every configured address with port reuse, so that the kernel spreads
//! connections over the cores; check the connection limits.
//! Does not: read from connections.
//! Invariants: a refused connection is closed before a byte of it was read.
//! Apart because every core listens and none coordinates.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use glommio::net::{TcpListener, TcpStream};

use super::connection::{self, Shared, Speech};
use crate::limits::ACCEPT_RETRY_PAUSE;
use crate::shard::input::Input;

/// Starts to accept on an address.
///
/// # Errors
/// The operating system's reason for refusing the address.
pub fn listen(shared: Rc<Shared>, address: SocketAddr, speech: Speech) -> io::Result<()> {
    let listener = TcpListener::bind(address).map_err(io::Error::from)?;
    glommio::spawn_local(async move { accept_all(shared, listener, speech).await }).detach();
    Ok(())
}

async fn accept_all(shared: Rc<Shared>, listener: TcpListener, speech: Speech) {
    loop {
        match listener.accept().await {
            Ok(stream) => open(&shared, stream, speech),
            Err(error) => {
                // Out of descriptors, mostly: the waiting connections stay in the backlog.
                shared.inbox.push(Input::AcceptFailed { reason: error.to_string() });
                glommio::timer::sleep(ACCEPT_RETRY_PAUSE).await;
            }
        }
    }
}

fn open(shared: &Rc<Shared>, stream: TcpStream, speech: Speech) {
    // A connection that is reset before we look has no peer any more: nothing to serve.
    let Ok(peer) = stream.peer_addr() else { return };
    match shared.connections.admit(peer.ip()) {
        Ok(id) => {
            // Failing to switch Nagle off costs latency, not correctness.
            let _best_effort = stream.set_nodelay(true);
            let shared = shared.clone();
            glommio::spawn_local(connection::serve(shared, id, peer, speech, stream)).detach();
        }
        Err(refused) => shared.inbox.push(Input::Refused { peer, refused }),
    }
}
