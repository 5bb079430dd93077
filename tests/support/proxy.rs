//! A wire between a node and a Postgres server that counts what goes over it, and can be cut just
//! when COMMIT is on it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What becomes of the next COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cut {
    /// It passes, and its answer too.
    Not,
    /// The server gets it, and its answer is lost.
    Answer,
    /// The server never gets it.
    Commit,
    /// The server gets it, its answer is lost, and nobody reaches the server any more.
    AnswerAndServer,
}

/// Listens on a port of its own and passes everything on, until told to cut.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

struct State {
    cut: AtomicU8,
    commits_cut: AtomicUsize,
    requests: AtomicUsize,
    /// Connections that are yet to be closed as soon as they are made.
    refused: AtomicUsize,
    clients: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// To the server on `port` of 127.0.0.1.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            cut: AtomicU8::new(Cut::Not as u8),
            commits_cut: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            clients: Mutex::default(),
        });
        let proxy = Self { port: listener.local_addr().unwrap().port(), state: Arc::clone(&state) };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // The last cut stays: whoever comes later finds nobody.
                if state.is(Cut::AnswerAndServer) && state.commits_cut.load(Ordering::SeqCst) > 0 {
                    continue;
                }
                let one_less = |count: usize| count.checked_sub(1);
                if state.refused.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
                {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                state.clients.lock().unwrap().push(client.try_clone().unwrap());
                let state = Arc::clone(&state);
                thread::spawn(move || state.pass(client, server));
            }
        });
        proxy
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts the connection that the next COMMIT is on.
    pub fn cut(&self, cut: Cut) {
        self.state.cut.store(cut as u8, Ordering::SeqCst);
    }

    /// Closes the next connections as soon as they are made.
    pub fn refuse(&self, connections: usize) {
        self.state.refused.store(connections, Ordering::SeqCst);
    }

    /// Cuts all connections that there are now.
    pub fn cut_connections(&self) {
        for client in self.state.clients.lock().unwrap().drain(..) {
            // One that has ended already is cut.
            drop(client.shutdown(Shutdown::Both));
        }
    }

    /// How often a client has waited for the server so far: round trips.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// How many COMMITs have met a cut.
    pub fn commits_cut(&self) -> usize {
        self.state.commits_cut.load(Ordering::SeqCst)
    }
}

impl State {
    fn is(&self, cut: Cut) -> bool {
        self.cut.load(Ordering::SeqCst) == cut as u8
    }

    fn pass(&self, mut client: TcpStream, mut server: TcpStream) {
        let (mut answers, mut to_client) =
            (server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || {
            drop(std::io::copy(&mut answers, &mut to_client));
            drop(to_client.shutdown(Shutdown::Both));
        });
        let (mut buffer, mut messages) = ([0; 1 << 16], Messages::default());
        while let Ok(read @ 1..) = client.read(&mut buffer) {
            let bytes = &buffer[..read];
            self.requests.fetch_add(messages.count(bytes), Ordering::SeqCst);
            if bytes.windows(7).any(|seven| seven == b"COMMIT\0") && !self.is(Cut::Not) {
                self.commits_cut.fetch_add(1, Ordering::SeqCst);
                // Nothing more reaches the client from here on.
                drop(client.shutdown(Shutdown::Both));
                if self.is(Cut::Commit) {
                    drop(server.shutdown(Shutdown::Both));
                } else {
                    drop(server.write_all(bytes));
                    // The server reads to the end, and then finds that its client has gone.
                    drop(server.shutdown(Shutdown::Write));
                }
                if !self.is(Cut::AnswerAndServer) {
                    self.cut.store(Cut::Not as u8, Ordering::SeqCst);
                }
                return;
            }
            if server.write_all(bytes).is_err() {
                return;
            }
        }
        drop(server.shutdown(Shutdown::Both));
    }
}

/// What a client sends, cut into messages: a first one without a kind, then a byte for the kind,
/// four for the length, and the rest.
#[derive(Default)]
struct Messages {
    pending: Vec<u8>,
    began: bool,
}

impl Messages {
    /// How many messages that the server answers when it has done all before them ended with these
    /// bytes: Query and Sync.
    fn count(&mut self, bytes: &[u8]) -> usize {
        self.pending.extend_from_slice(bytes);
        let mut count = 0;
        loop {
            let kind = usize::from(self.began);
            let Some(length) = self.pending.get(kind..kind + 4) else { return count };
            let end = kind + u32::from_be_bytes(length.try_into().unwrap()) as usize;
            if self.pending.len() < end {
                return count;
            }
            count += usize::from(self.began && matches!(self.pending[0], b'Q' | b'S'));
            self.began = true;
            self.pending.drain(..end);
        }
    }
}
