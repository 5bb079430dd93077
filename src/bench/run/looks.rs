//! Servers that are looked at when what is measured begins, and when it has ended: what they used
//! of the processors, what was logged, and how often nodes waited for database and lock.

use std::sync::{Mutex, PoisonError};

use super::figures::{DRIVER, PROXY, Processor, Raw, RoundTrips};
use super::machine::{Used, own_processor_seconds, steal_seconds};
use super::proxy::{Proxy, Upstream};
use crate::bench::BenchError;
use crate::bench::target::{Connection, HttpTarget, Target};
use crate::db::MeasuredPostgres;
use crate::service::Service;

/// What is looked at.
pub struct Watched<'s> {
    /// The nodes, as the driver asks them.
    pub inner: HttpTarget,
    /// Processes by their names in the results.
    pub processes: Vec<Process>,
    /// Of a database on a server: a session there.
    pub server: Option<Mutex<MeasuredPostgres>>,
    /// Whether that makes a checkpoint at the first look.
    pub makes_checkpoint: bool,
    /// Between the nodes and their servers.
    pub proxy: Option<&'s Proxy>,
    /// What was seen.
    pub looks: Mutex<Vec<Result<Look, BenchError>>>,
}

/// A process whose time is told apart.
pub struct Process {
    /// As in the results.
    pub name: String,
    /// Its id.
    pub id: u32,
    /// Whether its children belong to it.
    pub has_family: bool,
}

/// What was seen at one time.
pub struct Look {
    used: Vec<Used>,
    driver_seconds: f64,
    steal_seconds: f64,
    logged_bytes: Option<u64>,
    trips: Option<RoundTrips>,
}

impl Watched<'_> {
    fn look(&self) -> Result<Look, BenchError> {
        let used = |process: &Process| match process.has_family {
            true => Used::by_family(process.id),
            false => Used::by(process.id),
        };
        // What is counted from when it is asked, before what takes some milliseconds for each of
        // the processes: what was logged meanwhile would be missing.
        let logged_bytes = self.with_server(MeasuredPostgres::logged_bytes)?;
        let trips = self.proxy.map(trips).transpose()?;
        Ok(Look {
            used: self.processes.iter().map(used).collect(),
            driver_seconds: own_processor_seconds(),
            steal_seconds: steal_seconds(),
            logged_bytes,
            trips,
        })
    }

    /// How often the server of databases has synced its log, when the nodes have ended; none
    /// where there is no server, or it does not tell.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`].
    pub fn log_syncs(&self) -> Result<Option<u64>, BenchError> {
        Ok(self.with_server(MeasuredPostgres::log_syncs)?.flatten())
    }

    fn with_server<T>(
        &self,
        ask: impl FnOnce(&mut MeasuredPostgres) -> Result<T, String>,
    ) -> Result<Option<T>, BenchError> {
        let Some(server) = &self.server else { return Ok(None) };
        let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
        ask(&mut server).map(Some).map_err(BenchError::Unavailable)
    }

    /// Notes in `raw` what was used between the first look and the last, and says what the host
    /// took meanwhile, in seconds.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`] if a look found a server away.
    pub fn note_in(self, raw: &mut Raw) -> Result<f64, BenchError> {
        let looks = self.looks.into_inner().unwrap_or_else(PoisonError::into_inner);
        let looks: Vec<Look> = looks.into_iter().collect::<Result<_, _>>()?;
        let [first, .., last] = &looks[..] else { return Ok(0.0) };
        for ((process, before), after) in self.processes.iter().zip(&first.used).zip(&last.used) {
            if process.name != PROXY {
                let written = after.written_bytes.zip(before.written_bytes);
                let written = written.map(|(after, before)| after.saturating_sub(before));
                raw.written_bytes = raw.written_bytes.zip(written).map(|(sum, more)| sum + more);
            }
            let seconds = after.seconds_since(before);
            raw.processor.push(Processor { process: process.name.clone(), seconds });
        }
        let seconds = last.driver_seconds - first.driver_seconds;
        raw.processor.push(Processor { process: DRIVER.to_owned(), seconds });
        let logged = last.logged_bytes.zip(first.logged_bytes);
        raw.wal_bytes = logged.map(|(after, before)| after.saturating_sub(before));
        raw.round_trips = last.trips.zip(first.trips).map(|(after, before)| RoundTrips {
            database: after.database.saturating_sub(before.database),
            lock: after.lock.saturating_sub(before.lock),
        });
        // On some hosts that count can go back.
        Ok((last.steal_seconds - first.steal_seconds).max(0.0))
    }
}

