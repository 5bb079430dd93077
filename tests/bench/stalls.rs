//! Servers that stop answering for a while: what a measurement makes of that.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fencepost::bench::{Class, HttpTarget, Report, Summary, drive};

use super::place::{arguments, graph};

/// How long the answer to request number so and so is held back.
type Hold = dyn Fn(u64) -> Duration + Send + Sync;

/// A server that answers every GET with `{}`, after the time that `hold` says. Its URL.
fn serve(hold: impl Fn(u64) -> Duration + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (hold, asked): (Arc<Hold>, _) = (Arc::new(hold), Arc::new(AtomicU64::new(0)));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (hold, asked) = (Arc::clone(&hold), Arc::clone(&asked));
            thread::spawn(move || answer(stream, &*hold, &asked));
        }
    });
    url
}

fn answer(stream: TcpStream, hold: &Hold, asked: &AtomicU64) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|read| read > 0) {
        if line == "\r\n" {
            thread::sleep(hold(asked.fetch_add(1, Ordering::SeqCst)));
            drop(stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"));
        }
        line.clear();
    }
}

/// Answers nothing for two seconds from request number 100 on.
fn stalls() -> String {
    let until: Mutex<Option<Instant>> = Mutex::new(None);
    serve(move |number| {
        let mut until = until.lock().unwrap();
        if number == 100 {
            *until = Some(Instant::now() + Duration::from_secs(2));
        }
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    })
}

fn fetch(url: &str, line: &str) -> Report {
    let target = HttpTarget::new(&[url.to_owned()], graph(), Duration::from_secs(30)).unwrap();
    let report = drive(&target, &arguments(&format!("--workload fetch {line}"))).unwrap();
    report.verdict().unwrap();
    report
}

fn p90_ms(summary: &Summary) -> f64 {
    summary.latency().percentiles().unwrap().p90_us / 1e3
}

#[test]
fn a_stall_of_the_server_shows_where_requests_are_due_and_hides_where_clients_wait() {
    // Two thirds of all that are due become due in the stall, whatever the machine.
    let open = fetch(&stalls(), "--seconds 3 --rate 200 --clients 4").summary();
    assert_eq!((open.due, open.latency().count()), (Some(600), 600));
    assert!(p90_ms(&open) >= 500.0, "p90 {} ms", p90_ms(&open));
    // A closed loop has four requests in it, of hundreds.
    let closed = fetch(&stalls(), "--seconds 3 --clients 4").summary();
    assert_eq!((closed.due, closed.achieved, closed.backlog.count()), (None, None, 0));
    assert!(p90_ms(&closed) < 500.0, "p90 {} ms", p90_ms(&closed));
    assert!(
        closed.latency().percentiles().unwrap().max_us > 1.9e6,
        "it is the slowest all the same"
    );
    // And so it is where the time from sending is told.
    let from_sending = open.service().percentiles().unwrap();
    assert!(from_sending.p90_us / 1e3 < p90_ms(&open), "{from_sending:?}");
}

#[test]
fn the_driver_is_not_late_for_what_a_busy_client_could_not_send() {
    let open = fetch(&stalls(), "--seconds 3 --rate 200 --clients 1").summary();
    // The one client waited for two seconds, and the requests after it as long.
    let (late, latency) =
        (open.lateness.percentiles().unwrap(), open.latency().percentiles().unwrap());
    assert!(late.p90_us < latency.p50_us, "{late:?} {latency:?}");
}

#[test]
fn an_answer_that_comes_after_the_window_does_not_lengthen_it_and_is_not_lost() {
    let holds = |number| if number == 20 { Duration::from_secs(3) } else { Duration::ZERO };
    let report = fetch(&serve(holds), "--seconds 1 --clients 2");
    let summary = report.summary();
    assert_eq!(summary.window, Duration::from_secs(1));
    let (served, sent) = (summary.count(Class::Served), report.json()["sent"].as_u64().unwrap());
    assert_eq!(summary.completed_per_second, served as f64);
    assert!(summary.in_flight_at_end >= 1);
    assert_eq!(served + summary.in_flight_at_end, sent);
    assert_eq!(summary.latency().count(), sent);
    assert!(summary.latency().percentiles().unwrap().max_us >= 3e6);
    assert!(report.render().contains("under way at the end of the window: "));
}
