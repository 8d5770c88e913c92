//! The source of RocketMQ, checked.

use std::time::Duration;

use super::Invalid;
use super::source::{CredentialsRef, TlsRef, full_address, sorted};
use crate::api;
pub use crate::api::ConsumeType;

/// A RocketMQ cluster and what is read of it.
#[derive(Clone, Debug, PartialEq)]
pub struct RocketMqSource {
    /// `host:port` of the name servers, full names, at least one.
    pub name_servers: Vec<String>,
    /// Access key and secret key. Absent: requests are not signed.
    pub credentials: Option<CredentialsRef>,
    /// Present: TLS.
    pub tls: Option<TlsRef>,
    /// What is read.
    pub interest: RocketMqInterest,
}

/// What a `QueueScaler` wants to know of a RocketMQ cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RocketMqInterest {
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// How its consumers get messages. Absent: found while one is connected.
    pub consume_type: Option<ConsumeType>,
    /// How long a popped message may be in progress, if the user says so.
    pub pop_invisible: Option<Duration>,
    /// Names of the brokers that have the topic, sorted. Absent: those that were seen.
    pub brokers: Option<Vec<String>>,
}

/// What the names of retry topics begin with.
pub(crate) const RETRY: &str = "%RETRY%";

impl RocketMqInterest {
    /// Topics to which brokers move messages of the group that are to be consumed again. For pop there is one for each
    /// topic, whose name depends on the broker's `enableRetryTopicV2`.
    #[must_use]
    pub fn retry_topics(&self) -> Vec<String> {
        let (group, topic) = (&self.group, &self.topic);
        let of_group = format!("{RETRY}{group}");
        match self.consume_type {
            Some(ConsumeType::Pull) => vec![of_group],
            _ => vec![format!("{of_group}_{topic}"), format!("{of_group}+{topic}"), of_group],
        }
    }
}