fn trips(proxy: &Proxy) -> Result<RoundTrips, BenchError> {
    let counts = proxy.trips()?;
    let of = |upstream| counts.get(&upstream).copied().unwrap_or_default();
    Ok(RoundTrips { database: of(Upstream::Database), lock: of(Upstream::Lock) })
}

impl Target for Watched<'_> {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn connect(&self) -> Box<dyn Connection> {
        self.inner.connect()
    }

    fn nodes(&self) -> usize {
        self.inner.nodes()
    }

    fn metrics(&self) -> Vec<Option<String>> {
        // Before asking, which takes some milliseconds: what is answered in the window meanwhile is
        // counted, so what servers used for it is counted too.
        let look = self.look();
        let is_first = {
            let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
            looks.push(look);
            looks.len() == 1
        };
        let metrics = self.inner.metrics();
        // In the window: it takes as long as what waits to be written.
        if is_first
            && self.makes_checkpoint
            && let Err(error) = self.with_server(MeasuredPostgres::checkpoint)
        {
            let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
            looks.push(Err(error));
        }
        metrics
    }

    fn service(&self) -> Option<&Service> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::path::Path;
    use std::process::Command;
    use std::thread;
    use std::time::Duration;

    use super::super::made_up;
    use super::super::place::GRAPH;
    use super::*;
    use crate::graph::Name;

    /// Says where it listens, works for a while whenever it is asked, and counts seven more then.
    const WORKS: &str = "#!/bin/sh
        echo database=127.0.0.1:1
        n=0
        while read question; do
            i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done
            n=$((n + 7)); echo database=$n
        done";

    fn working(place: &Path) -> Proxy {
        let program = place.join("proxy");
        // By another process: nobody is to have it open for writing while it is started.
        let write = "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\"";
        let mut written = Command::new("/bin/sh");
        written.args(["-c", write]).arg(&program).arg(WORKS);
        assert!(written.status().unwrap().success());
        Proxy::start(&program, 0, &[(Upstream::Database, String::new())]).unwrap()
    }

    fn watched(url: &str, processes: Vec<Process>) -> Watched<'static> {
        let graph = Name::new(GRAPH).unwrap();
        Watched {
            inner: HttpTarget::new(&[url.to_owned()], graph, Duration::from_secs(120)).unwrap(),
            processes,
            server: None,
            makes_checkpoint: false,
            proxy: None,
            looks: Mutex::default(),
        }
    }

    fn process(name: &str, id: u32) -> Process {
        Process { name: name.to_owned(), id, has_family: false }
    }

    const NOWHERE: &str = "http://127.0.0.1:1";

    #[test]
    fn bytes_and_round_trips_are_asked_for_before_processes_are_looked_at() {
        let place = tempfile::tempdir().unwrap();
        let proxy = working(place.path());
        let before = Used::by(proxy.process());
        let processes = vec![process(PROXY, proxy.process())];
        let watched = Watched { proxy: Some(&proxy), ..watched(NOWHERE, processes) };
        let look = watched.look().unwrap();
        assert_eq!(look.trips.unwrap().database, 7);
        let worked = look.used[0].seconds_since(&before);
        assert!(worked > 0.001, "it was looked at first: {worked}");
    }

    #[test]
    fn what_was_done_before_the_first_look_is_not_counted() {
        let place = tempfile::tempdir().unwrap();
        let proxy = working(place.path());
        for _ in 0..8 {
            proxy.trips().unwrap();
        }
        let processes = vec![process("node 1", proxy.process())];
        let watched = Watched { proxy: Some(&proxy), ..watched(NOWHERE, processes) };
        // It works once more between two looks.
        let looks = [watched.look(), watched.look()];
        watched.looks.lock().unwrap().extend(looks);
        let mut raw = made_up::measurement(1.0).raw;
        raw.processor.clear();
        watched.note_in(&mut raw).unwrap();
        let of_all = Used::by(proxy.process()).seconds_since(&Used::default());
        let seconds = raw.processor[0].seconds;
        assert!(0.0 < seconds && seconds < of_all / 2.0, "{seconds} s of {of_all} s");
        assert_eq!(raw.round_trips, Some(RoundTrips { database: 7, lock: 0 }));
    }

    #[test]
    fn what_is_noted_is_the_difference_of_the_first_look_and_the_last() {
        let names = ["node 1", "postgres", PROXY];
        let look = |seconds: f64, logged_bytes: u64, written: [Option<u64>; 3]| {
            let used = written.map(|written_bytes| {
                let mut used = Used::by(std::process::id());
                used.written_bytes = written_bytes;
                used
            });
            Ok(Look {
                used: used.into(),
                driver_seconds: seconds,
                steal_seconds: seconds,
                logged_bytes: Some(logged_bytes),
                trips: None,
            })
        };
        let noted = |looks: Vec<Result<Look, BenchError>>| {
            let watched = watched(NOWHERE, names.map(|name| process(name, 0)).into());
            *watched.looks.lock().unwrap() = looks;
            let mut raw = made_up::measurement(1.0).raw;
            raw.processor.clear();
            raw.written_bytes = Some(0);
            let stolen = watched.note_in(&mut raw)?;
            Ok::<_, BenchError>((raw, stolen))
        };
        let before = [Some(100), Some(1_000), Some(0)];
        let after = [Some(105), Some(1_020), Some(300)];
        let (raw, stolen) =
            noted(vec![look(5.0, 70, before), look(5.5, 80, before), look(6.5, 100, after)])
                .unwrap();
        // What the proxy writes is no server's.
        assert_eq!((raw.written_bytes, raw.wal_bytes, stolen), (Some(25), Some(30), 1.5));
        let driver = raw.processor.last().unwrap();
        assert_eq!((driver.process.as_str(), driver.seconds), (DRIVER, 1.5));
        assert_eq!(raw.processor.len(), 4);
        // The kernel does not tell what one of them wrote, and what the host took goes back.
        let (raw, stolen) =
            noted(vec![look(5.0, 0, before), look(4.0, 0, [Some(105), None, None])]).unwrap();
        assert_eq!((raw.written_bytes, stolen), (None, 0.0));
        // A start is not looked at.
        let (raw, stolen) = noted(vec![]).unwrap();
        assert_eq!((raw.processor, raw.wal_bytes, stolen), (vec![], None, 0.0));
        let away = || Err(BenchError::Unavailable("it is away".to_owned()));
        assert!(noted(vec![look(5.0, 0, before), away(), look(6.0, 0, after)]).is_err());
    }

    #[test]
    fn servers_are_looked_at_before_they_are_asked_for_metrics() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let watched = watched(&url, vec![process("node 1", std::process::id())]);
        let looks = || watched.looks.lock().unwrap().len();
        let serve = || {
            let (mut client, _) = listener.accept().unwrap();
            let request = BufReader::new(client.try_clone().unwrap());
            assert!(request.lines().any(|line| line.unwrap().is_empty()), "the head ends");
            let looks = looks();
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            client.write_all(head.as_bytes()).unwrap();
            looks
        };
        for number in 1..=2 {
            let looks = thread::scope(|scope| {
                let server = scope.spawn(serve);
                assert_eq!(watched.metrics(), [Some(String::new())]);
                server.join().unwrap()
            });
            assert_eq!(looks, number, "when it was asked");
        }
    }
}
