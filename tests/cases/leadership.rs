//! Several operators for one lease: at any time at most one writes, and soon another one does when it cannot.

use std::time::{Duration, Instant};

use queuescaler::api::QueueScaler;
use serde_json::{Value, json};

use crate::support::api_proxy::{ApiProxy, Hold, Line};
use crate::support::operator::Operator;
use crate::support::scaled::Scaled;

fn to(replicas: i64) -> (String, i64) {
    ("orders".to_owned(), replicas)
}

/// The leader cannot act for longer than its lease. The other one leads within 20 s; the old one writes nothing when it
/// can again, and ends.
async fn taken_over(
    name: &str,
    disturb: impl Fn(&Operator, &ApiProxy),
    restore: impl Fn(&Operator, &ApiProxy),
) {
    let Some(mut scaled) = Scaled::without_operator(name).await else { return };
    let [proxy_one, proxy_two] = ["one", "two"].map(|name| ApiProxy::start(&scaled.bench, name));
    let mut one = scaled.bench.start_operator_by(&proxy_one.kubeconfig, "one", &[]);
    one.wait_for_log("leading");
    let two = scaled.bench.start_operator_by(&proxy_two.kubeconfig, "two", &[]);
    two.wait_for_log("waiting for the lease");
    scaled.deployment("orders").await;
    scaled.backlog(200).await;
    scaled.bench.until_replicas("orders", 2).await;
    scaled.bench.until_reason("orders", "KeepingUp").await;

    // A new Deployment changes by itself, so that the first try may have been refused.
    let refused = proxy_one.scale_answers(409).await;

    disturb(&one, &proxy_one);
    let since = Instant::now();
    scaled.backlog(300).await;
    two.wait_for_log("\"leading\"");
    let took = since.elapsed();
    println!("{name}: taken over after {took:?}");
    assert!(took <= Duration::from_secs(20), "{took:?}");
    scaled.bench.until_replicas("orders", 3).await;
    scaled.backlog(400).await;
    scaled.bench.until_replicas("orders", 4).await;

    restore(&one, &proxy_one);
    // What it would write, were it to go by what it knew.
    scaled.backlog(600).await;
    assert_eq!(one.wait(Duration::from_secs(5)), Some(1), "ends by itself, as an error");
    assert!(one.log().contains("another process may hold the lease"), "{}", one.log());
    scaled.bench.until_replicas("orders", 6).await;
    scaled.bench.until_reason("orders", "KeepingUp").await;
    assert_eq!(
        (proxy_one.scaled().await, proxy_two.scaled().await),
        (vec![to(2)], vec![to(3), to(4), to(6)])
    );
    assert_eq!(proxy_one.scale_answers(409).await, refused, "it has not even tried");
    scaled.bench.operator = Some(two);
    scaled.bench.is_sound(&[]).await;
}

#[tokio::test]
async fn c7_a_stopped_leader_is_replaced_and_writes_no_more() {
    taken_over("c7-stopped", |one, _| one.signal("STOP"), |one, _| one.signal("CONT")).await;
}

#[tokio::test]
async fn c7_a_cut_off_leader_is_replaced_and_writes_no_more() {
    let line = |line| move |_: &Operator, proxy: &ApiProxy| proxy.line(line);
    taken_over("c7-silent", line(Line::Silent), line(Line::Up)).await;
}

