//! The RabbitMQ reader on a real broker.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[path = "support/rabbitmq_admin.rs"]
mod rabbitmq_admin;
#[path = "support/skip.rs"]
mod skip;

use queuescaler::brokers::access::TlsAccess;
use queuescaler::brokers::rabbitmq::access::RabbitMqAccess;
use queuescaler::brokers::{Note, Reading, SourceReason};
use queuescaler::plan::{NamePattern, NameSelector};
use rabbitmq_admin::{Broker, credentials, host_and_port, interest, read, read_until, reader, tls, variable};
use serde_json::json;
use skip::skipped;

fn known(reading: &Reading) -> Option<u64> {
    match reading {
        Reading::Known(backlog) => Some(backlog.messages),
        _ => None,
    }
}

fn reason(reading: &Reading) -> SourceReason {
    reading.problem().unwrap_or_else(|| panic!("nothing is wrong with {reading:?}")).reason
}

fn message(reading: &Reading) -> &str {
    &reading.problem().unwrap().message
}

#[tokio::test]
async fn ready_messages_of_classic_and_quorum_queues_add_up() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs ready").await;
    vhost.declare("classic", "classic").await;
    vhost.declare("quorum", "quorum").await;
    vhost.publish("classic", 3).await;
    vhost.publish("quorum", 4).await;
    let mut both = vhost.queues(&["classic", "quorum"]);
    // The broker reports consumers and arrivals later than messages.
    let all_reported = |reading: &Reading| {
        known(reading) == Some(7)
            && reading.backlog().is_some_and(|backlog| backlog.members.is_some() && backlog.arrived.is_some())
    };
    let mut reader = reader(broker.access());
    let reading = read_until(&mut reader, &mut both, all_reported).await;
    let Reading::Known(backlog) = reading else { unreachable!() };
    assert_eq!((backlog.in_flight(), backlog.members, backlog.partitions()), (0, Some(0), None));
    vhost.publish("quorum", 2).await;
    let more = |reading: &Reading| {
        known(reading) == Some(9)
            && reading
                .backlog()
                .is_some_and(|later| later.arrived == backlog.arrived.map(|before| before + 2))
    };
    read_until(&mut reader, &mut both, more).await;
    vhost.delete().await;
}

#[tokio::test]
async fn r3_unacknowledged_messages_count_when_none_is_ready() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs unacknowledged").await;
    for kind in ["classic", "quorum"] {
        vhost.declare(kind, kind).await;
        vhost.publish(kind, 5).await;
        let consumer = vhost.hold_unacknowledged(kind).await;
        let mut queue = vhost.queues(&[kind]);
        let held = |reading: &Reading| {
            reading.backlog().is_some_and(|backlog| backlog.in_flight() == 5 && backlog.members == Some(1))
        };
        let reading = read_until(&mut reader(broker.access()), &mut queue, held).await;
        assert_eq!(known(&reading), Some(5), "{kind}: {reading:?}");
        consumer.close(200, "done".into()).await.unwrap();
    }
    vhost.delete().await;
}

#[tokio::test]
async fn the_head_timestamp_and_the_retention_are_read() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs ages").await;
    vhost.declare_with_ttl("own", 3_600_000).await;
    vhost.declare("policy", "quorum").await;
    vhost.ttl_policy(7_200_000).await;
    let sent = 1_700_000_000;
    vhost.publish_sent_at("own", 3, sent).await;
    vhost.publish("policy", 2).await;
    for (queue, retention, dated) in [("own", 3600, Some(1_700_000_000)), ("policy", 7200, None)] {
        let reported = |reading: &Reading| {
            reading.backlog().is_some_and(|backlog| {
                backlog.retention.first().is_some_and(|it| it.time.as_secs() == retention)
                    && backlog.dated.first().map(|it| it.written.as_second()) == dated
                    && backlog.processed() == Some(0)
            })
        };
        read_until(&mut reader(broker.access()), &mut vhost.queues(&[queue]), reported).await;
    }
    vhost.delete().await;
}

