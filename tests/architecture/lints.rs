//! Clippy refuses clocks, sleep, tasks and clients in pure modules: each rule of `clippy.toml` finds what it is for,
//! and each pure module has the lints on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Modules, PURE, crate_modules};

/// What switches the rules on in a module and all below it.
const DENY: &str = "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]";

/// For each rule of `clippy.toml`, an item that breaks it.
const VIOLATIONS: [(&str, &str); 19] = [
    ("jiff::Timestamp::now", "pub fn f() -> impl Sized { jiff::Timestamp::now() }"),
    ("jiff::Zoned::now", "pub fn f() -> impl Sized { jiff::Zoned::now() }"),
    ("std::env::var", "pub fn f() -> impl Sized { std::env::var(\"HOME\") }"),
    ("std::fs::read_to_string", "pub fn f() -> impl Sized { std::fs::read_to_string(\"a\") }"),
    ("std::fs::write", "pub fn f() -> impl Sized { std::fs::write(\"a\", \"b\") }"),
    ("std::thread::sleep", "pub fn f() { std::thread::sleep(std::time::Duration::ZERO) }"),
    ("std::thread::spawn", "pub fn f() -> impl Sized { std::thread::spawn(|| ()) }"),
    ("std::time::Instant::now", "pub fn f() -> impl Sized { std::time::Instant::now() }"),
    ("std::time::SystemTime::now", "pub fn f() -> impl Sized { std::time::SystemTime::now() }"),
    ("tokio::spawn", "pub fn f() -> impl Sized { tokio::spawn(std::future::ready(())) }"),
    ("tokio::task::spawn_blocking", "pub fn f() -> impl Sized { tokio::task::spawn_blocking(|| ()) }"),
    ("tokio::time::sleep", "pub fn f() -> impl Sized { tokio::time::sleep(std::time::Duration::ZERO) }"),
    ("kube::Client", "pub fn f(_: kube::Client) {}"),
    ("reqwest::Client", "pub fn f(_: reqwest::Client) {}"),
    ("std::fs::File", "pub fn f(_: std::fs::File) {}"),
    ("std::net::TcpStream", "pub fn f(_: std::net::TcpStream) {}"),
    ("std::time::Instant", "pub fn f(_: std::time::Instant) {}"),
    ("std::time::SystemTime", "pub fn f(_: std::time::SystemTime) {}"),
    ("tokio::time::Instant", "pub fn f(_: tokio::time::Instant) {}"),
];

#[test]
fn pure_modules_deny_what_clippy_disallows() {
    let modules: Modules = crate_modules();
    for pure in &PURE {
        let path: Vec<&str> = pure.module.split("::").collect();
        let source = modules.sources.iter().find(|source| source.module == path);
        let file = &source.expect("each pure module has a file").file;
        let text = fs::read_to_string(file).expect("a source file is readable");
        assert!(text.lines().any(|line| line == DENY), "{} lacks {DENY}", file.display());
    }
}

#[test]
fn each_disallowed_method_and_type_is_found() {
    let rules = fs::read_to_string(manifest_dir().join("clippy.toml")).expect("clippy.toml is readable");
    let rules = rules.lines().filter_map(|line| line.split_once("path = \"")?.1.split_once('"'));
    let mut rules: Vec<&str> = rules.map(|(path, _)| path).collect();
    let mut shown: Vec<&str> = VIOLATIONS.iter().map(|(rule, _)| *rule).collect();
    rules.sort_unstable();
    shown.sort_unstable();
    assert_eq!(rules, shown, "each rule of clippy.toml has a violation here");

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("violations.rs");
    let modules = VIOLATIONS.iter().enumerate();
    let modules = modules.map(|(number, (_, item))| format!("pub mod m{number} {{ {item} }}\n"));
    fs::write(&file, format!("{DENY}\n{}", modules.collect::<String>())).expect("a file");
    let found = clippy(&file);
    for (number, (rule, _)) in VIOLATIONS.iter().enumerate() {
        // The first line is that of the lints.
        let place = format!("violations.rs:{}:", number + 2);
        let is_found = |line: &str| line.contains(&place) && line.contains("error: use of a disallowed");
        assert!(found.lines().any(is_found), "{rule} is not found:\n{found}");
    }
}

/// What Clippy says of a file under the project's configuration, a line each.
fn clippy(file: &Path) -> String {
    let dependencies = dependencies();
    let mut command = Command::new("clippy-driver");
    command.env("CLIPPY_CONF_DIR", manifest_dir()).args([
        "--edition=2024",
        "--crate-type=lib",
        "--emit=metadata",
    ]);
    command.args(["--error-format=short", "--out-dir"]);
    command.arg(file.parent().expect("it is in a folder")).arg(file);
    command.arg("-L").arg(format!("dependency={}", dependencies.display()));
    for name in ["jiff", "kube", "reqwest", "tokio"] {
        command.arg("--extern").arg(format!("{name}={}", library(&dependencies, name).display()));
    }
    let output = command.output().expect("clippy-driver runs; rust-toolchain.toml has it as a component");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Where Cargo has put the libraries that this test was built with.
fn dependencies() -> PathBuf {
    let test = std::env::current_exe().expect("the test is a file");
    test.parent().expect("it is in a folder").to_owned()
}

/// The library of this name that was built last.
fn library(dependencies: &Path, name: &str) -> PathBuf {
    let prefix = format!("lib{name}-");
    let entries = fs::read_dir(dependencies).expect("the folder is readable");
    let paths = entries.map(|entry| entry.expect("an entry is readable").path());
    let libraries = paths.filter(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&prefix) && file.ends_with(".rlib")
    });
    let built = |path: &PathBuf| path.metadata().and_then(|data| data.modified()).expect("a file has a time");
    libraries.max_by_key(built).unwrap_or_else(|| panic!("{name} is a dependency"))
}

fn manifest_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
