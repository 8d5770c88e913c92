//! What a drain would do, how long it takes, and whether it is worth it. Pure.
//!
//! ```text
//! without = B / (N·μ − λ)                                    never, if λ ≥ N·μ
//! with    = setup + max(2·B / copy rate, B / (R·μ·α)) + held / (N·μ − λ)
//! ```
//! with the backlog B, arrivals λ, the service rate μ of one pod, N pods with nothing but scaling (`maxReplicas`, at most
//! the partitions), R pods of the drain, their efficiency α, and what arrives meanwhile (`held`). The copy is read back
//! once to prove it, hence twice.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod shared;

use super::risks;
use crate::api::drain_status::{DrainNote, DrainPlan};

/// Seconds until pods have stopped, the topic exists and the first pods of the drain consume.
const SETUP: f64 = 60.0;
/// Messages that one distributor copies per second: below the 117,000 that were measured with messages of 200 bytes.
const COPY_RATE: f64 = 50_000.0;
/// What is left of a pod's service rate when many more of them run.
const EFFICIENCY: f64 = 0.8;
/// Seconds in which the pods are to consume the backlog, unless copying takes longer.
const CONSUME_IN: f64 = 600.0;
/// A drain is worth it if it takes at most this part of the time without.
const WORTH: f64 = 0.5;

/// What a plan is calculated from. Rates are per second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// Messages that are not processed. Absent: not known.
    pub backlog: Option<i64>,
    /// Their bytes, as the broker stores them once. Absent: not known.
    pub bytes: Option<i64>,
    /// Partitions of the source. Absent: not known.
    pub partitions: Option<i32>,
    /// Copies of each partition that the source has.
    pub replication: Option<i32>,
    /// Its `cleanup.policy`. Absent: the brokers do not report it.
    pub cleanup_policy: Option<String>,
    /// Its `min.insync.replicas`. Absent: not known.
    pub min_insync: Option<i32>,
    /// Brokers that are live. Absent: not known.
    pub brokers: Option<i32>,
    /// Log directories of the brokers that report what is free.
    pub directories: i32,
    /// Free bytes of the fullest of them. Absent: none reports it.
    pub free_bytes: Option<i64>,
    /// Bytes of the partition with the most bytes to copy. Absent: not known.
    pub largest_bytes: Option<i64>,
    /// Messages that arrive. Absent: not known, and taken for none.
    pub arrivals: Option<f64>,
    /// Messages that one pod processes. Absent: not known.
    pub service: Option<f64>,
    /// Most pods of the target by its QueueScaler.
    pub max_replicas: i32,
    /// Consumers in one pod.
    pub consumers_per_replica: i32,
    /// Temporary partitions for each partition.
    pub parallelism: i32,
    /// Pods that the user wants.
    pub replicas: Option<i32>,
    /// Pods that copy.
    pub distributors: i32,
    /// Bytes that each of them copies.
    pub max_bytes: Option<i64>,
    /// The name of the source.
    pub topic: String,
    /// For how long the source retains messages, in seconds. Absent: for ever, or not known.
    pub retention: Option<i64>,
    /// How many bytes of a partition the source retains. Absent: all, or not known.
    pub retention_bytes: Option<i64>,
    /// Whether messages that arrive wait until the backlog is consumed.
    pub holds: bool,
    /// Age of the oldest message, in seconds.
    pub oldest: Option<i64>,
    /// What is wrong with the consumers: reason and message of the condition.
    pub unhealthy: Option<(String, String)>,
    /// Whether consumers are known to read committed messages only.
    pub reads_committed: bool,
    /// Whether copies are made by transactions.
    pub exactly_once: bool,
}

