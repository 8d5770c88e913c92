//! Credentials and rights that are refused.

use super::*;

#[tokio::test]
async fn k16_a_denied_group_is_asked_for_once_a_minute() {
    let (kafka, mut reader, mut one) = three_nodes().await;
    kafka.state().group_errors.insert("billing".to_owned(), GROUP_AUTHORIZATION_FAILED);
    for _ in 0..5 {
        let reading = poll_one(&mut reader, &mut one).await;
        assert_eq!(unknown(&reading).reason, SourceReason::AuthorizationFailed);
        assert!(unknown(&reading).message.contains("group=billing"), "{reading:?}");
    }
    assert_eq!(kafka.count(ApiKey::FindCoordinator) + kafka.count(ApiKey::OffsetFetch), 1);
}

#[tokio::test]
async fn k16_a_denied_topic_is_named_and_asked_for_once_a_minute() {
    let (kafka, mut reader, mut one) = three_nodes().await;
    kafka.state().topics.get_mut("orders").unwrap().error = TOPIC_AUTHORIZATION_FAILED;
    for _ in 0..2 {
        let reading = poll_one(&mut reader, &mut one).await;
        assert_eq!(unknown(&reading).reason, SourceReason::AuthorizationFailed);
        assert!(unknown(&reading).message.contains("topic=orders"), "{reading:?}");
    }
    assert_eq!(kafka.state().asked_topics.iter().filter(|topic| *topic == "orders").count(), 1);
}

fn login(kafka: &FakeKafka, password: &str) -> KafkaReader {
    let credentials = Credentials { username: "ann".to_owned(), password: password.into() };
    let sasl = SaslAccess { mechanism: SaslMechanism::Plain, credentials, oauth: None };
    let bootstrap = kafka.bootstrap().split(',').map(str::to_owned).collect();
    KafkaReader::new(KafkaAccess { bootstrap, tls: None, sasl: Some(sasl) }, any_address(), Budget::default())
        .unwrap()
}

#[tokio::test]
async fn a_session_is_renewed_before_the_broker_ends_it() {
    let (kafka, _, mut one) = three_nodes().await;
    kafka.state().session_lifetime = 60;
    let mut reader = login(&kafka, "right");
    while kafka.state().opened < 9 {
        assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 540);
    }
    assert_eq!(reader.connections(), 3);
}

#[tokio::test]
async fn k17_refused_credentials_are_tried_once_a_poll() {
    let (kafka, _, mut one) = three_nodes().await;
    kafka.state().password = Some("right".to_owned());
    let problem = poll(&mut login(&kafka, "hunter2"), &mut [&mut one]).await.unwrap_err();
    assert_eq!(problem.reason, SourceReason::AuthenticationFailed);
    assert!(problem.message.contains("credentialsSecretRef"), "{problem}");
    assert!(!problem.message.contains("hunter2"), "{problem}");
    assert_eq!(kafka.count(ApiKey::SaslAuthenticate), 1);
    assert_eq!(known(&poll_one(&mut login(&kafka, "right"), &mut one).await).messages, 540);
}

#[tokio::test]
async fn a_refused_login_at_one_broker_costs_only_its_partitions() {
    let (kafka, _, mut one) = three_nodes().await;
    kafka.state().refusing.push(2);
    let mut reader = login(&kafka, "right");
    for _ in 0..3 {
        let reading = poll_one(&mut reader, &mut one).await;
        assert_eq!(at_least(&reading).0.messages, 360);
        assert!(at_least(&reading).1.message.contains("refused the credentials"), "{reading:?}");
    }
    assert_eq!(kafka.count(ApiKey::SaslAuthenticate), 3, "the refusing broker is not asked at every poll");
}

#[tokio::test]
async fn a_login_that_is_refused_at_renewal_keeps_the_connection() {
    let (kafka, _, mut one) = three_nodes().await;
    kafka.state().session_lifetime = 1;
    let mut reader = login(&kafka, "right");
    assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 540);
    kafka.state().refusing.extend([0, 1, 2]);
    for _ in 0..3 {
        assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 540);
    }
}
