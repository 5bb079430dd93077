//! A graph at one version, as the events that build it.

use std::sync::Arc;

use rocket::tokio;
use rocket::tokio::task::spawn_blocking;

use super::app::App;
use super::ask::ask;
use super::call::Call;
use super::changes::LINES;
use super::problem::{Kind, Problem};
use super::reply::Reply;
use super::stream::{Form, Pieces, stream};
use crate::event::{Importing, Stream};

/// Bytes that are written out at once, beyond their first event.
const CHUNK_BYTES: usize = 256 << 10;

/// `GET /v1/graphs/{graph}/snapshot`
pub async fn read(call: Call) -> Result<Reply, Problem> {
    let (graph, image) = call.image().await?;
    let key = image.key;
    if call.has_current(key.version) {
        return Ok(call.read_answer(key.version, key.version, || unreachable!("the client has it")));
    }
    let open = call.app.open_stream("snapshot")?;
    let origin = ask(|reply| call.app.service.origin(&graph, key.version, reply)).await;
    let (head, committed_at_ms) = origin.map_err(|refusal| Problem::refused(&graph, refusal))?;
    if head.id != key.graph_id {
        return Err(Problem::new(
            Kind::Contended,
            "another graph has taken this one's place meanwhile; ask again",
        ));
    }
    let begin = move || {
        Importing::new(
            Stream::new(head.name.clone(), head.uuid),
            image.graph.clone(),
            key.chain,
            committed_at_ms,
        )
    };
    let importing = Arc::clone(&call.app).compute(begin).await?;
    let (pieces, streamed) = stream(Form::Lines, open);
    tokio::spawn(send(Arc::clone(&call.app), importing, pieces));
    Ok(call.read_answer(key.version, key.version, || Reply::streamed(LINES, streamed)))
}

/// Computes one chunk after another, each when there is room for it: a client that reads slowly
/// holds no thread and keeps no computation waiting.
async fn send(app: Arc<App>, mut importing: Importing, pieces: Pieces) {
    loop {
        let next = move || {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES + (64 << 10));
            let written = importing.write_some(CHUNK_BYTES, &mut chunk);
            (importing, written.map(|_| chunk))
        };
        let chunk = match Arc::clone(&app).compute(next).await {
            Ok((rest, chunk)) => {
                importing = rest;
                chunk
            }
            Err(problem) => return pieces.fail(&problem).await,
        };
        let Some(chunk) = chunk else {
            pieces.end().await;
            break;
        };
        if pieces.send(chunk).await.is_err() {
            break;
        }
    }
    // It may be the last owner of a whole graph, which takes its time to go.
    spawn_blocking(move || drop(importing));
}
