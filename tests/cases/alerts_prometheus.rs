//! A real Prometheus that scrapes the real operator: each query of the dashboard returns data, and each rule is evaluated.

use std::time::Duration;

use queuescaler::api::drain_status::{DrainState, DrainStep};
use queuescaler::api::{AlertState, QueueDrain};
use serde_json::{Value, json};

use crate::support::bench::Bench;
use crate::support::kafka_queue::KafkaQueue;
use crate::support::monitoring::Prometheus;
use crate::support::receivers::{Receivers, backlog_above, webhook};
use crate::support::sink::Sink;

const DASHBOARD: &str = include_str!("../../charts/queuescaler/files/dashboard.json");
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/queuescaler/files/alerts.yaml");

/// The queries of a document, each with the title of its panel.
fn queries(panels: &Value) -> Vec<(String, String)> {
    let panels = panels.as_array().into_iter().flatten();
    let of = |panel: &Value| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let own = panel["targets"].as_array().into_iter().flatten();
        let own: Vec<_> =
            own.map(|target| (title.clone(), target["expr"].as_str().unwrap().to_owned())).collect();
        [own, queries(&panel["panels"])].concat()
    };
    panels.flat_map(of).collect()
}

/// Whether a series has a number: rates of what did not happen are none.
fn is_number(series: &Value) -> bool {
    series["value"][1].as_str().and_then(|value| value.parse::<f64>().ok()).is_some_and(f64::is_finite)
}

/// A run that has an estimate, and ends before it has copied anything.
async fn drain(bench: &Bench) {
    let consumer = json!({"env": [
        {"name": "TOPIC", "value": "$(TEMP_TOPIC)"}, {"name": "GROUP", "value": "$(TEMP_GROUP)"},
    ]});
    let object = |state: &str| {
        json!({
            "apiVersion": "queuescaler.io/v1alpha1", "kind": "QueueDrain", "metadata": {"name": "now"},
            "spec": {
                "queueScalerRef": {"name": "orders"}, "desiredState": state, "consumer": consumer, "retainSeconds": 0,
            },
        })
    };
    bench.apply::<QueueDrain>("now", object("Running")).await;
    let status = |object: &QueueDrain| object.status.clone().unwrap_or_default();
    let has_begun = |object: &QueueDrain| status(object).step >= Some(DrainStep::Locking);
    bench.until("now", "the begin of the run", has_begun).await;
    bench.apply::<QueueDrain>("now", object("Aborted")).await;
    let is_over = |object: &QueueDrain| status(object).state == Some(DrainState::Aborted);
    bench.until("now", "the end of the run", is_over).await;
}

#[tokio::test]
async fn a13_every_query_of_the_dashboard_returns_data() {
    let Some(mut queue) = KafkaQueue::on_main(6).await else { return };
    let Some(mut bench) = Bench::without_operator("a13").await else { return };
    for partition in 0..6 {
        queue.produce(partition, 200).await;
        queue.commit(partition, 0).await;
    }
    let sink = Sink::start();
    let receivers = Receivers::new(json!([webhook("oncall", &sink.url())]));
    let operator = receivers.operator(&bench, "one", &[]);
    let namespace = bench.namespace.clone();
    let Some(prometheus) = Prometheus::start(&operator.address(), &namespace, &[RULES]) else { return };
    // Rates need two scrapes.
    prometheus.until_data("up == 1").await;
    let mut fields = backlog_above(250);
    // As if a replica were known to process so many.
    let drain_time = json!({"targetSeconds": 60, "serviceRate": {"perReplicaPerMinute": 100}});
    fields["policy"] = json!({"drainTime": drain_time});
    fields["maxReplicas"] = json!(6);
    fields["probe"] = json!({"periodSeconds": 10});
    let missing = format!("{}-missing", queue.topic);
    fields["source"] = queue.source_at(&queue.bootstrap, json!({"deadLetterTopics": [queue.topic, missing]}));
    // A ready pod, so that there is an estimate of when the backlog is gone.
    if !bench.idle_pods("orders", 1).await {
        return;
    }
    bench.queue_scaler("orders", fields).await;
    bench.until_alert("orders", "backlog", AlertState::Firing, &["oncall"]).await;
    bench.until_replicas("orders", 6).await;
    drain(&bench).await;

    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let queries = queries(&dashboard["panels"]);
    assert!(queries.len() > 20, "only {} queries are found", queries.len());
    for (title, query) in queries {
        let query =
            query.replace("$__rate_interval", "2m").replace("$namespace", &namespace).replace("$name", ".*");
        let series = prometheus.until_data(&query).await;
        assert!(series.iter().any(is_number), "{title}: {query} returns {series:?}");
        println!("{title}: {} series, {}", series.len(), series[0]["value"][1]);
    }

    let evaluated = |rules: &[Value]| rules.iter().all(|rule| rule["health"] != "unknown");
    let rules = loop {
        let rules = prometheus.rules().await;
        if evaluated(&rules) {
            break rules;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let wrong: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
    assert!(wrong.is_empty() && rules.len() >= 10, "{} rules, of which fail {wrong:#?}", rules.len());
    bench.operator = Some(operator);
    bench.is_sound(&[]).await;
}
