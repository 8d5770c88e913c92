//! A drain's way to its broker: Secrets, connection, and what admin answers become as plain values.

use std::sync::Arc;

use super::Subject;
use super::memory::Memory;
use crate::api::OffsetReset;
use crate::brokers::broker::Broker;
use crate::brokers::kafka::access::Kafka;
use crate::brokers::kafka::admin::{
    GroupFacts, GroupKind, KafkaAdmin, NewTopic, Operation, PartitionFacts, TopicFacts,
};
use crate::brokers::{Problem, SourceReason};
use crate::drain::seen::{GroupSeen, PartitionSeen, TemporarySeen};
use crate::plan::KafkaSource;

/// Settings that the temporary topic gets from the source, as far as the broker knows them.
const INHERITED: [&str; 3] = ["min.insync.replicas", "max.message.bytes", "compression.type"];
/// Settings that would refuse records whose time is far from now (KIP-937): the source has accepted them.
const TIME_LIMITS: [&str; 2] = ["message.timestamp.before.max.ms", "message.timestamp.after.max.ms"];

/// The administrator of the drain's cluster, with the credentials as they are now.
///
/// # Errors
/// A Secret cannot be read or used.
pub(super) async fn admin<'m>(
    subject: &Subject<'_>,
    memory: &'m mut Memory,
) -> Result<&'m mut KafkaAdmin, Problem> {
    let Some((source, _)) = subject.kafka() else {
        return Err(Problem::new(SourceReason::TopicNotFound, "the source is not one topic of Kafka"));
    };
    let shared = &subject.context().shared;
    let secrets = shared.secrets.of(&subject.key.0);
    let access = Kafka::access(source, &secrets)
        .await
        .map_err(|error| Problem::new(SourceReason::CredentialsUnavailable, error.to_string()))?;
    let key = Kafka::key(&access);
    if memory.admin.as_ref().is_none_or(|(known, _)| *known != key) {
        memory.admin = Some((key, shared.sessions.kafka_admin(access)?));
    }
    match &mut memory.admin {
        Some((_, admin)) => Ok(admin),
        None => Err(Problem::new(SourceReason::BrokerUnreachable, "no connection")),
    }
}

/// A group as steps see it.
pub(super) fn group(facts: &GroupFacts) -> GroupSeen {
    GroupSeen { members: facts.members, is_empty: facts.is_empty(), state: facts.state.clone() }
}

/// Whether the group exists.
pub(super) fn exists(facts: &GroupFacts) -> bool {
    facts.kind != GroupKind::Absent
}

/// Partitions as steps see them. Without a commit the group continues where its consumers do.
pub(super) fn partitions(facts: &[PartitionFacts], reset: OffsetReset) -> Vec<PartitionSeen> {
    let of = |it: &PartitionFacts| {
        let start = match reset {
            OffsetReset::Earliest => it.start,
            OffsetReset::Latest => it.end,
        };
        PartitionSeen { start: it.start, end: it.end, committed: it.committed.unwrap_or(start) }
    };
    facts.iter().map(of).collect()
}

/// The temporary topic that a source needs.
///
/// # Errors
/// The settings of the source cannot be read.
pub(super) async fn new_topic(
    admin: &mut KafkaAdmin,
    source: &TopicFacts,
    name: &str,
    partitions: i32,
) -> Result<NewTopic, Problem> {
    let known = admin.settings(&source.name).await?;
    let mut settings = vec![
        ("cleanup.policy".to_owned(), "delete".to_owned()),
        ("retention.ms".to_owned(), "-1".to_owned()),
        ("retention.bytes".to_owned(), "-1".to_owned()),
        ("message.timestamp.type".to_owned(), "CreateTime".to_owned()),
    ];
    let inherited = |name: &&str| Some(((*name).to_owned(), known.get(*name)?.clone()));
    settings.extend(INHERITED.iter().filter_map(inherited));
    let unlimited =
        |name: &&str| known.contains_key(*name).then(|| ((*name).to_owned(), i64::MAX.to_string()));
    settings.extend(TIME_LIMITS.iter().filter_map(unlimited));
    Ok(NewTopic { name: Arc::from(name), partitions, replication: source.replication, settings })
}

/// The temporary topic as it is. Absent: there is none.
///
/// # Errors
/// It cannot be read.
pub(super) async fn temporary(
    admin: &mut KafkaAdmin,
    name: &str,
    group: &str,
    wanted: Option<i32>,
    ask: Ask,
) -> Result<Option<TemporarySeen>, Problem> {
    let Some(topic) = admin.topic(name).await? else { return Ok(None) };
    let (differs, max_message_bytes) = match ask {
        Ask::Settings => settings(admin, &topic, wanted).await?,
        _ => (None, None),
    };
    let partitions = admin.partitions(&topic, group).await?;
    let drained = match ask {
        Ask::Drained => Some(admin.drained(&topic, group).await?),
        _ => None,
    };
    Ok(Some(TemporarySeen {
        id: topic.id_text(),
        differs,
        partitions: self::partitions(&partitions, OffsetReset::Earliest),
        drained,
        max_message_bytes,
        missing_right: missing_right(&topic),
    }))
}

/// What is asked of the temporary topic besides its offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Nothing.
    Offsets,
    /// Whether it is as it was to be created.
    Settings,
    /// Whether its group has processed everything.
    Drained,
}

/// What differs from what was to be created, and the topic's `max.message.bytes`.
async fn settings(
    admin: &mut KafkaAdmin,
    topic: &TopicFacts,
    wanted: Option<i32>,
) -> Result<(Option<String>, Option<i64>), Problem> {
    let partitions = i32::try_from(topic.partitions()).unwrap_or(i32::MAX);
    if wanted.is_some_and(|wanted| wanted != partitions) {
        return Ok((Some(format!("{partitions} partitions")), None));
    }
    let settings = admin.settings(&topic.name).await?;
    let expected = [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "-1")];
    let differs = expected.into_iter().find_map(|(name, expected)| {
        let found = settings.get(name).filter(|found| *found != expected)?;
        Some(format!("{name} is {found}"))
    });
    Ok((differs, settings.get("max.message.bytes").and_then(|most| most.parse().ok())))
}

/// The first right that is missing on the temporary topic, with the command that grants it.
fn missing_right(topic: &TopicFacts) -> Option<String> {
    let needed = [(Operation::Write, "Write"), (Operation::Read, "Read"), (Operation::Delete, "Delete")];
    let (_, missing) = needed.into_iter().find(|(operation, _)| !topic.allows(*operation))?;
    Some(format!(
        "the user is not allowed {missing} on topic {}; grant it: kafka-acls --add --allow-principal User:<user> \
         --operation {missing} --topic {} --resource-pattern-type literal",
        topic.name, topic.name
    ))
}

/// The user's name for commands.
pub(super) fn user(source: &KafkaSource) -> &str {
    source.sasl.as_ref().and_then(|sasl| sasl.username.as_deref()).unwrap_or("<user>")
}
