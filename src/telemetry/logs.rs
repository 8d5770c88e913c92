//! Log lines on standard error, as JSON or text.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for people.
    #[default]
    Text,
}

/// What the libraries log besides our own lines about the same: the span around each reconcile, each failed request, and
/// a dump of each answer that forbids a watch; and the bodies of messages that a broker returns. A later directive wins.
const QUIET: &str = "kube_runtime::controller=warn,kube_runtime::watcher=error,kube_client=error,kube_client::client::builder=off,lapin::returned_messages=off";

/// Installs the log for the whole process. `filter` has the syntax of `RUST_LOG`.
///
/// # Errors
/// The filter cannot be read, or a log is installed already.
pub fn install(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{QUIET},{filter}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
        LogFormat::Text => builder.try_init(),
    }
    .map_err(anyhow::Error::from_boxed)
}