#[tokio::test]
async fn names_are_escaped_in_single_requests_listings_and_amqp() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs/names & more?").await;
    let strange = ["a/b", "c d", "ünï/❤", "50%25", "?x=y#z", "semi;colon+plus"];
    for (index, name) in strange.iter().enumerate() {
        vhost.declare(name, "classic").await;
        vhost.publish(name, index + 1).await;
    }
    let mut by_request = vhost.queues(&strange);
    let mut over_management = reader(broker.access());
    read_until(&mut over_management, &mut by_request, |reading| known(reading) == Some(21)).await;
    let mut by_listing = vhost.pattern(".*");
    read_until(&mut over_management, &mut by_listing, |reading| known(reading) == Some(21)).await;
    let by_amqp = read(&mut reader(broker.amqp_only()), &mut vhost.queues(&strange)).await.unwrap();
    assert_eq!(by_amqp.backlog().unwrap().messages, 21);
    // A URL with such a segment would lead to another place.
    vhost.declare_by_amqp("..").await;
    vhost.publish("..", 2).await;
    let mut dots = vhost.queues(&[".."]);
    read_until(&mut over_management, &mut dots, |reading| known(reading) == Some(2)).await;
    vhost.delete().await;
}

#[tokio::test]
async fn a_pattern_sees_new_queues_within_30_s() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs pages").await;
    for index in 0..510 {
        vhost.declare(&format!("work.{index:03}"), "classic").await;
    }
    vhost.declare("work", "classic").await;
    vhost.declare("homework.1", "classic").await;
    for (queue, count) in [("work.000", 1), ("work.509", 2), ("work", 10), ("homework.1", 10)] {
        vhost.publish(queue, count).await;
    }
    let mut pattern = vhost.pattern(r"work\.\d+");
    let mut reader = reader(broker.access());
    read_until(&mut reader, &mut pattern, |reading| known(reading) == Some(3)).await;
    let begun = tokio::time::Instant::now();
    vhost.declare("work.new", "classic").await; // does not match
    vhost.declare("work.510", "classic").await;
    vhost.publish("work.510", 4).await;
    read_until(&mut reader, &mut pattern, |reading| known(reading) == Some(7)).await;
    assert!(begun.elapsed().as_secs() < 30, "seen after {:?}", begun.elapsed());
    vhost.delete_queue("work.000").await;
    read_until(&mut reader, &mut pattern, |reading| known(reading) == Some(6)).await;
    vhost.delete().await;
}

#[tokio::test]
async fn an_excluded_queue_of_a_pattern_is_not_counted() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs exclude").await;
    for (queue, count) in [("orders", 3), ("orders.dead", 5)] {
        vhost.declare(queue, "classic").await;
        vhost.publish(queue, count).await;
    }
    let pattern = NamePattern::new("orders.*", Some(r".*\.dead")).unwrap();
    let mut orders = interest(&vhost.name, NameSelector::Pattern(pattern));
    read_until(&mut reader(broker.access()), &mut orders, |reading| known(reading) == Some(3)).await;
    vhost.delete().await;
}

#[tokio::test]
async fn the_statistics_interval_is_learned_from_the_broker() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs interval").await;
    vhost.declare("orders", "classic").await;
    let mut reader = reader(broker.access());
    let learned =
        |reading: &Reading| reading.backlog().is_some_and(|backlog| backlog.statistics_interval.is_some());
    let reading = read_until(&mut reader, &mut vhost.queues(&["orders"]), learned).await;
    // The broker emits its numbers every 5 s by default, and the management plugin samples them as often.
    let interval = reading.backlog().unwrap().statistics_interval.unwrap();
    assert!((4.5..=5.5).contains(&interval.as_secs_f64()), "{interval:?}");
    vhost.delete().await;
}

#[tokio::test]
async fn single_active_consumer_queues_are_counted() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs single active").await;
    for (queue, kind) in [("a", "classic"), ("b", "quorum")] {
        vhost.declare_with(queue, json!({"x-queue-type": kind, "x-single-active-consumer": true})).await;
    }
    vhost.declare("c", "classic").await;
    let most = |reading: &Reading| reading.backlog()?.shared()?.active_consumers_at_most;
    let mut reader = reader(broker.access());
    read_until(&mut reader, &mut vhost.queues(&["a", "b"]), |reading| most(reading) == Some(2)).await;
    let mut all = vhost.queues(&["a", "b", "c"]);
    let reading = read_until(&mut reader, &mut all, |reading| known(reading) == Some(0)).await;
    assert_eq!(most(&reading), None);
    vhost.delete().await;
}

