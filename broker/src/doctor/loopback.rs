//! The round trip of a small message over the loopback.
//!
//! Does: measures it once, for ratios: a broker cannot answer faster. Does not: judge it by more than
//! an order of magnitude.
//! Invariants: bounded in time; the echoing thread ends with its connection.
//! Apart because it is the only network code of the doctor.
#![expect(clippy::disallowed_methods, reason = "measures loopback before any core runs")]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::Finding;
use super::latencies::{Latencies, readable};

/// Enough for a steady median within a tenth of a second.
const ROUND_TRIPS: usize = 2_000;

/// A request without records is about this long.
const MESSAGE_BYTES: usize = 64;

/// Ten times what a machine at rest needs; more means a machine that is busy or throttled.
const P50_GOOD_US: f64 = 300.0;

/// No answer for this long ends the measurement.
const PATIENCE: Duration = Duration::from_secs(2);

/// Measures it.
pub fn measurement() -> Finding {
    match round_trips() {
        Ok(latencies) => judge(&latencies),
        Err(error) => Finding::warn(
            "loopback",
            format!("not measured: {error}"),
            "check that 127.0.0.1 is up and not filtered",
        ),
    }
}

fn judge(latencies: &Latencies) -> Finding {
    let p50 = latencies.quantile_us(0.5);
    let found = format!("TCP round trip {}", latencies.summary());
    let finding = if p50 > P50_GOOD_US {
        let advice = format!(
            "more than {}: the machine is busy, throttled or emulated",
            readable(P50_GOOD_US)
        );
        Finding::warn("loopback", found, advice)
    } else {
        Finding::ok("loopback", found)
    };
    finding.with("p50_us", p50).with("p99_us", latencies.quantile_us(0.99))
}

fn round_trips() -> io::Result<Latencies> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = std::thread::spawn(move || listener.accept().and_then(|(stream, _)| echo(stream)));
    let mut latencies = Latencies::new().ok_or_else(|| io::Error::other("no histogram"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut message = [7; MESSAGE_BYTES];
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        latencies.record(start.elapsed());
    }
    drop(stream);
    match echo.join() {
        Ok(_) => Ok(latencies),
        Err(_) => Err(io::Error::other("the echoing thread gave up")),
    }
}

/// Sends everything back until the other side closes.
fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = [0; MESSAGE_BYTES];
    loop {
        stream.read_exact(&mut message)?;
        stream.write_all(&message)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_takes_time() {
        let finding = measurement();
        assert!(
            finding.values.iter().any(|(name, value)| *name == "p50_us" && *value > 0.0),
            "{finding:?}"
        );
    }
}
