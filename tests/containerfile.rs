//! The Containerfile agrees with the rest of the repository. It is not built here: that takes a container builder.

// clippy.toml allows this in tests, but not in what they share.
#![allow(clippy::panic)]

const CONTAINERFILE: &str = include_str!("../Containerfile");

/// The rest of the only line that starts so.
fn after(text: &'static str, start: &str) -> &'static str {
    let mut found = text.lines().filter_map(|line| line.strip_prefix(start));
    let rest = found.next().unwrap_or_else(|| panic!("no line starts with {start}"));
    assert_eq!(found.next(), None, "several lines start with {start}");
    rest
}

#[test]
fn images_are_built_with_the_toolchain_that_everything_else_is_built_with() {
    let channel = after(include_str!("../rust-toolchain.toml"), "channel = ");
    assert_eq!(channel, format!("\"{}\"", after(CONTAINERFILE, "ARG RUST_VERSION=")));
}

#[test]
fn programs_are_linked_and_run_with_the_same_release_of_debian() {
    // 12 is bookworm.
    assert!(after(CONTAINERFILE, "FROM docker.io/library/rust:").starts_with("${RUST_VERSION}-bookworm "));
    assert!(after(CONTAINERFILE, "FROM gcr.io/distroless/").starts_with("cc-debian12:"));
}

#[test]
fn images_run_as_a_user_that_kubernetes_can_see_is_not_root() {
    assert_eq!(after(CONTAINERFILE, "USER "), "65532:65532");
}
