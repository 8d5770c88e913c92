//! `queuescaler distribute`: the command of a distributor's pod.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::copy::{Stop, kafka, rabbitmq};
use super::distribution::queue::QueueDistribution;
use super::distribution::{Distribution, Outcome};
use crate::telemetry::logs::{self, LogFormat};

/// Where Kubernetes reads the reason why a container ended.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// Longest error of an outcome, in bytes: Kubernetes keeps 4,096 of a termination message.
const ERROR: usize = 2048;

const HELP: &str = "\
The operator runs this command in the pods of a drain; nobody needs to run it by hand. The environment has what it
does:

  QUEUESCALER_DISTRIBUTION  what to copy, from where to where, as JSON
  JOB_COMPLETION_INDEX      which of the distributors this is, from 0

A distributor that is killed at any time and run again continues where it was: how far it has come is the committed offset
of the consumer group. It ends with status 0 when the group's offsets have reached the cut in each partition, and with
status 1 when it has to be run again.";

/// Options of `distribute`.
#[derive(Args, Clone, Debug)]
#[command(after_help = HELP)]
pub struct DistributeArgs {
    /// What to copy, as JSON
    #[arg(long, env = super::distribution::VARIABLE, hide_env_values = true, value_name = "JSON")]
    pub distribution: String,
    /// Which of the distributors this is, from 0
    #[arg(long, env = "JOB_COMPLETION_INDEX", default_value_t = 0, value_name = "NUMBER")]
    pub ordinal: u32,
    /// File for the outcome, as JSON [default: the termination message of the container]
    #[arg(long, value_name = "FILE")]
    pub outcome: Option<PathBuf>,
    /// Format of log lines
    #[arg(long, env = "QUEUESCALER_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Log level or filter, such as info or queuescaler=debug,warn
    #[arg(long, env = "QUEUESCALER_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
}

/// Runs `queuescaler distribute` until its work is done, or until SIGTERM or SIGINT.
///
/// # Errors
/// The work is not done; a new process continues it.
pub fn distribute(args: &DistributeArgs) -> anyhow::Result<()> {
    logs::install(args.log_format, &args.log).context("cannot install the log")?;
    let stop = stop_on_signals()?;
    let mut outcome = Outcome::default();
    let result = work(&args.distribution).and_then(|work| {
        let done = match &work {
            Work::Topic(distribution) => kafka::run(distribution, args.ordinal, &stop, &mut outcome),
            Work::Queue(distribution) => rabbitmq::run(distribution, &stop, &mut outcome),
        };
        done.map_err(|trouble| anyhow!("{trouble}"))
    });
    outcome.error = result.as_ref().err().map(|error| shortened(format!("{error:#}")));
    let Outcome { copied, verified, repaired, duplicates, expired, .. } = outcome;
    tracing::info!(copied, verified, repaired, duplicates, expired, "ends");
    match &args.outcome {
        Some(file) => {
            write(file, &outcome, true).with_context(|| format!("cannot write {}", file.display()))?
        }
        // Kubernetes makes the file; elsewhere there is none.
        None => write(Path::new(TERMINATION_LOG), &outcome, false).unwrap_or_else(|error| {
            tracing::debug!(%error, "no termination message");
        }),
    }
    result
}

/// What a distributor is to copy.
enum Work {
    Topic(Distribution),
    Queue(QueueDistribution),
}

fn work(json: &str) -> anyhow::Result<Work> {
    let unreadable = "cannot read the distribution";
    let value: serde_json::Value = serde_json::from_str(json).context(unreadable)?;
    // By the broker, so that a mistake in a field is reported as such.
    if value.get("amqp").is_some() {
        let distribution: QueueDistribution = serde_json::from_value(value).context(unreadable)?;
        let QueueDistribution { run, source, temporary, .. } = &distribution;
        tracing::info!(run, source = source.queue, temporary = temporary.prefix, "distributing");
        return Ok(Work::Queue(distribution));
    }
    let distribution: Distribution = serde_json::from_value(value).context(unreadable)?;
    let Distribution { run, task, source, temporary, .. } = &distribution;
    tracing::info!(run, ?task, source = source.topic, temporary = temporary.topic, "distributing");
    Ok(Work::Topic(distribution))
}

fn write(file: &Path, outcome: &Outcome, create: bool) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).create(create).open(file)?;
    file.write_all(&serde_json::to_vec(outcome)?)?;
    Ok(())
}

fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(ERROR));
    text
}

/// A stop that SIGTERM and SIGINT set.
fn stop_on_signals() -> anyhow::Result<Stop> {
    let stop = Stop::default();
    let set = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    // The copy blocks its thread in librdkafka, so that signals have one of their own. It ends with the process.
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        tracing::info!("stopping");
        set.set();
    });
    Ok(stop)
}
