//! Delay probes: what a real consumer takes for a message, what a frozen one makes of it, and who must not write.

use std::time::Duration;

use queuescaler::api::status::AgeBasis;
use queuescaler::api::{AlertState, ProbeStatus, QueueScaler};
use serde_json::{Value, json};

use crate::support::bench::Bench;
use crate::support::consumers::Consumers;
use crate::support::kafka_queue::KafkaQueue;
use crate::support::kafka_secured::Secured;
use crate::support::rabbitmq_admin::Broker;
use crate::support::receivers::{Receivers, alert, webhook};
use crate::support::sink::Sink;
use crate::support::spec::per_replica;

/// Seconds between two probes of a partition, the fewest that are allowed.
const PERIOD: i64 = 10;
/// A probe is due at once, or after a refused one in a minute.
const PATIENCE: Duration = Duration::from_secs(120);

fn probe(object: &QueueScaler) -> Option<&ProbeStatus> {
    object.status.as_ref()?.probe.as_ref()
}

/// The delay that status shows, and how certain it is.
fn delay(object: &QueueScaler) -> Option<(i64, AgeBasis)> {
    let probe = probe(object)?;
    Some((probe.delay_seconds?, probe.basis?))
}

fn fields(alert_seconds: i64) -> Value {
    json!({
        "probe": {"periodSeconds": PERIOD},
        "alerts": [{
            "name": "slow", "probeDelayAboveSeconds": alert_seconds, "forSeconds": 0, "severity": "Critical",
        }],
    })
}

#[tokio::test]
async fn a15_a_probe_measures_the_delay_of_a_real_consumer() {
    let Some(queue) = KafkaQueue::on_main(2).await else { return };
    let Some(mut bench) = Bench::without_operator("a15").await else { return };
    let Some(consumer) = Consumers::consumer(&queue.bootstrap, &queue.topic, &queue.group) else { return };
    let sink = Sink::start();
    let receivers = Receivers::new(json!([webhook("oncall", &sink.url())]));
    let operator = receivers.operator(&bench, "one", &[]);
    bench.deployment("orders", 1).await;
    bench.queue_scaler("orders", per_replica(100, queue.source(), fields(15))).await;

    // Both partitions are probed, and the consumer commits each second.
    let measured = |object: &QueueScaler| delay(object).is_some_and(|it| it.1 == AgeBasis::Exact);
    let object = bench.until_within(PATIENCE, "orders", "a measured delay", measured).await;
    let (seconds, _) = delay(&object).unwrap();
    assert!(seconds <= 5, "a commit interval and two polls: {seconds} s");
    let place = probe(&object).unwrap().slowest.clone().unwrap();
    assert!([0, 1].map(|partition| format!("{}-{partition}", queue.topic)).contains(&place), "{place}");
    operator.until_at_least("queuescaler_arrival_rate{", 0.001).await;

    // A frozen consumer commits nothing: the delay grows with the time, by one message in each partition.
    consumer.signal("STOP");
    bench.until_alert("orders", "slow", AlertState::Firing, &["oncall"]).await;
    let message = sink.until(1).await.remove(0).body;
    let what = message["alerts"][0]["message"].as_str().unwrap();
    assert!(what.contains("is not processed for") && what.contains("longer than 15 s"), "{what}");
    let waits =
        |object: &QueueScaler| delay(object).is_some_and(|it| it.0 >= 30 && it.1 == AgeBasis::AtLeast);
    let object = bench.until_within(PATIENCE, "orders", "a delay of 30 s", waits).await;
    assert!(object.status.unwrap().backlog.unwrap() <= 2, "one probe is under way in a partition");
    assert!(operator.metric("queuescaler_probe_delay_seconds{").await >= 30.0);

    consumer.signal("CONT");
    let well = |object: &QueueScaler| delay(object).is_some_and(|it| it.0 < 15);
    bench.until_within(PATIENCE, "orders", "a short delay", well).await;
    let over = |object: &QueueScaler| alert(object, "slow").is_none();
    bench.until_within(PATIENCE, "orders", "the end of the alert", over).await;
    assert_eq!(sink.until_accepted(2).await, ["firing orders", "resolved orders"]);
    bench.operator = Some(operator);
    bench.is_sound(&[]).await;
}