/// Calculates the plan. Its problems are those of the source; names, and problems of rights and pods, are not known here.
#[must_use]
pub fn plan(inputs: &Inputs) -> DrainPlan {
    let Some((backlog, partitions)) = inputs.backlog.zip(inputs.partitions) else {
        return DrainPlan {
            warnings: warnings(inputs),
            problems: risks::problems(inputs, None),
            ..DrainPlan::default()
        };
    };
    let temporary = partitions.saturating_mul(inputs.parallelism);
    let replicas = replicas(inputs, backlog, temporary);
    let estimate = inputs.service.filter(|rate| *rate > 0.0).map(|service| {
        let scaled = inputs.scaled(partitions);
        Estimate::of(inputs, backlog, service, replicas, scaled)
    });
    let seconds = estimate.as_ref().map(|estimate| estimate.with);
    DrainPlan {
        messages: Some(rounded(number(backlog))),
        bytes: inputs.bytes.map(|bytes| rounded(number(bytes))),
        source_partitions: Some(partitions),
        temporary_partitions: Some(temporary),
        replicas: Some(replicas),
        estimated_seconds: seconds.map(rounded),
        estimated_seconds_without_drain: estimate.as_ref().and_then(|estimate| estimate.without).map(rounded),
        worthwhile: estimate.as_ref().map(Estimate::is_worthwhile),
        basis: estimate.as_ref().map(|estimate| estimate.basis.clone()),
        alternatives: alternatives(inputs, partitions, backlog),
        warnings: warnings(inputs),
        problems: risks::problems(inputs, seconds),
        ..DrainPlan::default()
    }
}

/// Pods of the drain: what the user wants, else so many that they consume while distributors copy, or within
/// [`CONSUME_IN`]; at most one for each temporary partition.
fn replicas(inputs: &Inputs, backlog: i64, temporary: i32) -> i32 {
    let most = temporary.div_euclid(inputs.consumers_per_replica.max(1)).max(1);
    let needed = match (inputs.replicas, inputs.service.filter(|rate| *rate > 0.0)) {
        (Some(replicas), _) => replicas,
        (None, Some(service)) => {
            let time = CONSUME_IN.max(number(backlog) / inputs.copy_rate());
            whole((number(backlog) / (service * EFFICIENCY * time)).ceil())
        }
        (None, None) => most,
    };
    needed.clamp(1, most)
}

/// Both times, and how they were calculated.
struct Estimate {
    with: f64,
    without: Option<f64>,
    basis: String,
}

impl Estimate {
    fn of(inputs: &Inputs, backlog: i64, service: f64, replicas: i32, scaled: i32) -> Self {
        let (backlog, arrivals) = (number(backlog), inputs.arrivals.unwrap_or(0.0));
        let spare = f64::from(scaled) * service - arrivals;
        let without = (spare > 0.0).then(|| backlog / spare);
        let copying = 2.0 * backlog / inputs.copy_rate();
        let consuming = backlog / (f64::from(replicas) * service * EFFICIENCY);
        let meanwhile = SETUP + copying.max(consuming);
        // What arrives in the meantime waits for the target, unless that never catches up by itself.
        let held = if spare > 0.0 { arrivals * meanwhile / spare } else { 0.0 };
        let basis = format!(
            "{} messages; {} pods of the drain at {}/min and 80 % efficiency, {} messages copied per second and read \
             back, {SETUP:.0} s to set up; without the drain {scaled} pods, less {} messages that arrive per minute",
            rounded(backlog),
            replicas,
            rounded(service * 60.0),
            rounded(inputs.copy_rate()),
            rounded(arrivals * 60.0),
        );
        Self { with: meanwhile + held, without, basis }
    }

    fn is_worthwhile(&self) -> bool {
        self.without.is_none_or(|without| self.with <= without * WORTH)
    }
}

impl Inputs {
    /// Seconds until everything is copied and read back. Absent: the backlog is not known.
    pub(super) fn copied_after(&self) -> Option<f64> {
        Some(SETUP + 2.0 * number(self.backlog?) / self.copy_rate())
    }

    /// Messages that all distributors copy per second.
    fn copy_rate(&self) -> f64 {
        let each = match (self.max_bytes, self.bytes, self.backlog) {
            (Some(limit), Some(bytes), Some(backlog)) if bytes > 0 && backlog > 0 => {
                COPY_RATE.min(number(limit) * number(backlog) / number(bytes)).max(1.0)
            }
            _ => COPY_RATE,
        };
        each * f64::from(self.distributors.max(1))
    }

