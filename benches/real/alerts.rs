//! What alert rules cost: the time of one round of evaluation, in this process, and what an operator takes for 1,000
//! QueueScalers with three rules each more than without any.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use queuescaler::alerts::State;
use queuescaler::api::{Mode, QueueScaler};
use queuescaler::engine::{AssessedReading, Assessment};
use queuescaler::plan::{Plan, validate};
use queuescaler::report::{Subject, TargetProblem, TargetReason};
use serde_json::{Value, json};

use super::brokers::Kafka;
use super::fleet::{self, Fleet};
use super::support::kafka_admin::KafkaAdmin;
use super::support::kafka_reading::unique;
use super::table::{Table, quantile};

const ROUNDS: usize = 200;
/// Messages in each partition.
const BACKLOG: usize = 5;
const PARTITIONS: i32 = 10;

/// Three rules, of which the first fires where its threshold is below the backlog.
fn rules(threshold: u64) -> Value {
    json!([
        {"name": "backlog", "backlogAbove": threshold, "forSeconds": 0},
        {"name": "age", "oldestMessageAgeAboveSeconds": 2_592_000},
        {"name": "consumers", "consumersBelow": 1, "forSeconds": 86_400},
    ])
}

/// One round: each object once, with all that a reconcile does for its alerts.
pub fn measure_evaluation(table: &mut Table) {
    let objects = fleet::part(1000);
    let spec = json!({
        "scaleTargetRef": {"name": "orders"}, "maxReplicas": 10,
        "source": {"kafka": {"bootstrapServers": ["kafka:9092"], "consumerGroup": "orders", "topics": ["orders"]}},
        "policy": {"backlogPerReplica": {"messages": 100}}, "alerts": rules(1000),
    });
    let object: QueueScaler = serde_json::from_value(json!({
        "apiVersion": "queuescaler.io/v1alpha1", "kind": "QueueScaler",
        "metadata": {"name": "orders", "namespace": "shop"}, "spec": spec,
    }))
    .unwrap();
    let plan: Plan = validate(&object, "shop").unwrap();
    let missing =
        TargetProblem { reason: TargetReason::TargetNotFound, message: "no such Deployment".into() };
    let mut now = Timestamp::from_second(1_800_000_000).unwrap();
    let mut states = vec![State::default(); objects];
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        now += SignedDuration::from_secs(5);
        let begun = Instant::now();
        for (number, state) in states.iter_mut().enumerate() {
            // A third fires, and that changes from time to time.
            let messages = if (number + round / 20) % 3 == 0 { 2000 } else { 10 };
            let reading = AssessedReading {
                taken_at: now,
                messages: Some(messages),
                partitions: Some(10),
                consumers: Some(3),
                problem: None,
                notes: Vec::new(),
            };
            let consumers = Some(Vec::new());
            let assessment = Assessment { reading: Some(reading), consumers, ..Assessment::default() };
            let subject = Subject {
                generation: Some(1),
                mode: Mode::Active,
                target: Err(&missing),
                observed_target: None,
                assessment: &assessment,
                draining: None,
                emergency: None,
            };
            state.evaluate(&plan, &subject, now);
            std::hint::black_box(state.status());
            std::hint::black_box(state.notices(("shop", "orders"), &plan, &subject, now));
        }
        rounds.push(begun.elapsed());
    }
    let in_milliseconds = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    let [median, worst] = [0.5, 1.0].map(|share| in_milliseconds(quantile(&mut rounds, share)));
    table.row(
        format!(
            "evaluation of {objects} QueueScalers with 3 rules each and all built-in alerts, {ROUNDS} rounds"
        ),
        format!("{median} a round (median), {worst} (worst)"),
        "≤ 20 ms a round",
    );
}

/// The fleet of `many_groups` on fewer topics, without rules and then with them.
pub async fn measure_fleet(kafka: &Kafka, table: &mut Table) {
    let objects = fleet::part(1000);
    let mut admin = KafkaAdmin::new(&kafka.bootstrap);
    let fleet = Fleet::start("alerts").await;
    let topic = unique("alerts");
    admin.create_topics(&[&topic], PARTITIONS, 1).await;
    for partition in 0..PARTITIONS {
        admin.produce(&topic, partition, BACKLOG).await;
    }
    let zero: Vec<_> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for index in 0..objects {
        let group = format!("{topic}-group-{index}");
        admin.commit(&group, &topic, &zero).await;
        let spec = json!({
            "maxReplicas": 10,
            "pollPeriodSeconds": 5,
            "source": fleet::kafka(kafka, &group, &[&topic]),
            "policy": {"backlogPerReplica": {"messages": 100}},
            "builtInAlerts": fleet::no_pods(),
        });
        let mut ruled = spec.clone();
        // One of them fires in each third object.
        ruled["alerts"] = rules(if index % 3 == 0 { 10 } else { 1000 });
        without.push(spec);
        with.push(ruled);
    }
    fleet.measure_change(without, with, &[kafka.port()], "3 alert rules each", table).await;
}
