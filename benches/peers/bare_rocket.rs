//! Rocket and nothing else: one route with a fixed answer, to compare reads with.
//!
//! ```text
//! cargo run --release --example bare_rocket -- 8100 answer.json
//! fencepost bench drive --workload fetch --url http://127.0.0.1:8100 --clients 64
//! ```
//!
//! Without a file, the answer is a job of three inputs and one output.

use rocket::config::LogLevel;
use rocket::http::ContentType;
use rocket::{Config, State, get, routes};

const JOB: &str = r#"{"name":"j/00000000/0.............................","inputs":["d/00000000/1.............................","d/00000000/2.............................","d/00000000/3............................."],"outputs":["d/00000000/0............................."],"spec":{},"version":1}"#;

#[get("/")]
fn fixed(answer: &State<Vec<u8>>) -> (ContentType, Vec<u8>) {
    (ContentType::JSON, answer.to_vec())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().ok_or("usage: bare_rocket PORT [FILE]")?.parse()?;
    let answer = args.next().map_or_else(|| Ok(JOB.into()), std::fs::read)?;
    let config = Config { port, log_level: LogLevel::Off, ..Config::release_default() };
    rocket::execute(rocket::custom(config).manage(answer).mount("/", routes![fixed]).launch())?;
    Ok(())
}