#[tokio::test]
async fn a_pattern_without_a_match_is_no_empty_queue() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs no match").await;
    let reading = read(&mut reader(broker.access()), &mut vhost.pattern("orders-.*")).await.unwrap();
    assert!(matches!(reading, Reading::Unknown(_)), "{reading:?}");
    assert_eq!(reason(&reading), SourceReason::QueueNotFound);
    vhost.delete().await;
}

#[tokio::test]
async fn a_stream_is_refused_also_when_only_amqp_is_left() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs stream").await;
    vhost.declare("stream", "stream").await;
    vhost.publish("stream", 3).await;
    let mut stream = vhost.queues(&["stream"]);
    let reading = read(&mut reader(broker.access()), &mut stream).await.unwrap();
    assert!(matches!(reading, Reading::Unknown(_)), "{reading:?}");
    assert_eq!(reason(&reading), SourceReason::StreamNotSupported);
    let later = read(&mut reader(broker.management_down()), &mut stream).await.unwrap();
    assert!(matches!(later, Reading::Unknown(_)), "{later:?}");
    assert_eq!(reason(&later), SourceReason::StreamNotSupported);
    vhost.delete().await;
}

#[tokio::test]
async fn r1_a_deleted_queue_is_never_declared_by_reading() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs deleted").await;
    vhost.declare("stays", "classic").await;
    vhost.declare("goes", "classic").await;
    vhost.publish("stays", 2).await;
    let (mut one, mut two) = (vhost.queues(&["goes"]), vhost.queues(&["goes", "stays"]));
    let mut over_management = reader(broker.access());
    read_until(&mut over_management, &mut two, |reading| known(reading) == Some(2)).await;
    vhost.delete_queue("goes").await;
    for mut reader in [over_management, reader(broker.amqp_only())] {
        let reading = read(&mut reader, &mut one).await.unwrap();
        assert!(matches!(reading, Reading::Unknown(_)), "{reading:?}");
        assert_eq!(reason(&reading), SourceReason::QueueNotFound);
        assert!(message(&reading).contains("goes"), "{reading:?}");
        let reading = read(&mut reader, &mut two).await.unwrap();
        assert!(matches!(&reading, Reading::AtLeast(backlog, _) if backlog.messages == 2), "{reading:?}");
    }
    let partial = read(&mut reader(broker.access()), &mut two).await.unwrap();
    assert_eq!(reason(&partial), SourceReason::PartialObservation);
    assert!(message(&partial).contains("goes"), "{partial:?}");
    assert_eq!(vhost.queue_names().await, ["stays"]);
    vhost.delete().await;
}

#[tokio::test]
async fn r1_connections_stay_flat_over_1000_polls_of_missing_queues() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs flat").await;
    vhost.declare("stays", "classic").await;
    let mut watched = vhost.queues(&["gone 1", "gone 2", "stays"]);
    let mut reader = reader(broker.amqp_only());
    read(&mut reader, &mut watched).await.unwrap();
    let local_ports = || std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let to_broker = || {
        let remote = format!(":{:04X} 01 ", broker.amqp.1);
        local_ports().lines().filter(|line| line.contains(&remote)).count()
    };
    let before = to_broker();
    for _ in 0..1000 {
        let reading = read(&mut reader, &mut watched).await.unwrap();
        assert!(matches!(&reading, Reading::AtLeast(backlog, _) if backlog.messages == 0), "{reading:?}");
    }
    // Other tests connect to the same broker meanwhile; a leak would be hundreds.
    assert!(to_broker() < before + 20, "{before} connections became {}", to_broker());
    vhost.delete().await;
}

