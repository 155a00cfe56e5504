//! Asking again and again, as a client does that is told to.
//!
//! Does: ask until there is something, and give up loudly.
//! Does not: know which answers are worth asking again for; each story expects its own.
//! Apart from the client, which asks once.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that is asked for again and again.
pub const PATIENCE: Duration = Duration::from_secs(20);
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Asks until `ask` gives something; `what` names it.
///
/// # Panics
/// When it has not given anything within [`PATIENCE`].
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(ASK_EVERY);
    }
}