pub(super) fn validate(given: &api::RocketMq, namespace: &str) -> Result<RocketMqSource, Invalid> {
    let field = |name: &str| format!("spec.source.rocketmq.{name}");
    let servers = given.name_servers.iter().enumerate().map(|(index, server)| {
        // As clients write it in namesrvAddr.
        let one = if server.contains(';') {
            Err(format!("\"{server}\" must be one name server; make each one an item of the list"))
        } else {
            full_address(server, namespace)
        };
        one.map_err(|problem| Invalid::new(field(&format!("nameServers[{index}]")), problem))
    });
    let name_servers = servers.collect::<Result<Vec<_>, _>>()?;
    if name_servers.is_empty() {
        return Err(Invalid::new(field("nameServers"), "at least one name server as host:port is needed"));
    }
    for (name, value) in [("topic", &given.topic), ("consumerGroup", &given.consumer_group)] {
        let usable = |it: char| it.is_ascii_alphanumeric() || matches!(it, '%' | '|' | '_' | '-');
        if value.is_empty() || !value.chars().all(usable) {
            let problem = "must not be empty, and has only letters, digits and %, |, _, -";
            return Err(Invalid::new(field(name), problem));
        }
    }
    if given.topic.starts_with(RETRY) {
        let problem = "is the topic that the group subscribes to: its retry topics are read with it";
        return Err(Invalid::new(field("topic"), problem));
    }
    if given.pop_invisible_seconds.is_some() && given.consume_type != Some(ConsumeType::Pop) {
        return Err(Invalid::new(field("popInvisibleSeconds"), "needs consumeType Pop"));
    }
    let pop_invisible = given.pop_invisible_seconds.map(|seconds| {
        let seconds = u64::try_from(seconds).ok().filter(|seconds| (5..=43_200).contains(seconds));
        let problem = || Invalid::new(field("popInvisibleSeconds"), "must be from 5 to 43200");
        seconds.map(Duration::from_secs).ok_or_else(problem)
    });
    Ok(RocketMqSource {
        name_servers,
        credentials: given.credentials_secret_ref.clone(),
        tls: given.tls.clone(),
        interest: RocketMqInterest {
            topic: given.topic.clone(),
            group: given.consumer_group.clone(),
            consume_type: given.consume_type,
            pop_invisible: pop_invisible.transpose()?,
            brokers: given.brokers.as_ref().map(|brokers| sorted(Some(brokers))),
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::QueueScaler;
    use crate::plan::{Plan, Sharing, Source, validate};

    fn plan(changed: &Value, spec: &Value) -> Result<Plan, Invalid> {
        let mut rocketmq = json!({
            "nameServers": ["names:9876"], "topic": "orders", "consumerGroup": "workers",
        });
        rocketmq.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        let mut object = json!({"scaleTargetRef": {"name": "orders"}, "maxReplicas": 4,
                                "source": {"rocketmq": rocketmq}});
        object.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        validate(&QueueScaler::new("orders", serde_json::from_value(object).unwrap()), "shop")
    }

    fn source(changed: &Value) -> RocketMqSource {
        match plan(changed, &json!({})).unwrap().source {
            Source::RocketMq(source) => source,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hosts_are_completed_and_brokers_are_sorted() {
        let servers = ["names:9876", "10.0.0.7:9876"];
        let found = source(&json!({"nameServers": servers, "brokers": ["b", "a", "b"]}));
        assert_eq!(found.name_servers, ["names.shop.svc:9876", "10.0.0.7:9876"]);
        assert_eq!(found.interest.brokers.unwrap(), ["a", "b"]);
        assert_eq!((found.credentials, found.tls, found.interest.consume_type), (None, None, None));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_field() {
        for (changed, field, words) in [
            (json!({"nameServers": []}), "nameServers", "at least one"),
            (json!({"nameServers": ["a:1", "names"]}), "nameServers[1]", "host:port"),
            (json!({"nameServers": ["a:1;b:2"]}), "nameServers[0]", "each one an item"),
            (json!({"topic": ""}), "topic", "empty"),
            (json!({"topic": "a b"}), "topic", "letters"),
            (json!({"topic": "%RETRY%workers"}), "topic", "retry topics"),
            (json!({"consumerGroup": "a\nb"}), "consumerGroup", "letters"),
            (json!({"popInvisibleSeconds": 60}), "popInvisibleSeconds", "consumeType Pop"),
            (
                json!({"popInvisibleSeconds": 4, "consumeType": "Pop"}),
                "popInvisibleSeconds",
                "from 5 to 43200",
            ),
        ] {
            let invalid = plan(&changed, &json!({})).unwrap_err();
            assert_eq!(invalid.field, format!("spec.source.rocketmq.{field}"), "{changed}");
            assert!(invalid.problem.contains(words), "{invalid}");
        }
    }

    #[test]
    fn queues_are_partitions_unless_messages_are_popped() {
        let source = |changed: Value| plan(&changed, &json!({})).unwrap().source;
        for (changed, sharing, retries) in [
            (json!({}), Sharing::Partitioned, 3),
            (json!({"consumeType": "Pull"}), Sharing::Partitioned, 1),
            (json!({"consumeType": "Pop"}), Sharing::Shared, 3),
        ] {
            let source = source(changed);
            assert_eq!((source.sharing(), source.broker()), (sharing, "RocketMQ"));
            assert_eq!(source.broker_address(), "names.shop.svc:9876");
            let Source::RocketMq(source) = source else { panic!() };
            assert_eq!(source.interest.retry_topics().len(), retries);
        }
    }

    #[test]
    fn neither_probes_nor_drains_are_for_it() {
        let drain = json!({"emergencyDrain": {"whenEstimatedDrainAboveSeconds": 3600, "template": {}}});
        for (spec, field) in [(json!({"probe": {}}), "spec.probe"), (drain, "spec.emergencyDrain")] {
            assert_eq!(plan(&json!({}), &spec).unwrap_err().field, field);
        }
    }
}
