//! A Kafka with users and certificates, as a test logs in to it.

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::bench::Bench;
use super::skip::skipped;

/// A cluster with users and certificates.
pub struct Secured {
    pub sasl: String,
    pub ssl: String,
    pub pki: String,
    pub user: [String; 2],
    pub password: [String; 2],
}

impl Secured {
    /// That of the test bed. None: there is none, and the test has said so.
    pub fn from_env() -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        let all = || {
            Some(Self {
                sasl: variable("QS_KAFKA_SASL_BOOTSTRAP")?,
                ssl: variable("QS_KAFKA_SSL_BOOTSTRAP")?,
                pki: variable("QS_PKI")?,
                user: [variable("QS_KAFKA_USER")?, variable("QS_KAFKA_OTHER_USER")?],
                password: [variable("QS_KAFKA_PASSWORD")?, variable("QS_KAFKA_OTHER_PASSWORD")?],
            })
        };
        let found = all();
        if found.is_none() {
            skipped("QS_PKI and the variables of a Kafka with SASL are not set (see testbed env)");
        }
        found
    }

    /// A file of the test bed's authority.
    pub fn pem(&self, file: &str) -> String {
        std::fs::read_to_string(format!("{}/{file}", self.pki)).unwrap()
    }

    /// A Secret with an authority's certificate.
    pub async fn authority(&self, bench: &Bench, name: &str, file: &str) {
        secret(bench, name, "Opaque", json!({"ca.crt": self.pem(file)})).await;
    }

    /// The fields of a source that logs in by SCRAM-SHA-512 over TLS, with the Secrets `authority` and `kafka`.
    pub fn fields(authority: &str) -> Value {
        json!({
            "tls": {"caSecretRef": {"name": authority}},
            "sasl": {"mechanism": "ScramSha512", "credentialsSecretRef": {"name": "kafka"}},
        })
    }
}

/// Makes a Secret.
pub async fn secret(bench: &Bench, name: &str, type_: &str, data: Value) {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": type_, "stringData": data,
    });
    bench.apply::<Secret>(name, object).await;
}
