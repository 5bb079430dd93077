//! A wire between a node and a Postgres server that counts what goes over it, can be cut just when
//! a commit is on it (COMMIT, or the call that commits), and can be held, so that nothing passes.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// What becomes of the next commit.
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
    /// The client loses the connection, and the server gets it after that.
    Late,
    /// The server gets it, and the client waits for its answer: nothing passes on that connection
    /// any more.
    Kept,
}

/// What happens at the next cut, before the client learns of it; of one that comes late, before the
/// server gets it.
type Interlude = Box<dyn FnOnce() + Send>;

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
    /// Of so many connections, the first ones, nothing passes any more.
    forgotten: AtomicUsize,
    interlude: Mutex<Option<Interlude>>,
    /// Late commits that the server has answered.
    late: AtomicUsize,
    /// Whether nothing passes.
    is_held: Mutex<bool>,
    is_let_go: Condvar,
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
            forgotten: AtomicUsize::new(0),
            interlude: Mutex::default(),
            late: AtomicUsize::new(0),
            is_held: Mutex::new(false),
            is_let_go: Condvar::new(),
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
                let mut clients = state.clients.lock().unwrap();
                let number = clients.len();
                clients.push(client.try_clone().unwrap());
                drop(clients);
                let state = Arc::clone(&state);
                thread::spawn(move || state.pass(number, client, server));
            }
        });
        proxy
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts the connection that the next commit is on.
    pub fn cut(&self, cut: Cut) {
        self.state.cut.store(cut as u8, Ordering::SeqCst);
    }

    /// As [`cut`](Self::cut), with something that happens meanwhile.
    pub fn cut_while(&self, cut: Cut, meanwhile: impl FnOnce() + Send + 'static) {
        *self.state.interlude.lock().unwrap() = Some(Box::new(meanwhile));
        self.cut(cut);
    }

    /// How many late commits the server has answered.
    pub fn late(&self) -> usize {
        self.state.late.load(Ordering::SeqCst)
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

    /// Closes each connection that there is now when something comes on it, and gives no sign
    /// before.
    pub fn forget_connections(&self) {
        self.state.forgotten.store(self.state.clients.lock().unwrap().len(), Ordering::SeqCst);
    }

    /// Takes connections and what comes on them, old and new, and passes nothing on, in neither
    /// direction, until it is [let go](Self::let_go).
    pub fn hold(&self) {
        *self.state.is_held.lock().unwrap() = true;
    }

    /// Passes on what was held, and all that comes.
    pub fn let_go(&self) {
        *self.state.is_held.lock().unwrap() = false;
        self.state.is_let_go.notify_all();
    }

    /// How often a client has waited for the server so far: round trips.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// How many commits have met a cut.
    pub fn commits_cut(&self) -> usize {
        self.state.commits_cut.load(Ordering::SeqCst)
    }
}

impl State {
    fn is(&self, cut: Cut) -> bool {
        self.cut.load(Ordering::SeqCst) == cut as u8
    }

    /// What is to become of this commit; those after it pass, unless the server is gone.
    fn take_cut(&self) -> Cut {
        let next = if self.is(Cut::AnswerAndServer) { Cut::AnswerAndServer } else { Cut::Not };
        let cut = self.cut.swap(next as u8, Ordering::SeqCst);
        let all = [Cut::Not, Cut::Answer, Cut::Commit, Cut::AnswerAndServer, Cut::Late, Cut::Kept];
        all[usize::from(cut)]
    }

    fn wait_while_held(&self) {
        let is_held = self.is_held.lock().unwrap();
        drop(self.is_let_go.wait_while(is_held, |is_held| *is_held).unwrap());
    }

    fn play(&self) {
        let meanwhile = self.interlude.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
    }

