//! Two halves of one computation, at once if that is worth a thread.

use std::panic::resume_unwind;
use std::thread;

/// What both give. `first` runs in a thread of its own if there is `much` to do.
pub(super) fn in_two_threads<A: Send, B>(
    much: bool,
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B,
) -> (A, B) {
    if !much {
        return (first(), second());
    }
    thread::scope(|scope| {
        let first = scope.spawn(first);
        let second = second();
        (first.join().unwrap_or_else(|panic| resume_unwind(panic)), second)
    })
}
