//! Copies that nothing disturbs.

use queuescaler::api::source::SaslMechanism;
use queuescaler::drain::distribution::{Guarantee, KafkaConnection, Ordering, SaslFiles, TlsFiles};

use crate::backlog::{Topic, bootstrap, distribute, varied_topic, verification};
use crate::support::drain::topics::spread;
use crate::support::skip::skipped;

#[test]
fn d1_a_copy_has_each_record_once_and_unchanged() {
    let Some(topic) = varied_topic() else { return };
    let backlog = topic.backlog();
    let distribution = backlog.distribution(Ordering::None, Guarantee::ExactlyOnce, 24);
    let outcome = distribute(&distribution, 0).success();
    backlog.verdict(&distribution).assert_clean();
    assert_eq!(usize::try_from(outcome.copied).unwrap(), backlog.expected());
    let counts = spread(&backlog.copies(&distribution), 24);
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - least <= 1, "an even spread: {counts:?}");

    let outcome = distribute(&verification(&distribution), 0).success();
    assert_eq!(usize::try_from(outcome.verified).unwrap(), backlog.expected());
    assert_eq!((outcome.repaired, outcome.duplicates, outcome.copied), (0, 0, 0));
}

#[test]
fn d1_a_copy_per_key_keeps_the_order_of_each_key() {
    let Some(topic) = varied_topic() else { return };
    let backlog = topic.backlog();
    let distribution = backlog.distribution(Ordering::PerKey, Guarantee::ExactlyOnce, 24);
    distribute(&distribution, 0).success();
    backlog.verdict(&distribution).assert_clean();
}

#[test]
fn d1_a_copy_without_transactions_has_each_record_once() {
    let Some(topic) = varied_topic() else { return };
    let backlog = topic.backlog();
    let distribution = backlog.distribution(Ordering::PerKey, Guarantee::AtLeastOnce, 24);
    distribute(&distribution, 0).success();
    backlog.verdict(&distribution).assert_clean();
    let outcome = distribute(&verification(&distribution), 0).success();
    assert_eq!((outcome.repaired, outcome.duplicates), (0, 0));
}

#[test]
fn two_distributors_share_the_partitions() {
    let Some(bootstrap) = bootstrap() else { return };
    let topic = Topic::small(&bootstrap, 4, 40_000);
    let backlog = topic.backlog();
    let mut distribution = backlog.distribution(Ordering::PerKey, Guarantee::ExactlyOnce, 24);
    // Slow enough for both to take part.
    distribution.max_bytes_per_second = Some(800_000);
    let mut both = [distribute(&distribution, 0), distribute(&distribution, 1)];
    let copied = both.each_mut().map(|one| one.success().copied);
    backlog.verdict(&distribution).assert_clean();
    assert_eq!(copied.iter().sum::<u64>(), 40_000);
    assert!(copied.iter().all(|copied| *copied > 0), "{copied:?}");
}

#[test]
fn a_distributor_that_comes_too_late_ends_with_success() {
    let Some(bootstrap) = bootstrap() else { return };
    let topic = Topic::small(&bootstrap, 2, 100);
    let backlog = topic.backlog();
    let distribution = backlog.distribution(Ordering::None, Guarantee::ExactlyOnce, 4);
    assert_eq!(distribute(&distribution, 0).success().copied, 100);
    assert_eq!(distribute(&distribution, 1).success().copied, 0);
    backlog.verdict(&distribution).assert_clean();
}

#[test]
fn the_rate_is_limited() {
    let Some(bootstrap) = bootstrap() else { return };
    let topic = Topic::small(&bootstrap, 2, 8_000);
    let backlog = topic.backlog();
    let mut distribution = backlog.distribution(Ordering::None, Guarantee::ExactlyOnce, 4);
    // 8,000 records of some 107 bytes take 4.3 s.
    distribution.max_bytes_per_second = Some(200_000);
    let mut distributor = distribute(&distribution, 0);
    distributor.await_log("has assigned partitions");
    let began = std::time::Instant::now();
    distributor.success();
    let took = began.elapsed().as_secs_f64();
    assert!((3.0..9.0).contains(&took), "{took} s");
}

#[test]
fn a_copy_works_with_tls_and_scram() {
    let Some(bootstrap) = bootstrap() else { return };
    let variable = |name: &str| std::env::var(name).ok();
    let (Some(secure), Some(pki), Some(user), Some(password)) = (
        variable("QS_KAFKA_SASL_BOOTSTRAP"),
        variable("QS_PKI"),
        variable("QS_KAFKA_USER"),
        variable("QS_KAFKA_PASSWORD"),
    ) else {
        return skipped("QS_KAFKA_SASL_BOOTSTRAP and QS_PKI name no cluster with TLS");
    };
    let topic = Topic::small(&bootstrap, 2, 500);
    let backlog = topic.backlog();
    let mut distribution = backlog.distribution(Ordering::None, Guarantee::ExactlyOnce, 4);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let connection = |password: &str| {
        std::fs::write(&file, format!("{password}\n")).unwrap();
        KafkaConnection {
            bootstrap_servers: vec![secure.clone()],
            tls: Some(TlsFiles { ca: Some(format!("{pki}/ca.crt")), ..TlsFiles::default() }),
            sasl: Some(SaslFiles {
                mechanism: SaslMechanism::ScramSha512,
                username: Some(user.clone()),
                username_file: None,
                password_file: file.to_str().unwrap().to_owned(),
            }),
        }
    };
    distribution.kafka = connection(&password);
    distribute(&distribution, 0).success();
    backlog.verdict(&distribution).assert_clean();
    assert_eq!(distribute(&verification(&distribution), 0).success().verified, 500);

    distribution.kafka = connection("wrong-password");
    let mut refused = distribute(&distribution, 0);
    let error = refused.failure();
    assert!(!(error.clone() + &refused.log()).contains("wrong-password"), "{error}");
}
