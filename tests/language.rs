//! What users read is in the words of the field: messages, `kubectl explain`, `--help`, documents, chart and examples.
//!
//! The words are those of "How it is written" in CONTRIBUTING.md. A finding names the word to write instead.

// clippy.toml allows this in tests, but not in what they share.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use regex::{Regex, RegexBuilder};

/// A pattern of words that are not written, and what is written instead.
const WORDS: &[(&str, &str)] = &[
    (r"\bmend(s|ed|ing)?\b", "fix, repair"),
    (r"\breckon(s|ed|ing)?\b", "estimate, calculate"),
    (r"\b(tell|tells|told|telling)\b", "report, show, distinguish"),
    (r"\b(say|says|said|saying)\b", "report, show, describe"),
    (r"\bvisit(s|ed|ing)?\b", "reconcile"),
    (r"\bhappenings?\b", "event"),
    (r"\b(ailments?|verdicts?)\b", "finding, unhealthy reason"),
    (r"\b(deal|deals|dealt|dealing|hand|hands|handed|handing) out\b", "assign, rebalance"),
    (r"\bin (its|their|the) hands?\b", "in flight, being processed"),
    (r"\bwhat (is|was) (left|there)\b", "unprocessed messages, backlog"),
    (r"\bremember(s|ed|ing)?\b|\bearlier process\b", "previous, saved, restored"),
    (r"\bprocess begins?\b", "after a restart"),
    (r"\ball of them share\b|\bat its limit\b", "shared dependency saturated"),
    (r"\bregret(s|ted)?\b", "damping"),
    (r"\b(a|an|the|each|no|one|next|this) looks?\b|\blook(s|ed)? into\b", "probe, log probe"),
    (
        r"\b(keep|keeps|kept)\b[ -~]{0,12}\bmessages\b|\bmessages\b[ -~]{0,12}\bkept\b|\ball that is kept\b",
        "retain, retention",
    ),
    (r"\blanes?\b", "partition progress"),
    (r"\bblinks?\b", "observation gap"),
    (r"\bmisunderstood\b|\bcannot be understood\b", "invalid"),
    (r"\brivals?\b", "owner, conflicting autoscaler"),
    (r"\bmay not\b", "cannot, is not allowed to"),
    (r"\bget(s|ting)? on (with|while)\b", "make progress"),
    (r"\bis yours\b", "up to you"),
];

/// Places where one of the words above is right: the end of a path, words around it, and why.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("examples/demo", "say", "the name of a shell function"),
    ("examples/demo-drain", "say", "the name of a shell function"),
    ("examples/demo-parts", "say", "the name of a shell function"),
];

/// Files that still have such words. The list only becomes shorter.
const NOT_YET_CLEAN: &[&str] = &["src/brokers/kafka/connection.rs", "src/brokers/kafka/topics.rs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files at or below a path, from the root.
fn files(path: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(path)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.push(path.strip_prefix(root()).unwrap().to_owned());
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// What a Rust source shows to users: its literals outside of tests, and doc comments where these are shown.
fn shown(path: &Path) -> Vec<String> {
    let text = read(path);
    let is_help = ["Args", "Parser", "Subcommand", "ValueEnum"]
        .iter()
        .any(|derived| text.lines().any(|line| line.contains("derive(") && line.contains(derived)));
    let tokens: TokenStream = text.parse().unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
    let mut shown = Vec::new();
    collect(tokens, is_help || path.starts_with("src/api"), &mut shown);
    shown
}

fn collect(tokens: TokenStream, docs: bool, shown: &mut Vec<String>) {
    let mut tokens = tokens.into_iter().peekable();
    let mut is_test = false;
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(mark) if mark.as_char() == '#' => {
                // A module's own comment is for those who read the source.
                let is_inner =
                    tokens.next_if(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == '!'));
                let Some(TokenTree::Group(attribute)) = tokens.peek() else { continue };
                let text = attribute.stream().to_string();
                is_test |= text.starts_with("cfg (test)") || text.starts_with("cfg(test)");
                if text.starts_with("doc =") && (!docs || is_inner.is_some()) {
                    tokens.next();
                }
            }
            // The end of an item.
            TokenTree::Punct(mark) if mark.as_char() == ';' => is_test = false,
            TokenTree::Group(group) => {
                if !is_test {
                    collect(group.stream(), docs, shown);
                }
                is_test &= group.delimiter() != Delimiter::Brace;
            }
            TokenTree::Literal(literal) if !is_test => {
                let literal = literal.to_string();
                if literal.ends_with(['"', '#']) {
                    // A line that continues in the source is one line.
                    let lines = literal.split("\\\n").enumerate();
                    let joined = lines.map(|(n, line)| if n == 0 { line } else { line.trim_start() });
                    shown.push(joined.collect());
                }
            }
            _ => {}
        }
    }
}

