//! Reads the documents: pages, sections and the rows of tables.

#![allow(dead_code, reason = "each test that reads documents uses a part")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

pub type Words = BTreeSet<String>;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every document, by its path from the root.
pub fn pages() -> Vec<PathBuf> {
    let folders = ["", "docs", "charts/queuescaler", "examples", "tests/cases", "tests/testbed"];
    let files = folders.into_iter().flat_map(|folder| {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "md"))
    });
    let mut pages: Vec<_> = files.map(|path| path.strip_prefix(root()).unwrap().to_owned()).collect();
    pages.sort();
    assert!(pages.len() >= 9, "only {pages:?} found: did the documents move?");
    pages
}

/// What the first group of the pattern matches.
pub fn found(pattern: &str, text: &str) -> Words {
    let pattern = Regex::new(pattern).unwrap();
    pattern.captures_iter(text).map(|captures| captures[1].to_owned()).collect()
}

pub fn words(words: &[&str]) -> Words {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub fn assert_same(in_code: &Words, in_docs: &Words, where_: &str) {
    let missing: Vec<_> = in_code.difference(in_docs).collect();
    let invented: Vec<_> = in_docs.difference(in_code).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "{where_} misses {missing:?}, and has {invented:?}, which the code has not"
    );
}

/// The text below a heading, up to the next one of its level or above.
pub fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    let body = &text[start + heading.len() + 2..];
    let level = heading.bytes().take_while(|byte| *byte == b'#').count();
    let next = Regex::new(&format!(r"(?m)^#{{1,{level}}} ")).unwrap();
    next.find(body).map_or(body, |next| &body[..next.start()])
}

/// What the rows of the tables are about: first cells that are one word of code.
pub fn rows(text: &str) -> Words {
    found(r"(?m)^\| `([A-Za-z_]+)` \|", text)
}
