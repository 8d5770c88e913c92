//! The Containerfile agrees with the rest of the repository, and its base images are pinned. It is not built here,
//! because that takes a container builder.

// clippy.toml allows this in tests, but not in what they share.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use regex::Regex;

const CONTAINERFILE: &str = include_str!("../Containerfile");

/// The rest of the only line that starts so.
fn after(text: &'static str, start: &str) -> &'static str {
    let mut found = text.lines().filter_map(|line| line.strip_prefix(start));
    let rest = found.next().unwrap_or_else(|| panic!("no line starts with {start}"));
    assert_eq!(found.next(), None, "several lines start with {start}");
    rest
}

#[test]
fn images_are_built_with_the_toolchain_of_the_repository() {
    let channel = after(include_str!("../rust-toolchain.toml"), "channel = ");
    assert_eq!(channel, format!("\"{}\"", after(CONTAINERFILE, "ARG RUST_VERSION=")));
}

#[test]
fn programs_are_built_and_run_on_the_same_debian_release() {
    // 12 is bookworm.
    assert!(after(CONTAINERFILE, "FROM docker.io/library/rust:").starts_with("${RUST_VERSION}-bookworm@"));
    assert!(after(CONTAINERFILE, "FROM gcr.io/distroless/").starts_with("cc-debian12:"));
}

#[test]
fn images_run_as_a_numeric_user_that_is_not_root() {
    assert_eq!(after(CONTAINERFILE, "USER "), "65532:65532");
}

/// The images that stages start from, without the stages of the file itself.
fn base_images(containerfile: &str) -> Vec<&str> {
    let stages: Vec<_> = containerfile.lines().filter_map(|line| line.split_once(" AS ")).collect();
    let from = containerfile.lines().filter_map(|line| line.strip_prefix("FROM ")?.split(' ').next());
    from.filter(|image| !stages.iter().any(|(_, stage)| stage == image)).collect()
}

#[test]
fn base_images_have_digests() {
    let pinned = Regex::new("^[^@]+:[^@]+@sha256:[0-9a-f]{64}$").unwrap();
    let images = base_images(CONTAINERFILE);
    assert_eq!(images.len(), 2);
    for image in images {
        assert!(pinned.is_match(image), "{image} has no digest");
    }
}

#[test]
fn images_are_built_with_the_cargo_auditable_of_make_sbom() {
    let version = after(CONTAINERFILE, "ARG CARGO_AUDITABLE_VERSION=");
    assert!(include_str!("../supply-chain/tool").contains(&format!(" AUDITABLE={version} ")));
}

#[test]
fn pin_images_writes_only_the_digests_of_the_registry() {
    let work = tempfile::tempdir().unwrap();
    let (containerfile, skopeo) = (work.path().join("Containerfile"), work.path().join("skopeo"));
    fs::write(&containerfile, CONTAINERFILE).unwrap();
    // In place of a registry: an index that names the image that was asked for.
    fs::write(&skopeo, "#!/bin/sh\nprintf 'index of %s' \"$3\"\n").unwrap();
    fs::set_permissions(&skopeo, Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", work.path().display(), std::env::var("PATH").unwrap());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("supply-chain/pin-images");
    let status = Command::new(script).arg(&containerfile).env("PATH", path).status().unwrap();
    assert!(status.success());

    let renewed = fs::read_to_string(&containerfile).unwrap();
    let digest = Regex::new("@sha256:([0-9a-f]{64})").unwrap();
    let without = |text: &str| digest.replace_all(text, "").into_owned();
    assert_eq!(without(&renewed), without(CONTAINERFILE));
    let digests: Vec<_> = digest.captures_iter(&renewed).map(|digest| digest[1].to_owned()).collect();
    let version = after(CONTAINERFILE, "ARG RUST_VERSION=");
    let images = [format!("library/rust:{version}-bookworm"), "cc-debian12:nonroot".to_owned()];
    let registries = ["docker.io", "gcr.io/distroless"];
    for ((registry, image), digest) in registries.iter().zip(images).zip(digests) {
        let index = format!("index of docker://{registry}/{image}");
        assert_eq!(digest, sha256(index.as_bytes()));
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
