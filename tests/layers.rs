//! Imports point down: the order of the layers, held by reading the sources.
#![expect(clippy::expect_used, clippy::panic, reason = "a test helper fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up. A part may use itself and the parts of lower rows.
const LAYERS: &[&[&str]] = &[
    &["call", "socketio", "config", "shutdown", "telemetry"],
    &["registry", "wire", "store", "media", "bus", "auth", "limits", "clock"],
    &["app"],
    &["http", "events"],
    &["parts"],
    &["server"],
];

/// Lines of code a file may have before its unit tests.
const FILE_LINES_MAX: usize = 400;

fn layer(part: &str) -> usize {
    LAYERS
        .iter()
        .position(|row| row.contains(&part))
        .unwrap_or_else(|| panic!("`{part}` stands on no row of LAYERS"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of src") {
        let path = entry.expect("an entry of src").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// Every source file as (path below src, text without its unit tests).
fn files() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file");
        let code = text.split("\n#[cfg(test)]").next().unwrap_or_default().to_owned();
        (path.strip_prefix(&root).expect("a path below src").to_path_buf(), code)
    };
    paths.into_iter().map(read).collect()
}

fn part_of(path: &Path) -> String {
    let first = path.iter().next().expect("a file name").to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for (path, code) in files() {
        let from = part_of(&path);
        if from == "lib" || from == "main" {
            continue;
        }
        for (index, line) in code.lines().enumerate() {
            for rest in line.split("crate::").skip(1) {
                let to = rest.split(|it: char| !it.is_alphanumeric() && it != '_').next();
                if to.is_none_or(|to| to != from && layer(to) >= layer(&from)) {
                    wrong.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that do not point down:\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short() {
    let long: Vec<_> = files()
        .into_iter()
        .map(|(path, code)| (path, code.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .collect();
    assert!(long.is_empty(), "files over {FILE_LINES_MAX} lines of code: {long:?}");
}

#[test]
fn the_domain_is_pure() {
    const FOREIGN: &[&str] =
        &["tokio", "tracing", "serde_json", "async ", "Instant", "parking_lot"];
    let mut wrong = Vec::new();
    for (path, code) in files().into_iter().filter(|(path, _)| part_of(path) == "call") {
        for (index, line) in code.lines().enumerate() {
            let comment = line.trim_start().starts_with("//");
            if !comment && FOREIGN.iter().any(|it| line.contains(it)) {
                wrong.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "src/call must stay free of IO and clocks:\n{}", wrong.join("\n"));
}

#[test]
fn no_globs_outside_tests() {
    let mut wrong = Vec::new();
    for (path, code) in files() {
        for (index, line) in code.lines().enumerate() {
            if line.trim_start().starts_with("use ") && line.contains("::*") {
                wrong.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "glob imports hide who needs what:\n{}", wrong.join("\n"));
}
