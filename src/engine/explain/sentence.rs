//! The sentence of a decision: one formula that a pocket calculator can check, and what changed its result.

use std::fmt;

use super::words::{count, count_is, rate, seconds, thousands, verb, whole};
use super::{Clause, Drain, Explanation, Held, Need, Probe, TimeLeft, Tried, Unhealthy, Unread, findings};
use crate::api::status::RateBasis;
use crate::brokers::observation::quote;
use crate::engine::learn::StuckCause;
use crate::engine::reason::Limit;
use crate::plan::{Step, StepRule, Threshold};

/// Clauses behind the formula.
const CLAUSES: usize = 2;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((from, to)) = self.dry_run {
            write!(f, "would scale from {from} to {}: ", count(to, "replica"))?;
        }
        f.write_str(&need(&self.need, self.incomplete))?;
        for clause in shown(&self.clauses) {
            write!(f, "; {}", self::clause(clause))?;
        }
        Ok(())
    }
}

/// The last clauses, but those that only round the result before others.
fn shown(clauses: &[Clause]) -> Vec<&Clause> {
    let mut shown: Vec<_> = clauses.iter().collect();
    let rounds = |clause: &&Clause| {
        matches!(clause, Clause::WholePartitions { .. } | Clause::Aligned { .. } | Clause::ProbeStep { .. })
    };
    while shown.len() > CLAUSES {
        shown.remove(shown.iter().position(rounds).unwrap_or_default());
    }
    shown
}

fn need(need: &Need, incomplete: bool) -> String {
    match need {
        Need::Paused { replicas } => format!("mode is Paused; replicas stay at {replicas}"),
        Need::OutOfBounds { replicas, bound, limit } => {
            let (is, name) = match limit {
                Limit::MinReplicas => ("below", "minReplicas"),
                _ => ("above", "maxReplicas"),
            };
            format!("{} {is} {name} {}", count_is(*replicas, "replica"), thousands(*bound))
        }
        Need::Unknown { why, replicas } => format!("{}; replicas stay at {replicas}", unread(why)),
        Need::Fallback { why, failed_polls, replicas } => format!(
            "{}; after {} the fallback is at least {}",
            unread(why),
            count(*failed_polls, "failed poll"),
            count(*replicas, "replica")
        ),
        Need::NotActivated { messages, activation: 0 } if *messages == 0 => backlog(0, incomplete),
        Need::NotActivated { messages, activation } => format!(
            "{} does not exceed activationBacklog {}",
            backlog(*messages, incomplete),
            thousands(*activation)
        ),
        Need::PerReplica { messages: 0, .. } => backlog(0, incomplete),
        Need::PerReplica { messages, per_replica, replicas } => format!(
            "{} / {} per replica = {}",
            backlog(*messages, incomplete),
            thousands(*per_replica),
            count(*replicas, "replica")
        ),
        Need::Rule { messages, rule } => format!("{} {}", backlog(*messages, incomplete), self::rule(*rule)),
        Need::Drain(drain) => self::drain(drain, incomplete),
        Need::Probe(probe) => self::probe(probe, incomplete),
    }
}

fn backlog(messages: u64, incomplete: bool) -> String {
    match (messages, incomplete) {
        (0, false) => "backlog is empty".to_owned(),
        (_, false) => format!("backlog {}", thousands(messages)),
        (_, true) => format!("backlog at least {}", thousands(messages)),
    }
}

fn unread(why: &Unread) -> String {
    match why {
        Unread::NotYet => "the backlog has not been read yet".to_owned(),
        Unread::Stale { taken_at, longest } => format!(
            "the backlog was last read at {taken_at:.0}, more than {} s ago",
            thousands(longest.as_secs())
        ),
        Unread::Problem(problem) => format!("the backlog is unknown ({}: {problem})", problem.reason),
    }
}

