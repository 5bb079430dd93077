//! URLs: which are none, and that no password is ever shown.

use fencepost::export::SinkUrl;
use fencepost::export::sink::{Purpose, SinkError};

use super::{Place, batch, events, fresh};
use crate::support::nats::Nats;
use crate::support::ports::free_port;
use crate::support::redis::Redis;

#[test]
fn what_names_no_sink_is_told_with_the_reason() {
    let cases = [
        ("", "it is no URL"),
        ("kitchen.ndjson", "it is no URL"),
        ("file:", "it names no file"),
        ("mysql://there/table", "of no engine"),
        ("redis://there", "it names no stream"),
        ("redis://there/", "it names no stream"),
        ("redis://there/3", "it names a database and no stream"),
        ("redis://there/3/", "it names no stream"),
        ("redis://there/kitchen/log", "the number of a database"),
        ("redis://there/0/kitchen/log", "written %2F"),
        ("redis://there:port/log", "port"),
        ("redis://there:70000/log", "port"),
        ("redis://there/%zz", "percent sign"),
        ("redis://there/log?password=hemlock", "user and password stand before the host"),
        ("redis://there/log?user=cook&pass=hemlock", "no parameters but protocol"),
        ("redis://there/log?db=3", "the number of a database before the stream"),
        ("redis://there/log?protocol=3&timeout=1", "no parameters but protocol"),
        ("redis://there/log?protocol=4", "no parameters but protocol"),
        ("redis://there/log#late", "written %23"),
        ("rediss://there/log#insecure", "written %23"),
        ("nats://there", "it names no stream"),
        ("nats://there/", "it names no stream"),
        ("nats://there/a/b", "not one stream's name"),
        ("nats://there/kitchen.log", "letters, digits, _ and -"),
        ("nats://there/k%C3%BCche", "letters, digits, _ and -"),
        ("nats://there/log?tls=yes", "parameters"),
        ("nats://there/log#late", "parameters"),
        ("postgres://there", "DATABASE/TABLE"),
        ("postgres://there/database", "DATABASE/TABLE"),
        ("postgres://there//journal", "names no database"),
        ("postgres://there/database/", "SCHEMA.TABLE"),
        ("postgres://there/database/Journal", "SCHEMA.TABLE"),
        ("postgres://there/database/1st", "SCHEMA.TABLE"),
        ("postgres://there/database/a.b.c", "SCHEMA.TABLE"),
        ("postgres://there/database/a;drop", "SCHEMA.TABLE"),
        ("postgres://there/database/a%22b", "SCHEMA.TABLE"),
    ];
    for (url, reason) in cases {
        let error = SinkUrl::parse(url).expect_err(url);
        assert!(matches!(error, SinkError::Url { .. }), "{url}: {error:?}");
        assert!(error.to_string().contains(reason), "{url}: `{error}` does not say `{reason}`");
    }
}

#[test]
fn what_names_a_sink_is_shown_as_it_is() {
    let urls = [
        "redis://there/log",
        "redis://there:6380/3/kitchen%2Flog",
        "rediss://[::1]:6380/log",
        "redis://there/log%3Flate",
        "nats://there/kitchen_LOG-1",
        "tls://there:4223/log",
        "postgres://there/database/journal",
        "postgresql://one:5432,two:5433/database/way_out.journal_2",
    ];
    for url in urls {
        assert_eq!(SinkUrl::parse(url).unwrap().to_string(), url);
    }
}

/// What is stored of an export, so that its sink can be asked where no password is needed.
#[test]
fn what_is_stored_of_a_sink_holds_no_password() {
    let cases = [
        ("redis://cook:hemlock@there/log", "redis://there/log"),
        ("redis://:hemlock@there/log", "redis://there/log"),
        ("redis://hemlock@there/log", "redis://there/log"),
        ("nats://cook:hemlock@there/log", "nats://there/log"),
        ("nats://hemlock@there/log", "nats://there/log"),
        ("postgres://cook:hemlock@there/database/log", "postgres://cook@there/database/log"),
        ("postgres://cook@there/database/log", "postgres://cook@there/database/log"),
        (
            "postgres://there/database/log?password=hemlock&sslmode=require&options=-c%20a%3Db",
            "postgres://there/database/log?sslmode=require",
        ),
    ];
    for (url, noted) in cases {
        assert_eq!(SinkUrl::parse(url).unwrap().for_reconnecting(), noted);
    }
}

