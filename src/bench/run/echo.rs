//! A server that costs next to nothing: it reads a request and answers with what was made before.
//! What a load driver reaches against it is the driver's own limit.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Serves until the process ends, a thread for each connection. `ready` is called with the address.
///
/// # Errors
/// If the address cannot be listened on.
pub fn serve_echo(address: SocketAddr, ready: impl FnOnce(SocketAddr)) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    ready(listener.local_addr()?);
    loop {
        // One that cannot be taken is that client's loss.
        if let Ok((client, _)) = listener.accept() {
            std::thread::spawn(move || drop(serve_client(client)));
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
