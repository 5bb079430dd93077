//! A wire between nodes and a Redis server, or between two nodes, that can lose a command or an
//! answer or half of it, hold a command up or delay it, be cut, and be led to another server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::{limit, wait_until};

/// What is to become of the next command that holds a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The server does it; its answer is lost and the connection with it.
    AnswerLost,
    /// The server never gets it, and the connection is lost.
    CommandLost,
    /// The server gets half of it, and the connection is lost.
    CommandHalved,
    /// The server does it; half of its answer comes, and the connection is lost.
    AnswerHalved,
    /// It passes, and is kept to be looked at.
    Copied,
    /// It and what follows it on the connection is on its way until [`Wire::deliver`] is called.
    Delayed,
    /// The connection is lost, and the server gets the command only when [`Wire::let_go`] is
    /// called.
    HeldUp,
}

/// Listens on a port of its own.
pub struct Wire {
    port: u16,
    state: Arc<State>,
}

struct State {
    /// The server's port; 0 while nobody is reached.
    target: AtomicU16,
    armed: Mutex<Option<(&'static str, Fate)>>,
    /// Whether it strikes again and again.
    strikes_each: AtomicBool,
    /// Connections that are open now, both ends.
    open: Mutex<Vec<TcpStream>>,
    held_up: Mutex<Vec<(TcpStream, Vec<u8>)>>,
    /// Counts how often what was delayed was to go on.
    deliveries: Mutex<usize>,
    delivered: Condvar,
    struck: AtomicBool,
    /// Answers that nobody got.
    late_answers: AtomicUsize,
    copied: Mutex<Vec<u8>>,
}

/// What becomes of the answers on a connection.
const WHOLE: u8 = 0;
const LOST: u8 = 1;
const HALVED: u8 = 2;

impl Wire {
    /// To the server on `port` of 127.0.0.1.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            target: AtomicU16::new(port),
            armed: Mutex::default(),
            strikes_each: AtomicBool::new(false),
            open: Mutex::default(),
            held_up: Mutex::default(),
            deliveries: Mutex::default(),
            delivered: Condvar::new(),
            struck: AtomicBool::new(false),
            late_answers: AtomicUsize::new(0),
            copied: Mutex::default(),
        });
        let wire = Self { port: listener.local_addr().unwrap().port(), state: Arc::clone(&state) };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let target = state.target.load(Ordering::SeqCst);
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let state = Arc::clone(&state);
                state
                    .open
                    .lock()
                    .unwrap()
                    .extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                thread::spawn(move || state.pass(client, server));
            }
        });
        wire
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The same as a server of HTTP.
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The command that was copied last.
    pub fn copied(&self) -> Vec<u8> {
        self.state.copied.lock().unwrap().clone()
    }

    /// Strikes the next command that holds `word`, once.
    pub fn strike(&self, word: &'static str, fate: Fate) {
        self.state.struck.store(false, Ordering::SeqCst);
        *self.state.armed.lock().unwrap() = Some((word, fate));
    }

    /// Strikes each command that holds `word` from now on.
    pub fn strike_each(&self, word: &'static str, fate: Fate) {
        self.state.strikes_each.store(true, Ordering::SeqCst);
        self.strike(word, fate);
    }

    /// Waits until that has happened.
    #[track_caller]
    pub fn wait_until_struck(&self) {
        wait_until(limit(), "the wire has struck", || self.state.struck.load(Ordering::SeqCst));
    }

    /// Gives the server what was held up, and waits until it has answered.
    pub fn let_go(&self) {
        for (mut server, command) in std::mem::take(&mut *self.state.held_up.lock().unwrap()) {
            let before = self.state.late_answers.load(Ordering::SeqCst);
            server.write_all(&command).unwrap();
            let answered = || self.state.late_answers.load(Ordering::SeqCst) > before;
            wait_until(limit(), "the server has done what was held up", answered);
        }
    }

    /// Lets go on what was delayed.
    pub fn deliver(&self) {
        *self.state.deliveries.lock().unwrap() += 1;
        self.state.delivered.notify_all();
    }

    /// Closes every connection; new ones reach the server on `port`, or nobody with 0. What was
    /// delayed is lost.
    pub fn lead_to(&self, port: u16) {
        self.state.target.store(port, Ordering::SeqCst);
        for end in std::mem::take(&mut *self.state.open.lock().unwrap()) {
            drop(end.shutdown(Shutdown::Both));
        }
        self.deliver();
    }
}

