//! Questions to the service from async code.

use crate::service::Refusal;

/// Waits for a reply from the threads that take turns, holding no thread.
pub async fn ask<T: Send + 'static>(
    question: impl FnOnce(Box<dyn FnOnce(Result<T, Refusal>) + Send>),
) -> Result<T, Refusal> {
    let (sender, receiver) = rocket::tokio::sync::oneshot::channel();
    // Nobody listens any more when the client has gone; the write is done all the same.
    question(Box::new(move |answer| drop(sender.send(answer))));
    receiver.await.unwrap_or_else(|_| {
        Err(Refusal::OutcomeUnknown {
            what: "the turn ended without an answer; see the log".to_owned(),
        })
    })
}
