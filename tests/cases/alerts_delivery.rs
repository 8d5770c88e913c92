//! Alerts that are delivered once and in order: to a real Alertmanager, after an outage, by a new leader, of many objects.

use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ListParams, Patch, PatchParams};
use queuescaler::api::{AlertState, QueueScaler};
use serde_json::json;

use crate::support::bench::Bench;
use crate::support::kafka_reading::unique;
use crate::support::monitoring::Alertmanager;
use crate::support::operator::Operator;
use crate::support::receivers::{Receivers, alert, backlog_above, webhook};
use crate::support::scaled::Scaled;
use crate::support::sink::{Answer, Sink};
use crate::support::spec::per_replica;

const DELIVERED: &str = "queuescaler_notifications_total{receiver=\"oncall\",result=\"delivered\"}";
const FAILED: &str = "queuescaler_notifications_total{receiver=\"oncall\",result=\"failed\"}";

/// A Deployment and a QueueScaler with a rule that fires above 250 messages.
async fn ruled(scaled: &Scaled, name: &str) {
    scaled.bench.deployment(name, 1).await;
    scaled.queue_scaler(name, backlog_above(250)).await;
}

#[tokio::test]
async fn a1_a_backlog_alert_reaches_an_alertmanager_and_ends_there() {
    let sink = Sink::start();
    let Some(alertmanager) = Alertmanager::start(&sink.url()) else { return };
    let Some(mut scaled) = Scaled::without_operator("a1").await else { return };
    let receivers = Receivers::new(json!([
        {"name": "oncall", "default": true, "alertmanager": {"urls": [alertmanager.url()]}},
    ]));
    let operator = receivers.operator(&scaled.bench, "one", &[]);
    scaled.backlog(300).await;
    ruled(&scaled, "orders").await;

    let found = alertmanager.until("an alert", |alerts| !alerts.is_empty()).await;
    let expected = json!({
        "alertname": "QueueScalerRule", "alert": "backlog", "namespace": scaled.bench.namespace,
        "queuescaler": "orders", "severity": "critical", "cluster": "testbed",
    });
    assert_eq!((found.len(), &found[0]["labels"]), (1, &expected));
    let annotations = &found[0]["annotations"];
    let title = format!("{}/orders: backlog above 250", scaled.bench.namespace);
    assert_eq!(annotations["summary"], json!(title));
    assert!(annotations["description"].as_str().unwrap().contains("300"), "{annotations}");
    assert_eq!(annotations["runbook_url"], "https://wiki.example/alerts#backlogabove");
    scaled.bench.until_alert("orders", "backlog", AlertState::Firing, &["oncall"]).await;
    // Alertmanager notifies whom it has been told to.
    assert_eq!(sink.until(1).await[0].body["status"], "firing");

    // The measure is back; the alert goes on for another minute, and does not expire meanwhile.
    scaled.backlog(0).await;
    let ends_at = found[0]["endsAt"].clone();
    let renewed = alertmanager.until("a later end", |alerts| alerts[0]["endsAt"] != ends_at).await;
    assert_eq!(renewed[0]["startsAt"], found[0]["startsAt"]);

    alertmanager.until("no alert", <[_]>::is_empty).await;
    assert_eq!(sink.until(2).await[1].body["status"], "resolved");
    scaled.bench.until_no_alert("orders", "backlog").await;
    assert_eq!(operator.metric(FAILED).await, 0.0);
    scaled.bench.operator = Some(operator);
    scaled.bench.is_sound(&[]).await;
}

