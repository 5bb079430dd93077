//! A grant of the lock, as its holder has it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{LockClient, unavailable};
use super::lock_request::{Holding, Request, Stage, State};
use super::script::{self, Call};
use crate::failpoint;
use crate::lock::{FencingToken, Held, LockError, Purpose};

/// A grant. Dropping it releases the lock.
pub(super) struct Grant {
    pub(super) client: Arc<LockClient>,
    pub(super) request: Arc<Request>,
}

impl Grant {
    /// Renews the lease, which claims a grant that was handed over, and learns whether others wait.
    fn renew(&self, purpose: &str) -> Result<(), LockError> {
        let client = &self.client;
        let requests = [Arc::clone(&self.request)];
        let renewed = client
            .connections
            .with(&client.server, |connection| client.renew(connection, &requests));
        renewed.map(drop).map_err(|error| unavailable(purpose, error))
    }
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
            self.renew("cannot claim the lock")?;
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

    fn is_wanted(&mut self, known_within: Duration) -> Result<bool, LockError> {
        let must_ask = |state: &State| {
            let known = state.unwanted_at.map_or(Duration::MAX, |at| at.elapsed());
            !state.is_wanted && known > known_within
        };
        if must_ask(&self.request.state()) {
            self.renew("cannot learn whether others wait for the lock")?;
        }
        let state = self.request.state();
        Ok(state.is_wanted || !matches!(state.stage, Stage::Held(_)))
    }
}

impl Drop for Grant {
    /// A leadership that was lost is not released: nobody renews it, and its lease is over or about
    /// to be. A server that is out of reach would be tried for each of all those that were lost.
    fn drop(&mut self) {
        let is_lost = matches!(self.request.state().stage, Stage::Lost(_));
        if is_lost && self.request.key.purpose == Purpose::Leadership {
            self.client.requests.end(&self.request);
        } else {
            self.client.release(&self.request);
        }
    }
}