fn rule(rule: Option<(usize, StepRule)>) -> String {
    let Some((number, StepRule { when, step })) = rule else { return "matches no rule".to_owned() };
    let (comparison, threshold) = match when {
        Threshold::Above(threshold) => ("above", threshold),
        Threshold::Below(threshold) => ("below", threshold),
    };
    let (does, size) = match step {
        Step::Add(size) => ("adds", size),
        Step::Remove(size) => ("removes", size),
    };
    let threshold = thousands(threshold);
    format!("is {comparison} {threshold}; rule {number} {does} {}", count(size, "replica"))
}

fn drain(drain: &Drain, incomplete: bool) -> String {
    let mut words = backlog(drain.messages, incomplete);
    if drain.counted < drain.messages {
        words.push_str(&format!(", of which {} count", thousands(drain.counted)));
    }
    let later = drain.to_clear.filter(|later| {
        let counted = as_real(drain.counted);
        (later - counted).abs() >= counted * 0.01 + 1.0
    });
    if let Some(later) = later {
        words.push_str(&format!(" ({} when added replicas work)", whole(later)));
    }
    if drain.arrivals > 0.0 {
        words.push_str(&format!("; {} arrive on average", rate(drain.arrivals)));
    }
    if drain.messages == 0 && drain.arrivals <= 0.0 {
        return words;
    }
    words.push_str(&format!("; service rate {} per replica ({})", rate(drain.rate), basis(drain)));
    let replicas = count(drain.replicas, "replica");
    if let Some(to_clear) = drain.to_clear {
        let spare = drain.rate * f64::from(drain.replicas) - drain.arrivals;
        let clear = verb(drain.replicas, "clear");
        if spare > 0.0 {
            let time = seconds(to_clear / spare);
            words.push_str(&format!("; {replicas} {clear} it in {time} s ({})", time_left(drain)));
        } else {
            words.push_str(&format!("; {replicas} cannot clear it ({})", time_left(drain)));
        }
    } else if let Some(busy) = drain.busy {
        words.push_str(&format!(
            "; {busy:.1} replicas are busy, {:.1} keep waits short ({busy:.1} + √{busy:.1})",
            drain.needed
        ));
    } else if drain.arrivals > 0.0 {
        let percent = drain.headroom_percent;
        words.push_str(&format!("; {:.1} replicas keep up with {percent} % headroom", drain.needed));
    }
    words
}

fn as_real(count: u64) -> f64 {
    crate::engine::units::real(count)
}

fn basis(drain: &Drain) -> &'static str {
    match drain.basis {
        RateBasis::Hint => "from the specification",
        RateBasis::Learned if drain.samples == 1 => "measured once",
        RateBasis::Learned => "measured",
        RateBasis::Assumed => "assumed",
    }
}

fn time_left(drain: &Drain) -> String {
    let start = drain.dead_time.as_secs_f64();
    let left = match drain.time {
        TimeLeft::Target { left, target } if left == target => {
            format!("target {} s", thousands(target.as_secs()))
        }
        TimeLeft::Target { left, target } => {
            format!("{} s left of target {} s", seconds(left.as_secs_f64()), thousands(target.as_secs()))
        }
        TimeLeft::Age { left, most } => {
            format!("{} s left of maxAgeSeconds {}", seconds(left.as_secs_f64()), thousands(most.as_secs()))
        }
    };
    format!("{left}, {} s until added replicas work", seconds(start))
}

fn probe(probe: &Probe, incomplete: bool) -> String {
    let Probe { messages, tries, replicas } = probe;
    let (backlog, replicas_) = (backlog(*messages, incomplete), count(*replicas, "replica"));
    let unknown = "service rate not known yet";
    match tries {
        Tried::Nothing => format!("{backlog}; nothing arrives"),
        Tried::Fewer => format!("{backlog}; {unknown}; {} tried", count_is(*replicas, "replica")),
        Tried::PerReplica(each) => {
            format!("{backlog} / {} per replica = {replicas_}; {unknown}", thousands(*each))
        }
        Tried::Twice(target) => format!(
            "{backlog}; {unknown}; not gone after {} s; {} tried",
            thousands(target.as_secs()),
            count_is(*replicas, "replica")
        ),
        Tried::Measured { rate: per_second, samples } => format!(
            "{backlog}; service rate {} per replica (first {}); {} needed",
            rate(*per_second),
            count(*samples, "measurement"),
            count_is(*replicas, "replica")
        ),
    }
}

