//! One event, one spelling.

use fencepost::event::{Kind, Reader};
use sha2::{Digest, Sha256};

use super::History;

#[test]
fn an_event_is_a_cloud_event_with_these_attributes() {
    let history = History::of("team/graph", 3, 3);
    let log = history.log(2);
    let event: serde_json::Value = serde_json::from_str(log.last().unwrap()).unwrap();
    let mut attributes: Vec<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
    attributes.sort_unstable();
    let expected = [
        "actor",
        "chainhash",
        "checksum",
        "data",
        "datacontenttype",
        "graphversion",
        "id",
        "ordinal",
        "partitionkey",
        "sequence",
        "source",
        "specversion",
        "subject",
        "time",
        "type",
    ];
    assert_eq!(attributes, expected);
    // Names of extensions are lower-case letters and digits.
    assert!(
        attributes.iter().all(|name| name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()))
    );
    assert_eq!(event["source"], "urn:fencepost:graph:00000000-0000-0000-0000-000000000004");
    assert_eq!(event["sequence"], "00000000000000000003");
    assert_eq!(
        (event["subject"].as_str(), event["partitionkey"].as_str()),
        (Some("team/graph"), Some("team/graph"))
    );
    assert_eq!(event["time"], "2026-01-01T00:00:00.003Z");
    assert_eq!(event["data"]["version"], 3);
    // UUIDv5 of version and ordinal in the graph's name space.
    let name_space = uuid::Uuid::from_u128(4);
    assert_eq!(event["id"], uuid::Uuid::new_v5(&name_space, b"3/0").to_string());
}

/// As parts of imports were called before they had names of their own.
#[test]
fn logs_of_the_format_before_are_read_and_go_on_in_todays() {
    let history = History::of("g", 5, 12);
    let mut log = history.log(10);
    for line in log.iter_mut().filter(|line| line.contains("import")) {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let position = format!("{}/{}", event["graphversion"], event["ordinal"]);
        let id = uuid::Uuid::new_v5(&history.stream.uuid, position.as_bytes()).to_string();
        let written = event["id"].as_str().unwrap();
        assert_ne!(id, written, "{line}");
        let checksum = fencepost::graph::hex(&Sha256::digest(format!(
            "{id}\n{}\n{}\n",
            event["time"].as_str().unwrap(),
            event["chainhash"].as_str().unwrap()
        )));
        *line = line
            .replace(written, &id)
            .replace(event["checksum"].as_str().unwrap(), &checksum[..16]);
    }
    let came_to = super::replayed(&log).unwrap();
    assert_eq!(came_to.graph.digest(), history.graphs[12].digest());
}

#[test]
fn an_import_that_abandons_another_has_a_beginning_of_its_own() {
    let history = History::of("g", 6, 20);
    let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].clone();
    let position = |version| fencepost::event::EventIndex { version, ordinal: 3 };
    let plain = super::lines(history.import(20));
    let after_10 = super::lines(history.import(20).abandoning(position(10)));
    let after_11 = super::lines(history.import(20).abandoning(position(11)));
    assert!(id(&plain[0]) != id(&after_10[0]) && id(&after_10[0]) != id(&after_11[0]));
    assert_eq!(plain[1..], after_10[1..]);
}

#[test]
fn what_was_written_is_read() {
    for seed in 0..20 {
        let history = History::of("g \"日本\" \\ é", seed, 12);
        let mut reader = Reader::default();
        for line in history.log(5) {
            let (stream, event) = reader.read(&line).unwrap();
            assert_eq!(**stream, history.stream);
            let mut written = Vec::new();
            stream.write(&event, &mut written);
            assert_eq!(String::from_utf8(written).unwrap(), line);
        }
    }
}

#[test]
fn any_byte_that_was_altered_is_found_in_the_event_itself_or_by_the_chain() {
    let history = History::of("g", 5, 4);
    let log = history.log(2);
    let mut found = 0;
    for (number, line) in log.iter().enumerate() {
        for at in 0..line.len() {
            for to in [line.as_bytes()[at] ^ 1, line.as_bytes()[at].wrapping_add(1), b'"', b' '] {
                if to == line.as_bytes()[at] {
                    continue;
                }
                let mut bytes = line.clone().into_bytes();
                bytes[at] = to;
                // What is no text is refused by whoever reads lines.
                let Ok(altered) = String::from_utf8(bytes) else { continue };
                let mut log = log.clone();
                log[number] = altered;
                let refused = super::replayed(&log).err().map(|(event, _)| event);
                assert!(
                    refused.is_some_and(|event| event <= log.len()),
                    "event {number}, byte {at}: {}",
                    log[number]
                );
                found += 1;
            }
        }
    }
    assert!(found > 5_000, "{found}");
}

#[test]
fn other_spellings_of_the_same_are_refused() {
    let line = History::of("g", 1, 1).changes(0).remove(0);
    let mut reader = Reader::default();
    assert_eq!(reader.read(&line).unwrap().1.kind, Kind::Changed);
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    let told = reader.read(&value.to_string()).unwrap_err().to_string();
    assert!(
        told.starts_with("it was altered: read and written anew it differs from byte "),
        "{told}"
    );
    for other in
        [line.replacen(':', ": ", 1), line.replace("\"g\"", "\"\\u0067\""), format!("{line} ")]
    {
        reader.read(&other).unwrap_err();
    }
    let told =
        reader.read("{\"name\":\"mill\",\"inputs\":[],\"outputs\":[]}").unwrap_err().to_string();
    assert!(told.starts_with("it is no event of Fencepost's: unknown field `name`"), "{told}");
}