impl State {
    fn pass(self: &Arc<Self>, mut client: TcpStream, mut server: TcpStream) {
        let mut buffer = [0; 1 << 16];
        let (mut answers, mut to_client) =
            (server.try_clone().unwrap(), client.try_clone().unwrap());
        let answers_are = Arc::new(AtomicU8::new(WHOLE));
        let (becomes, state) = (Arc::clone(&answers_are), Arc::clone(self));
        thread::spawn(move || {
            let mut buffer = [0; 1 << 16];
            while let Ok(read @ 1..) = answers.read(&mut buffer) {
                match becomes.load(Ordering::SeqCst) {
                    WHOLE if to_client.write_all(&buffer[..read]).is_err() => break,
                    WHOLE => {}
                    what => {
                        if what == HALVED {
                            drop(to_client.write_all(&buffer[..read / 2]));
                        }
                        state.late_answers.fetch_add(1, Ordering::SeqCst);
                        drop(to_client.shutdown(Shutdown::Both));
                    }
                }
            }
            drop(to_client.shutdown(Shutdown::Both));
        });
        while let Ok(read @ 1..) = client.read(&mut buffer) {
            let bytes = &buffer[..read];
            let fate = self.fate_of(bytes);
            match fate {
                None if server.write_all(bytes).is_err() => break,
                None => continue,
                Some(fate @ (Fate::AnswerLost | Fate::AnswerHalved)) => {
                    // What answers come from here on are read, and go nowhere.
                    let what = if fate == Fate::AnswerLost { LOST } else { HALVED };
                    answers_are.store(what, Ordering::SeqCst);
                    drop(server.write_all(bytes));
                }
                Some(Fate::Copied) => {
                    *self.copied.lock().unwrap() = bytes.to_vec();
                    drop(server.write_all(bytes));
                }
                Some(Fate::Delayed) => {
                    let deliveries = self.deliveries.lock().unwrap();
                    let before = *deliveries;
                    self.struck.store(true, Ordering::SeqCst);
                    let is_on_its_way = |count: &mut usize| *count == before;
                    drop(self.delivered.wait_while(deliveries, is_on_its_way).unwrap());
                    if server.write_all(bytes).is_err() {
                        break;
                    }
                    continue;
                }
                Some(fate @ (Fate::CommandLost | Fate::CommandHalved)) => {
                    if fate == Fate::CommandHalved {
                        drop(server.write_all(&bytes[..read / 2]));
                    }
                    self.struck.store(true, Ordering::SeqCst);
                    drop(client.shutdown(Shutdown::Both));
                    break;
                }
                Some(Fate::HeldUp) => {
                    answers_are.store(LOST, Ordering::SeqCst);
                    self.held_up.lock().unwrap().push((server, bytes.to_vec()));
                    drop(client.shutdown(Shutdown::Both));
                    self.struck.store(true, Ordering::SeqCst);
                    return;
                }
            }
            self.struck.store(true, Ordering::SeqCst);
        }
        drop(server.shutdown(Shutdown::Both));
    }

    fn fate_of(&self, bytes: &[u8]) -> Option<Fate> {
        let mut armed = self.armed.lock().unwrap();
        let (word, fate) = (*armed)?;
        let found = bytes.windows(word.len()).any(|window| window == word.as_bytes());
        if found && !self.strikes_each.load(Ordering::SeqCst) {
            *armed = None;
        }
        found.then_some(fate)
    }
}
