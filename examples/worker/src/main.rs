//! The example consumer of QueueScaler, and a producer of messages for it.
//!
//! `consume` shows what a consumer must do to be scaled without losing or repeating work: take no more than it can
//! process, commit or acknowledge a message only after processing it, and return all others at once on SIGTERM.
//! `produce` sends messages and waits for the acknowledgement of each. `limit` plays a database that all consumers
//! share. None of them uses Kubernetes or the operator.

mod database;
mod errors;
mod kafka;
mod pace;
mod progress;
mod publish;
mod rabbitmq;
mod stop;
mod work;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A rate-limited consumer of Kafka or RabbitMQ, a producer that counts acknowledgements, and a shared limit.
///
/// Every option can be given as an environment variable instead.
/// Exit codes: 0 done or stopped by a signal (consume, limit), 1 failed, 2 wrong usage.
#[derive(Parser)]
#[command(name = "worker", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Process messages at a limited rate until stopped by SIGTERM or SIGINT.
    #[command(subcommand)]
    Consume(Consume),
    /// Send messages and wait until the broker has acknowledged every one.
    #[command(subcommand)]
    Produce(Produce),
    /// Play the shared database of consumers with --database: grant permits at a limited rate until stopped.
    Limit(database::Args),
}

#[derive(Subcommand)]
enum Consume {
    /// Read topics as a member of a consumer group.
    Kafka(kafka::consume::Args),
    /// Read one queue, classic or quorum.
    Rabbitmq(rabbitmq::consume::Args),
}

#[derive(Subcommand)]
enum Produce {
    /// Write to one topic.
    Kafka(kafka::produce::Args),
    /// Write to one queue.
    Rabbitmq(rabbitmq::produce::Args),
}

// One thread is enough: librdkafka has threads of its own, and this program mostly waits.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse().task).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", errors::line(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(task: Task) -> anyhow::Result<()> {
    let stop = stop::requested()?;
    match task {
        Task::Consume(Consume::Kafka(args)) => kafka::consume::run(&args, stop).await,
        Task::Consume(Consume::Rabbitmq(args)) => {
            rabbitmq::consume::run(&args, stop).await;
            Ok(())
        }
        Task::Produce(Produce::Kafka(args)) => kafka::produce::run(&args, stop).await,
        Task::Produce(Produce::Rabbitmq(args)) => rabbitmq::produce::run(&args, stop).await,
        Task::Limit(args) => database::run(&args, stop).await,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use clap::{Command, CommandFactory};
    use serde_norway::Value;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_can_be_given_as_an_environment_variable() {
        for task in Cli::command().get_subcommands() {
            for command in std::iter::once(task).chain(task.get_subcommands()) {
                for option in command.get_arguments().filter(|a| a.get_long() != Some("help")) {
                    let name = format!("{} {} --{}", task.get_name(), command.get_name(), option.get_id());
                    assert!(option.get_env().is_some(), "{name} has no environment variable");
                }
            }
        }
    }

    #[test]
    fn the_manifests_beside_it_use_only_options_that_exist() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        for file in ["kafka/deployment", "kafka/backlog/job", "rabbitmq/deployment", "rabbitmq/backlog/job"] {
            let text = std::fs::read_to_string(format!("{folder}/{file}.yaml")).unwrap();
            let manifest: Value = serde_norway::from_str(&text).unwrap();
            let container = &manifest["spec"]["template"]["spec"]["containers"][0];
            let command = chosen(Cli::command(), &container["args"]);
            let known: Vec<&str> =
                command.get_arguments().filter_map(|option| option.get_env()?.to_str()).collect();
            let env = container["env"].as_sequence().unwrap();
            let given: Vec<&str> = env.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
            for name in &given {
                assert!(known.contains(name), "{file}: {} knows no {name}", command.get_name());
            }
            for option in command.get_arguments().filter(|option| option.is_required_set()) {
                let name = option.get_env().and_then(OsStr::to_str).unwrap();
                assert!(given.contains(&name), "{file}: {name} is missing");
            }
        }
    }

    fn chosen(command: Command, names: &Value) -> Command {
        names.as_sequence().unwrap().iter().fold(command, |command, name| {
            let name = name.as_str().unwrap();
            command.find_subcommand(name).unwrap_or_else(|| panic!("no command {name}")).clone()
        })
    }
}
