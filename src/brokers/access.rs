//! How a broker is reached: addresses, credentials and certificates, with every Secret already read.
//!
//! Types only. A password or key is a [`SecretString`], so that it cannot end in a log by accident.

use std::collections::BTreeSet;

use secrecy::{ExposeSecret, SecretString};

use crate::api::SaslMechanism;

/// A Kafka cluster with one set of credentials.
#[derive(Clone, Debug)]
pub struct KafkaAccess {
    /// `host:port` of the first brokers.
    pub bootstrap: Vec<String>,
    /// Present: TLS.
    pub tls: Option<TlsAccess>,
    /// Present: SASL.
    pub sasl: Option<SaslAccess>,
}

/// A RabbitMQ broker with one set of credentials.
#[derive(Clone, Debug)]
pub struct RabbitMqAccess {
    /// Host name or address.
    pub host: String,
    /// AMQP port.
    pub amqp_port: u16,
    /// Base URL of the management API, without a trailing slash.
    pub management_url: Option<String>,
    /// User and password.
    pub credentials: Credentials,
    /// Present: TLS for AMQP, and these settings for an https management URL.
    pub tls: Option<TlsAccess>,
}

/// SASL mechanism, user and password.
#[derive(Clone, Debug)]
pub struct SaslAccess {
    /// How to authenticate.
    pub mechanism: SaslMechanism,
    /// User and password.
    pub credentials: Credentials,
}

/// User and password.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password.
    pub password: SecretString,
}

impl Credentials {
    /// Words of a server without the password, which it could repeat.
    #[must_use]
    pub fn blot(&self, words: &str) -> String {
        match self.password.expose_secret() {
            "" => words.to_owned(),
            password => words.replace(password, "***"),
        }
    }
}

/// How TLS is verified and what the client shows.
#[derive(Clone, Debug, Default)]
pub struct TlsAccess {
    /// Certificates (PEM) of the authorities to trust. Absent: those that the system trusts.
    pub ca_pem: Option<Vec<u8>>,
    /// The client's certificate chain and key (PEM).
    pub client: Option<ClientCertificate>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
}

/// A client certificate.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// Chain, PEM.
    pub chain_pem: Vec<u8>,
    /// Private key, PEM.
    pub key_pem: SecretString,
}

/// Identifies a broker cluster together with the credentials: equal keys may share connections. A digest, so that it
/// can be kept and compared without keeping a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccessKey([u8; 32]);

impl KafkaAccess {
    /// The key of this cluster and credentials.
    #[must_use]
    pub fn key(&self) -> AccessKey {
        let mut digest = Digest::new("kafka");
        // A set: whatever the order, it is the same cluster.
        let servers: BTreeSet<&String> = self.bootstrap.iter().collect();
        servers.into_iter().for_each(|server| digest.text(server));
        digest.tls(self.tls.as_ref());
        digest.present(self.sasl.is_some());
        if let Some(sasl) = &self.sasl {
            digest.text(&format!("{:?}", sasl.mechanism));
            digest.credentials(&sasl.credentials);
        }
        digest.finish()
    }
}

impl RabbitMqAccess {
    /// The key of this broker and credentials.
    #[must_use]
    pub fn key(&self) -> AccessKey {
        let mut digest = Digest::new("rabbitmq");
        digest.text(&self.host);
        digest.text(&self.amqp_port.to_string());
        digest.text(self.management_url.as_deref().unwrap_or_default());
        digest.credentials(&self.credentials);
        digest.tls(self.tls.as_ref());
        digest.finish()
    }
}

/// Every part goes in with its length, so that no two lists of parts look alike.
struct Digest(aws_lc_rs::digest::Context);

impl Digest {
    fn new(kind: &str) -> Self {
        let mut digest = Self(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256));
        digest.text(kind);
        digest
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&bytes.len().to_be_bytes());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn present(&mut self, present: bool) {
        self.0.update(&[u8::from(present)]);
    }

    fn credentials(&mut self, credentials: &Credentials) {
        self.text(&credentials.username);
        self.text(credentials.password.expose_secret());
    }

    fn tls(&mut self, tls: Option<&TlsAccess>) {
        self.present(tls.is_some());
        let Some(tls) = tls else { return };
        self.present(tls.insecure_skip_verify);
        self.present(tls.ca_pem.is_some());
        self.bytes(tls.ca_pem.as_deref().unwrap_or_default());
        self.present(tls.client.is_some());
        if let Some(client) = &tls.client {
            self.bytes(&client.chain_pem);
            self.text(client.key_pem.expose_secret());
        }
    }

    fn finish(self) -> AccessKey {
        let mut key = [0; 32];
        key.iter_mut().zip(self.0.finish().as_ref()).for_each(|(to, from)| *to = *from);
        AccessKey(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_repeats_the_password_is_not_quoted_with_it() {
        let credentials =
            |password: &str| Credentials { username: "orders".into(), password: password.into() };
        assert_eq!(credentials("hunter2").blot("no user hunter2, hunter2!"), "no user ***, ***!");
        assert_eq!(credentials("").blot("refused"), "refused");
    }

    #[test]
    fn the_order_of_bootstrap_servers_makes_no_other_session_and_another_server_does() {
        let key = |servers: &[&str]| {
            let bootstrap = servers.iter().map(|server| (*server).to_owned()).collect();
            KafkaAccess { bootstrap, tls: None, sasl: None }.key()
        };
        assert_eq!(key(&["a:9092", "b:9092"]), key(&["b:9092", "a:9092", "b:9092"]));
        assert_ne!(key(&["a:9092", "b:9092"]), key(&["a:9092"]));
    }
}