fn clause(clause: &Clause) -> String {
    match clause {
        Clause::LeftOut { cause, topic, partition, offset, time, more } => {
            let named = format!("partition {}-{partition}", quote(topic));
            let named = if *more > 0 { format!("{named} and {more} more") } else { named };
            match cause {
                StuckCause::Consumer | StuckCause::Message => {
                    let time = thousands(time.as_secs());
                    format!(
                        "{named} left out: stuck at offset {offset} for {time} s while others are processed"
                    )
                }
                StuckCause::NotConsumed => format!("{named} left out: no consumer, while others have one"),
                StuckCause::PossibleResidue => {
                    format!("{named} left out: offsets that may be no messages, which keep the last replica")
                }
            }
        }
        Clause::WholePartitions { partitions, replicas } => {
            format!(
                "{} {} {partitions} partitions evenly",
                count(*replicas, "replica"),
                verb(*replicas, "share")
            )
        }
        Clause::Aligned { partitions, replicas, instead_of } => {
            format!("on {partitions} partitions {} as much as {instead_of}", does(*replicas))
        }
        Clause::UnevenPartitions { replicas } => {
            format!("uneven partitions need {}", count(*replicas, "replica"))
        }
        Clause::HotPartition { topic, partition, percent, useful } => {
            let useful = useful.map(|useful| {
                format!(
                    "; more than {} {} of no use",
                    count(useful, "replica"),
                    if useful == 1 { "is" } else { "are" }
                )
            });
            format!(
                "partition {}-{partition} has {percent:.0} % of the load, more than one replica can process{}",
                quote(topic),
                useful.unwrap_or_default()
            )
        }
        Clause::PartitionCap { replicas, partitions, consumers, idle } => {
            let (replicas, partitions) = (count(*replicas, "replica"), count(*partitions, "partition"));
            let mut words = format!("no more than {replicas} can work on {partitions}");
            if *consumers > 1 {
                words.push_str(&format!(" with {consumers} consumers each"));
            }
            if *idle > 0 {
                let have = if *idle == 1 { "has" } else { "have" };
                words.push_str(&format!(", and {} {have} no partition", count(*idle, "consumer")));
            }
            words
        }
        Clause::Cap { limit: Limit::Consumers, replicas: 1 } => {
            "the queue has a single active consumer; no more than 1 replica gets messages".to_owned()
        }
        Clause::Cap { limit: Limit::Consumers, replicas } => format!(
            "{replicas} queues have a single active consumer each; no more than {replicas} replicas get messages"
        ),
        Clause::Cap { replicas, .. } => format!("maxReplicas is {replicas}"),
        Clause::Tolerated { replicas } => format!("{} within the tolerance", count_is(*replicas, "replica")),
        Clause::CloseEnough => "the replicas there are come within 10 % of it".to_owned(),
        Clause::SavesLittle => "saves less than 10 %; not worth a rebalance".to_owned(),
        Clause::ClearsFirst => "no replicas are removed until the backlog is gone".to_owned(),
        Clause::LongMessages => "replicas that may be processing a long message are kept".to_owned(),
        Clause::Damped => {
            "a removal was undone soon before; the highest need of a longer time counts".to_owned()
        }
        Clause::ArrivalsUnknown => "arrivals are not measured yet; no replicas are removed".to_owned(),
        Clause::ProbeStep { replicas } => format!("at most {} tried at once", count_is(*replicas, "replica")),
        Clause::Shareable { replicas } => {
            format!("{} can share its partitions", count(*replicas, "replica"))
        }
        Clause::Activated { activation } => {
            format!("activationBacklog {} is exceeded; 1 replica starts", thousands(*activation))
        }
        Clause::Incomplete(problem) => {
            format!("an incomplete reading ({}: {problem}) removes no replicas", problem.reason)
        }
        Clause::OneForCommit => "1 replica is kept while partitions have no commit".to_owned(),
        Clause::OneToConsume => "1 replica is kept to begin to consume".to_owned(),
        Clause::Minimum { replicas } => format!("minReplicas is {replicas}"),
        Clause::Held(held) => self::held(held),
    }
}