// An outage of four attempts stands for one of five minutes: what makes that long are further attempts, whose pauses
// double up to 300 s (unit tests of the outbox).
#[tokio::test]
async fn a2_a_receiver_that_was_down_gets_each_alert_once_in_order() {
    let Some(mut scaled) = Scaled::without_operator("a2").await else { return };
    let sink = Sink::start();
    let receivers = Receivers::new(json!([webhook("oncall", &sink.url())]));
    let operator = receivers.operator(&scaled.bench, "one", &[]);
    sink.down().await;
    scaled.backlog(300).await;
    // Not by name.
    for name in ["late", "early", "brief"] {
        ruled(&scaled, name).await;
        scaled.bench.until_alert(name, "backlog", AlertState::Firing, &[]).await;
    }
    // Over before it was delivered.
    scaled.queue_scaler("brief", json!({})).await;
    scaled.bench.until_no_alert("brief", "backlog").await;
    operator.until_at_least(FAILED, 4.0).await;
    assert_eq!(operator.metric("queuescaler_notifications_waiting{receiver=\"oncall\"}").await, 2.0);

    sink.up();
    assert_eq!(sink.until_accepted(2).await, ["firing late", "firing early"]);
    for name in ["late", "early"] {
        scaled.bench.until_alert(name, "backlog", AlertState::Firing, &["oncall"]).await;
        scaled.queue_scaler(name, json!({})).await;
        scaled.bench.until_no_alert(name, "backlog").await;
    }
    operator.reads_again().await;
    assert_eq!(sink.accepted(), ["firing late", "firing early", "resolved late", "resolved early"]);
    assert_eq!(operator.metric(DELIVERED).await, 4.0);
    scaled.bench.operator = Some(operator);
    scaled.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn a3_a_killed_leader_loses_no_alert_and_repeats_none() {
    let Some(mut scaled) = Scaled::without_operator("a3").await else { return };
    let sink = Sink::start();
    let receivers = Receivers::new(json!([webhook("oncall", &sink.url())]));
    let lease = ["--lease-seconds", "5"];
    let leader = receivers.operator(&scaled.bench, "one", &lease);
    let standby = receivers.standby(&scaled.bench, "two", &lease);
    standby.wait_for_log("waiting for the lease");
    scaled.backlog(300).await;
    ruled(&scaled, "reported").await;
    scaled.bench.until_alert("reported", "backlog", AlertState::Firing, &["oncall"]).await;
    // The next one fires, and nobody is told before the leader is killed.
    sink.answer(Answer::status(503));
    ruled(&scaled, "unreported").await;
    scaled.bench.until_alert("unreported", "backlog", AlertState::Firing, &[]).await;
    leader.signal("KILL");
    standby.wait_for_log("\"leading\"");
    standby.reads_again().await;
    sink.answer(Answer::Accept);
    scaled.bench.until_alert("unreported", "backlog", AlertState::Firing, &["oncall"]).await;
    assert_eq!(sink.accepted(), ["firing reported", "firing unreported"]);

    // One that is over while nobody leads.
    let next = receivers.standby(&scaled.bench, "three", &lease);
    next.wait_for_log("waiting for the lease");
    standby.signal("KILL");
    scaled.queue_scaler("reported", json!({})).await;
    next.wait_for_log("\"leading\"");
    scaled.bench.until_no_alert("reported", "backlog").await;
    scaled.queue_scaler("unreported", json!({})).await;
    scaled.bench.until_no_alert("unreported", "backlog").await;
    next.reads_again().await;
    let all = ["firing reported", "firing unreported", "resolved reported", "resolved unreported"];
    assert_eq!(sink.accepted(), all);
    scaled.bench.operator = Some(next);
    scaled.bench.is_sound(&[]).await;
}

/// Makes so many QueueScalers of a broker where nobody listens. Their alerts have been pending for as long as they have
/// to, as a restart finds them: nobody waits for five minutes.
async fn unreadable_fleet(bench: &Bench, bootstrap: &str, count: usize) {
    let source = json!({"kafka": {
        "bootstrapServers": [bootstrap], "consumerGroup": "orders", "topics": ["orders"], "offsetReset": "Earliest",
    }});
    let begin = Timestamp::now() - jiff::SignedDuration::from_secs(400);
    let make = |number: usize| {
        let spec = per_replica(100, source.clone(), json!({"pollPeriodSeconds": 5}));
        async move {
            let name = format!("dead-{number:03}");
            bench.queue_scaler(&name, spec).await;
            let alerts = json!([{
                "name": "SourceUnreadable", "state": "Pending", "severity": "Warning", "since": Time(begin),
            }]);
            let status = json!({"status": {"alerts": alerts}});
            let (api, parameters) = (bench.api::<QueueScaler>(), PatchParams::default());
            api.patch_status(&name, &parameters, &Patch::Merge(&status)).await.unwrap();
        }
    };
    futures::stream::iter((0..count).map(make)).buffer_unordered(8).collect::<Vec<()>>().await;
}

// `QS_A4_OBJECTS=100` for fewer.
#[tokio::test]
async fn a4_many_objects_of_a_dead_broker_are_one_message() {
    let count = std::env::var("QS_A4_OBJECTS").map_or(100, |count| count.parse().unwrap());
    let Some(mut scaled) = Scaled::without_operator("a4").await else { return };
    let (sink, hanging) = (Sink::start(), Sink::answering(Answer::Hang));
    let receivers = Receivers::new(json!([webhook("oncall", &sink.url()), webhook("hangs", &hanging.url())]));
    let dead = "127.0.0.66:9092";
    unreadable_fleet(&scaled.bench, dead, count).await;
    scaled.deployment("alive").await;
    scaled.backlog(200).await;
    let operator = receivers.operator(&scaled.bench, "one", &[]);
    scaled.bench.until_replicas("alive", 2).await;

    // Others are not late while these are reported, or cannot be.
    hanging.until(1).await;
    for (backlog, replicas) in [(300, 3), (600, 6), (100, 1)] {
        let since = Instant::now();
        scaled.backlog(backlog).await;
        scaled.bench.until_replicas("alive", replicas).await;
        // A poll each second, a write, and a busy machine.
        let took = since.elapsed();
        assert!(took < Duration::from_secs(5), "{replicas} replicas took {took:?}");
    }

    let message = &sink.until(1).await[0].body;
    assert_eq!((&message["status"], &message["count"]), (&json!("firing"), &json!(count)));
    let title = format!("[Warning] testbed Kafka {dead}: backlog cannot be read ({count} QueueScalers)");
    assert_eq!(message["title"], json!(title));
    let names: Vec<_> =
        message["alerts"].as_array().unwrap().iter().map(|alert| alert["name"].as_str().unwrap()).collect();
    let first: Vec<_> = (0..10).map(|number| format!("dead-{number:03}")).collect();
    assert_eq!(names, first);
    let text = message["text"].as_str().unwrap();
    assert!(text.contains("/dead-009") && text.contains(&format!(" and {} more", count - 10)), "{text}");

    for number in [0, count - 1] {
        let name = format!("dead-{number:03}");
        scaled.bench.until_alert(&name, "SourceUnreadable", AlertState::Firing, &["oncall"]).await;
    }
    let is_reported = |object: &QueueScaler| {
        alert(object, "SourceUnreadable").is_some_and(|alert| alert.notified == ["oncall"])
    };
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let all = scaled.bench.api::<QueueScaler>().list(&ListParams::default()).await.unwrap();
        let reported = all.items.iter().filter(|object| is_reported(object)).count();
        if reported == count {
            break;
        }
        assert!(Instant::now() < end, "{reported} of {count} are reported");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    operator.reads_again().await;
    assert_eq!(sink.got().len(), 1, "one message for all");
    scaled.bench.operator = Some(operator);
    scaled.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn a5_a_test_alert_is_sent_as_documented() {
    let sink = Sink::start();
    let name = unique("oncall");
    let receivers = Receivers::new(json!([webhook(&name, &sink.url())]));
    let file = receivers.file();
    let test = |allowed: &str, name: &str| {
        let output = std::process::Command::new(Operator::program())
            .args(["receivers", "test", name, "--allow-addresses", allowed])
            .env("QUEUESCALER_RECEIVERS_FILE", &file)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    assert_eq!(test("127.0.0.0/8", &name), (true, format!("receiver {name} accepted the test alert\n")));
    let got = sink.got();
    assert_eq!(
        (got.len(), &got[0].body["title"]),
        (1, &json!("[Info] testbed test/test: test of a receiver"))
    );
    for (allowed, name, words) in
        [("", &*name, "loopback"), ("127.0.0.0/8", "nobody", "there is no receiver nobody")]
    {
        let (accepted, text) = test(allowed, name);
        assert!(!accepted && text.contains(words), "{text}");
    }
    assert_eq!(sink.got().len(), 1);
}
