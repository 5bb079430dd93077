//! Nodes that are flooded unevenly: whoever asks little, at another node, is served all the same.
//! What is counted are turns, not time.

use std::thread;

use fencepost::bench::Outcome;
use fencepost::design::Design;
use fencepost::design::crud_delta::CRUD_DELTA;
use fencepost::design::crud_optimistic::CRUD_OPTIMISTIC;

use super::field::Field;
use crate::support::cluster::Server;

/// Writes of each lone client.
const WRITES: u64 = 20;

fn turns(node: &Server) -> u64 {
    node.count("fencepost_write_batch_requests_count", "")
}

/// Sixty-four clients write to one node, and a lone one to each of two others. How many turns the
/// flooded node took while each lone client waited for its answers, and what all nodes together
/// lost.
fn flooded(design: &'static Design) -> ([u64; 2], u64) {
    let field = Field::of(design, None);
    let nodes = [field.node(""), field.node(""), field.node("")];
    let [flooded, lone @ ..] = &nodes;
    let lone_client = |node: &Server, number: usize| -> u64 {
        let write = |n| {
            let before = turns(flooded);
            let told =
                field.put(node, &format!("lone-{number}-{n}"), "x", &format!("y-{number}-{n}"));
            assert!(matches!(told, Outcome::Accepted(_)), "{told:?}");
            turns(flooded) - before
        };
        (0..WRITES).map(write).sum()
    };
    let load = "--clients 64 --requests 1000 --write-percent 100";
    let meanwhile = field.under(load, &[flooded], || {
        thread::scope(|scope| {
            let clients: Vec<_> =
                (0..lone.len()).map(|n| scope.spawn(move || lone_client(&lone[n], n))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
        })
    });
    let served = flooded.count("fencepost_write_batch_requests_sum", "");
    assert!(
        served > 3 * turns(flooded),
        "{served} requests in {} turns are no flood",
        turns(flooded)
    );
    let lost = nodes.iter().map(|node| node.count("fencepost_lost_writes_total", "conflict")).sum();
    field.expect_valid(flooded);
    (meanwhile.try_into().unwrap(), lost)
}

/// About one turn each would be just; what is counted is what was taken while a lone client looked
/// at the count, too.
#[test]
fn under_the_lock_a_flooded_node_takes_few_turns_for_each_of_a_lone_client() {
    let (meanwhile, lost) = flooded(&CRUD_DELTA);
    for turns in meanwhile {
        assert!(
            turns <= 3 * WRITES,
            "{turns} turns of the flooded node while a lone client made {WRITES} writes"
        );
    }
    assert_eq!(lost, 0);
}

/// Nobody orders who is next: all that can be asked is that each is served within its retries, and
/// none refused.
#[test]
fn without_a_lock_a_lone_client_is_served_beside_a_flooded_node() {
    let (_, lost) = flooded(&CRUD_OPTIMISTIC);
    assert!(lost > 0, "nobody was in anybody's way");
}
