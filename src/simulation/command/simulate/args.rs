//! Options of `simulate`.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

use crate::simulation::baselines::Baseline;
use crate::simulation::model::Protocol;
use crate::simulation::scenario::Scenario;
use crate::simulation::trace::Gaps;

/// What multiplies or divides a load is not smaller.
const LEAST: f64 = 1e-6;

/// What multiplies a load is not larger, so that its messages can be counted.
const MOST: f64 = 1e6;

/// The longest run: 400 days.
const LONGEST_SECONDS: i64 = 400 * 86_400;

const EXAMPLES: &str = "\
Examples:
  A load that rises to five times as much, with consumers that need 0.2 s for a message:
    queuescaler simulate -f orders.yaml --scenario step --service-seconds 0.2 --report step.html
  What came in last week, from a file with the columns timestamp,value:
    queuescaler simulate -f orders.yaml --trace week.csv --service-seconds 0.2 --partitions 24
  The same at ten times the load, for a program to read:
    queuescaler simulate -f orders.yaml --trace week.csv --factor 10 --output json
  Against other autoscalers, tuned on the weeks before and evaluated on this one:
    queuescaler simulate -f orders.yaml --trace week.csv --compare --train week-1.csv --train week-2.csv
  On several loads, each evaluated with the others as training:
    queuescaler simulate -f orders.yaml --trace a.csv --trace b.csv --trace c.csv --compare

The model: partitions with their commits, polls, pod starts, rebalances and faults; the decisions are those that the
operator would make. The same seed gives the same run.";

