//! What the nodes under load say of themselves: how they are built and set, from `/metrics`.

use serde::Serialize;

/// As the metric `fencepost_node_info` has it. Where nodes differ, each value that there is; `None`
/// where no node says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Server {
    /// The designs by which graphs are kept and turns taken.
    pub design: Option<String>,
    /// Whether requests that wait share a turn: `on` or `off`.
    pub sharing: Option<String>,
    /// How reads see every write before them: `lock` or `snapshot`.
    pub reads: Option<String>,
    /// Version of the program.
    pub version: Option<String>,
    /// The commit that it was built from.
    pub commit: Option<String>,
}

const INFO: &str = "fencepost_node_info{";

impl Server {
    /// From what each node said, in Prometheus' text format.
    pub fn of(nodes: &[Option<String>]) -> Self {
        let infos: Vec<&str> = nodes
            .iter()
            .flatten()
            .filter_map(|text| text.lines().find_map(|line| line.strip_prefix(INFO)))
            .collect();
        let one = |label: &str| {
            let mut values: Vec<&str> =
                infos.iter().filter_map(|info| value(info, label)).collect();
            values.sort_unstable();
            values.dedup();
            (!values.is_empty()).then(|| values.join(" and "))
        };
        Self {
            design: one("design"),
            sharing: one("sharing"),
            reads: one("reads"),
            version: one("version"),
            commit: one("commit").filter(|commit| commit != "unknown"),
        }
    }
}

/// Of `design="d",reads="lock"} 1`. Values are names, with neither quotes nor escapes in them.
fn value<'i>(info: &'i str, label: &str) -> Option<&'i str> {
    info.split("\",").find_map(|part| {
        let (name, value) = part.split_once("=\"")?;
        (name == label).then(|| value.split('"').next().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_say_what_they_are() {
        let node = |design: &str| {
            Some(format!(
                "# TYPE fencepost_node_info gauge\n\
                 fencepost_node_info{{commit=\"unknown\",design=\"{design}\",reads=\"lock\",\
                 sharing=\"on\",version=\"0.1.0\"}} 1\n"
            ))
        };
        let server = Server::of(&[node("a,b"), None, node("c"), node("c"), Some("x 1".to_owned())]);
        assert_eq!(server.design.as_deref(), Some("a,b and c"));
        assert_eq!(
            (server.sharing.as_deref(), server.reads.as_deref()),
            (Some("on"), Some("lock"))
        );
        assert_eq!((server.version.as_deref(), server.commit), (Some("0.1.0"), None));
        assert_eq!(Server::of(&[None]), Server::default());
    }
}
