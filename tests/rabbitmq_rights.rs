//! What the administrator of RabbitMQ finds out for drains, on real brokers of versions 3 and 4: settings, rights and
//! alarms, without any effect on a queue.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[path = "support/rabbitmq_admin.rs"]
mod rabbitmq_admin;
#[path = "support/skip.rs"]
mod skip;

use std::time::{Duration, Instant};

use lapin::options::BasicGetOptions;
use queuescaler::brokers::SourceReason;
use queuescaler::brokers::address::AddressPolicy;
use queuescaler::brokers::names::Names;
use queuescaler::brokers::rabbitmq::access::RabbitMqAccess;
use queuescaler::brokers::rabbitmq::admin::{RabbitMqAdmin, Refused, Right};
use rabbitmq_admin::{Broker, Vhost, credentials, escape};
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;

const QUEUE: &str = "orders";
/// Statistics of a new queue take up to 10 s.
const PATIENCE: Duration = Duration::from_secs(40);
const PROBE: &str = "orders.drain.0f9c2b1e.probe";

fn admin(access: &RabbitMqAccess) -> RabbitMqAdmin {
    let loopback = vec!["127.0.0.0/8".parse().unwrap()];
    RabbitMqAdmin::new(access, &AddressPolicy::new(loopback, vec![], Names::of_system())).unwrap()
}

fn rights(refused: &[Refused]) -> Vec<Right> {
    let right = |refused: &Refused| match refused {
        Refused::Right(right, words) if words.contains("refused for user") => *right,
        other => panic!("{other:?}"),
    };
    refused.iter().map(right).collect()
}

/// A message of the queue, which is not taken. Returns whether it was delivered before.
async fn was_delivered(vhost: &Vhost, queue: &str) -> bool {
    let connection = vhost.connect().await;
    let channel = connection.create_channel().await.unwrap();
    let message = channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap().unwrap();
    let redelivered = message.redelivered;
    connection.close(200, "done".into()).await.unwrap();
    redelivered
}

async fn each_missing_right_is_found(broker: &Broker, user: &str) {
    let vhost = broker.fresh_vhost(&format!("qs {user}")).await;
    vhost.declare("classic", "classic").await;
    vhost.declare_with(QUEUE, json!({"x-queue-type": "quorum", "x-single-active-consumer": true})).await;
    broker.user(user, "a-password", "management").await;
    let (temporary, all) = (r"^orders\.drain\.", r"^orders($|\.drain\.)");
    let cases = [
        ((temporary, temporary, all), vec![]),
        (("^$", temporary, all), vec![Right::Configure]),
        ((temporary, "^$", all), vec![Right::Write]),
        ((temporary, temporary, "^orders$"), vec![Right::ReadTemporary]),
        ((temporary, temporary, temporary), vec![Right::Read]),
        (("^$", "^$", "^$"), vec![Right::Configure, Right::ReadTemporary, Right::Read, Right::Write]),
    ];
    for messages in [0, 1] {
        vhost.publish(QUEUE, messages).await;
        let access = RabbitMqAccess { credentials: credentials(user, "a-password"), ..broker.access() };
        let admin = admin(&access);
        for ((configure, write, read), missing) in &cases {
            let path = format!("/permissions/{}/{user}", escape(&vhost.name));
            broker
                .call(Method::PUT, &path, json!({"configure": configure, "write": write, "read": read}))
                .await;
            let refused = admin.refused(&vhost.name, QUEUE, PROBE).await.unwrap();
            assert_eq!(rights(&refused), *missing, "{configure} {write} {read}: {refused:?}");
        }
        broker.grant(&vhost, user).await;
        assert_eq!(admin.refused(&vhost.name, QUEUE, PROBE).await.unwrap(), []);
        assert_eq!(admin.refused(&vhost.name, "classic", PROBE).await.unwrap(), []);
        assert_eq!(admin.try_temporary(&vhost.name, PROBE, None).await.unwrap(), None);
    }
    // A queue that does not exist is not taken for one that can be read.
    let absent = admin(&broker.access()).refused(&vhost.name, "absent", PROBE).await.unwrap();
    assert!(
        matches!(&absent[..], [Refused::Other(Right::Read, words)] if words.contains("no queue")),
        "{absent:?}"
    );
    let mut names = vhost.queue_names().await;
    names.sort_unstable();
    assert_eq!(names, ["classic", QUEUE], "nothing is left");
    vhost.delete().await;
}