    /// Pods that have work with nothing but scaling.
    fn scaled(&self, partitions: i32) -> i32 {
        let consumers = self.consumers_per_replica.max(1);
        let most = partitions.saturating_add(consumers - 1).div_euclid(consumers);
        self.max_replicas.min(most).max(1)
    }
}

fn alternatives(inputs: &Inputs, partitions: i32, backlog: i64) -> Vec<DrainNote> {
    let mut notes = Vec::new();
    if let Some((reason, message)) = &inputs.unhealthy {
        let message = format!("fix the consumers first: {message}");
        notes.push(note(&format!("Consumers{reason}"), message));
    }
    let busy = Inputs { max_replicas: i32::MAX, ..inputs.clone() }.scaled(partitions);
    if inputs.max_replicas < busy {
        let spare = inputs.service.map(|rate| f64::from(busy) * rate - inputs.arrivals.unwrap_or(0.0));
        let time = spare.filter(|spare| *spare > 0.0).map(|spare| rounded(number(backlog) / spare));
        let takes =
            time.map_or(String::new(), |time| format!(", which clears the backlog in about {time} s"));
        let message = format!("raise maxReplicas from {} to {busy}{takes}", inputs.max_replicas);
        notes.push(note("RaiseMaxReplicas", message));
    }
    let message = format!(
        "for the next time, give the topic more than {partitions} partitions: new messages use them, and those in the \
         backlog stay where they are; messages of a key change their partition once"
    );
    notes.push(note("MorePartitions", message));
    notes
}

fn warnings(inputs: &Inputs) -> Vec<DrainNote> {
    let mut notes = Vec::new();
    if let Some((reason, message)) = &inputs.unhealthy {
        let message = format!(
            "the consumers are unhealthy ({reason}: {message}); a drain copies the messages that they fail on, too"
        );
        notes.push(note("ConsumersUnhealthy", message));
    }
    if inputs.service.is_none() {
        let message = "the service rate is not known, so neither are the times; set policy.drainTime.serviceRate, or \
                       wait until it is measured";
        notes.push(note("ServiceRateUnknown", message.to_owned()));
    }
    if inputs.exactly_once && !inputs.reads_committed {
        let message = "with isolation.level=read_uncommitted, which is the default of the Java client, consumers also \
                       get copies of batches that were aborted; set read_committed for the pods of the drain";
        notes.push(note("ReadUncommitted", message.to_owned()));
    }
    notes.extend(risks::warnings(inputs));
    notes
}

/// A remark.
#[must_use]
pub fn note(reason: &str, message: String) -> DrainNote {
    DrainNote { reason: reason.to_owned(), message }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub(super) fn number(count: i64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, reason = "saturates")]
fn whole(number: f64) -> i32 {
    number as i32
}

