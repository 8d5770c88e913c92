//! The plan of a drain of a RabbitMQ queue, and what keeps it from beginning. Changes nothing but one queue that is
//! declared and deleted again before a start.

use super::measured::{Measured, measured};
use super::memory::Memory;
use super::preflight::{local_problems, refused};
use super::queue::admin;
use super::{Subject, is_to_start};
use crate::api::drain_status::{DrainNote, DrainPlan, TemporaryStatus};
use crate::api::queue_drain::{DrainOrdering, Live};
use crate::brokers::Problem;
use crate::brokers::rabbitmq::admin::{QueueFacts, RabbitMqAdmin, Refused, Right};
use crate::drain::manifests::{self, queue as manifest};
use crate::drain::names;
use crate::drain::plan::note;
use crate::drain::plan::shared::{self, Inputs, Queue, UNLIMITED_DELIVERIES};
use crate::plan::RabbitMqSource;

/// Calculates the plan.
pub(super) async fn calculate(
    subject: &Subject<'_>,
    memory: &mut Memory,
    source: &RabbitMqSource,
    queue: &str,
) -> DrainPlan {
    let mut problems = Vec::new();
    let prefix = names::queue_prefix(queue, &subject.owner.uid);
    let is_tried = memory.tried == subject.object.metadata.generation;
    let mut has_tried = is_tried;
    let mut facts = None;
    match admin(subject, memory, source).await {
        Err(problem) => problems.push(of_problem(&problem)),
        Ok(admin) => match read(admin, &source.interest.vhost, queue).await {
            Err(problem) => problems.push(of_problem(&problem)),
            Ok(found) => {
                if found.single_active_consumer && found.kind != "stream" {
                    let place = Place { vhost: &source.interest.vhost, queue, prefix: &prefix };
                    problems.extend(on_broker(admin, &place).await);
                    if is_to_start(subject) && problems.is_empty() && !is_tried {
                        problems.extend(try_temporary(admin, &place, &found).await);
                        has_tried = problems.is_empty();
                    }
                }
                facts = Some(found);
            }
        },
    }
    memory.tried = if has_tried { subject.object.metadata.generation } else { None };
    let plan = shared::plan(&inputs(subject, facts));
    let mut all = plan.problems.clone();
    // The first one is what a person reads who wants to start it.
    let is_served = all.iter().all(|it| it.reason != "ScaleOutInstead" && it.reason != "StreamNotSupported");
    if is_served {
        all.extend(local_problems(subject));
        if subject.spec().live == Live::Chase {
            let message = "live Chase follows the offsets of a topic, and a queue has none; set live: Hold";
            all.push(note("ChaseNotSupported", message.to_owned()));
        }
    }
    all.extend(problems);
    if is_served && plan.messages.is_some() {
        all.extend(in_cluster(subject, source, queue, &plan, &prefix).await);
    }
    all.truncate(16);
    DrainPlan { problems: all, temporary_queue_prefix: Some(prefix), ..plan }
}

fn of_problem(problem: &Problem) -> DrainNote {
    note(&problem.reason.to_string(), problem.to_string())
}

async fn read(admin: &RabbitMqAdmin, vhost: &str, name: &str) -> Result<Queue, Problem> {
    let facts = admin.settings(vhost, name).await?;
    let version = admin.version().await;
    let one_key = admin.has_one_key(vhost, name).await;
    Ok(Queue {
        name: name.to_owned(),
        messages: facts.messages,
        bytes: facts.bytes,
        kind: facts.kind.clone(),
        durable: facts.durable,
        exclusive: facts.exclusive,
        auto_delete: facts.auto_delete,
        single_active_consumer: facts.has_single_active_consumer(),
        one_key,
        message_ttl: facts.number("message-ttl"),
        expires: facts.number("expires"),
        max_length: facts.number("max-length"),
        max_length_bytes: facts.number("max-length-bytes"),
        overflow: facts.text("overflow").map(str::to_owned),
        delivery_limit: facts.delivery_limit(version.as_deref()),
        delivery_limit_is_argument: facts.argument("delivery-limit").is_some(),
        dead_letters: facts.text("dead-letter-exchange").map(str::to_owned),
        max_priority: facts.number("max-priority"),
        raise_limit: raise_limit(vhost, name, &facts),
    })
}

