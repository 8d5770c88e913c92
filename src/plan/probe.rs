//! The probe, checked: where it sends, how often, and whether it sends at all.

use std::time::Duration;

use super::scaling::seconds;
use super::{Invalid, NameSelector, Source};
use crate::api::{Mode, QueueScalerSpec};

/// Adds the probe to what is read of the source. `DryRun` and `Paused` change nothing of the user's, so that they send none.
pub(super) fn validate(spec: &QueueScalerSpec, source: &mut Source) -> Result<(), Invalid> {
    let Some(given) = &spec.probe else { return Ok(()) };
    let field = "spec.probe";
    if spec.min_replicas < 1 {
        let problem = "needs minReplicas of 1 or more, because its messages would start and keep replicas";
        return Err(Invalid::new(field, problem));
    }
    let period = seconds(given.period_seconds, 10..=86_400, &format!("{field}.periodSeconds"))?;
    let period: Option<Duration> = (spec.mode == Mode::Active).then_some(period);
    match source {
        Source::Kafka(kafka) => {
            if matches!(kafka.interest.topics, NameSelector::Pattern(_)) {
                let problem = "needs source.kafka.topics, because it writes only to topics that are named";
                return Err(Invalid::new(field, problem));
            }
            kafka.interest.probe = period;
        }
        Source::RabbitMq(rabbitmq) => {
            if matches!(rabbitmq.interest.queues, NameSelector::Pattern(_)) {
                let problem = "needs source.rabbitmq.queues, because it writes only to queues that are named";
                return Err(Invalid::new(field, problem));
            }
            if rabbitmq.management_url.is_none() {
                let problem =
                    "needs source.rabbitmq.managementUrl, because AMQP does not count acknowledgements";
                return Err(Invalid::new(field, problem));
            }
            rabbitmq.interest.probe = period;
        }
        Source::ActiveMq(_) | Source::Artemis(_) | Source::Pulsar(_) | Source::RocketMq(_) => {
            return Err(Invalid::new(field, "needs source.kafka or source.rabbitmq: remove probe"));
        }
    }
    Ok(())
}
