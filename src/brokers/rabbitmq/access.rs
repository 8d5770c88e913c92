//! How a RabbitMQ broker is reached, and RabbitMQ's entry in the registry of brokers.

use secrecy::SecretString;

use super::RabbitMqReader;
use crate::brokers::access::{Credentials, Digest, SecretReader, TlsAccess};
use crate::brokers::address::AddressPolicy;
use crate::brokers::broker::Broker;
use crate::brokers::budget::Budget;
use crate::plan::{RabbitMqInterest, RabbitMqSource};

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

/// RabbitMQ, by AMQP 0-9-1 and its management API.
#[derive(Debug)]
pub struct RabbitMq;

impl Broker for RabbitMq {
    const NAME: &'static str = "rabbitmq";
    type Source = RabbitMqSource;
    type Access = RabbitMqAccess;
    type Reader = RabbitMqReader;

    async fn access<S: SecretReader>(
        source: &RabbitMqSource,
        secrets: &S,
    ) -> Result<RabbitMqAccess, S::Error> {
        let credentials = match &source.credentials {
            Some(reference) => secrets.credentials(reference, None).await?,
            // The user that every RabbitMQ is created with; brokers accept it from their own machine only
            // (loopback_users).
            None => Credentials { username: "guest".into(), password: SecretString::from("guest") },
        };
        Ok(RabbitMqAccess {
            host: source.host.clone(),
            amqp_port: source.amqp_port,
            management_url: source.management_url.clone(),
            credentials,
            tls: secrets.tls(source.tls.as_ref()).await?,
        })
    }

    fn interest(source: &RabbitMqSource) -> RabbitMqInterest {
        source.interest.clone()
    }

    fn identify(access: &RabbitMqAccess, digest: &mut Digest) {
        digest.text(&access.host);
        digest.text(&access.amqp_port.to_string());
        digest.text(access.management_url.as_deref().unwrap_or_default());
        digest.credentials(&access.credentials);
        digest.tls(access.tls.as_ref());
    }

    fn reader(access: &RabbitMqAccess, addresses: &AddressPolicy, budget: Budget) -> RabbitMqReader {
        RabbitMqReader::new(access.clone(), addresses.clone(), budget)
    }
}
