//! A server that costs next to nothing: it reads a request and answers with what was made before.
//! What a load driver reaches against it is the driver's own limit.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Serves until the process ends, with as many threads as there were clients at once. `ready` is
/// called with the address.
///
/// # Errors
/// If the address cannot be listened on.
pub fn serve_echo(address: SocketAddr, ready: impl FnOnce(SocketAddr)) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    ready(listener.local_addr()?);
    let (clients, next) = mpsc::channel();
    let waiting = Arc::new(Waiting { next: Mutex::new(next), threads: AtomicUsize::new(0) });
    loop {
        // One that cannot be taken is that client's loss.
        let Ok((client, _)) = listener.accept() else { continue };
        let taken = |threads: usize| threads.checked_sub(1);
        if waiting.threads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_err() {
            let waiting = Arc::clone(&waiting);
            thread::spawn(move || waiting.serve());
        }
        // The threads have the other end for as long as this process runs.
        drop(clients.send(client));
    }
}

/// Threads that wait for a client. None ends with its client: what an ended thread has used of the
/// processor is not known to whoever looks at the process.
struct Waiting {
    next: Mutex<Receiver<TcpStream>>,
    threads: AtomicUsize,
}

impl Waiting {
    fn serve(&self) {
        loop {
            let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let Ok(client) = next.recv() else { return };
            drop(next);
            drop(serve_client(client));
            self.threads.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn serve_client(client: TcpStream) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut requests = BufReader::with_capacity(64 << 10, client.try_clone()?);
    let mut answers = client;
    let mut version = 0_u64;
    let (mut line, mut body) = (String::new(), Vec::new());
    loop {
        line.clear();
        if requests.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let (reads, of_job) = (line.starts_with("GET "), line.contains("/jobs/"));
        let mut length = 0_usize;
        loop {
            line.clear();
            requests.read_line(&mut line)?;
            if line.trim_end().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        body.clear();
        (&mut requests).take(length as u64).read_to_end(&mut body)?;
        let (status, answer) = match (reads, of_job) {
            (true, true) => (
                "404 Not Found",
                format!(
                    "{{\"type\":\"urn:fencepost:problem:job_not_found\",\"status\":404,\
                     \"version\":{version}}}"
                ),
            ),
            (true, false) => (
                "200 OK",
                format!("{{\"version\":{version},\"jobs\":0,\"datasets\":0,\"edges\":0}}"),
            ),
            (false, of_job) => {
                version += u64::from(of_job);
                let etag = if of_job { format!("\"\\\"{version}\\\"\"") } else { "null".into() };
                (
                    if of_job { "201 Created" } else { "200 OK" },
                    format!(
                        "{{\"graph\":\"g\",\"version\":{version},\"changed\":{of_job},\
                         \"etag\":{etag}}}"
                    ),
                )
            }
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\
             Fencepost-Version: {version}\r\nContent-Length: {}\r\n\r\n{answer}",
            answer.len()
        );
        answers.write_all(answer.as_bytes())?;
    }
}
