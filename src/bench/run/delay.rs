//! A proxy that makes each round trip take longer, and counts them: loopback hides what a network
//! costs. It runs as a process of its own, so that what it takes of the processors is told apart.
//!
//! What comes is passed on as late as half the delay, in each direction, whatever comes after it: it
//! waits in a queue with the time when it is due. So throughput is as without it, up to the length of
//! the queue.

use std::io::{BufRead, Read as _, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How much is read at once, in bytes.
const PART_BYTES: usize = 64 << 10;
/// How many parts may be under way in one direction of a connection: 16 MiB.
const PARTS: usize = 256;
/// How much later than it is due something may be woken, in nanoseconds. Linux' own default of
/// 50,000 would be a tenth of the smallest delay.
const TIMER_SLACK_NS: u64 = 1;

/// Listens on a port of 127.0.0.1 for each of `to`, named servers as `HOST:PORT`, and passes on what
/// comes. Says where on one line of `answers`, as `NAME=127.0.0.1:PORT NAME=…`. After that, answers
/// each line of `questions` by how many round trips there were so far, as `NAME=COUNT NAME=…`, and
/// returns when there are no more.
///
/// # Errors
/// If it cannot listen, or nobody reads the answers.
pub fn serve_delay(
    delay: Duration,
    to: &[(String, String)],
    questions: impl BufRead,
    mut answers: impl Write,
) -> std::io::Result<()> {
    // Threads have it from the one that starts them. Without it delays are longer, by little.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(TIMER_SLACK_NS));
    let mut ways = Vec::new();
    let mut listen = Vec::new();
    for (name, server) in to {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listen.push(format!("{name}={}", listener.local_addr()?));
        let way = Arc::new(Way { server: server.clone(), delay, trips: AtomicU64::new(0) });
        ways.push((name, Arc::clone(&way)));
        thread::spawn(move || way.serve(&listener));
    }
    writeln!(answers, "{}", listen.join(" "))?;
    answers.flush()?;
    for _ in { questions }.lines().map_while(Result::ok) {
        let count = |(name, way): &(&String, Arc<Way>)| {
            format!("{name}={}", way.trips.load(Ordering::Relaxed))
        };
        let counts: Vec<String> = ways.iter().map(count).collect();
        writeln!(answers, "{}", counts.join(" "))?;
        answers.flush()?;
    }
    Ok(())
}

/// To one server.
struct Way {
    server: String,
    delay: Duration,
    /// How often a client has sent something after the server had.
    trips: AtomicU64,
}

impl Way {
    fn serve(self: Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming().map_while(Result::ok) {
            let way = Arc::clone(&self);
            // Whoever finds no server finds the connection closed.
            thread::spawn(move || drop(way.pass(client)));
        }
    }

    fn pass(&self, client: TcpStream) -> std::io::Result<()> {
        let server = TcpStream::connect(&self.server)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let there = self.delay / 2;
        let back = self.delay - there;
        // At first the client is to speak.
        let server_spoke = Arc::new(AtomicBool::new(true));
        let (answers, to_client) = (server.try_clone()?, client.try_clone()?);
        let spoke = Arc::clone(&server_spoke);
        let answering = thread::spawn(move || {
            pass_on(answers, to_client, back, || spoke.store(true, Ordering::SeqCst));
        });
        pass_on(client, server, there, || {
            if server_spoke.swap(false, Ordering::SeqCst) {
                self.trips.fetch_add(1, Ordering::Relaxed);
            }
        });
        drop(answering.join());
        Ok(())
    }
}

/// Passes on all that comes, each part so much later than it came, and then the end. `seen` is
/// called when a part has come.
fn pass_on(mut from: TcpStream, to: TcpStream, late: Duration, mut seen: impl FnMut()) {
    let mut next = Next::new(to, late);
    let mut part = vec![0; PART_BYTES];
    while let Ok(length @ 1..) = from.read(&mut part) {
        seen();
        if next.put(&part[..length]).is_err() {
            break;
        }
    }
    // Nobody is there any more who could take it.
    drop(from.shutdown(Shutdown::Read));
    next.end();
}

/// Where parts go next.
enum Next {
    /// On, as they come.
    Now(TcpStream),
    /// Into a queue, and on when they are due.
    Later { queue: SyncSender<(Instant, Vec<u8>)>, sender: thread::JoinHandle<()>, late: Duration },
}

impl Next {
    fn new(to: TcpStream, late: Duration) -> Self {
        if late.is_zero() {
            return Self::Now(to);
        }
        let (queue, due) = sync_channel(PARTS);
        let sender = thread::spawn(move || send_when_due(&due, to));
        Self::Later { queue, sender, late }
    }

    /// # Errors
    /// If nobody takes it.
    fn put(&mut self, part: &[u8]) -> Result<(), ()> {
        match self {
            Self::Now(to) => to.write_all(part).map_err(drop),
            Self::Later { queue, late, .. } => {
                queue.send((Instant::now() + *late, part.to_vec())).map_err(drop)
            }
        }
    }

    /// Passes on the end, when all else is.
    fn end(self) {
        match self {
            Self::Now(to) => drop(to.shutdown(Shutdown::Write)),
            Self::Later { queue, sender, .. } => {
                drop(queue);
                drop(sender.join());
            }
        }
    }
}

fn send_when_due(due: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    for (at, part) in due {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        if to.write_all(&part).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, pipe};

    use super::*;

    /// A proxy in this process, until its questions end.
    struct Proxy {
        questions: std::io::PipeWriter,
        answers: BufReader<std::io::PipeReader>,
        address: String,
    }

    impl Proxy {
        fn to(server: &str, delay: Duration) -> Self {
            let (asked, questions) = pipe().unwrap();
            let (told, answers) = pipe().unwrap();
            let to = [("server".to_owned(), server.to_owned())];
            thread::spawn(move || serve_delay(delay, &to, BufReader::new(asked), answers));
            let mut proxy =
                Self { questions, answers: BufReader::new(told), address: String::new() };
            proxy.address = proxy.told();
            proxy
        }

        fn told(&mut self) -> String {
            let mut line = String::new();
            self.answers.read_line(&mut line).unwrap();
            line.trim().strip_prefix("server=").unwrap().to_owned()
        }

        fn trips(&mut self) -> u64 {
            writeln!(self.questions, "?").unwrap();
            self.told().parse().unwrap()
        }
    }

    /// Answers each byte by itself, with as many bytes as `times` says; then the end by its end.
    fn echo(times: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut part = [0; 4096];
                    while let Ok(length @ 1..) = client.read(&mut part) {
                        drop(client.write_all(&part[..length].repeat(times)));
                    }
                });
            }
        });
        address
    }

    #[test]
    fn a_round_trip_takes_the_delay_and_is_counted() {
        let delay = Duration::from_millis(20);
        for delay in [Duration::ZERO, delay] {
            let mut proxy = Proxy::to(&echo(2), delay);
            let mut client = TcpStream::connect(&proxy.address).unwrap();
            let began = Instant::now();
            let mut answer = [0; 2];
            for number in 0..5 {
                client.write_all(&[number]).unwrap();
                client.read_exact(&mut answer).unwrap();
                assert_eq!(answer, [number, number]);
            }
            // No more than that: the sleeps of a busy machine are longer.
            assert!(began.elapsed() >= 5 * delay, "{delay:?}: {:?}", began.elapsed());
            assert_eq!(proxy.trips(), 5);
        }
    }

    /// What is sent without waiting is under way at once: were each part held back for the delay
    /// before the next is taken, this would take two minutes and longer.
    #[test]
    fn what_is_sent_without_waiting_waits_once() {
        let delay = Duration::from_millis(100);
        let mut proxy = Proxy::to(&echo(1), delay);
        let client = TcpStream::connect(&proxy.address).unwrap();
        client.set_nodelay(true).unwrap();
        let mut sender = client.try_clone().unwrap();
        let sent = 4_000_000_usize;
        let sending = thread::spawn(move || {
            for part in vec![7_u8; sent].chunks(1_000) {
                sender.write_all(part).unwrap();
            }
            sender.shutdown(Shutdown::Write).unwrap();
        });
        let (mut got, mut client) = (Vec::new(), client);
        let began = Instant::now();
        client.read_to_end(&mut got).unwrap();
        sending.join().unwrap();
        assert!(got.len() == sent && got.iter().all(|byte| *byte == 7));
        // A million bytes at a time would be some seconds; one part after another, minutes.
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        assert!(proxy.trips() >= 1);
    }

    #[test]
    fn an_end_is_passed_on_in_both_directions() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string();
        let proxy = Proxy::to(&server, Duration::from_millis(2));
        let mut client = TcpStream::connect(&proxy.address).unwrap();
        let (mut served, _) = listener.accept().unwrap();
        client.write_all(b"last").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut got = String::new();
        served.read_to_string(&mut got).unwrap();
        assert_eq!(got, "last");
        served.write_all(b"words").unwrap();
        drop(served);
        got.clear();
        client.read_to_string(&mut got).unwrap();
        assert_eq!(got, "words");
        // And of one that finds no server.
        drop(listener);
        let mut client = TcpStream::connect(&proxy.address).unwrap();
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    }
}
