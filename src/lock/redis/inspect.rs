//! What a person wants to know of the server, and of one graph's lock on it; and whether the server
//! is fit for the lock.

use std::io;
use std::time::Duration;

use redis::{Connection, FromRedisValue, RedisError, Value};

use super::client::{LockClient, unavailable};
use super::connection::{Server, field};
use super::script::{Call, Keys, text_of, unexpected};
use crate::lock::{FencingToken, Inspection, LockError, LockKey, Mode, Participant};

/// Refuses a server that the script does not run on, and warns of one that may drop the lock's
/// keys. Says which version it is, as in `Redis 7.2.4`.
pub(super) fn check_server(server: &Server) -> Result<String, LockError> {
    let failed = |error| unavailable("cannot open the Redis lock", error);
    let mut connection = server.connect().map_err(failed)?;
    let info = |connection: &mut Connection, section: &str| {
        redis::cmd("INFO").arg(section).query::<String>(connection).map_err(failed)
    };
    let about = info(&mut connection, "server")?;
    let version = field(&about, "redis_version").unwrap_or_default();
    let major: u32 =
        version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default();
    if major < 7 && field(&about, "valkey_version").is_none() {
        let reason = format!(
            "the server says that it is Redis {version}; the lock needs Redis 7 or newer, or Valkey"
        );
        let what = "cannot open the Redis lock".to_owned();
        return Err(LockError::Unavailable { what, source: io::Error::other(reason) });
    }
    let replication = info(&mut connection, "replication")?;
    if field(&replication, "role") != Some("master") {
        let reason =
            "the server is a replica, which takes no writes; give its primary's address".to_owned();
        let what = "cannot open the Redis lock".to_owned();
        return Err(LockError::Unavailable { what, source: io::Error::other(reason) });
    }
    let memory = info(&mut connection, "memory")?;
    let policy = field(&memory, "maxmemory_policy").unwrap_or_default();
    let limited = field(&memory, "maxmemory").is_some_and(|most| most != "0");
    if limited && policy.starts_with("allkeys") {
        log::warn!(
            "Redis may drop the lock's keys when it runs out of memory (maxmemory-policy \
             {policy}): two may then hold the lock, of whom the database refuses one. \
             Use a server with noeviction or one of the volatile policies"
        );
    }
    Ok(match field(&about, "valkey_version") {
        Some(valkey) => format!("Valkey {valkey}"),
        None => format!("Redis {version}"),
    })
}

pub(super) fn inspect(client: &LockClient, key: &LockKey) -> Result<Inspection, LockError> {
    let keys = Keys::of(key);
    let asked = client.connections.with(&client.server, |connection| {
        let answer = connection.call(&client.server, &client.requests, &keys, Call::Inspect)?;
        read(&answer)
    });
    asked.map_err(|error| unavailable("cannot inspect the lock", error))
}

fn read(answer: &Value) -> Result<Inspection, RedisError> {
    let Value::Array(parts) = answer else { return Err(unexpected(answer)) };
    let [now, incarnation, state, readers, queue, patience, crowd, _ended] = parts.as_slice()
    else {
        return Err(unexpected(answer));
    };
    let now: i64 = text_of(now)?.parse().map_err(|_| unexpected(answer))?;
    let state = Vec::<(String, String)>::from_redis_value_ref(state)?;
    let of = |name: &str| {
        state.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value.as_str())
    };
    let left = |ends: f64| Some(Duration::from_millis((ends as i64 - now).max(0) as u64));
    let some = |part: &Value| {
        let (count, some) = <(u64, Vec<(String, f64)>)>::from_redis_value_ref(part)?;
        Ok::<_, RedisError>((count, some))
    };
    let (reading, readers) = some(readers)?;
    let (queued, queue) = some(queue)?;
    let (_, patience) = some(patience)?;
    let (crowding, crowd) = some(crowd)?;
    let participant = |mode, who: String, ends_in| Participant { mode, who, ends_in };
    let writer = Some(of("writer")).filter(|writer| !writer.is_empty());
    let writer = writer.map(|writer| {
        participant(
            Mode::Exclusive,
            writer.to_owned(),
            left(of("ends").parse().unwrap_or_default()),
        )
    });
    let ends = |who: &str| {
        patience.iter().find(|(other, _)| other == who).and_then(|(_, ends)| left(*ends))
    };
    let readers = readers.into_iter().map(|(who, ends)| participant(Mode::Shared, who, left(ends)));
    let queue =
        queue.into_iter().map(|(who, _)| participant(Mode::Exclusive, who.clone(), ends(&who)));
    let crowd = crowd.into_iter().map(|(who, ends)| participant(Mode::Shared, who, left(ends)));
    let incarnation = text_of(incarnation)?.to_owned();
    let token = of("epoch").parse().ok().zip(of("counter").parse().ok());
    let token = token.and_then(|(epoch, counter)| FencingToken::new(epoch, counter));
    let mut notes = Vec::new();
    if of("incarnation") != incarnation || token.is_none_or(|token| token.counter() == 0) {
        notes.push(
            "the next writer will seed it: this memory is new, or of another run of the server"
                .to_owned(),
        );
    }
    if of("unsealed") == "1" {
        notes.push(
            "a writer's lease ran out: the next writer will seal its token in the database first"
                .to_owned(),
        );
    }
    let listed = (readers.len() + queue.len() + crowd.len()) as u64;
    let more = (reading + queued + crowding).saturating_sub(listed);
    if more > 0 {
        notes.push(format!("and {more} more"));
    }
    let holders = writer.into_iter().chain(readers).collect();
    Ok(Inspection {
        holders,
        waiting: queue.chain(crowd).collect(),
        token,
        incarnation: Some(incarnation),
        notes,
    })
}