/// Two significant digits.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "saturates")]
pub fn rounded(number: f64) -> i64 {
    if number < 100.0 {
        return number.max(0.0).round() as i64;
    }
    let scale = 10_f64.powf(number.log10().floor() - 1.0);
    ((number / scale).round() * scale) as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 12 partitions, pods that process 100/s, 3,600,000 messages.
    fn inputs() -> Inputs {
        Inputs {
            backlog: Some(3_600_000),
            partitions: Some(12),
            service: Some(100.0),
            arrivals: Some(0.0),
            max_replicas: 12,
            consumers_per_replica: 1,
            parallelism: 10,
            distributors: 1,
            reads_committed: true,
            exactly_once: true,
            cleanup_policy: Some("delete".into()),
            bytes: Some(360_000_000),
            replication: Some(3),
            free_bytes: Some(1 << 40),
            directories: 3,
            ..Inputs::default()
        }
    }

    fn reasons(notes: &[DrainNote]) -> Vec<&str> {
        notes.iter().map(|note| note.reason.as_str()).collect()
    }

    #[test]
    fn a_deep_backlog_is_worth_a_drain() {
        let plan = plan(&inputs());
        // 3,600,000 / (12 · 100) = 3000; 3,600,000 / (75 · 100 · 0.8) = 600, and 60 to set up.
        assert_eq!(plan.estimated_seconds_without_drain, Some(3000));
        assert_eq!((plan.replicas, plan.estimated_seconds), (Some(75), Some(660)));
        assert_eq!((plan.temporary_partitions, plan.worthwhile), (Some(120), Some(true)));
        assert_eq!(reasons(&plan.warnings), Vec::<&str>::new());
    }

    #[test]
    fn a_shallow_backlog_is_not() {
        let plan = plan(&Inputs { backlog: Some(60_000), ..inputs() });
        assert_eq!((plan.estimated_seconds_without_drain, plan.worthwhile), (Some(50), Some(false)));
    }

    #[test]
    fn consumers_that_never_catch_up_are_worth_a_drain() {
        let plan = plan(&Inputs { arrivals: Some(1200.0), ..inputs() });
        assert_eq!((plan.estimated_seconds_without_drain, plan.worthwhile), (None, Some(true)));
    }

    #[test]
    fn what_arrives_meanwhile_is_cleared_by_the_target() {
        // 600 · 660 messages wait, for which 12 · 100 − 600 are spare.
        let plan = plan(&Inputs { arrivals: Some(600.0), ..inputs() });
        assert_eq!(plan.estimated_seconds, Some(1300));
    }

    #[test]
    fn replicas_are_those_of_the_user_and_at_most_the_partitions() {
        let wanted = |replicas| plan(&Inputs { replicas, ..inputs() }).replicas;
        assert_eq!([Some(30), Some(500), None].map(wanted), [Some(30), Some(120), Some(75)]);
        let several = plan(&Inputs { consumers_per_replica: 4, replicas: Some(500), ..inputs() });
        assert_eq!(several.replicas, Some(30));
        assert_eq!(plan(&Inputs { service: None, ..inputs() }).replicas, Some(120));
    }

    #[test]
    fn without_a_service_rate_there_are_no_times() {
        let plan = plan(&Inputs { service: None, ..inputs() });
        assert_eq!((plan.estimated_seconds, plan.worthwhile), (None, None));
        assert_eq!(reasons(&plan.warnings), ["ServiceRateUnknown"]);
    }

    #[test]
    fn warnings_and_alternatives_name_the_way_out() {
        let inputs = Inputs {
            unhealthy: Some(("Stalled".into(), "nothing is processed".into())),
            max_replicas: 6,
            reads_committed: false,
            ..inputs()
        };
        let plan = plan(&inputs);
        assert_eq!(reasons(&plan.warnings), ["ConsumersUnhealthy", "ReadUncommitted"]);
        assert_eq!(reasons(&plan.alternatives), ["ConsumersStalled", "RaiseMaxReplicas", "MorePartitions"]);
        assert_eq!(
            plan.alternatives[1].message,
            "raise maxReplicas from 6 to 12, which clears the backlog in about 3000 s"
        );
    }

    #[test]
    fn numbers_have_two_significant_digits() {
        let cases = [(0.0, 0), (-5.0, 0), (99.4, 99), (123.0, 120), (3_649_999.0, 3_600_000)];
        for (number, expected) in cases {
            assert_eq!(rounded(number), expected, "{number}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_inputs_the_plan_is_within_bounds(
            backlog in any::<i64>().prop_map(|backlog| backlog.saturating_abs()),
            partitions in 1..2000_i32,
            service in proptest::option::of(0.0..1e6),
            arrivals in proptest::option::of(0.0..1e6),
            max_replicas in 1..10_000_i32,
            replicas in proptest::option::of(1..10_000_i32),
            parallelism in 2..=100_i32,
        ) {
            let inputs = Inputs {
                backlog: Some(backlog), partitions: Some(partitions), service, arrivals, max_replicas, replicas,
                parallelism, ..inputs()
            };
            let plan = plan(&inputs);
            let temporary = plan.temporary_partitions.unwrap();
            prop_assert!((1..=temporary).contains(&plan.replicas.unwrap()));
            prop_assert!(plan.estimated_seconds.is_none_or(|seconds| seconds >= 60));
            prop_assert_eq!(plan.estimated_seconds.is_some(), plan.worthwhile.is_some());
        }
    }
}
