//! The `queuescaler` program: parses the arguments, installs the TLS provider, dispatches.

use std::io::Write;

use anyhow::Context;
use clap::Parser;
use queuescaler::api::definition::definitions;
use queuescaler::cli::{Cli, Command};

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().ok().context("a TLS provider is installed already")?;
    match cli.command {
        Command::Run(args) => tokio::runtime::Runtime::new()?.block_on(queuescaler::run::run(args)),
        Command::Crd => definitions()
            .iter()
            .try_for_each(|(_, definition)| print(&format!("---\n{}", serde_yaml::to_string(definition)?))),
        Command::Version => print(&format!("queuescaler {}\n", env!("CARGO_PKG_VERSION"))),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}
