//! The words of alerts.

use std::time::Duration;

use crate::api::BuiltInAlert;
use crate::brokers::observation::ProbedDelay;
use crate::engine::explain::words::{count, count_is, thousands};
use crate::engine::{AssessedReading, Assessment, DeadLetterCount};
use crate::plan::Measure;
use crate::report::Subject;

/// What the threshold of a rule is, in a few words.
pub(in crate::alerts) fn title_of_measure(measure: Measure) -> String {
    match measure {
        Measure::BacklogAbove(messages) => format!("backlog above {}", thousands(messages)),
        Measure::OldestMessageAgeAbove(age) => format!("oldest message waits longer than {}", seconds(age)),
        Measure::EstimatedDrainAbove(time) => format!("backlog takes longer than {} to clear", seconds(time)),
        Measure::ConsumersBelow(consumers) => format!("fewer than {}", count(consumers, "consumer")),
        Measure::AtMaxReplicas => "more than maxReplicas are needed".to_owned(),
        Measure::ProbeDelayAbove(delay) => {
            format!("consumers take longer than {} for a message", seconds(delay))
        }
    }
}

/// What is wrong now, with the numbers.
pub(in crate::alerts) fn of_measure(measure: Measure, assessment: &Assessment) -> Option<String> {
    let reading = assessment.reading.as_ref()?;
    let backlog = backlog(reading);
    Some(match measure {
        Measure::BacklogAbove(threshold) => {
            let age = assessment.oldest_age.map(|age| format!("; oldest message {} old", seconds(age.time)));
            format!("{backlog}, above {}{}", thousands(threshold), age.unwrap_or_default())
        }
        Measure::OldestMessageAgeAbove(threshold) => {
            let age = seconds(assessment.oldest_age?.time);
            format!("the oldest message has waited {age}, longer than {}; {backlog}", seconds(threshold))
        }
        Measure::EstimatedDrainAbove(threshold) => match assessment.estimated_drain {
            Some(drain) => {
                let drain = Duration::try_from_secs_f64(drain).unwrap_or(Duration::MAX);
                let threshold = seconds(threshold);
                format!(
                    "the ready replicas clear the backlog in {}, longer than {threshold}; {backlog}",
                    seconds(drain)
                )
            }
            None => format!("the ready replicas never clear the backlog; {backlog}"),
        },
        Measure::ConsumersBelow(threshold) => {
            let consumers = count(reading.consumers?, "consumer");
            format!("{consumers}, fewer than {}; {backlog}", thousands(threshold))
        }
        Measure::AtMaxReplicas => assessment.decision.as_ref()?.message(),
        Measure::ProbeDelayAbove(threshold) => {
            let ProbedDelay { delay, is_lower_bound, slowest, .. } = assessment.probe.as_ref()?;
            let place = slowest.as_ref().map(|place| format!(" in {place}")).unwrap_or_default();
            let (delay, threshold) = (seconds((*delay)?), seconds(threshold));
            match is_lower_bound {
                true => {
                    format!("a probe{place} is not processed for {delay}, longer than {threshold}; {backlog}")
                }
                false => {
                    format!("consumers took {delay} for a probe{place}, longer than {threshold}; {backlog}")
                }
            }
        }
    })
}

pub(in crate::alerts) fn next_step_of_measure(measure: Measure) -> &'static str {
    match measure {
        Measure::BacklogAbove(_) | Measure::EstimatedDrainAbove(_) => {
            "if replicas are at maxReplicas, raise it; else the conditions show what holds them"
        }
        Measure::OldestMessageAgeAbove(_) => {
            "check whether consumers process messages, then raise maxReplicas, or set drainTime.maxAgeSeconds"
        }
        Measure::ConsumersBelow(_) => {
            "look at the consumers' pods and logs: they do not run, or cannot connect"
        }
        Measure::ProbeDelayAbove(_) => {
            "if the backlog is small, look at the consumers of what is named; else raise maxReplicas"
        }
        Measure::AtMaxReplicas => {
            "raise maxReplicas (and the partitions) if the database can take it, or make the consumer faster"
        }
    }
}

/// What is wrong, in a few words.
pub(in crate::alerts) fn title_of_built_in(alert: BuiltInAlert) -> &'static str {
    match alert {
        BuiltInAlert::SourceUnreadable => "backlog cannot be read",
        BuiltInAlert::Stalled => "consumers process nothing",
        BuiltInAlert::NoConsumers => "nobody consumes",
        BuiltInAlert::PoisonMessage => "a message blocks its partition",
        BuiltInAlert::PodStuck => "one consumer is stuck",
        BuiltInAlert::NotConsumed => "partitions without a consumer",
        BuiltInAlert::HotPartition => "one partition gets too many messages",
        BuiltInAlert::DownstreamSaturated => "more replicas process no more messages",
        BuiltInAlert::PartitionBound => "too few partitions to clear the backlog in time",
        BuiltInAlert::TargetNotScalable => "workload cannot be scaled",
        BuiltInAlert::PodsNotReady => "pods do not become ready",
        BuiltInAlert::QuotaExceeded => "pods exceed a quota",
        BuiltInAlert::BacklogExpired => "unprocessed messages were deleted",
        BuiltInAlert::BacklogExpiring => "unprocessed messages are about to be deleted",
        BuiltInAlert::LengthLimit => "a queue is close to its length limit",
        BuiltInAlert::MessagesSkipped => "consumers skipped messages",
        BuiltInAlert::HangingTransaction => "a transaction blocks consumers",
        BuiltInAlert::DeadLetters => "messages become dead letters",
        BuiltInAlert::EmergencyDrain => "a drain of the backlog is proposed or started",
    }
}

