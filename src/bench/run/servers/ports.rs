//! Ports of 127.0.0.1 for servers that cannot choose one themselves.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::bench::BenchError;

/// Below what the system hands out by itself, to connections and to whoever asks for any port: so
/// nobody is given one of these between the look and the server's start.
const FIRST: u16 = 10_000;
/// How many there are.
const COUNT: u32 = 20_000;

/// A port on which nobody listens, and which no other call of this process gets soon.
///
/// # Errors
/// [`BenchError::Unavailable`] if there is none.
pub fn free_port() -> Result<u16, BenchError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Runs beside each other begin at different places.
    let start = std::process::id().wrapping_mul(7_919);
    let ports = (0..COUNT).map(|_| {
        let next = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        FIRST + (next % COUNT) as u16
    });
    { ports }
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| BenchError::Unavailable("no port of 127.0.0.1 is free".to_owned()))
}
