//! The function that commits on Postgres: missing, replaced by another, or not to be called by this
//! role. Each is told with what to do about it, by readiness and by whoever writes.

use diesel::RunQueryDsl;
use diesel::sql_types::Text;
use fencepost::node;
use fencepost::service::Refusal;

use super::server::put;
use crate::support::cluster::{Kind, Server, Site, finish};
use crate::support::storm::audit;

#[derive(diesel::QueryableByName, Debug, PartialEq, Eq)]
struct Definition {
    #[diesel(sql_type = Text)]
    text: String,
}

/// The function as the database has it, and who may call it.
fn function(site: &Site) -> Definition {
    function_of(site, "fencepost_commit_4")
}

fn function_of(site: &Site, name: &str) -> Definition {
    let query = format!(
        "SELECT pg_get_functiondef(oid) || coalesce(proacl::text, '') AS text \
         FROM pg_proc WHERE proname = '{name}'"
    );
    diesel::sql_query(query).get_result(&mut site.sql()).unwrap()
}

fn migrated(site: &Site) -> String {
    let (code, said) = finish(site.fencepost(&["migrate"]));
    assert_eq!(code, Some(0), "{said}");
    said
}

/// What readiness says, which must be that the node is not ready.
fn not_ready(server: &Server) -> String {
    let answer = server.get("/readyz").unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    answer.body["detail"].as_str().unwrap().to_owned()
}

#[test]
fn a_missing_function_is_told_and_made_again() {
    let site = Site::with_graph_on(Kind::Postgres);
    let (whole, server, node) = (function(&site), site.serve(), site.node());
    assert_eq!(put(&node, "a"), Ok(2));
    site.run_sql("DROP FUNCTION fencepost_commit_4");
    let told = "the database lacks the function fencepost_commit_4, or has another of that name; \
                `fencepost migrate` makes it again";
    assert_eq!(not_ready(&server), told);
    let refused = put(&node, "b").unwrap_err();
    assert_eq!(refused, Refusal::DatabaseUnavailable { what: told.to_owned() });
    let said = migrated(&site);
    assert!(said.contains("made the function fencepost_commit_4 again"), "{said}");
    assert_eq!(function(&site), whole);
    assert_eq!(migrated(&site), "ran nothing: up to date\n");
    assert_eq!(server.get("/readyz").unwrap().status, 200);
    assert_eq!(put(&node, "b"), Ok(3));
    assert_eq!(audit(&site).version, 3);
}

#[test]
fn a_function_that_was_replaced_is_made_again_and_may_be_called_by_whom_it_might_be() {
    let site = Site::with_graph_on(Kind::Postgres);
    site.run_sql(
        "REVOKE EXECUTE ON FUNCTION fencepost_commit_4 FROM PUBLIC; \
         GRANT EXECUTE ON FUNCTION fencepost_commit_4 TO pg_monitor",
    );
    let whole = function(&site);
    let body = whole.text.split("$function$").nth(1).unwrap();
    let (head, _) = whole.text.split_once("AS $function$").unwrap();
    for replaced in [
        format!("{head} AS $f${}$f$", body.replace("graphs.fence <= token", "true")),
        format!("{head} SECURITY DEFINER AS $f${body}$f$"),
        "ALTER FUNCTION fencepost_commit_4 SET search_path = pg_catalog".to_owned(),
    ] {
        site.run_sql(&replaced);
        assert_ne!(function(&site), whole);
        assert!(migrated(&site).contains("made the function fencepost_commit_4 again"));
        assert_eq!(function(&site), whole, "{replaced}");
    }
    assert_eq!(migrated(&site), "ran nothing: up to date\n");
}

/// It cannot be put in its place: it is dropped first.
#[test]
fn a_function_that_returns_something_else_is_made_again() {
    for called in
        ["fencepost_commit_1", "fencepost_commit_2", "fencepost_commit_3", "fencepost_commit_4"]
    {
        let site = Site::with_graph_on(Kind::Postgres);
        let whole = function_of(&site, called);
        site.run_sql(&format!(
            "DO $$ DECLARE types TEXT; BEGIN \
             SELECT oidvectortypes(proargtypes) INTO types FROM pg_proc \
             WHERE proname = '{called}'; \
             DROP FUNCTION {called}; \
             EXECUTE 'CREATE FUNCTION {called}(' || types || ') RETURNS INTEGER \
             LANGUAGE sql AS ''SELECT 1'''; END $$",
        ));
        assert!(migrated(&site).contains(&format!("made the function {called} again")));
        assert_eq!(function_of(&site, called), whole);
        assert_eq!(migrated(&site), "ran nothing: up to date\n");
    }
}