    fn pass(self: Arc<Self>, number: usize, mut client: TcpStream, mut server: TcpStream) {
        let (mut answers, mut to_client) =
            (server.try_clone().unwrap(), client.try_clone().unwrap());
        // Set before the answer to a commit could reach the client.
        let gone = Arc::new(AtomicBool::new(false));
        let (is_gone, state) = (Arc::clone(&gone), Arc::clone(&self));
        let answered = thread::spawn(move || {
            let mut buffer = [0; 1 << 16];
            while let Ok(read @ 1..) = answers.read(&mut buffer) {
                state.wait_while_held();
                let is_gone = is_gone.load(Ordering::SeqCst);
                if !is_gone && to_client.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            drop(to_client.shutdown(Shutdown::Both));
        });
        let (mut buffer, mut messages) = ([0; 1 << 16], Messages::default());
        while let Ok(read @ 1..) = client.read(&mut buffer) {
            self.wait_while_held();
            if number < self.forgotten.load(Ordering::SeqCst) {
                drop(client.shutdown(Shutdown::Both));
                break;
            }
            let bytes = &buffer[..read];
            let seen = messages.read(bytes);
            self.requests.fetch_add(seen.requests, Ordering::SeqCst);
            if seen.commits && !self.is(Cut::Not) {
                self.commits_cut.fetch_add(1, Ordering::SeqCst);
                let cut = self.take_cut();
                gone.store(true, Ordering::SeqCst);
                match cut {
                    Cut::Late => {
                        drop(client.shutdown(Shutdown::Both));
                        self.play();
                        drop(server.write_all(bytes));
                    }
                    Cut::Commit => self.play(),
                    Cut::Kept => {
                        drop(server.write_all(bytes));
                        self.play();
                        // Until the client has had enough.
                        while let Ok(1..) = client.read(&mut buffer) {}
                    }
                    _ => {
                        drop(server.write_all(bytes));
                        self.play();
                    }
                }
                // Nothing more reaches the client from here on.
                drop(client.shutdown(Shutdown::Both));
                // The server reads to the end, and then finds that its client has gone.
                drop(server.shutdown(Shutdown::Write));
                drop(answered.join());
                self.late.fetch_add(usize::from(cut == Cut::Late), Ordering::SeqCst);
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
    /// Names of prepared statements that commit.
    committing: HashSet<Vec<u8>>,
}

/// What the messages were that ended with some bytes.
#[derive(Default)]
struct Seen {
    /// Those that the server answers when it has done all before them: Query and Sync.
    requests: usize,
    /// Whether one commits: COMMIT, or a call of the function that does.
    commits: bool,
}

impl Messages {
    fn read(&mut self, bytes: &[u8]) -> Seen {
        self.pending.extend_from_slice(bytes);
        let mut seen = Seen::default();
        loop {
            let kind = usize::from(self.began);
            let Some(length) = self.pending.get(kind..kind + 4) else { return seen };
            let end = kind + u32::from_be_bytes(length.try_into().unwrap()) as usize;
            if self.pending.len() < end {
                return seen;
            }
            let message: Vec<u8> = self.pending.drain(..end).collect();
            if self.began {
                self.look_at(message[0], &message[5..], &mut seen);
            }
            self.began = true;
        }
    }

    fn look_at(&mut self, kind: u8, body: &[u8], seen: &mut Seen) {
        let mut texts = body.split(|byte| *byte == 0);
        let mut text = || texts.next().unwrap_or_default();
        match kind {
            b'Q' => {
                seen.requests += 1;
                seen.commits |= text() == b"COMMIT";
            }
            b'S' => seen.requests += 1,
            // Prepares a statement: its name, its text.
            b'P' => {
                let (name, statement) = (text().to_vec(), text());
                let call = b"fencepost_commit_";
                if statement.windows(call.len()).any(|part| part == call) {
                    self.committing.insert(name);
                }
            }
            // Runs a statement: where its answer is kept, its name.
            b'B' => {
                text();
                seen.commits |= self.committing.contains(text());
            }
            _ => {}
        }
    }
}
