//! The `queuescaler` program: parses the arguments, installs the TLS provider, dispatches.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use queuescaler::api::definition::definitions;
use queuescaler::cli::{Cli, Command};

/// A large fleet is read in bursts. The C library's allocator keeps the room of the largest ones, in pieces: with 1,000
/// objects the heap has 37 MB at most, and the process had 75 MiB. This one gives free pages back; `.cargo/config.toml`
/// has its settings.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may not be installed, and not every command has one.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().ok().context("a TLS provider is installed already")?;
    match command {
        Command::Run(args) => {
            let runtime = tokio::runtime::Runtime::new()?;
            let result = runtime.block_on(queuescaler::run::run(*args));
            // Work that cannot be cancelled, such as the derivation of a key, does not hold up the end.
            runtime.shutdown_timeout(std::time::Duration::from_secs(1));
            result
        }
        Command::Simulate(args) => print(&queuescaler::simulation::command::simulate::run(&args)?),
        Command::Record(args) => {
            let (mut record, mut words) = (std::io::stdout(), std::io::stderr());
            let recording = queuescaler::simulation::command::record::run(&args, &mut record, &mut words);
            Ok(tokio::runtime::Runtime::new()?.block_on(recording)?)
        }
        Command::Drain(command) => {
            let (mut out, mut answers) = (std::io::stdout(), std::io::stdin().lock());
            let done = queuescaler::drain::command::run(command, &mut out, &mut answers);
            tokio::runtime::Runtime::new()?.block_on(done)
        }
        Command::Distribute(args) => queuescaler::drain::distribute::distribute(&args),
        Command::Receivers(command) => {
            let tested = tokio::runtime::Runtime::new()?.block_on(queuescaler::run::receivers(command));
            print(&tested?)
        }
        Command::Crd => definitions()
            .iter()
            .try_for_each(|(_, definition)| print(&format!("---\n{}", serde_yaml::to_string(definition)?))),
        Command::Version => print(&format!("queuescaler {}\n", env!("CARGO_PKG_VERSION"))),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}
