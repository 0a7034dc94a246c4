//! The program as an operator calls it: help, bad settings, the tasks, and their exit codes.
#![expect(clippy::expect_used, reason = "a test helper fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

fn call(data: &Path, arguments: &[&str], set: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_call-service"))
        .args(arguments)
        .env_clear()
        .env("DATA_DIR", data)
        .env("HOST", "127.0.0.1")
        .env("PORT", "0")
        .env("METRICS_PORT", "0")
        .envs(set.iter().copied())
        .output()
        .expect("the program")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_and_version_are_answers() {
    let data = tempfile::tempdir().expect("a folder");
    let help = call(data.path(), &["--help"], &[("JWT_SECRET", "do not show this")]);
    assert_eq!(help.status.code(), Some(0));
    let shown = text(&help.stdout);
    assert!(shown.contains("[env: MAX_CALL_DURATION]") && shown.contains("14400"), "{shown}");
    assert!(!shown.contains("do not show this"), "{shown}");
    assert_eq!(call(data.path(), &["--version"], &[]).status.code(), Some(0));
}

#[test]
fn what_cannot_be_followed_stops_the_start_with_one_line() {
    let data = tempfile::tempdir().expect("a folder");
    for (arguments, set, wanted) in [
        (vec![], ("PORT", "many"), "PORT holds \"many\"; allowed: a whole number from 0 to 65535"),
        (vec![], ("NODE_ENV", "production"), "JWT_SECRET is not set; allowed: in production, "),
        (
            vec!["check"],
            ("LIVEKIT_URL", "ws://x"),
            "LIVEKIT_API_KEY is not set; allowed: LIVEKIT_URL, ",
        ),
        (
            vec![],
            ("JWT_PUBLIC_KEY", "nonsense"),
            "JWT_PUBLIC_KEY holds 8 bytes that are no such key; ",
        ),
    ] {
        let output = call(data.path(), &arguments, &[set]);
        let shown = text(&output.stderr);
        assert!(shown.starts_with(wanted), "{shown}");
        assert_eq!(shown.lines().count(), 1, "{shown}");
        assert_eq!(output.status.code(), Some(2), "{shown}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn check_tests_each_part() {
    let data = tempfile::tempdir().expect("a folder");
    let output = call(data.path(), &["check"], &[]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert_eq!(shown.lines().filter(|it| it.starts_with("ok ")).count(), 7, "{shown}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = call(data.path(), &["check"], &[("PORT", &port), ("DATA_DIR", "/dev/null/x")]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("FAILED  DATA_DIR: ") && shown.contains("FAILED  PORT: "), "{shown}");
    assert_eq!(shown.lines().count(), 7, "{shown}");
}

#[test]
fn migrate_and_erase() {
    let data = tempfile::tempdir().expect("a folder");
    let output = call(data.path(), &["migrate"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("tables up to date"));
    let output = call(data.path(), &["erase", "--user", "alice"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("erased: 0 calls"));
    let output = call(data.path(), &["erase", "--user", "a b"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("--user holds \"a b\"; allowed: 1 to 64 characters"));
}