/// The command that raises the delivery limit of a queue and keeps what its policies set: only the policy of the highest
/// priority is in effect.
fn raise_limit(vhost: &str, name: &str, facts: &QueueFacts) -> String {
    let definition = facts.definition_with("delivery-limit", UNLIMITED_DELIVERIES);
    let pattern = format!("^{}$", regex::escape(name));
    let policy = quoted(&format!("drain {name}"));
    format!(
        "rabbitmqctl set_policy --vhost {} --apply-to queues --priority 999 {policy} {} {}, and clear_policy after it",
        quoted(vhost),
        quoted(&pattern),
        quoted(&definition)
    )
}

/// A word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn inputs(subject: &Subject<'_>, queue: Option<Queue>) -> Inputs {
    let (spec, scaler) = (subject.spec(), subject.scaler());
    let Measured { arrivals, service, oldest, unhealthy } = measured(subject);
    Inputs {
        queue,
        arrivals,
        service,
        max_replicas: scaler.map_or(1, |scaler| scaler.spec.max_replicas),
        consumers_per_replica: scaler.and_then(|scaler| scaler.spec.consumers_per_replica).unwrap_or(1),
        parallelism: spec.parallelism,
        replicas: spec.replicas,
        max_bytes: spec.copy.max_bytes_per_second,
        per_key: spec.ordering == DrainOrdering::PerKey,
        oldest,
        unhealthy,
    }
}

/// What is drained, and to where.
struct Place<'p> {
    vhost: &'p str,
    queue: &'p str,
    prefix: &'p str,
}

impl Place<'_> {
    /// A name of a temporary queue that no drain uses.
    fn probe(&self) -> String {
        format!("{}probe", self.prefix)
    }
}

/// Rights, alarms, and whether the names of the temporary queues are free.
async fn on_broker(admin: &RabbitMqAdmin, place: &Place<'_>) -> Vec<DrainNote> {
    let mut problems = Vec::new();
    let probe = place.probe();
    match admin.temporary(place.vhost, place.prefix).await {
        // A probe is left by a process that was killed, and is deleted by the next trial.
        Ok(found) if found.iter().all(|queue| queue.name == probe) => {}
        Ok(found) => {
            let count = found.len();
            let message = format!(
                "{count} queues whose names begin with {} exist and are not this drain's; they are left alone; delete them \
                 if nobody needs them, or create another QueueDrain",
                place.prefix
            );
            problems.push(note("NameConflict", message));
            // The probe may be one of them, and to delete it would have an effect.
            return problems;
        }
        Err(problem) => {
            problems.push(of_problem(&problem));
            return problems;
        }
    }
    match admin.refused(place.vhost, place.queue, &place.probe()).await {
        Ok(refused) => problems.extend(refused.iter().map(|refused| of_refusal(admin, place, refused))),
        Err(problem) => problems.push(of_problem(&problem)),
    }
    problems
}

fn of_refusal(admin: &RabbitMqAdmin, place: &Place<'_>, refused: &Refused) -> DrainNote {
    let (right, words) = match refused {
        Refused::Blocked => {
            let message = "the broker has an alarm of memory or disk and takes no messages; free some, rabbitmqctl \
                           status shows which; copying waits until the alarm is over";
            return note("BrokerBlocked", message.to_owned());
        }
        Refused::Other(_, words) => return note("QueueRefused", format!("the broker refuses it: {words}")),
        Refused::Right(right, words) => (right, words),
    };
    let does = match right {
        Right::Configure => "declare and delete queues whose names begin with",
        Right::ReadTemporary => "consume queues whose names begin with",
        Right::Write => "publish to exchanges whose names begin with",
        Right::Read => "consume the queue of",
    };
    note(
        "AuthorizationFailed",
        format!(
            "the user is not allowed to {does} {}: {words}; grant it, beside what the user needs otherwise, as this replaces \
         all three patterns: {}",
            place.prefix,
            grant(admin.user(), place)
        ),
    )
}

