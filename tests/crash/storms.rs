//! Storms of conflicting writes by many processes on one file.

use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::cluster::{GRAPH, Server, Site, name, wait_until};
use crate::support::storm::{Choices, Field, Told, audit, check_public_text, client};

fn field(servers: &[Server]) -> Field {
    let servers = servers.iter().map(|server| server.base.clone()).collect();
    Field { servers: RwLock::new(servers), answered: AtomicUsize::new(0) }
}

#[test]
fn eight_processes_write_to_one_file() {
    const WRITES: usize = 40;
    let site = Site::new();
    let servers: Vec<Server> = (0..8).map(|_| site.serve()).collect();
    site.node().create_graph_and_wait(&name(GRAPH)).unwrap();
    let field = field(&servers);
    let told: Vec<Told> = std::thread::scope(|scope| {
        let field = &field;
        let clients: Vec<_> =
            (0..8).map(|n| scope.spawn(move || client(field, n, n, WRITES))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    for told in &told {
        assert_eq!(
            (told.lost, told.accepted.len() + told.rejected.len()),
            (0, WRITES),
            "each write has a verdict"
        );
    }
    let told = Told::merge(told);
    assert!(
        told.accepted.len() > 20 && told.rejected.len() > 20,
        "{} accepted, {} rejected",
        told.accepted.len(),
        told.rejected.len()
    );
    let audit = audit(&site);
    assert_eq!(audit.version, told.accepted.len() as u64);
    check_public_text(&told, &audit);
    for server in &servers {
        let digest = server.get(&format!("/v1/graphs/{GRAPH}/digest")).unwrap();
        assert_eq!(
            (digest.version(), digest.body["digest"].as_str()),
            (audit.version, Some(audit.digest.as_str()))
        );
    }
}

/// Eight processes, of which every other one is killed in its turn, and started again.
#[test]
fn servers_are_killed_at_random_in_a_storm() {
    const CLIENTS: usize = 8;
    const WRITES: usize = 60;
    const KILLS: usize = 8;
    let site = Site::with_graph();
    let mut servers: Vec<Server> = (0..8).map(|_| site.serve()).collect();
    let field = field(&servers);
    let mut choices = Choices(20190523);
    let told = std::thread::scope(|scope| {
        let field = &field;
        let clients: Vec<_> =
            (0..CLIENTS).map(|n| scope.spawn(move || client(field, n, n, WRITES))).collect();
        for round in 1..=KILLS {
            // Spread over the storm, at a point that a dice chooses.
            let due = round * CLIENTS * WRITES / (KILLS + 2) + choices.below(20);
            wait_until("the storm has come so far", || {
                field.answered.load(Ordering::SeqCst) >= due
            });
            let victim = 2 * round % servers.len();
            servers[victim].kill();
            audit(&site);
            servers[victim] = site.serve();
            field.servers.write().unwrap()[victim].clone_from(&servers[victim].base);
        }
        Told::merge(clients.into_iter().map(|client| client.join().unwrap()))
    });
    assert_eq!(
        told.accepted.len() + told.rejected.len(),
        CLIENTS * WRITES,
        "each write has a verdict in the end"
    );
    assert!(told.lost > 0, "no kill met a request under way");
    assert!(told.accepted.len() > 20 && told.rejected.len() > 20);
    let audit = audit(&site);
    // The first version is the site's own.
    assert_eq!(audit.version, told.accepted.len() as u64 + 1);
    check_public_text(&told, &audit);
}
