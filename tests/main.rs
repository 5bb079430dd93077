//! All integration tests in one binary; what they share is in `support`.

mod lock;
mod support;