/// Programs before call other functions, and may still run.
#[test]
fn the_functions_of_programs_before_are_made_again_and_not_missed_by_this_one() {
    let site = Site::with_graph_on(Kind::Postgres);
    let (server, node) = (site.serve(), site.node());
    let former = function_of(&site, "fencepost_commit_1");
    site.run_sql(
        "DROP FUNCTION fencepost_commit_1; DROP FUNCTION fencepost_commit_2; \
         DROP FUNCTION fencepost_commit_3",
    );
    assert_eq!(server.get("/readyz").unwrap().status, 200);
    assert_eq!(put(&node, "a"), Ok(2));
    site.run_sql("DROP FUNCTION fencepost_commit_4");
    let told = |number: u32| {
        format!("made the function fencepost_commit_{number} again: it was missing or another\n")
    };
    assert_eq!(migrated(&site), [1, 2, 3, 4].map(told).concat());
    assert_eq!(function_of(&site, "fencepost_commit_1"), former);
    assert_eq!(put(&node, "b"), Ok(3));
}

/// Whether it has written cannot be told.
#[test]
fn what_another_function_answers_leaves_the_outcome_unknown() {
    let site = Site::with_graph_on(Kind::Postgres);
    let node = site.node();
    let Definition { text } = function(&site);
    let (head, _) = text.split_once("AS $function$").unwrap();
    site.run_sql(&format!("{head} AS $f$BEGIN outcome := 'fine'; END$f$"));
    let Err(Refusal::OutcomeUnknown { what }) = put(&node, "a") else { panic!("it is not known") };
    let told = "the function fencepost_commit_4 of the database is not this program's: it answered \
                `fine`; `fencepost migrate` makes it again";
    assert!(what.ends_with(told), "{what}");
    migrated(&site);
    assert_eq!(put(&node, "a"), Ok(2));
}

/// A role that may do all but what is taken from it.
#[test]
fn a_right_that_the_role_lacks_is_told_with_what_to_grant() {
    let site = Site::with_graph_on(Kind::Postgres);
    let role = format!("lacking_{}", std::process::id());
    site.run_sql(&format!(
        "CREATE ROLE {role} LOGIN; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}; \
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}; \
         REVOKE EXECUTE ON FUNCTION fencepost_commit_4 FROM PUBLIC"
    ));
    let url = site.database_url().replace("postgres://postgres@", &format!("postgres://{role}@"));
    let mut options = site.options();
    options.database = fencepost::db::DatabaseUrl::parse(&url).unwrap();
    let node = node::open(&options).unwrap();
    let mut command = site.fencepost(&["serve", "--address", "127.0.0.1:0"]);
    command.env("FENCEPOST_DATABASE_URL", &url);
    let server = Server::start(command);
    let told = format!(
        "the role {role} may not call the function fencepost_commit_4 of the database; let its \
         owner run GRANT EXECUTE ON FUNCTION fencepost_commit_4 TO {role}"
    );
    assert_eq!(not_ready(&server), told);
    let unavailable = |what: &str| {
        let Err(Refusal::DatabaseUnavailable { what: said }) = put(&node, "a") else {
            panic!("it may not")
        };
        assert!(said.contains(what), "{said}");
    };
    unavailable("GRANT EXECUTE ON FUNCTION fencepost_commit_4 TO ROLE, where ROLE is the role of");
    site.run_sql(&format!("GRANT EXECUTE ON FUNCTION fencepost_commit_4 TO {role}"));
    assert_eq!(server.get("/readyz").unwrap().status, 200);
    assert_eq!(put(&node, "b"), Ok(2));
    site.run_sql(&format!("REVOKE INSERT ON datasets FROM {role}"));
    unavailable("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE datasets TO ROLE");
    site.run_sql(&format!("GRANT INSERT ON datasets TO {role}"));
    assert_eq!(put(&node, "a"), Ok(3));
    drop((node, server));
    site.run_sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