/// The command that grants all rights that a drain needs.
fn grant(user: &str, place: &Place<'_>) -> String {
    let queue = regex::escape(place.queue);
    format!(
        "rabbitmqctl set_permissions --vhost {} {} {} {} {}",
        quoted(place.vhost),
        quoted(user),
        quoted(&format!(r"^{queue}\.drain\.")),
        quoted(&format!(r"^{queue}\.drain\.")),
        quoted(&format!(r"^{queue}($|\.drain\.)"))
    )
}

/// Quotas and admission policies, by dry runs of what the run creates.
async fn in_cluster(
    subject: &Subject<'_>,
    source: &RabbitMqSource,
    queue: &str,
    plan: &DrainPlan,
    prefix: &str,
) -> Vec<DrainNote> {
    let mut problems = Vec::new();
    let objects = &subject.objects;
    let Some(consumer) = &subject.spec().consumer else { return problems };
    if consumer.deployment_ref.is_some() {
        let message = "a prepared Deployment cannot be used for a queue, as each temporary queue has one of its own; set \
                       env, args or command with $(TEMP_QUEUE)";
        problems.push(note("DeploymentNotSupported", message.to_owned()));
        return problems;
    }
    let (name, first) = (&subject.names.deployment, format!("{prefix}0"));
    match objects.template(&subject.plan.target).await {
        Ok(Some(template)) => {
            let replicas = plan.replicas.unwrap_or(1);
            match manifests::consumers::of_queue(
                &subject.owner,
                (name, &first),
                &template,
                consumer,
                replicas,
            ) {
                Ok(made) => {
                    if let Err(error) = objects.create(&made, true).await {
                        problems.extend(refused(&error));
                    }
                }
                Err(error) => problems.push(note("ConsumerNotRedirected", error.to_string())),
            }
        }
        Ok(None) => {
            let message = "the target has no pod template that can be copied: it is no Deployment or StatefulSet, or its \
                           pods have volumes of their own";
            problems.push(note("NoPodTemplate", message.to_owned()));
        }
        Err(error) => problems.extend(refused(&error)),
    }
    let Some(credentials) = &source.credentials else {
        let message = "the distributor needs a Secret with user and password; set credentialsSecretRef of the QueueScaler";
        problems.push(note("CredentialsUnavailable", message.to_owned()));
        return problems;
    };
    let temporary = TemporaryStatus::default();
    let what = (queue, plan.messages.unwrap_or(0), plan.bytes);
    let told = manifest::distribution(&subject.owner, subject.spec(), source, what, &temporary);
    let (names, image) = (&subject.names, &subject.drains.image);
    if !image.name.is_empty()
        && let Ok(job) = manifest::job(&subject.owner, names, &told, (source, credentials), image)
        && let Err(error) = objects.create(&job, true).await
    {
        problems.extend(refused(&error));
    }
    problems
}

/// Declares a temporary queue and deletes it: nothing else shows whether quorum queues can be had.
async fn try_temporary(admin: &RabbitMqAdmin, place: &Place<'_>, queue: &Queue) -> Option<DrainNote> {
    let dead_letters = queue.dead_letters.as_deref();
    match admin.try_temporary(place.vhost, &place.probe(), dead_letters).await {
        Ok(None) => None,
        Ok(Some(words)) => {
            let message = format!(
                "a temporary quorum queue with the dead-letter exchange of the queue cannot be declared: {words}; if a right \
                 is missing, the user needs read on the temporary queues and write on that exchange"
            );
            Some(note("QueueRefused", message))
        }
        Err(problem) => Some(of_problem(&problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_for_exactly_this_queue() {
        let place = Place { vhost: "/", queue: "it's.orders", prefix: "it's.orders.drain.0f9c2b1e." };
        assert_eq!(
            grant("shop", &place),
            r"rabbitmqctl set_permissions --vhost '/' 'shop' '^it'\''s\.orders\.drain\.' '^it'\''s\.orders\.drain\.' '^it'\''s\.orders($|\.drain\.)'"
        );
        assert_eq!(
            raise_limit("/", "orders", &QueueFacts::default()),
            r#"rabbitmqctl set_policy --vhost '/' --apply-to queues --priority 999 'drain orders' '^orders$' '{"delivery-limit":1000000}', and clear_policy after it"#
        );
        assert_eq!(place.probe(), "it's.orders.drain.0f9c2b1e.probe");
    }
}