/// Every accepted write of replicas is a new generation of the Deployment if it changes them, so that as many
/// generations as changes of the backlog mean that no write was done twice.
#[tokio::test]
async fn c8_killed_leaders_are_replaced_and_no_write_is_done_twice() {
    let kills = std::env::var("QS_C8_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let lease = Duration::from_secs(5);
    let Some(mut scaled) = Scaled::without_operator("c8").await else { return };
    let start = |number: u32, scaled: &Scaled| {
        let identity = format!("number-{number}");
        let kubeconfig = &scaled.bench.kubeconfig;
        scaled.bench.start_operator_by(kubeconfig, &identity, &["--lease-seconds", "5"])
    };
    let mut leader = start(0, &scaled);
    leader.wait_for_log("\"leading\"");
    scaled.deployment("orders").await;
    scaled.backlog(200).await;
    let before = scaled.bench.until_replicas("orders", 2).await;
    let mut times = Vec::new();
    let backlogs = [(300, 3), (100, 1), (400, 4), (600, 6), (200, 2)];
    for (number, (backlog, replicas)) in (1..=kills).zip(backlogs.into_iter().cycle()) {
        let standby = start(number, &scaled);
        standby.wait_for_log("waiting for the lease");
        scaled.backlog(backlog).await;
        // At another moment between two polls each time.
        tokio::time::sleep(Duration::from_millis(u64::from(number) * 370 % 1000)).await;
        leader.signal("KILL");
        let since = Instant::now();
        standby.wait_for_log("\"leading\"");
        times.push(since.elapsed());
        leader = standby;
        scaled.bench.until_replicas("orders", replicas).await;
    }
    scaled.bench.until_reason("orders", "KeepingUp").await;
    let after = scaled.bench.until_replicas("orders", scaled.bench.replicas("orders").await).await;
    times.sort_unstable();
    println!("takeovers: {times:?}");
    assert!(times.iter().all(|took| *took <= lease + Duration::from_secs(5)), "{times:?}");
    let generations = after.metadata.generation.unwrap() - before.metadata.generation.unwrap();
    assert_eq!(generations, i64::from(kills), "one write for each backlog");
    scaled.bench.operator = Some(leader);
    scaled.bench.is_sound(&[]).await;
}

/// What a run came to, without times.
async fn outcome(scaled: &Scaled) -> Value {
    let object = scaled.bench.until_reason("orders", "KeepingUp").await;
    let conditions = |object: &QueueScaler| {
        let conditions = object.status.as_ref().unwrap().conditions.iter();
        conditions
            .map(|condition| format!("{}={}/{}", condition.type_, condition.status, condition.reason))
            .collect()
    };
    let conditions: Vec<String> = conditions(&object);
    let status = object.status.unwrap();
    let deployment = scaled.bench.until_replicas("orders", 3).await;
    json!({
        "desired": status.desired_replicas, "backlog": status.backlog, "conditions": conditions,
        "decision": status.decision.unwrap().message, "generation": deployment.metadata.generation,
    })
}

/// A run in which the operator is killed around its write, and started anew.
async fn killed_at(name: &str, hold: Option<Hold>) -> Option<Value> {
    let mut scaled = Scaled::without_operator(name).await?;
    let proxy = ApiProxy::start(&scaled.bench, "one");
    let mut operator = scaled.bench.start_operator_by(&proxy.kubeconfig, "one", &[]);
    operator.wait_for_log("\"leading\"");
    scaled.deployment("orders").await;
    scaled.bench.until_reason("orders", "Idle").await;
    if let Some(hold) = hold {
        proxy.hold_scales(hold);
    }
    scaled.backlog(300).await;
    if hold.is_some() {
        proxy.held(1).await;
        operator.signal("KILL");
        // As the container of the same pod.
        operator = scaled.bench.start_operator("one");
        operator.wait_for_log("\"leading\"");
    }
    scaled.bench.until_replicas("orders", 3).await;
    let outcome = outcome(&scaled).await;
    scaled.bench.keeps_replicas("orders", 3, Duration::from_secs(3)).await;
    scaled.bench.operator = Some(operator);
    assert_eq!(scaled.bench.warnings("orders").await, Vec::<String>::new());
    scaled.bench.is_sound(&[]).await;
    Some(outcome)
}

#[tokio::test]
async fn c19_a_kill_around_a_write_does_not_change_the_result() {
    let Some(clean) = killed_at("c19-clean", None).await else { return };
    assert_eq!(killed_at("c19-before", Some(Hold::Before)).await, Some(clean.clone()));
    assert_eq!(killed_at("c19-after", Some(Hold::After)).await, Some(clean));
}