#[tokio::test]
async fn a_name_longer_than_amqp_allows_is_a_missing_queue() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs long").await;
    // 200 characters pass the schema, and are 400 bytes.
    let mut long = vhost.queues(&["ü".repeat(200).as_str()]);
    for access in [broker.access(), broker.amqp_only()] {
        let reading = read(&mut reader(access), &mut long).await.unwrap();
        assert_eq!(reason(&reading), SourceReason::QueueNotFound, "{reading:?}");
    }
    vhost.delete().await;
}

#[tokio::test]
async fn r5_by_amqp_alone_ready_messages_are_a_lower_bound() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs management down").await;
    for queue in ["empty", "filled"] {
        vhost.declare(queue, "quorum").await;
    }
    let mut empty = vhost.queues(&["empty"]);
    for access in [broker.management_down(), broker.amqp_only()] {
        let reading = read(&mut reader(access), &mut empty).await.unwrap();
        assert!(matches!(&reading, Reading::AtLeast(backlog, _) if backlog.messages == 0), "{reading:?}");
        assert_eq!(reason(&reading), SourceReason::ManagementUnavailable);
    }
    vhost.publish("filled", 3).await;
    let mut down = reader(broker.management_down());
    let mut filled = vhost.queues(&["filled"]);
    let reading = read_until(
        &mut down,
        &mut filled,
        |reading| matches!(reading, Reading::AtLeast(backlog, _) if backlog.messages == 3),
    );
    assert_eq!(reading.await.backlog().unwrap().arrived, None);
    // A pattern goes on with the queues that it matched last.
    let mut pattern = vhost.pattern("fill.*");
    let first = read(&mut down, &mut pattern).await;
    assert_eq!(first.unwrap_err().reason, SourceReason::ManagementUnavailable);
    read_until(&mut reader(broker.access()), &mut pattern, |reading| known(reading) == Some(3)).await;
    let reading = read(&mut down, &mut pattern).await.unwrap();
    assert!(matches!(&reading, Reading::AtLeast(backlog, _) if backlog.messages == 3), "{reading:?}");
    vhost.delete().await;
}

#[tokio::test]
async fn a_closed_connection_is_replaced_at_the_next_poll() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs closed connection").await;
    vhost.declare("orders", "classic").await;
    let mut reader = reader(broker.amqp_only());
    let mut orders = vhost.queues(&["orders"]);
    read(&mut reader, &mut orders).await.unwrap();
    assert_eq!(vhost.close_connections().await, 1);
    let reading = read(&mut reader, &mut orders).await.unwrap();
    assert!(matches!(&reading, Reading::AtLeast(backlog, _) if backlog.messages == 0), "{reading:?}");
    vhost.delete().await;
}

#[tokio::test]
async fn r7_a_deleted_vhost_is_reported() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs vhost/gone").await;
    vhost.declare("orders", "classic").await;
    let mut readers = [reader(broker.access()), reader(broker.amqp_only())];
    let (mut queue, mut pattern) = (vhost.queues(&["orders"]), vhost.pattern("orders"));
    for reader in &mut readers {
        read_until(reader, &mut queue, |reading| reading.backlog().is_some()).await;
    }
    vhost.delete().await;
    for reader in &mut readers {
        let reading = read(reader, &mut queue).await.unwrap();
        assert!(matches!(reading, Reading::Unknown(_)), "{reading:?}");
        assert_eq!(reason(&reading), SourceReason::VhostNotFound, "{reading:?}");
    }
    let reading = read(&mut readers[0], &mut pattern).await.unwrap();
    assert_eq!(reason(&reading), SourceReason::VhostNotFound);
}

#[tokio::test]
async fn a_wrong_password_is_a_failed_authentication() {
    let Some(broker) = Broker::from_env() else { return };
    let vhost = broker.fresh_vhost("qs password").await;
    for access in [broker.access(), broker.amqp_only()] {
        let access = RabbitMqAccess { credentials: credentials(&broker.user, "hunter2-wrong"), ..access };
        let problem = read(&mut reader(access), &mut vhost.queues(&["orders"])).await.unwrap_err();
        assert_eq!(problem.reason, SourceReason::AuthenticationFailed, "{problem}");
        assert!(!problem.message.contains("hunter2"), "{problem}");
    }
    vhost.delete().await;
}

