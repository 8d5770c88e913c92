//! When a drain of the backlog is proposed, checked.

use std::time::Duration;

use super::scaling::seconds;
use super::{Invalid, Source};
use crate::api::{DrainTemplate, EmergencyStart, QueueScalerSpec};

/// When a drain is proposed or started, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct Emergency {
    /// The ready replicas need longer than this to clear the backlog.
    pub above: Duration,
    /// How long that must last.
    pub hold: Duration,
    /// Who starts the drain.
    pub start: EmergencyStart,
    /// Its specification.
    pub template: DrainTemplate,
}

pub(super) fn validate(spec: &QueueScalerSpec, source: &Source) -> Result<Option<Emergency>, Invalid> {
    let Some(given) = &spec.emergency_drain else { return Ok(None) };
    let only = match source {
        Source::Kafka(kafka) => kafka.interest.topics.only(),
        Source::RabbitMq(rabbitmq) => rabbitmq.interest.queues.only(),
        Source::ActiveMq(_) | Source::Artemis(_) | Source::Pulsar(_) | Source::RocketMq(_) => None,
    };
    if only.is_none() {
        let problem =
            "needs exactly one of source.kafka.topics or source.rabbitmq.queues, because a drain is for one";
        return Err(Invalid::new("spec.emergencyDrain", problem));
    }
    let field = |name: &str| format!("spec.emergencyDrain.{name}");
    Ok(Some(Emergency {
        above: seconds(
            given.when_estimated_drain_above_seconds,
            60..=2_592_000,
            &field("whenEstimatedDrainAboveSeconds"),
        )?,
        hold: seconds(given.for_seconds, 0..=86_400, &field("forSeconds"))?,
        start: given.start,
        template: given.template.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::QueueScaler;
    use crate::plan::{Plan, validate};

    fn plan(source: Value, above: i32) -> Result<Plan, Invalid> {
        let object = json!({
            "apiVersion": "queuescaler.io/v1alpha1", "kind": "QueueScaler",
            "metadata": {"name": "orders", "namespace": "shop"},
            "spec": {
                "scaleTargetRef": {"name": "orders"}, "maxReplicas": 4, "source": source,
                "emergencyDrain": {"whenEstimatedDrainAboveSeconds": above, "template": {"parallelism": 4}},
            },
        });
        let object: QueueScaler = serde_json::from_value(object).unwrap();
        validate(&object, "shop")
    }

    fn kafka(topics: Value) -> Value {
        let mut kafka = json!({"bootstrapServers": ["kafka:9092"], "consumerGroup": "orders"});
        kafka.as_object_mut().unwrap().extend(topics.as_object().unwrap().clone());
        json!({"kafka": kafka})
    }

    #[test]
    fn one_topic_or_queue_can_be_drained() {
        let queue = json!({"rabbitmq": {"host": "rabbitmq", "queues": ["orders"]}});
        assert!(plan(queue, 3600).unwrap().emergency.is_some());
        let found = plan(kafka(json!({"topics": ["orders"]})), 3600).unwrap().emergency.unwrap();
        assert_eq!((found.above.as_secs(), found.hold.as_secs()), (3600, 300));
        assert_eq!(found.start, EmergencyStart::Manual);
    }

    #[test]
    fn what_cannot_be_drained_is_refused_with_its_field() {
        let sources = [
            kafka(json!({"topics": ["orders", "returns"]})),
            kafka(json!({"topicPattern": "orders.*"})),
            json!({"rabbitmq": {"host": "rabbitmq", "queues": ["orders", "returns"]}}),
            json!({"rabbitmq": {"host": "rabbitmq", "queuePattern": "orders.*", "managementUrl": "http://rabbitmq:15672"}}),
            json!({"activemq": {"jolokiaUrls": ["http://activemq:8161"], "queues": ["orders"]}}),
            json!({"artemis": {"jolokiaUrls": ["http://artemis:8161"], "queues": ["orders"]}}),
            json!({"rocketmq": {"nameServers": ["names:9876"], "topic": "orders", "consumerGroup": "workers"}}),
            json!({"pulsar": {"adminUrls": ["http://pulsar:8080"], "topics": ["persistent://public/default/orders"],
                "subscription": "workers", "subscriptionType": "Shared"}}),
        ];
        for source in sources {
            assert_eq!(plan(source.clone(), 3600).unwrap_err().field, "spec.emergencyDrain", "{source}");
        }
        let above = plan(kafka(json!({"topics": ["orders"]})), 59).unwrap_err();
        assert_eq!(above.field, "spec.emergencyDrain.whenEstimatedDrainAboveSeconds");
    }
}
