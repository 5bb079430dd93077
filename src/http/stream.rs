//! Answers that come bit by bit: whoever makes them hands on one piece after another through a
//! short channel, and waits where the client reads slowly.
//!
//! Rocket takes a body that fails for one that has ended, and the client would take a part for the
//! whole. So an answer that cannot be continued says so itself: its last words are a problem, in
//! the answer's own form.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use prometheus::IntGauge;
use rocket::tokio::io::{AsyncRead, ReadBuf};
use rocket::tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::problem::{Kind, Problem};

/// Pieces that wait to be read.
const PIECES_WAITING: usize = 1;

/// How a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON text a line.
    Lines,
    /// Server-sent events.
    Events,
}

impl Form {
    /// The problem that a stream ends with.
    #[must_use]
    pub fn problem(self, problem: &Problem) -> Vec<u8> {
        let (before, after): (&str, &str) = match self {
            Self::Lines => ("", "\n"),
            Self::Events => ("event: problem\ndata: ", "\n\n"),
        };
        [before.as_bytes(), &problem.body(), after.as_bytes()].concat()
    }
}

enum Piece {
    Bytes(Vec<u8>),
    End,
}

/// The client has gone, or the answer is not wanted.
#[derive(Debug)]
pub struct Gone;

/// Where the pieces of an answer are handed on. Dropped before its end was told, it leaves an
/// answer that ends with a problem.
pub struct Pieces {
    sender: mpsc::Sender<Piece>,
    form: Form,
}

impl Pieces {
    /// Hands on one piece; waits until there is room for it.
    ///
    /// # Errors
    /// [`Gone`] if nobody will read it.
    pub async fn send(&self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.sender.send(Piece::Bytes(bytes)).await.map_err(|_| Gone)
    }

    /// The answer is complete.
    pub async fn end(self) {
        // Nobody is left to be told otherwise.
        drop(self.sender.send(Piece::End).await);
    }

    /// The answer cannot be continued.
    pub async fn fail(self, problem: &Problem) {
        if self.send(self.form.problem(problem)).await.is_ok() {
            self.end().await;
        }
    }

    /// Waits until the client has gone.
    pub async fn gone(&self) {
        self.sender.closed().await;
    }
}

/// A body that is read as it comes.
pub struct Streamed {
    receiver: mpsc::Receiver<Piece>,
    form: Form,
    current: Vec<u8>,
    /// How much of it was read.
    read: usize,
    ended: bool,
    _open: Open,
}

/// Counts a stream for as long as it is open.
pub struct Open {
    gauge: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Open {
    /// One more of those that `gauge` counts.
    pub fn new(gauge: IntGauge, permit: OwnedSemaphorePermit) -> Self {
        gauge.inc();
        Self { gauge, _permit: permit }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// Both ends of an answer.
#[must_use]
pub fn stream(form: Form, open: Open) -> (Pieces, Streamed) {
    let (sender, receiver) = mpsc::channel(PIECES_WAITING);
    let streamed =
        Streamed { receiver, form, current: Vec::new(), read: 0, ended: false, _open: open };
    (Pieces { sender, form }, streamed)
}

impl Streamed {
    /// The next piece; `None` at the end.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match self.receiver.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Piece::Bytes(bytes))) => Poll::Ready(Some(bytes)),
            Poll::Ready(Some(Piece::End)) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(None) => {
                self.ended = true;
                let problem =
                    Problem::new(Kind::Internal, "the answer could not be continued; see the log");
                Poll::Ready(Some(self.form.problem(&problem)))
            }
        }
    }
}

impl AsyncRead for Streamed {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.read == this.current.len() {
            match this.poll_piece(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(piece)) => (this.current, this.read) = (piece, 0),
            }
        }
        let rest = &this.current[this.read..];
        let taken = rest.len().min(out.remaining());
        out.put_slice(&rest[..taken]);
        this.read += taken;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus::IntGauge;
    use rocket::tokio::io::AsyncReadExt;
    use rocket::tokio::sync::Semaphore;

    use super::{Form, Open, Pieces, stream};

    async fn read(make: impl AsyncFnOnce(Pieces)) -> String {
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let (pieces, mut streamed) =
            stream(Form::Lines, Open::new(IntGauge::new("n", "n").unwrap(), permit));
        let mut text = String::new();
        rocket::tokio::join!(make(pieces), async {
            streamed.read_to_string(&mut text).await.unwrap()
        });
        text
    }

    #[test]
    fn an_answer_whose_maker_dies_ends_with_a_problem_and_never_merely_early() {
        let runtime = rocket::tokio::runtime::Builder::new_current_thread().build().unwrap();
        let whole = runtime.block_on(read(async |pieces: Pieces| {
            pieces.send(b"a\n".to_vec()).await.unwrap();
            pieces.send(b"b\n".to_vec()).await.unwrap();
            pieces.end().await;
        }));
        assert_eq!(whole, "a\nb\n");
        let cut = runtime
            .block_on(read(async |pieces: Pieces| pieces.send(b"a\n".to_vec()).await.unwrap()));
        let (first, last) = cut.split_once('\n').unwrap();
        assert_eq!(first, "a");
        assert!(last.contains("urn:fencepost:problem:internal") && last.ends_with('\n'), "{last}");
    }
}
