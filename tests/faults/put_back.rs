//! A backup of the database is put back under nodes that pass writes on, and an answer is lost:
//! what became of its write is found in the log, though that is not the one of before.

use std::fs;
use std::thread;

use fencepost::design::es_single_writer::ES_SINGLE_WRITER;

use super::field::Field;
use super::forwarding::{Pair, WRITE, create_job, file};
use super::holders::version;
use crate::support::cluster::{Answer, GRAPH, Kind, Server, Site, back_up, restore, wait_until};
use crate::support::wire::Fate;

/// On a database that can be put back while nodes run.
fn field() -> Field {
    Field::on(Site::on(Kind::Sqlite), &ES_SINGLE_WRITER, None)
}

/// The leader makes so many more changes.
fn grow(field: &Field, leader: &Server, what: &str, count: usize) {
    for n in 0..count {
        version(&field.put(leader, &format!("{what} {n}"), "a", &format!("{what} out {n}")));
    }
}

/// The follower's image is of a version that the graph has not come to again.
fn followers_image_is_ahead(of_follower: &str) -> Answer {
    let served = file("served");
    let armed = format!("forward-served=pause:{}@2", served.display());
    let pair = Pair::on(field(), &armed, of_follower, |_, _| ());
    let copy = pair.field.site.path("copy.db");
    back_up(&pair.field.site, &copy);
    grow(&pair.field, &pair.leader, "lost", 3);
    let read = pair.follower.get(&format!("/v1/graphs/{GRAPH}/digest")).unwrap();
    assert_eq!(read.version(), 5, "its image has what is lost");
    restore(&pair.field.site, &copy);
    // Sent again, it is asked anew at which version the graph is.
    pair.wire.strike(WRITE, Fate::CommandLost);
    thread::scope(|scope| {
        let create = scope.spawn(|| create_job(&pair.follower, "new"));
        wait_until("it is applied", || served.exists());
        pair.wire.lead_to(0);
        let told = create.join().unwrap();
        fs::remove_file(&served).unwrap();
        told
    })
}

/// Also where no more of the log is searched than what came since the leader was looked at.
#[test]
fn a_write_is_found_in_a_log_that_the_followers_image_is_ahead_of() {
    for of_follower in ["", "forwarded-history=off"] {
        let told = followers_image_is_ahead(of_follower);
        assert_eq!((told.status, told.version()), (201, 3), "{of_follower}: {told:?}");
    }
}

/// The backup is put back while a write is on its way to the leader, which applies it, and is
/// killed when the graph has come past the version again at which the write was sent.
fn put_back_and_grown_again(of_follower: &str) -> Answer {
    let served = file("served");
    let (field, armed) = (field(), format!("forward-served=pause:{}@2", served.display()));
    let copy = field.site.path("copy.db");
    let pair = Pair::on(field, &armed, of_follower, |field, leader| {
        back_up(&field.site, &copy);
        grow(field, leader, "lost", 3);
    });
    pair.wire.strike(WRITE, Fate::Delayed);
    thread::scope(|scope| {
        let create = scope.spawn(|| create_job(&pair.follower, "new"));
        pair.wire.wait_until_struck();
        assert_eq!(pair.field.site.head().version, 5);
        restore(&pair.field.site, &copy);
        pair.wire.deliver();
        wait_until("it is applied", || served.exists());
        grow(&pair.field, &pair.leader, "since", 5);
        assert_eq!(pair.field.site.head().version, 7);
        pair.leader.signal("KILL");
        fs::remove_file(&served).unwrap();
        create.join().unwrap()
    })
}

#[test]
fn a_write_is_found_in_a_log_that_has_grown_past_its_version_again() {
    let told = put_back_and_grown_again("");
    assert_eq!((told.status, told.version()), (201, 2), "{told:?}");
}

#[test]
fn without_the_chain_a_write_is_not_found_in_a_log_that_was_put_back() {
    let told = put_back_and_grown_again("forwarded-history=off");
    assert_eq!(told.status, 409, "it was sent again, and is there already: {told:?}");
}