/// Every text that users read, with the path of its file.
fn texts() -> Vec<(PathBuf, String)> {
    let mut texts = Vec::new();
    for path in ["src", "examples/worker/src"].into_iter().flat_map(files) {
        let name = path.to_string_lossy();
        let is_test = name.contains("/tests/") || name.ends_with("tests.rs");
        if name.ends_with(".rs") && !is_test {
            texts.extend(shown(&path).into_iter().map(|text| (path.clone(), text)));
        }
    }
    let documents = [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "Makefile",
        "docs",
        "examples",
        "charts/queuescaler",
        "tests/cases/README.md",
        "tests/testbed/README.md",
    ];
    let endings = ["md", "svg", "yaml", "json", "txt", "tpl"];
    for path in documents.into_iter().flat_map(files) {
        let is_text = path.extension().is_none_or(|ending| endings.iter().any(|known| ending == *known));
        // What the definitions describe is in src/api.
        if is_text && !path.starts_with("charts/queuescaler/files/crds") {
            let text = read(&path);
            texts.push((path, text));
        }
    }
    assert!(texts.len() > 500, "only {} texts found", texts.len());
    texts
}

fn patterns() -> Vec<(Regex, &'static str)> {
    let pattern =
        |words: &str| RegexBuilder::new(words).case_insensitive(true).unicode(false).build().unwrap();
    WORDS.iter().map(|(words, instead)| (pattern(words), *instead)).collect()
}

/// The words around a place in a text, on one line.
fn around(text: &str, start: usize, end: usize) -> String {
    let from = text[..start].char_indices().rev().nth(40).map_or(0, |(at, _)| at);
    let to = text[end..].char_indices().nth(40).map_or(text.len(), |(at, _)| end + at);
    text[from..to].split_whitespace().collect::<Vec<_>>().join(" ")
}

fn findings(patterns: &[(Regex, &str)], path: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (pattern, instead) in patterns {
        for found in pattern.find_iter(text) {
            let around = around(text, found.start(), found.end());
            let is_allowed =
                |(file, words, _): &(&str, &str, &str)| path.ends_with(file) && around.contains(words);
            if !ALLOWED.iter().any(is_allowed) {
                let path = path.display();
                findings.push(format!("{path}: write \"{instead}\", not \"{}\": …{around}…", found.as_str()));
            }
        }
    }
    findings
}

#[test]
fn what_users_read_is_in_the_words_of_the_field() {
    let patterns = patterns();
    let texts = texts();
    let is_open = |path: &Path| NOT_YET_CLEAN.iter().any(|open| path.starts_with(open));
    let findings: Vec<_> = texts
        .iter()
        .filter(|(path, _)| !is_open(path))
        .flat_map(|(path, text)| findings(&patterns, path, text))
        .collect();
    assert!(findings.is_empty(), "{} places:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn every_allowed_place_exists_and_has_a_reason() {
    let texts = texts();
    for (file, words, reason) in ALLOWED {
        let exists = texts.iter().any(|(path, text)| {
            path.ends_with(file) && text.split_whitespace().collect::<Vec<_>>().join(" ").contains(words)
        });
        assert!(exists && !reason.is_empty(), "{file} has no \"{words}\": remove it from the list");
    }
}

#[test]
fn words_are_found_in_messages_and_help_only() {
    let source = r##"
        //! What is told.
        /// Tells what is read.
        #[derive(clap::Args)]
        struct Options;
        // It may not be read.
        fn message() -> String { format!("the rival is {}", "gone \
            and mended") }
        #[cfg(test)]
        mod tests { const TEXT: &str = "reckoned"; }
        const LATER: &str = r#"a verdict"#;
    "##;
    let found = |docs: bool| {
        let mut shown = Vec::new();
        collect(source.parse().unwrap(), docs, &mut shown);
        let patterns = patterns();
        shown.iter().flat_map(|text| findings(&patterns, Path::new("x.rs"), text)).count()
    };
    assert_eq!((found(true), found(false)), (4, 3));
}
