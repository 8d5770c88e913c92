//! The command line. Every option of `run` can be given by an environment variable, as the chart does.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;

use crate::brokers::budget::Budget;
use crate::telemetry::logs::LogFormat;

/// Scales the consumers of Kafka and RabbitMQ queues by their backlog.
#[derive(Debug, Parser)]
#[command(name = "queuescaler", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator: watch QueueScalers, read backlogs, set replicas
    Run(Box<RunArgs>),
    /// Try a QueueScaler on a modelled queue: a recorded trace or a scenario, without a cluster
    Simulate(Box<crate::simulation::command::simulate::SimulateArgs>),
    /// Write down what an operator sees of a QueueScaler, as a trace for simulate
    Record(Box<crate::simulation::command::record::RecordArgs>),
    /// Print the custom resource definitions as YAML
    Crd,
    /// Print the version
    Version,
}

/// Options of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Serve only these namespaces; none means all
    #[arg(long, env = "QUEUESCALER_WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE,…")]
    pub watch_namespaces: Vec<String>,
    /// Serve only the QueueScalers that this label selector matches, such as team=a
    #[arg(long, env = "QUEUESCALER_WATCH_LABEL_SELECTOR", value_name = "SELECTOR")]
    pub watch_label_selector: Option<String>,
    /// Namespace of the lease
    #[arg(long, env = "QUEUESCALER_NAMESPACE", default_value = "queuescaler", value_name = "NAMESPACE")]
    pub namespace: String,
    /// Name of this process among those that compete for the lease [default: host name and process id]
    #[arg(long, env = "QUEUESCALER_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,
    /// Name of the lease that one of several processes holds
    #[arg(long, env = "QUEUESCALER_LEASE_NAME", default_value = "queuescaler", value_name = "NAME")]
    pub lease_name: String,
    /// How long the lease holds without being renewed, in seconds
    #[arg(long, env = "QUEUESCALER_LEASE_SECONDS", default_value_t = 15, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(5..=300))]
    pub lease_seconds: u64,
    /// Where /livez, /readyz and /metrics are served
    #[arg(
        long,
        env = "QUEUESCALER_HTTP_ADDRESS",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS:PORT"
    )]
    pub http_address: SocketAddr,
    /// Form of log lines
    #[arg(long, env = "QUEUESCALER_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// What is logged, such as info or queuescaler=debug,warn
    #[arg(long, env = "QUEUESCALER_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// Address ranges that brokers may be in although they are refused otherwise: loopback and the API server
    #[arg(long, env = "QUEUESCALER_ALLOW_ADDRESSES", default_value = "", hide_default_value = true,
          value_parser = ranges, value_name = "CIDR,…")]
    // With its path, as clap would take `Vec` for an option that is given several times.
    pub allow_addresses: std::vec::Vec<IpNet>,
    /// Status writes per second for numbers alone; changes of state are written at once
    #[arg(long, env = "QUEUESCALER_STATUS_WRITES_PER_SECOND", default_value_t = 10, value_name = "NUMBER",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub status_writes_per_second: u32,
    /// How much of a broker is read.
    #[command(flatten)]
    pub budget: BudgetArgs,
}

/// Options of `run` that limit what brokers can make the operator hold.
#[derive(Args, Clone, Copy, Debug)]
pub struct BudgetArgs {
    /// Partitions that one QueueScaler may read, of all its topics; some 500 bytes of memory each
    #[arg(long, env = "QUEUESCALER_MAX_PARTITIONS", default_value_t = Budget::default().partitions,
          value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_partitions: u32,
    /// Brokers that one Kafka cluster may have
    #[arg(long, env = "QUEUESCALER_MAX_BROKERS", default_value_t = Budget::default().brokers,
          value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_brokers: u32,
    /// Queues of a virtual host, or topics of a Kafka cluster, that a pattern is matched with
    #[arg(long, env = "QUEUESCALER_MAX_QUEUES", default_value_t = Budget::default().queues,
          value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_queues: u32,
    /// Bytes of answers that are held at once for one broker cluster, in MiB
    #[arg(long, env = "QUEUESCALER_MAX_ANSWER_MIB", default_value_t = Budget::default().answer_bytes >> 20,
          value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub max_answer_mib: u32,
    /// Connections to one broker cluster; its other brokers wait for their turn
    #[arg(long, env = "QUEUESCALER_MAX_CONNECTIONS", default_value_t = Budget::default().connections,
          value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_connections: u32,
}

impl From<BudgetArgs> for Budget {
    fn from(args: BudgetArgs) -> Self {
        let BudgetArgs { max_partitions, max_brokers, max_queues, max_answer_mib, max_connections } = args;
        Self {
            partitions: max_partitions,
            brokers: max_brokers,
            queues: max_queues,
            answer_bytes: max_answer_mib << 20,
            connections: max_connections,
        }
    }
}

/// Reads address ranges. An empty variable is an empty list, as for namespaces and the selector.
fn ranges(text: &str) -> Result<Vec<IpNet>, ipnet::AddrParseError> {
    text.split(',').filter(|range| !range.is_empty()).map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let cli = Cli::try_parse_from(["queuescaler", "run", "--watch-namespaces=a,b"]).unwrap();
        let Command::Run(args) = cli.command else { panic!("not run") };
        assert_eq!(args.watch_namespaces, ["a", "b"]);
    }

    #[test]
    fn the_budget_is_the_default_unless_an_option_changes_it() {
        let budget = |options: &[&str]| {
            let cli = Cli::try_parse_from([&["queuescaler", "run"], options].concat()).unwrap();
            let Command::Run(args) = cli.command else { panic!("not run") };
            Budget::from(args.budget)
        };
        assert_eq!(budget(&[]), Budget::default());
        let changed = budget(&["--max-partitions=7", "--max-answer-mib=64"]);
        assert_eq!((changed.partitions, changed.answer_bytes), (7, 64 << 20));
    }

    #[test]
    fn an_empty_list_of_addresses_allows_none_and_a_mistake_is_refused() {
        let allowed = |list: &str| {
            let cli = Cli::try_parse_from(["queuescaler", "run", &format!("--allow-addresses={list}")]);
            let Command::Run(args) = cli.ok()?.command else { panic!("not run") };
            Some(args.allow_addresses.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(allowed(""), Some(vec![]));
        assert_eq!(allowed("10.0.0.0/8,fd00::/8"), Some(vec!["10.0.0.0/8".into(), "fd00::/8".into()]));
        assert_eq!(allowed("10.0.0.0/8,here"), None);
    }
}
