//! How a Kafka cluster is reached, and Kafka's entry in the registry of brokers.

use std::collections::{BTreeMap, BTreeSet};

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
    /// User and password, or identifier and secret of the client of a token server.
    pub credentials: Credentials,
    /// Present with OAuthBearer: where tokens come from.
    pub oauth: Option<OAuthAccess>,
}

/// A token server.
#[derive(Clone, Debug)]
pub struct OAuthAccess {
    /// URL of its token endpoint.
    pub token_url: String,
    /// The scope that is asked for.
    pub scope: Option<String>,
    /// The audience that is asked for.
    pub audience: Option<String>,
    /// Extensions of SASL for the brokers.
    pub extensions: BTreeMap<String, String>,
    /// How its certificate is verified. Absent: by the authorities that the system trusts.
    pub tls: Option<TlsAccess>,
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
                oauth: match &sasl.oauth {
                    None => None,
                    Some(oauth) => Some(OAuthAccess {
                        token_url: oauth.token_url.clone(),
                        scope: oauth.scope.clone(),
                        audience: oauth.audience.clone(),
                        extensions: oauth.extensions.clone(),
                        tls: secrets.tls(oauth.tls.as_ref()).await?,
                    }),
                },
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
            digest.present(sasl.oauth.is_some());
            if let Some(oauth) = &sasl.oauth {
                // Debug tells an absent text from an empty one, and shows no secret: there is none but in tls.
                let OAuthAccess { token_url, scope, audience, extensions, tls } = oauth;
                digest.text(&format!("{token_url:?} {scope:?} {audience:?} {extensions:?}"));
                digest.tls(tls.as_ref());
            }
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
