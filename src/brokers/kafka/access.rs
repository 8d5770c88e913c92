//! How a Kafka cluster is reached, and Kafka's entry in the registry of brokers.

use std::collections::BTreeSet;

use super::KafkaReader;
use crate::api::SaslMechanism;
use crate::brokers::Problem;
use crate::brokers::access::{Credentials, Digest, SecretReader, TlsAccess};
use crate::brokers::address::AddressPolicy;
use crate::brokers::broker::Broker;
use crate::brokers::budget::Budget;
use crate::plan::{KafkaInterest, KafkaSource};

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

/// SASL mechanism, user and password.
#[derive(Clone, Debug)]
pub struct SaslAccess {
    /// How to authenticate.
    pub mechanism: SaslMechanism,
    /// User and password.
    pub credentials: Credentials,
}

/// Apache Kafka and what speaks its protocol.
#[derive(Debug)]
pub struct Kafka;

impl Broker for Kafka {
    const NAME: &'static str = "kafka";
    type Source = KafkaSource;
    type Access = KafkaAccess;
    type Reader = Result<KafkaReader, Problem>;

    async fn access<S: SecretReader>(source: &KafkaSource, secrets: &S) -> Result<KafkaAccess, S::Error> {
        let sasl = match &source.sasl {
            None => None,
            Some(sasl) => Some(SaslAccess {
                mechanism: sasl.mechanism,
                credentials: secrets.credentials(&sasl.credentials, sasl.username.as_deref()).await?,
            }),
        };
        let tls = secrets.tls(source.tls.as_ref()).await?;
        Ok(KafkaAccess { bootstrap: source.bootstrap.clone(), tls, sasl })
    }

    fn interest(source: &KafkaSource) -> KafkaInterest {
        source.interest.clone()
    }

    fn identify(access: &KafkaAccess, digest: &mut Digest) {
        // A set: whatever the order, it is the same cluster.
        let servers: BTreeSet<&String> = access.bootstrap.iter().collect();
        servers.into_iter().for_each(|server| digest.text(server));
        digest.tls(access.tls.as_ref());
        digest.present(access.sasl.is_some());
        if let Some(sasl) = &access.sasl {
            digest.text(&format!("{:?}", sasl.mechanism));
            digest.credentials(&sasl.credentials);
        }
    }

    fn reader(access: &KafkaAccess, addresses: &AddressPolicy, budget: Budget) -> Self::Reader {
        KafkaReader::new(access.clone(), addresses.clone(), budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_order_shares_a_session_and_another_server_does_not() {
        let key = |servers: &[&str]| {
            let bootstrap = servers.iter().map(|server| (*server).to_owned()).collect();
            Kafka::key(&KafkaAccess { bootstrap, tls: None, sasl: None })
        };
        assert_eq!(key(&["a:9092", "b:9092"]), key(&["b:9092", "a:9092", "b:9092"]));
        assert_ne!(key(&["a:9092", "b:9092"]), key(&["a:9092"]));
    }
}
