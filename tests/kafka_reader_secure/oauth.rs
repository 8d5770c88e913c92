//! Logins with tokens (SASL OAUTHBEARER) at a real cluster, which verifies what a token server of the test has signed.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use queuescaler::api::{OffsetReset, SaslMechanism};
use queuescaler::brokers::SourceReason;
use queuescaler::brokers::access::Credentials;
use queuescaler::brokers::budget::Budget;
use queuescaler::brokers::kafka::KafkaReader;
use queuescaler::brokers::kafka::access::{KafkaAccess, OAuthAccess, SaslAccess};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use wiremock::matchers::{body_string, header, method};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::kafka_admin::{KafkaAdmin, any_address};
use crate::support::kafka_reading::{known, poll, poll_one, unique, watch};
use crate::{pki, tls, variable};

fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

/// A token with these claims on top, as a token server signs it.
fn token(claims: &Value) -> Option<String> {
    let mut all =
        json!({"sub": "queuescaler", "aud": "kafka", "iat": in_seconds(-5), "exp": in_seconds(600)});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let header = json!({"alg": "ES256", "kid": "test", "typ": "JWT"});
    let signed = [header, all].map(|part| BASE64.encode(part.to_string())).join(".");
    let key = PrivatePkcs8KeyDer::from_pem_slice(&pki("token.key")?).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der()).unwrap();
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    Some(format!("{signed}.{}", BASE64.encode(signature)))
}

/// Answers each request for a token with the next of these.
async fn token_server(tokens: Vec<String>) -> MockServer {
    let server = MockServer::start().await;
    for token in tokens {
        // queuescaler:client-secret
        Mock::given(method("POST"))
            .and(header("authorization", "Basic cXVldWVzY2FsZXI6Y2xpZW50LXNlY3JldA=="))
            .and(body_string("grant_type=client_credentials&scope=kafka"))
            .respond_with(
                ResponseTemplate::new(200).set_body_json(json!({"access_token": token, "expires_in": 600})),
            )
            .up_to_n_times(1)
            .mount(&server)
            .await;
    }
    server
}

fn reader(server: &MockServer) -> Option<KafkaReader> {
    let credentials = Credentials { username: "queuescaler".into(), password: "client-secret".into() };
    let oauth = OAuthAccess {
        token_url: format!("{}/token", server.uri()),
        scope: Some("kafka".into()),
        audience: None,
        extensions: BTreeMap::new(),
        tls: None,
    };
    let sasl = SaslAccess { mechanism: SaslMechanism::OAuthBearer, credentials, oauth: Some(oauth) };
    let bootstrap = variable("QS_KAFKA_SASL_BOOTSTRAP")?.split(',').map(str::to_owned).collect();
    let access = KafkaAccess { bootstrap, tls: Some(tls()?), sasl: Some(sasl) };
    Some(KafkaReader::new(access, any_address(), Budget::default()).unwrap())
}

async fn reads_with_a_token() -> Option<()> {
    let mut admin = KafkaAdmin::new(&variable("QS_KAFKA_BOOTSTRAP")?);
    let (topic, group) = (unique("oauth"), unique("group"));
    admin.create_topic(&topic, 1).await;
    admin.produce(&topic, 0, 12).await;
    admin.commit(&group, &topic, &[(0, 5)]).await;
    let server = token_server(vec![token(&json!({}))?]).await;
    let mut reader = reader(&server)?;
    let mut one = watch(&group, &[&topic], OffsetReset::Latest);
    for _ in 0..3 {
        assert_eq!(known(&poll_one(&mut reader, &mut one).await).messages, 7);
    }
    // One token for all connections of a session.
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
    Some(())
}

#[tokio::test]
async fn a_cluster_is_read_with_a_token_of_a_token_server() {
    reads_with_a_token().await;
}

async fn names_what_the_broker_refuses() -> Option<()> {
    for claims in [json!({"aud": "elsewhere"}), json!({"exp": in_seconds(-300)})] {
        let (wrong, right) = (token(&claims)?, token(&json!({}))?);
        let server = token_server(vec![wrong.clone(), right]).await;
        let mut reader = reader(&server)?;
        let mut one = watch("group", &["topic"], OffsetReset::Latest);
        let problem = poll(&mut reader, &mut [&mut one]).await.unwrap_err();
        assert_eq!(problem.reason, SourceReason::AuthenticationFailed, "{claims}: {problem}");
        assert!(problem.message.contains("refused the token of http://"), "{problem}");
        assert!(!problem.message.contains(&wrong), "{problem}");
        // The next attempt has another one.
        let reading = tokio::time::timeout(Duration::from_secs(10), poll_one(&mut reader, &mut one)).await;
        assert!(reading.is_ok(), "the login is refused once more");
    }
    Some(())
}

#[tokio::test]
async fn a_token_that_a_broker_refuses_is_replaced() {
    names_what_the_broker_refuses().await;
}

async fn names_a_client_that_is_refused() -> Option<()> {
    variable("QS_KAFKA_SASL_BOOTSTRAP")?;
    let server = MockServer::start().await;
    let refusal = json!({"error": "invalid_client", "error_description": "client-secret is wrong"});
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(401).set_body_json(refusal))
        .mount(&server)
        .await;
    let mut reader = reader(&server)?;
    let mut one = watch("group", &["topic"], OffsetReset::Latest);
    let problem = poll(&mut reader, &mut [&mut one]).await.unwrap_err();
    assert_eq!(problem.reason, SourceReason::AuthenticationFailed, "{problem}");
    assert!(
        problem.message.contains("refused the client in sasl.credentialsSecretRef with 401: invalid_client")
    );
    assert!(!problem.message.contains("client-secret"), "{problem}");
    Some(())
}

#[tokio::test]
async fn a_client_that_the_token_server_refuses_is_named() {
    names_a_client_that_is_refused().await;
}