pub(in crate::alerts) fn next_step_of_built_in(alert: BuiltInAlert) -> &'static str {
    match alert {
        BuiltInAlert::SourceUnreadable => {
            "check that the broker runs and that its address, credentials and network policies are right"
        }
        BuiltInAlert::Stalled | BuiltInAlert::NoConsumers => {
            "look at the consumers' log; if they wait for a database or an API, repair that first"
        }
        BuiltInAlert::PoisonMessage => "skip the message, or send it to a dead-letter topic",
        BuiltInAlert::PodStuck => "find the consumer in the group's description, and delete its pod",
        BuiltInAlert::NotConsumed => {
            "let the consumers subscribe to the topic, or exclude it from the source"
        }
        BuiltInAlert::HotPartition => "spread the keys over more partitions, or make processing faster",
        BuiltInAlert::DownstreamSaturated => "make the shared dependency (database, API) faster",
        BuiltInAlert::PartitionBound => {
            "drain a deep backlog (queuescaler drain), add partitions for later, or make the consumer faster"
        }
        BuiltInAlert::TargetNotScalable => "the condition TargetScalable has the reason and the way out",
        BuiltInAlert::PodsNotReady => "kubectl get pods shows whether they are Pending or fail",
        BuiltInAlert::QuotaExceeded => "raise the namespace's quota, or lower maxReplicas",
        BuiltInAlert::BacklogExpired | BuiltInAlert::BacklogExpiring => {
            "raise the retention now (RabbitMQ keeps what waits already no longer), then process faster: raise maxReplicas"
        }
        BuiltInAlert::LengthLimit => {
            "raise the queue's length limit now, then process faster: raise maxReplicas"
        }
        BuiltInAlert::MessagesSkipped => "process the named offsets by other means while the log has them",
        BuiltInAlert::HangingTransaction => {
            "kafka-transactions.sh describe-producers shows its producer; if that is gone, abort the transaction"
        }
        BuiltInAlert::DeadLetters => {
            "read one of them and the consumers' log: why is it rejected? repair that, then publish them again"
        }
        BuiltInAlert::EmergencyDrain => {
            "queuescaler drain plan shows what it would do; queuescaler drain start and abort decide"
        }
    }
}

/// Dead letters of the places where any wait or came.
pub(in crate::alerts) fn dead_letters(found: &[DeadLetterCount]) -> Option<String> {
    let of = |it: &DeadLetterCount| {
        let since = it.since.map(|since| format!(" (the first since {since:.0})")).unwrap_or_default();
        let waiting = it.waiting.map_or_else(
            || "how many wait is unknown".to_owned(),
            |waiting| format!("{} wait{since}", thousands(waiting)),
        );
        format!("{}: {} came within the last hour, {waiting}", it.name, thousands(it.last_hour))
    };
    let is_any = |it: &&DeadLetterCount| it.waiting.is_some_and(|waiting| waiting > 0) || it.last_hour > 0;
    let found: Vec<_> = found.iter().filter(is_any).map(of).collect();
    (!found.is_empty()).then(|| found.join("; "))
}

/// What the operator did.
pub(in crate::alerts) fn action(subject: &Subject<'_>) -> String {
    let workload = subject.target.ok().or(subject.observed_target);
    let replicas = workload.map(|workload| {
        let ready = workload.ready.map(|ready| format!(", {} ready", thousands(ready))).unwrap_or_default();
        format!("{} requested{ready}: ", count_is(workload.replicas, "replica"))
    });
    let why = match (&subject.assessment.decision, subject.target) {
        (Some(decision), _) => decision.message(),
        (None, Err(problem)) => problem.message.clone(),
        (None, Ok(_)) => "the backlog has not been read yet".to_owned(),
    };
    format!("{}{why}", replicas.unwrap_or_default())
}

fn backlog(reading: &AssessedReading) -> String {
    match (reading.messages, &reading.problem) {
        (None, _) => "backlog unknown".to_owned(),
        (Some(messages), None) => format!("backlog {}", thousands(messages)),
        (Some(messages), Some(_)) => format!("backlog at least {}", thousands(messages)),
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", thousands(time.as_secs()))
}