#[tokio::test]
async fn missing_rights_differ_from_a_wrong_password() {
    let Some(broker) = Broker::from_env() else { return };
    let (open, closed) = (broker.fresh_vhost("qs open").await, broker.fresh_vhost("qs closed").await);
    broker.user("qs-manager", "p", "management").await;
    broker.user("qs-untagged", "p", "").await;
    broker.grant(&open, "qs-manager").await;
    broker.grant(&open, "qs-untagged").await;
    open.declare("orders", "classic").await;
    for access in [broker.access(), broker.amqp_only()] {
        let mut reader = reader(RabbitMqAccess { credentials: credentials("qs-manager", "p"), ..access });
        let reading = read(&mut reader, &mut closed.queues(&["orders"])).await.unwrap();
        assert!(matches!(reading, Reading::Unknown(_)), "{reading:?}");
        assert_eq!(reason(&reading), SourceReason::AuthorizationFailed);
        // Another virtual host of the same broker is read nevertheless.
        read_until(&mut reader, &mut open.queues(&["orders"]), |reading| reading.backlog().is_some()).await;
    }
    let untagged = RabbitMqAccess { credentials: credentials("qs-untagged", "p"), ..broker.access() };
    let problem = read(&mut reader(untagged), &mut open.queues(&["orders"])).await.unwrap_err();
    assert_eq!(problem.reason, SourceReason::AuthorizationFailed);
    assert!(problem.message.contains("tag management"), "{problem}");
    open.delete().await;
    closed.delete().await;
}

#[tokio::test]
async fn tls_is_verified_for_http_and_amqp() {
    let Some(broker) = Broker::from_env() else { return };
    let (Some(management), Some(amqp), Some(trusted)) =
        (variable("QS_RABBITMQ_MANAGEMENT_TLS_URL"), variable("QS_RABBITMQ_AMQP_TLS_URL"), tls(true))
    else {
        skipped("QS_RABBITMQ_MANAGEMENT_TLS_URL, QS_RABBITMQ_AMQP_TLS_URL and QS_PKI are not set");
        return;
    };
    let vhost = broker.fresh_vhost("qs tls").await;
    vhost.declare("quorum", "quorum").await;
    vhost.publish("quorum", 3).await;
    let (host, amqp_port) = host_and_port(&amqp);
    let access = |management_url: Option<&str>, tls: TlsAccess| RabbitMqAccess {
        management_url: management_url.map(Into::into),
        host: host.clone(),
        amqp_port,
        tls: Some(tls),
        ..broker.access()
    };
    let mut queue = vhost.queues(&["quorum"]);
    let mut good = reader(access(Some(&management), trusted.clone()));
    read_until(&mut good, &mut queue, |reading| known(reading) == Some(3)).await;
    let by_amqp = read(&mut reader(access(None, trusted.clone())), &mut queue).await.unwrap();
    assert_eq!(by_amqp.backlog().unwrap().messages, 3);

    // The system does not trust the test bed's authority.
    let system = TlsAccess { ca_pem: None, ..trusted.clone() };
    for url in [Some(management.as_str()), None] {
        let problem = read(&mut reader(access(url, system.clone())), &mut queue).await.unwrap_err();
        assert_eq!(problem.reason, SourceReason::TLSHandshakeFailed, "{problem}");
        assert!(problem.message.contains("untrusted"), "{problem}");
    }
    // The same server under a name that its certificate does not have.
    if host.parse::<std::net::Ipv4Addr>().is_ok() {
        let alias = RabbitMqAccess { host: format!("::ffff:{host}"), ..access(None, trusted.clone()) };
        let problem = read(&mut reader(alias), &mut queue).await.unwrap_err();
        assert_eq!(problem.reason, SourceReason::TLSHandshakeFailed, "{problem}");
        assert!(problem.message.contains("hostname"), "{problem}");
    }
    let unverified = TlsAccess { insecure_skip_verify: true, ..system };
    for url in [Some(management.as_str()), None] {
        let reading = read(&mut reader(access(url, unverified.clone())), &mut queue).await.unwrap();
        assert_eq!(reading.backlog().unwrap().notes, [Note::TlsNotVerified]);
    }
    vhost.delete().await;
}
