//! Dead letters of both brokers, by real rejections: counted, reported, and never consumed.

use std::time::Duration;

use queuescaler::api::status::DeadLettersStatus;
use queuescaler::api::{AlertState, QueueScaler};
use serde_json::json;

use crate::support::bench::Bench;
use crate::support::kafka_queue::KafkaQueue;
use crate::support::rabbitmq_admin::Broker;
use crate::support::receivers::{Receivers, webhook};
use crate::support::sink::Sink;
use crate::support::spec::per_replica;

/// Queues of dead letters are read each half minute, of a broker that counts each 5 s.
const PATIENCE: Duration = Duration::from_secs(90);

fn dead_letters(object: &QueueScaler) -> &[DeadLettersStatus] {
    object.status.as_ref().map(|status| status.dead_letters.as_slice()).unwrap_or_default()
}

/// Waits until the only place is unknown for this reason, and an event has reported it.
async fn until_unknown(bench: &Bench, name: &str, reason: &str) -> QueueScaler {
    let wanted = |object: &QueueScaler| {
        let [place] = dead_letters(object) else { return false };
        place.messages.is_none() && place.reason.as_deref() == Some(reason) && place.message.is_some()
    };
    let object = bench.until_within(PATIENCE, name, "unknown dead letters", wanted).await;
    bench.until_event(name, "DeadLettersUnknown").await;
    object
}

/// Waits until status has these places, with how many messages each has and how many came within the hour.
async fn until(bench: &Bench, name: &str, expected: &[(&str, i64, i64)]) -> QueueScaler {
    let wanted = |object: &QueueScaler| {
        let found = dead_letters(object).iter();
        let found = found.map(|it| Some((it.name.as_str(), it.messages?, it.last_hour)));
        found.collect::<Option<Vec<_>>>().as_deref() == Some(expected)
    };
    bench.until_within(PATIENCE, name, &format!("dead letters {expected:?}"), wanted).await
}

#[tokio::test]
async fn a11_dead_letters_of_kafka_are_counted_and_alert() {
    let Some(mut queue) = KafkaQueue::on_main(2).await else { return };
    let Some(mut bench) = Bench::without_operator("a11").await else { return };
    let sink = Sink::start();
    let receivers = Receivers::new(json!([webhook("oncall", &sink.url())]));
    let operator = receivers.operator(&bench, "one", &[]);
    queue.produce(0, 5).await;
    queue.commit(0, 0).await;
    let topic = format!("{}.dlt", queue.topic);
    bench.deployment("orders", 1).await;
    let source = queue.source_at(&queue.bootstrap, json!({"deadLetterTopics": [topic]}));
    bench.queue_scaler("orders", per_replica(100, source, json!({}))).await;
    bench.until_condition("orders", "SourceObserved", "True", "Observed").await;
    // A topic that does not exist is unknown and not empty, and the rest of the reading is complete.
    let object = until_unknown(&bench, "orders", "TopicNotFound").await;
    assert_eq!((dead_letters(&object)[0].since.clone(), object.status.unwrap().backlog), (None, Some(5)));
    assert_eq!(operator.metric("queuescaler_dead_letters_unknown{").await, 1.0);
    assert!(!operator.metrics().await.contains("queuescaler_dead_letters{"), "unknown is not 0");
    assert!(!queue.admin.topic_exists(&topic).await, "reading made it");

    // A consumer that cannot process three messages publishes them there, and goes on.
    queue.admin.create_topic(&topic, 2).await;
    queue.admin.produce(&topic, 0, 2).await;
    queue.admin.produce(&topic, 1, 1).await;
    queue.commit(0, 3).await;
    let object = until(&bench, "orders", &[(&topic, 3, 3)]).await;
    let since = dead_letters(&object)[0].since.clone();
    assert!(since.is_some() && dead_letters(&object)[0].last_arrival.is_some());
    assert_eq!(object.status.as_ref().unwrap().backlog, Some(2), "they are no part of the backlog");
    bench.until_alert("orders", "DeadLetters", AlertState::Firing, &["oncall"]).await;
    let message = &sink.until(1).await[0].body;
    let title = format!("[Warning] testbed {}/orders: messages become dead letters", bench.namespace);
    assert_eq!(message["title"], json!(title));
    let what = message["alerts"][0]["message"].as_str().unwrap();
    assert!(
        what.starts_with(&format!("{topic}: 3 came within the last hour, 3 wait (the first since ")),
        "{what}"
    );
    for series in ["queuescaler_dead_letters{", "queuescaler_dead_letters_last_hour{"] {
        assert_eq!(operator.metric(series).await, 3.0);
    }

    // A restart forgets neither them nor that they were reported.
    drop(operator);
    let operator = receivers.operator(&bench, "one", &[]);
    operator.reads_again().await;
    queue.admin.produce(&topic, 0, 1).await;
    let object = until(&bench, "orders", &[(&topic, 4, 4)]).await;
    assert_eq!(dead_letters(&object)[0].since, since);
    operator.reads_again().await;
    assert_eq!(sink.got().len(), 1, "one message for all of them");
    bench.operator = Some(operator);
    bench.is_sound(&[]).await;
}