#[tokio::test]
async fn each_missing_right_is_found_and_nothing_changes() {
    let Some(broker) = Broker::from_env() else { return };
    each_missing_right_is_found(&broker, "qs-rights").await;
}

#[tokio::test]
async fn each_missing_right_is_found_on_the_other_version() {
    let Some(own) = Broker::own_with("rights", &["--image", "4"]) else { return };
    each_missing_right_is_found(&own.broker, "qs-rights").await;

    // And a limit that makes a declare fail although all rights are there.
    let vhost = own.broker.fresh_vhost("qs limits").await;
    vhost.declare(QUEUE, "quorum").await;
    let path = format!("/vhost-limits/{}/max-queues", escape(&vhost.name));
    own.broker.call(Method::PUT, &path, json!({"value": 1})).await;
    let admin = admin(&own.broker.access());
    let words = admin.try_temporary(&vhost.name, PROBE, None).await.unwrap().unwrap();
    assert!(words.contains("limit"), "{words}");
    let facts = admin.queue(&vhost.name, QUEUE).await.unwrap();
    assert_eq!(facts.delivery_limit(admin.version().await.as_deref()), Some(20));
}

#[tokio::test]
async fn probes_of_rights_take_no_message() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs probes").await;
    for kind in ["classic", "quorum"] {
        vhost.declare(kind, kind).await;
        vhost.publish(kind, 1).await;
        let admin = admin(&broker.access());
        assert_eq!(admin.refused(&vhost.name, kind, PROBE).await.unwrap(), []);
        assert!(!was_delivered(&vhost, kind).await, "{kind}");
    }
    vhost.delete().await;
}

#[tokio::test]
async fn a_broker_with_an_alarm_is_blocked() {
    let Some(own) = Broker::own_with("alarm", &[]) else { return };
    // More than any disk has free.
    own.ctl(&["set_disk_free_limit", "900000GB"]);
    let vhost = own.broker.fresh_vhost("qs alarm").await;
    vhost.declare(QUEUE, "quorum").await;
    let refused = admin(&own.broker.access()).refused(&vhost.name, QUEUE, PROBE).await.unwrap();
    assert_eq!(refused, [Refused::Blocked]);
}

#[tokio::test]
async fn settings_are_those_of_arguments_and_policies() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs settings").await;
    let arguments = json!({
        "x-queue-type": "quorum", "x-single-active-consumer": true, "x-delivery-limit": 7, "x-max-length": 1000,
    });
    // Before the queue, which has it from its beginning then: a queue that is there takes a policy some time later.
    vhost.ttl_policy(60_000).await;
    vhost.declare_with(QUEUE, arguments).await;
    vhost.publish(QUEUE, 5).await;
    let admin = admin(&broker.access());
    vhost.counted(QUEUE, 5).await;
    // Its messages are reported before its policies: until then these are not known.
    let end = Instant::now() + PATIENCE;
    let facts = loop {
        match admin.settings(&vhost.name, QUEUE).await {
            Ok(facts) => break facts,
            Err(problem) if Instant::now() < end => {
                assert!(problem.to_string().contains("does not report its policies yet"), "{problem}");
                sleep(Duration::from_millis(100)).await;
            }
            Err(problem) => panic!("{problem}"),
        }
    };
    assert_eq!((facts.kind.as_str(), facts.durable, facts.auto_delete), ("quorum", true, false));
    assert_eq!((facts.messages, facts.has_single_active_consumer()), (Some(5), true));
    assert_eq!((facts.number("max-length"), facts.number("message-ttl")), (Some(1000), Some(60_000)));
    assert_eq!((facts.delivery_limit(None), facts.policy.as_deref()), (Some(7), Some("ttl")));
    assert!(admin.has_one_key(&vhost.name, QUEUE).await, "it is bound by its name only");
    let path = format!("/bindings/{}/e/amq.topic/q/{QUEUE}", escape(&vhost.name));
    broker.call(Method::POST, &path, json!({"routing_key": "order.#"})).await;
    assert!(!admin.has_one_key(&vhost.name, QUEUE).await);
    assert_eq!(admin.temporary(&vhost.name, "orders.drain.").await.unwrap(), []);
    vhost.declare("orders.drain.1", "classic").await;
    assert_eq!(admin.temporary(&vhost.name, "orders.drain.").await.unwrap().len(), 1);
    let absent = admin.queue(&vhost.name, "absent").await.unwrap_err();
    assert_eq!(absent.reason, SourceReason::QueueNotFound, "{absent}");
    vhost.delete().await;
}
