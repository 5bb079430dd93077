//! A grant of the lock, as its holder has it.

use std::sync::Arc;
use std::time::Instant;

use super::client::{LockClient, unavailable};
use super::lock_request::{Holding, Request, Stage, State};
use super::script::{self, Call};
use crate::failpoint;
use crate::lock::{FencingToken, Held, LockError};

/// A grant. Dropping it releases the lock.
pub(super) struct Grant {
    pub(super) client: Arc<LockClient>,
    pub(super) request: Arc<Request>,
}

impl Held for Grant {
    fn store(&mut self, incarnation: &str, first: FencingToken) -> Result<(), LockError> {
        let client = &self.client;
        let seed = Call::Seed { request: &self.request.id, incarnation, epoch: first.epoch() };
        let seeded = client.connections.with(&client.server, |connection| {
            let answer =
                connection.call(&client.server, &client.requests, &self.request.keys, seed)?;
            script::text_of(&answer).map(|text| text == "held")
        });
        match seeded {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(LockError::Lost { what: "its lease ran out before the lock was seeded" })
            }
            Err(error) => Err(unavailable("cannot seed the lock", error)),
        }
    }

    fn check(&mut self) -> Result<(), LockError> {
        if failpoint::is_off("lock.redis.validity") {
            return Ok(());
        }
        let is_claimed =
            |state: &State| !matches!(&state.stage, Stage::Held(Holding { valid_until: None, .. }));
        if !is_claimed(&self.request.state()) {
            let client = &self.client;
            let requests = [Arc::clone(&self.request)];
            let claimed = client
                .connections
                .with(&client.server, |connection| client.renew(connection, &requests));
            claimed.map_err(|error| unavailable("cannot claim the lock", error))?;
        }
        let what = match &self.request.state().stage {
            Stage::Held(Holding { valid_until: Some(valid_until), .. })
                if Instant::now() < *valid_until =>
            {
                return Ok(());
            }
            Stage::Lost(what) => what,
            _ => "its lease may have run out",
        };
        self.client.lose(&self.request, what);
        Err(LockError::Lost { what })
    }

    fn sealed(&mut self) {
        self.request.state().sealed = true;
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.client.release(&self.request);
    }
}
