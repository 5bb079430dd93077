//! Ports of 127.0.0.1 on which the servers that tests start are to listen.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below what the system hands out by itself, to connections and to whoever asks for any port: nobody
/// is given one of these between the look and the server's start.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port on which nobody listens, and which no other call of this process gets.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Runs beside each other begin at different places.
    let start = std::process::id().wrapping_mul(7_919) % u32::from(COUNT);
    (0..COUNT)
        .map(|_| {
            let next = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            FIRST + ((start + next) % u32::from(COUNT)) as u16
        })
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a port is free")
}
