//! A wire between nodes and a Redis server that can lose an answer, hold a command up, be cut, and
//! be led to another server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{limit, wait_until};

/// What is to become of the next command that holds a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The server does it; its answer is lost and the connection with it.
    AnswerLost,
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
    /// Connections that are open now, both ends.
    open: Mutex<Vec<TcpStream>>,
    held_up: Mutex<Vec<(TcpStream, Vec<u8>)>>,
    struck: AtomicBool,
    /// Answers that nobody got.
    late_answers: AtomicUsize,
}

impl Wire {
    /// To the server on `port` of 127.0.0.1.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            target: AtomicU16::new(port),
            armed: Mutex::default(),
            open: Mutex::default(),
            held_up: Mutex::default(),
            struck: AtomicBool::new(false),
            late_answers: AtomicUsize::new(0),
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

    /// Strikes the next command that holds `word`, once.
    pub fn strike(&self, word: &'static str, fate: Fate) {
        self.state.struck.store(false, Ordering::SeqCst);
        *self.state.armed.lock().unwrap() = Some((word, fate));
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

    /// Closes every connection; new ones reach the server on `port`, or nobody with 0.
    pub fn lead_to(&self, port: u16) {
        self.state.target.store(port, Ordering::SeqCst);
        for end in std::mem::take(&mut *self.state.open.lock().unwrap()) {
            drop(end.shutdown(Shutdown::Both));
        }
    }
}

impl State {
    fn pass(self: &Arc<Self>, mut client: TcpStream, mut server: TcpStream) {
        let mut buffer = [0; 1 << 16];
        let (mut answers, mut to_client) =
            (server.try_clone().unwrap(), client.try_clone().unwrap());
        let muted = Arc::new(AtomicBool::new(false));
        let (is_muted, state) = (Arc::clone(&muted), Arc::clone(self));
        thread::spawn(move || {
            let mut buffer = [0; 1 << 16];
            while let Ok(read @ 1..) = answers.read(&mut buffer) {
                if is_muted.load(Ordering::SeqCst) {
                    state.late_answers.fetch_add(1, Ordering::SeqCst);
                    drop(to_client.shutdown(Shutdown::Both));
                } else if to_client.write_all(&buffer[..read]).is_err() {
                    break;
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
                Some(Fate::AnswerLost) => {
                    // What answers come from here on are read, and go nowhere.
                    muted.store(true, Ordering::SeqCst);
                    drop(server.write_all(bytes));
                }
                Some(Fate::HeldUp) => {
                    muted.store(true, Ordering::SeqCst);
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
        if found { armed.take() } else { None }.map(|_| fate)
    }
}
