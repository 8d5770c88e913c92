//! The command line. Every option of `run` can be given by an environment variable, as the chart does.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;

use crate::brokers::budget::Budget;
use crate::drain::manifests::Image;
use crate::receivers::command::{FileArgs, ReceiversCommand};
use crate::telemetry::logs::LogFormat;

/// Scales the consumers of Kafka and RabbitMQ queues by their backlog.
#[derive(Debug, Parser)]
#[command(name = "queuescaler", version, max_term_width = 100)]
pub struct Cli {
    /// The command
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator: watch QueueScalers, read backlogs, set replicas
    Run(Box<RunArgs>),
    /// Try a QueueScaler without a cluster: on a recorded trace or a scenario
    Simulate(Box<crate::simulation::command::simulate::SimulateArgs>),
    /// Record the load of a QueueScaler from a running operator, as a trace for simulate
    Record(Box<crate::simulation::command::record::RecordArgs>),
    /// Plan, start, pause, resume, abort and watch an emergency drain (a QueueDrain)
    #[command(subcommand)]
    Drain(crate::drain::command::DrainCommand),
    /// Copy the backlog of a drain into its temporary topic; the operator runs this in pods
    Distribute(Box<crate::drain::distribute::DistributeArgs>),
    /// Try the receivers of alerts
    #[command(subcommand)]
    Receivers(ReceiversCommand),
    /// Print the custom resource definitions as YAML
    Crd,
    /// Print the version
    Version,
}

const EXAMPLES: &str = "\
Examples:
  Serve all namespaces of the cluster of KUBECONFIG, as the only process:
    queuescaler run --namespace queuescaler-system
  Serve two namespaces, with a broker on this machine:
    queuescaler run --watch-namespaces shop,billing --allow-addresses 127.0.0.0/8

Every option can be given as the environment variable in brackets.";

/// Options of `run`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// Serve only the QueueScalers of these namespaces [default: all namespaces]
    #[arg(long, env = "QUEUESCALER_WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE,…")]
    pub watch_namespaces: Vec<String>,
    /// Serve only the QueueScalers that this label selector matches, such as team=a [default: all]
    #[arg(long, env = "QUEUESCALER_WATCH_LABEL_SELECTOR", value_name = "SELECTOR")]
    pub watch_label_selector: Option<String>,
    /// Namespace of the lease
    #[arg(long, env = "QUEUESCALER_NAMESPACE", default_value = "queuescaler", value_name = "NAMESPACE")]
    pub namespace: String,
    /// Name of this process in the lease; unique among the processes that share it [default: host name and process id]
    #[arg(long, env = "QUEUESCALER_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,
    /// Name of the lease; the process that holds it works, the others wait
    #[arg(long, env = "QUEUESCALER_LEASE_NAME", default_value = "queuescaler", value_name = "NAME")]
    pub lease_name: String,
    /// Seconds after which a lease that is not renewed expires, 5 to 300
    #[arg(long, env = "QUEUESCALER_LEASE_SECONDS", default_value_t = 15, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(5..=300))]
    pub lease_seconds: u64,
    /// Address at which /livez, /readyz and /metrics are served
    #[arg(
        long,
        env = "QUEUESCALER_HTTP_ADDRESS",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS:PORT"
    )]
    pub http_address: SocketAddr,
    /// Format of log lines
    #[arg(long, env = "QUEUESCALER_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Log level or filter, such as info or queuescaler=debug,warn
    #[arg(long, env = "QUEUESCALER_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// Address ranges that brokers are allowed to have although they are refused by default: loopback, the API server
    #[arg(long, env = "QUEUESCALER_ALLOW_ADDRESSES", default_value = "", hide_default_value = true,
          value_parser = ranges, value_name = "CIDR,…")]
    // With its path, as clap would take `Vec` for an option that is given several times.
    pub allow_addresses: std::vec::Vec<IpNet>,
    /// Most status writes per second that only refresh numbers, 1 to 1000; changes of state are written at once
    #[arg(long, env = "QUEUESCALER_STATUS_WRITES_PER_SECOND", default_value_t = 10, value_name = "NUMBER",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub status_writes_per_second: u32,
    /// Receivers of alerts
    #[command(flatten)]
    pub receivers: FileArgs,
    /// Name of the operator's own Deployment, in the namespace of the lease, which gets events about alerts that could not
    /// be delivered [default: none; they are only logged and counted]
    #[arg(long, env = "QUEUESCALER_DEPLOYMENT", value_name = "NAME")]
    pub deployment: Option<String>,
    /// Emergency drains
    #[command(flatten)]
    pub drains: DrainArgs,
    /// Limits of what is read from brokers
    #[command(flatten)]
    pub budget: BudgetArgs,
}

/// Options of `run` for emergency drains.
#[derive(Args, Clone, Debug)]
pub struct DrainArgs {
    /// Serve QueueDrains: create Jobs and Deployments, and temporary topics on the brokers
    #[arg(id = "drains", long = "drains", env = "QUEUESCALER_DRAINS", default_value_t = true, value_name = "BOOL",
          action = clap::ArgAction::Set)]
    pub enabled: bool,
    /// Image with this program, for the pods that copy [default: none, so that no drain can start]
    #[arg(
        long,
        env = "QUEUESCALER_DRAIN_IMAGE",
        default_value = "",
        hide_default_value = true,
        value_name = "IMAGE"
    )]
    pub drain_image: String,
    /// Pull policy of that image: Always, IfNotPresent or Never
    #[arg(
        long,
        env = "QUEUESCALER_DRAIN_IMAGE_PULL_POLICY",
        default_value = "IfNotPresent",
        value_name = "POLICY"
    )]
    pub drain_image_pull_policy: String,
}

impl DrainArgs {
    /// The image of the pods that copy.
    #[must_use]
    pub fn image(&self) -> Image {
        Image { name: self.drain_image.clone(), pull_policy: self.drain_image_pull_policy.clone() }
    }
}

/// Options of `run` that limit what brokers can make the operator hold.
#[derive(Args, Clone, Copy, Debug)]
pub struct BudgetArgs {
    /// Most partitions of one QueueScaler, over all its topics; about 500 bytes of memory each
    #[arg(long, env = "QUEUESCALER_MAX_PARTITIONS", default_value_t = Budget::default().partitions,
          value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_partitions: u32,
    /// Most brokers of one Kafka cluster
    #[arg(long, env = "QUEUESCALER_MAX_BROKERS", default_value_t = Budget::default().brokers,
          value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_brokers: u32,
    /// Most queues of a virtual host, or topics of a Kafka cluster, that a pattern is matched with
    #[arg(long, env = "QUEUESCALER_MAX_QUEUES", default_value_t = Budget::default().queues,
          value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_queues: u32,
    /// Most memory for the answers of one broker cluster at a time, in MiB
    #[arg(long, env = "QUEUESCALER_MAX_ANSWER_MIB", default_value_t = Budget::default().answer_bytes >> 20,
          value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub max_answer_mib: u32,
    /// Most connections to one broker cluster; its other brokers are read in turn
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
pub(crate) fn ranges(text: &str) -> Result<Vec<IpNet>, ipnet::AddrParseError> {
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