#[tokio::test]
async fn a12_dead_letters_of_rabbitmq_are_found_counted_and_alert() {
    let Some(broker) = Broker::from_env() else { return };
    let Some(mut bench) = Bench::without_operator("a12").await else { return };
    let sink = Sink::start();
    let receivers = Receivers::new(json!([webhook("oncall", &sink.url())]));
    let operator = receivers.operator(&bench, "one", &[]);
    let vhost = broker.fresh_vhost(&bench.namespace).await;
    bench.secret("rabbitmq", &broker.user, &broker.password).await;
    // By arguments through an exchange, and by a policy through the default one.
    for queue in ["orders.dead", "bills.dead", "other.dead"] {
        vhost.declare(queue, "classic").await;
    }
    vhost.bind("dead", "direct", "orders.dead", "orders").await;
    vhost.bind("dead", "direct", "other.dead", "other").await;
    let arguments = json!({"x-dead-letter-exchange": "dead", "x-dead-letter-routing-key": "orders"});
    vhost.declare_with("orders", arguments).await;
    vhost.declare("bills", "classic").await;
    vhost.policy("bills", json!({"dead-letter-exchange": "", "dead-letter-routing-key": "bills.dead"})).await;
    vhost.declare("plain", "classic").await;
    for name in ["orders", "bills", "plain"] {
        bench.deployment(name, 1).await;
        bench.queue_scaler(name, per_replica(100, vhost.source(name), json!({}))).await;
    }
    for name in ["orders", "bills"] {
        until(&bench, name, &[(&format!("{name}.dead"), 0, 0)]).await;
    }

    // A wrong name is found, and a routing key that leads nowhere.
    let mut wrong = vhost.source("plain");
    wrong["rabbitmq"]["deadLetterQueues"] = json!(["plain.daed"]);
    let arguments = json!({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "lost.daed"});
    vhost.declare_with("lost", arguments).await;
    for (name, source) in [("wrong", wrong), ("lost", vhost.source("lost"))] {
        bench.deployment(name, 1).await;
        bench.queue_scaler(name, per_replica(100, source, json!({}))).await;
        until_unknown(&bench, name, "QueueNotFound").await;
    }

    for (name, count) in [("orders", 3), ("bills", 2)] {
        vhost.publish(name, 5).await;
        vhost.reject(name, count).await;
    }
    for (name, count) in [("orders", 3), ("bills", 2)] {
        let place = format!("{name}.dead");
        until(&bench, name, &[(&place, count, count)]).await;
        bench.until_alert(name, "DeadLetters", AlertState::Firing, &["oncall"]).await;
        let numbers = vhost.numbers(&place).await;
        let read = [&numbers["messages_unacknowledged"], &numbers["consumers"]];
        assert_eq!((&numbers["messages_ready"], read), (&json!(count), [&json!(0), &json!(0)]));
    }
    let mut accepted = sink.until_accepted(2).await;
    accepted.sort();
    assert_eq!(accepted, ["firing bills", "firing orders"]);
    let plain = bench.until("plain", "a reading", |object: &QueueScaler| object.status.is_some()).await;
    assert!(dead_letters(&plain).is_empty());
    bench.operator = Some(operator);
    bench.is_sound(&[&broker.password]).await;
    vhost.delete().await;
}