fn does(replicas: i32) -> String {
    format!("{} {}", count(replicas, "replica"), if replicas == 1 { "does" } else { "do" })
}

fn held(held: &Held) -> String {
    match held {
        Held::Saturated { most } => format!(
            "adding replicas no longer raises throughput; a shared dependency (database, API) appears saturated, so that \
             at most {} useful for now",
            count_is(*most, "replica")
        ),
        Held::Doubted { most } => format!(
            "each replica processes less than before, so that at most {} tried until measurements show whether more help",
            count_is(*most, "replica")
        ),
        Held::LowestNeed { window, replicas } => {
            format!("the lowest need of the last {} s was {replicas}", thousands(window.as_secs()))
        }
        Held::HighestNeed { window, replicas } => {
            format!("the highest need of the last {} s was {replicas}", thousands(window.as_secs()))
        }
        Held::Policies { up, allowed } => {
            let direction = if *up { "scaleUp" } else { "scaleDown" };
            match allowed {
                None => format!("{direction} is disabled"),
                Some(allowed) => format!("the policies of {direction} allow {allowed} now"),
            }
        }
        Held::Agreement { readings, zero: true } => {
            format!("zero replicas need {readings} complete readings in a row without messages")
        }
        Held::Agreement { readings, zero: false } => {
            format!("going to the minimum needs {readings} complete readings in a row")
        }
        Held::NextStep(Some(due)) => format!("the next step is due at {due:.0}"),
        Held::NextStep(None) => "the next step is due later".to_owned(),
        Held::OldReading => "the next step needs a newer reading".to_owned(),
        Held::NoEffectYet { since } => {
            format!("the last change was {} s ago and has not taken effect yet", thousands(since.as_secs()))
        }
        Held::Measuring { since } => {
            format!("replicas are being measured since the last change {} s ago", thousands(since.as_secs()))
        }
        Held::NothingProcessed { time } => {
            format!("nothing was processed for {} s", thousands(time.as_secs()))
        }
        Held::NotReady { ready, replicas } => findings::not_ready(*ready, *replicas),
        Held::Rollout => "no replicas are removed during a rollout".to_owned(),
        Held::Rebalance => "no replicas are removed while the group rebalances".to_owned(),
        Held::Health(unhealthy) => self::unhealthy(unhealthy),
    }
}

fn unhealthy(unhealthy: &Unhealthy) -> String {
    match unhealthy {
        Unhealthy::NoneConsumes { ready } => {
            format!("none of {} consumes; more replicas would not help", count(*ready, "ready replica"))
        }
        Unhealthy::NothingProcessed { ready, time, guessed: false } => format!(
            "{} processed nothing for {} s; more replicas would not help",
            count(*ready, "ready replica"),
            thousands(time.as_secs())
        ),
        Unhealthy::NothingProcessed { ready, time, guessed: true } => format!(
            "{} processed nothing for {} s; how long a message takes is not known (set drainTime.serviceRate.messageSeconds)",
            count(*ready, "ready replica"),
            thousands(time.as_secs())
        ),
        Unhealthy::BeforeRestart => {
            "nothing was processed before the operator restarted, nor since then".to_owned()
        }
        Unhealthy::MissingPods(missing) => findings::not_ready(missing.ready, missing.replicas),
        Unhealthy::TargetTrouble => "the target reports that its pods do not start".to_owned(),
    }
}