const SECRET: &str = "hemlock";

#[track_caller]
fn assert_hidden(text: impl std::fmt::Debug + std::fmt::Display) {
    let shown = format!("{text} {text:?}");
    assert!(!shown.contains(SECRET), "{shown}");
}

#[test]
fn a_password_is_not_shown_even_of_what_is_no_url() {
    let logins = [
        "u:hemlock",
        ":hemlock",
        "hemlock",
        "u:hemlock/x",
        "u:hemlock?x",
        "u:hemlock#x",
        "u:hemlock%zz",
        "u:x@hemlock",
    ];
    for login in logins {
        for rest in ["there/log", "there/database/journal", "there", "there:port/3/log", "/log"] {
            for scheme in [
                "redis://",
                "rediss://",
                "nats://",
                "tls://",
                "postgres://",
                "mysql://",
                "redis:",
                "",
            ] {
                match SinkUrl::parse(&format!("{scheme}{login}@{rest}")) {
                    Ok(url) => assert_hidden(url),
                    Err(error) => assert_hidden(error),
                }
            }
        }
    }
    assert_hidden(
        SinkUrl::parse("postgres://there/database/journal?user=u&password=hemlock").unwrap(),
    );
    assert_hidden(
        SinkUrl::parse("postgres://there/Database/Journal?user=u&password=hemlock@hemlock")
            .unwrap_err(),
    );
}

/// Nobody listens there: every client library says so in its own words.
#[test]
fn a_password_is_not_shown_when_nobody_answers() {
    let port = free_port();
    let urls = [
        format!("redis://u:hemlock@127.0.0.1:{port}/log"),
        format!("nats://u:hemlock@127.0.0.1:{port}/log"),
        format!("nats://hemlock@127.0.0.1:{port}/log"),
        format!("tls://u:hemlock@127.0.0.1:{port}/log"),
        format!("postgres://u:hemlock@127.0.0.1:{port}/database/journal"),
        format!("postgres://127.0.0.1:{port}/database/journal?user=u&password=hemlock"),
    ];
    for url in urls {
        for purpose in [Purpose::Append, Purpose::Read] {
            let error = Place::at(url.clone()).open(purpose).err().expect("nobody is there");
            assert!(matches!(error, SinkError::Unavailable { .. }), "{error:?}");
            assert_hidden(error);
        }
    }
    // It is not asked for.
    let url = format!("postgres://u:hemlock@127.0.0.1:{port}/database/journal?no_such_parameter=1");
    let error = Place::at(url).open(Purpose::Append).err().expect("there is no such parameter");
    assert!(matches!(error, SinkError::Url { .. }), "{error:?}");
    assert_hidden(error);
}

#[track_caller]
fn assert_lets_in(good: &str, bad: &str) {
    let place = Place::at(good.to_owned());
    place.exporter().append(&batch(&events(1, 0..1, "known"))).unwrap();
    assert_eq!(place.events().len(), 1);
    assert_hidden(SinkUrl::parse(good).unwrap());
    let error =
        Place::at(bad.to_owned()).open(Purpose::Append).err().expect("the password is wrong");
    assert!(matches!(error, SinkError::Denied { .. }), "{error:?}");
    assert_hidden(error);
}

#[test]
fn a_server_that_wants_a_password_gets_the_right_one_and_never_shows_a_wrong_one() {
    let redis = Redis::start(&["--requirepass", "hemlock/@:?#%"]);
    let place = |login: &str| format!("redis://{login}@127.0.0.1:{}/0/log", redis.port());
    assert_lets_in(&place(":hemlock%2F%40%3A%3F%23%25"), &place(":hemlock"));

    let nats = Nats::start("authorization { user: cook, password: \"hemlock/@:?#%\" }");
    let place = |login: &str| format!("nats://{login}@127.0.0.1:{}/{}", nats.port(), fresh());
    assert_lets_in(&place("cook:hemlock%2F%40%3A%3F%23%25"), &place("cook:hemlock"));

    let nats = Nats::start("authorization { token: \"hemlock/@:?#%\" }");
    let place = |login: &str| format!("nats://{login}@127.0.0.1:{}/{}", nats.port(), fresh());
    assert_lets_in(&place("hemlock%2F%40%3A%3F%23%25"), &place("hemlock"));
}
