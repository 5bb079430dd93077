//! The OpenAPI document.

use std::collections::BTreeSet;
use std::process::Command;

use fencepost::http::{Kind, ROUTES};
use serde_json::Value;

use crate::support::contract::{DOCUMENT, follow, validate};

#[test]
fn the_document_is_the_one_that_was_reviewed() {
    let printed = Command::new(env!("CARGO_BIN_EXE_fencepost")).arg("openapi").output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let reviewed = include_str!("openapi.json");
    let differs = printed.lines().zip(reviewed.lines()).position(|(now, then)| now != then);
    assert!(
        printed == reviewed,
        "the document differs from tests/http/openapi.json, first at line {:?}. If that is meant, renew it and look at the difference:\n  \
         cargo run -- openapi > tests/http/openapi.json && git diff tests/http/openapi.json",
        differs.map(|line| line + 1)
    );
}

#[test]
fn it_has_every_route_and_nothing_more() {
    let routes: BTreeSet<(String, String)> = ROUTES
        .iter()
        .map(|route| (route.path.to_owned(), route.method.to_ascii_lowercase()))
        .collect();
    assert_eq!(routes.len(), ROUTES.len(), "a route is there twice");
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let described = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(|method| (path.clone(), method.clone()))
    });
    assert_eq!(described.collect::<BTreeSet<_>>(), routes);
    let ids: BTreeSet<&str> = ROUTES.iter().map(|route| route.id).collect();
    assert_eq!(ids.len(), ROUTES.len());
}

/// Every `$ref` below `node`.
fn references<'v>(node: &'v Value, found: &mut Vec<&'v str>) {
    match node {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            if let Some(mapping) = node["mapping"].as_object() {
                found.extend(mapping.values().filter_map(Value::as_str));
            }
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_referred_to() {
    let mut found = Vec::new();
    references(&DOCUMENT, &mut found);
    for reference in &found {
        assert!(DOCUMENT.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
    }
    // What belongs to no route: there is none for it.
    let mut of_no_route =
        vec!["#/components/responses/RouteNotFound", "#/components/responses/MethodNotAllowed"];
    of_no_route.extend(["#/components/headers/Allow"]);
    found.extend(of_no_route);
    for (kind, components) in DOCUMENT["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys() {
            let reference = format!("#/components/{kind}/{name}");
            assert!(found.contains(&reference.as_str()), "{reference} is used nowhere");
        }
    }
}

#[test]
fn it_has_every_problem_and_nothing_more() {
    let schemas = DOCUMENT["components"]["schemas"].as_object().unwrap();
    let urns = schemas.iter().filter(|(name, _)| name.ends_with("Problem"));
    let urns: BTreeSet<&str> =
        urns.map(|(_, schema)| schema["properties"]["type"]["const"].as_str().unwrap()).collect();
    let kinds: BTreeSet<String> =
        Kind::ALL.iter().map(|kind| format!("urn:fencepost:problem:{}", kind.parts().1)).collect();
    assert_eq!(urns, kinds.iter().map(String::as_str).collect());
}

#[test]
fn parameters_are_those_of_the_route() {
    for route in ROUTES {
        let operation = &DOCUMENT["paths"][route.path][route.method.to_ascii_lowercase()];
        let parameters: Vec<&Value> =
            operation["parameters"].as_array().unwrap().iter().map(follow).collect();
        let of = |place: &str| -> BTreeSet<&str> {
            let there = parameters.iter().filter(|one| one["in"] == place);
            there.map(|one| one["name"].as_str().unwrap()).collect()
        };
        let in_path =
            route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        assert_eq!(of("path"), in_path.collect(), "{}", route.id);
        assert_eq!(of("query"), route.query.iter().copied().collect(), "{}", route.id);
        let body: Vec<&String> = operation["requestBody"]["content"]
            .as_object()
            .into_iter()
            .flat_map(|all| all.keys())
            .collect();
        assert_eq!(body.len(), route.body_types().len(), "{}", route.id);
    }
}

#[test]
fn its_examples_fit_its_schemas() {
    for (name, schema) in DOCUMENT["components"]["schemas"].as_object().unwrap() {
        for example in schema["examples"].as_array().into_iter().flatten() {
            validate(schema, example, name).unwrap();
        }
    }
}