/// Options of `simulate`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SimulateArgs {
    /// File with the QueueScaler, as it would be applied; other objects in it are ignored
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Name of the QueueScaler, where the file has several
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// What arrives: a file with the columns timestamp,value (messages that arrive from then to the next line). May be
    /// given several times, for a run each
    #[arg(long, value_name = "FILE", help_heading = "Load", required_unless_present = "scenario")]
    pub trace: Vec<PathBuf>,
    /// What arrives and what goes wrong, by name; sized by what the replicas can do at most. May be given several times
    #[arg(long, value_name = "NAME", help_heading = "Load", conflicts_with = "trace", value_parser = scenarios())]
    pub scenario: Vec<Scenario>,
    /// What happened where lines of a trace are missing
    #[arg(long, default_value = "refuse", value_name = "WHAT", help_heading = "Load")]
    pub gaps: GapsArg,
    /// Only the first days of each trace
    #[arg(long, value_name = "NUMBER", help_heading = "Load", conflicts_with = "scenario",
          value_parser = clap::value_parser!(u32).range(1..=400))]
    pub days: Option<u32>,
    /// So many times as many messages
    #[arg(long, default_value_t = 1.0, value_name = "NUMBER", help_heading = "Load",
          value_parser = between(LEAST, MOST))]
    pub factor: f64,
    /// As many messages as make this mean rate, instead of a factor
    #[arg(long, value_name = "RATE", help_heading = "Load", conflicts_with = "factor",
          value_parser = between(LEAST, MOST))]
    pub messages_per_second: Option<f64>,
    /// Messages come evenly, exactly as many as given, not by chance (Poisson) around that
    #[arg(long, help_heading = "Load")]
    pub even_arrivals: bool,
    /// Zipf exponent of 1000 keys over the partitions; 0 gives all partitions the same
    #[arg(long, default_value_t = 0.0, value_name = "EXPONENT", help_heading = "Load",
          value_parser = between(0.0, 100.0))]
    pub key_skew: f64,

    /// Mean time that a replica needs for a message
    #[arg(long, default_value_t = 0.1, value_name = "SECONDS", help_heading = "Consumers",
          value_parser = between(LEAST, 86_400.0))]
    pub service_seconds: f64,
    /// Standard deviation of that time, divided by its mean
    #[arg(long, default_value_t = 0.5, value_name = "NUMBER", help_heading = "Consumers",
          value_parser = between(0.0, 100.0))]
    pub service_variation: f64,
    /// Time from a pod's creation until it is ready [default: 10–50 s for 88 %, a tail to 500 s]
    #[arg(long, value_name = "SECONDS", help_heading = "Consumers",
          value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub pod_start_seconds: Option<u32>,
    /// Replicas at the beginning [default: what the first load needs, and a third more]
    #[arg(long, value_name = "NUMBER", help_heading = "Consumers", value_parser = clap::value_parser!(i32).range(0..=10_000))]
    pub replicas: Option<i32>,

    /// Partitions of the topic (Kafka)
    #[arg(long, default_value_t = 12, value_name = "NUMBER", help_heading = "Queue",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub partitions: u32,
    /// Time between two commits of a consumer (Kafka)
    #[arg(long, default_value_t = 5, value_name = "SECONDS", help_heading = "Queue",
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub commit_seconds: u32,
    /// How the group rebalances (Kafka)
    #[arg(long, default_value = "cooperative", value_name = "PROTOCOL", help_heading = "Queue")]
    pub rebalance: ProtocolArg,
    /// How long that takes (Kafka)
    #[arg(long, default_value_t = 3, value_name = "SECONDS", help_heading = "Queue",
          value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub rebalance_seconds: u32,
    /// Messages that a consumer holds without having acknowledged them (RabbitMQ)
    #[arg(long, default_value_t = 20, value_name = "NUMBER", help_heading = "Queue",
          value_parser = clap::value_parser!(u32).range(0..=65_535))]
    pub prefetch: u32,
    /// Only one of the consumers gets messages (RabbitMQ)
    #[arg(long, help_heading = "Queue")]
    pub single_active_consumer: bool,
    /// Messages are deleted after this time [default: never]
    #[arg(long, value_name = "SECONDS", help_heading = "Queue",
          value_parser = clap::value_parser!(u32).range(1..=LONGEST_SECONDS))]
    pub retention_seconds: Option<u32>,

    /// Compare with other autoscalers, each tuned by grid search: all, or those named
    #[arg(long, value_name = "NAME,…", help_heading = "Comparison", num_args = 0..,
          value_delimiter = ',', value_parser = baselines())]
    pub compare: Option<Vec<Baseline>>,
    /// Tune them on this trace; may be given several times. It is scaled to the mean rate of what they are evaluated on
    /// [default: the other traces; of a single one the first half, and evaluate on the second; a scenario itself with
    /// other seeds]
    #[arg(long, value_name = "FILE", help_heading = "Comparison", requires = "compare")]
    pub train: Vec<PathBuf>,
    /// Evaluate on so many seeds
    #[arg(long, default_value_t = 5, value_name = "NUMBER", help_heading = "Comparison", requires = "compare",
          value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,
    /// Tune for the fewest pod hours with no more late messages than this, besides those that none could avoid
    #[arg(long, default_value_t = 1.0, value_name = "PERCENT", help_heading = "Comparison", requires = "compare",
          value_parser = between(0.0, 100.0))]
    pub late_goal_percent: f64,

    /// A message that waits for longer is late [default: what policy.drainTime asks for, else 300]
    #[arg(long, value_name = "SECONDS", help_heading = "Output",
          value_parser = clap::value_parser!(u32).range(0..=LONGEST_SECONDS))]
    pub late_after_seconds: Option<u32>,
    /// Chance begins here; the same seed gives the same run
    #[arg(long, default_value_t = 1, value_name = "NUMBER", help_heading = "Output")]
    pub seed: u64,
    /// Form of the result
    #[arg(long, default_value = "table", value_name = "FORM", help_heading = "Output")]
    pub output: OutputForm,
    /// Write a page with charts to this file; it needs nothing else to be read
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub report: Option<PathBuf>,
}

/// Form of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputForm {
    /// For people
    Table,
    /// For programs; docs/simulate.md names the fields
    Json,
}

/// What happened where lines of a trace are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GapsArg {
    /// That is an error
    Refuse,
    /// Nothing arrived
    Zero,
    /// As much as in the interval before
    Hold,
}

