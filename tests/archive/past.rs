//! A graph as it was.

use fencepost::archive::{PastError, graph_at, prune};

use super::{KINDS, Known, grown, plain};
use crate::support::cluster::{GRAPH, Site, name};

#[test]
fn a_graph_at_every_version_is_what_it_was_before_and_after_its_log_is_pruned() {
    for (seed, kind) in KINDS.into_iter().enumerate() {
        let site = Site::on(kind);
        let known = grown(&site, seed as u64, 60);
        let store = site.store();
        for begins_at in [0, 1, 2, 23, 29, 30, 31, 59, 60] {
            if begins_at > 0 {
                prune(&store, &name(GRAPH), begins_at).unwrap();
            }
            for (version, known) in (0..).zip(&known) {
                if version >= begins_at {
                    assert_eq!(
                        Known::at(&store, version),
                        *known,
                        "on {kind:?}, pruned to {begins_at}"
                    );
                    continue;
                }
                match graph_at(&store, &name(GRAPH), version) {
                    Err(PastError::Pruned { oldest, asked, .. }) => {
                        assert_eq!((oldest, asked), (begins_at, version))
                    }
                    Err(other) => panic!("{other}"),
                    Ok(_) => panic!("version {version} came back from before {begins_at}"),
                }
            }
        }
        let ahead = graph_at(&store, &name(GRAPH), 61).err().unwrap().to_string();
        assert!(ahead.contains("is at version 60"), "{ahead}");
        assert!(matches!(graph_at(&store, &name("other"), 0), Err(PastError::GraphNotFound(_))));
    }
}

#[test]
fn a_past_that_was_altered_is_told_and_not_believed() {
    let found = |site: &Site, version| match graph_at(&site.store(), &name(GRAPH), version) {
        Err(PastError::Damaged { what, .. }) => what,
        Err(other) => other.to_string(),
        Ok(_) => "nothing".to_owned(),
    };
    for kind in KINDS {
        let site = Site::on(kind);
        plain(&site, 9);
        prune(&site.store(), &name(GRAPH), 4).unwrap();
        assert_eq!(found(&site, 6), "nothing");
        site.run_sql("UPDATE changes SET change = replace(change, 'd6', 'd7') WHERE version = 6");
        assert!(
            found(&site, 7).contains("change 6: the chain of hashes breaks"),
            "{}",
            found(&site, 7)
        );
        assert_eq!(found(&site, 5), "nothing", "what is before is as it was");
        site.run_sql("UPDATE snapshot_parts SET lines = replace(lines, 'd2', 'd3')");
        assert!(found(&site, 5).contains("the snapshot at version 4: "), "{}", found(&site, 5));
        site.run_sql("DELETE FROM snapshot_parts");
        assert!(found(&site, 5).contains("the log is empty"), "{}", found(&site, 5));
    }
}
