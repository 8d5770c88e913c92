//! How a broker is reached: addresses, credentials and certificates, with every Secret already read.
//!
//! Types only. A password or key is a [`SecretString`], so that it cannot end in a log by accident.

use secrecy::SecretString;

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