#[tokio::test]
async fn a16_a_probe_is_sent_where_the_user_may_write_and_wants_it() {
    let Some(secured) = Secured::from_env() else { return };
    let Some(mut queue) = KafkaQueue::on_main(1).await else { return };
    let Some(mut bench) = Bench::start("a16").await else { return };
    secured.authority(&bench, "authority", "ca.crt").await;
    bench.secret("kafka", &secured.user[0], &secured.password[0]).await;
    queue.produce(0, 1).await;
    queue.commit(0, 1).await;
    let source = queue.source_at(&secured.sasl, Secured::fields("authority"));
    let with = |mode: &str| {
        let mut fields = fields(1000);
        fields["mode"] = json!(mode);
        per_replica(100, source.clone(), fields)
    };
    let backlog = |object: &QueueScaler| object.status.as_ref().and_then(|status| status.backlog);
    bench.deployment("orders", 1).await;
    // It would be due at once.
    for mode in ["DryRun", "Paused"] {
        bench.queue_scaler("orders", with(mode)).await;
        bench.until("orders", "a reading", |object| backlog(object).is_some()).await;
        let operator = bench.operator.as_ref().unwrap();
        operator.reads_again().await;
        operator.reads_again().await;
        let object = bench.until("orders", "a reading", |object| backlog(object).is_some()).await;
        assert_eq!((backlog(&object), probe(&object)), (Some(0), None), "{mode} sends none");
    }

    bench.queue_scaler("orders", with("Active")).await;
    bench.until_within(PATIENCE, "orders", "a probe", |object| backlog(object) == Some(1)).await;
    queue.commit(0, 2).await;
    let measured = |object: &QueueScaler| delay(object).is_some_and(|it| it.1 == AgeBasis::Exact);
    bench.until_within(PATIENCE, "orders", "a measured delay", measured).await;

    // Whoever may only describe the topic is read, and sends nothing.
    queue.admin.allow_only(&queue.topic, &secured.user[0]).await;
    let refused = |object: &QueueScaler| {
        probe(object).is_some_and(|probe| probe.reason.as_deref() == Some("AuthorizationFailed"))
    };
    let object = bench.until_within(PATIENCE, "orders", "a refused probe", refused).await;
    let message = probe(&object).unwrap().message.clone().unwrap();
    assert!(message.contains("--operation Write"), "{message}");
    bench.until_condition("orders", "SourceObserved", "True", "Observed").await;
    bench.warned("orders", &["ProbeFailed"]).await;
    bench.is_sound(&[&secured.password[0]]).await;
}

#[tokio::test]
async fn a17_a_probe_measures_the_delay_of_a_rabbitmq_consumer() {
    let Some(broker) = Broker::from_env() else { return };
    let Some(mut bench) = Bench::without_operator("a17").await else { return };
    let vhost = broker.fresh_vhost(&bench.namespace).await;
    vhost.declare("orders", "quorum").await;
    vhost.declare("parked", "classic").await;
    let Some(consumer) = Consumers::rabbitmq_consumer(&vhost, "orders") else { return };
    let sink = Sink::start();
    let receivers = Receivers::new(json!([webhook("oncall", &sink.url())]));
    let operator = receivers.operator(&bench, "one", &[]);
    bench.secret("rabbitmq", &broker.user, &broker.password).await;
    bench.deployment("orders", 1).await;
    bench.queue_scaler("orders", per_replica(100, vhost.source("orders"), fields(25))).await;

    // Of a queue whose statistics are renewed every 5 s.
    let measured = |object: &QueueScaler| delay(object).is_some_and(|it| it.1 == AgeBasis::Exact);
    let object = bench.until_within(PATIENCE, "orders", "a measured delay", measured).await;
    let (seconds, _) = delay(&object).unwrap();
    assert!(seconds <= 15, "two statistics intervals and two polls: {seconds} s");
    assert_eq!(probe(&object).unwrap().slowest.as_deref(), Some("orders"));

    consumer.signal("STOP");
    bench.until_alert("orders", "slow", AlertState::Firing, &["oncall"]).await;
    let waits =
        |object: &QueueScaler| delay(object).is_some_and(|it| it.0 >= 40 && it.1 == AgeBasis::AtLeast);
    let object = bench.until_within(PATIENCE, "orders", "a delay of 40 s", waits).await;
    assert_eq!(object.status.unwrap().backlog, Some(1), "one probe is under way in a queue");
    assert!(operator.metric("queuescaler_probe_delay_seconds{").await >= 40.0);

    consumer.signal("CONT");
    let well = |object: &QueueScaler| delay(object).is_some_and(|it| it.0 < 20);
    bench.until_within(PATIENCE, "orders", "a short delay", well).await;
    let over = |object: &QueueScaler| alert(object, "slow").is_none();
    bench.until_within(PATIENCE, "orders", "the end of the alert", over).await;
    assert_eq!(sink.until_accepted(2).await, ["firing orders", "resolved orders"]);
    assert_eq!(vhost.numbers("parked").await["messages"], json!(0), "what is not named gets none");
    bench.operator = Some(operator);
    bench.is_sound(&[&broker.password]).await;
    vhost.delete().await;
}