impl From<GapsArg> for Gaps {
    fn from(given: GapsArg) -> Self {
        match given {
            GapsArg::Refuse => Self::Refuse,
            GapsArg::Zero => Self::Zero,
            GapsArg::Hold => Self::Hold,
        }
    }
}

/// How a consumer group rebalances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProtocolArg {
    /// All members stop until all partitions are assigned (assignors range, roundrobin, sticky)
    Eager,
    /// Only those stop that change their owner (cooperative-sticky, and the protocol of KIP-848)
    Cooperative,
}

impl From<ProtocolArg> for Protocol {
    fn from(given: ProtocolArg) -> Self {
        match given {
            ProtocolArg::Eager => Self::Eager,
            ProtocolArg::Cooperative => Self::Cooperative,
        }
    }
}

fn scenarios() -> impl TypedValueParser<Value = Scenario> {
    let values =
        Scenario::ALL.map(|scenario| PossibleValue::new(scenario.name()).help(scenario.description()));
    PossibleValuesParser::new(values)
        .try_map(|name| Scenario::named(&name).ok_or("there is no such scenario"))
}

fn baselines() -> impl TypedValueParser<Value = Baseline> {
    let values =
        Baseline::ALL.map(|baseline| PossibleValue::new(baseline.name()).help(baseline.description()));
    let named = |name: String| Baseline::ALL.into_iter().find(|baseline| baseline.name() == name);
    PossibleValuesParser::new(values).try_map(move |name| named(name).ok_or("there is no such baseline"))
}

/// Reads a number from `least` to `most`; what is no number is none of them.
fn between(least: f64, most: f64) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync {
    move |text| {
        let number = text.parse::<f64>().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("must be a number from {least} to {most}"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SimulateArgs,
    }

    #[test]
    fn others_to_compare_with_are_named_in_every_usual_way() {
        let read = |options: &[&str]| {
            let line = ["simulate", "--file=a.yaml", "--scenario=step"].iter().chain(options);
            Line::try_parse_from(line).map(|line| line.args.compare)
        };
        let two = Some(vec![Baseline::Keda, Baseline::Fixed]);
        assert_eq!(read(&["--compare=keda,fixed"]).unwrap(), two);
        assert_eq!(read(&["--compare", "keda,fixed"]).unwrap(), two);
        assert_eq!(read(&["--compare", "keda", "fixed", "--seeds", "2"]).unwrap(), two);
        assert_eq!(read(&["--compare", "--seeds", "2"]).unwrap(), Some(vec![]));
        assert_eq!(read(&[]).unwrap(), None);
        let error = read(&["--compare", "hpa"]).unwrap_err().to_string();
        assert!(error.contains("keda-default"), "{error}");
    }

    #[test]
    fn what_would_go_beyond_all_bounds_is_refused_with_the_bounds() {
        let read = |option: &str| {
            let line = Line::try_parse_from(["simulate", "--file=a.yaml", "--scenario=step", option]);
            line.map(|line| line.args).map_err(|error| error.to_string())
        };
        for (option, bounds) in [
            ("--factor=0", "from 0.000001 to 1000000"),
            ("--factor=1e300", "from 0.000001 to 1000000"),
            ("--factor=inf", "from 0.000001 to 1000000"),
            ("--factor=NaN", "from 0.000001 to 1000000"),
            ("--messages-per-second=1e7", "from 0.000001 to 1000000"),
            ("--service-seconds=0", "from 0.000001 to 86400"),
            ("--key-skew=-1", "from 0 to 100"),
            ("--pod-start-seconds=4294967295", "0..=86400"),
            ("--late-after-seconds=4294967295", "0..=34560000"),
            ("--retention-seconds=0", "1..=34560000"),
        ] {
            let error = read(option).unwrap_err();
            assert!(error.contains(bounds), "{option}: {error}");
        }
        assert_eq!(read("--pod-start-seconds=86400").unwrap().pod_start_seconds, Some(86_400));
        assert_eq!(read("--factor=1e6").unwrap().factor.to_bits(), 1e6_f64.to_bits());
    }
}
