//! Keys and identities.

use fencepost::lock::{LockError, LockIdentity, LockKey};

#[test]
fn a_key_is_checked_when_it_is_made() {
    let longest = "0123456789abcdef-".repeat(4)[..64].to_owned();
    for database in ["0", "deadbeef", "5eed-0f-a-da7aba5e", &longest] {
        assert_eq!(LockKey::new(database, 0).expect("a key").database, database);
    }
    for (database, graph) in
        [("", 1), ("x", 1), ("A", 1), ("a\0", 1), ("a", -1), (&*format!("{longest}0"), 1)]
    {
        assert!(
            matches!(LockKey::new(database, graph), Err(LockError::InvalidKey { .. })),
            "{database:?} {graph}"
        );
    }
}

#[test]
fn keys_are_written_apart() {
    let keys = [("a", 5), ("a-", 5), ("a-5", 5), ("a", 55), ("a-5", 55)];
    let mut written: Vec<String> = keys
        .into_iter()
        .map(|(database, graph)| LockKey::new(database, graph).expect("a key"))
        .flat_map(|key| [key.to_string(), key.of_leadership().to_string()])
        .collect();
    written.sort();
    written.dedup();
    assert_eq!(written.len(), 2 * keys.len());
}

#[test]
fn an_identity_is_written_as_kind_and_identity() {
    let identity = LockIdentity { kind: "file", identity: "/var/lib/fencepost".to_owned() };
    assert_eq!(identity.to_string(), "file:/var/lib/fencepost");
}
