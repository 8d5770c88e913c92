//! How a RocketMQ cluster is reached, and RocketMQ's entry in the registry of brokers.

use std::collections::BTreeSet;

use super::RocketMqReader;
use crate::brokers::Problem;
use crate::brokers::access::{Credentials, Digest, SecretReader, TlsAccess};
use crate::brokers::address::AddressPolicy;
use crate::brokers::broker::Broker;
use crate::brokers::budget::Budget;
use crate::plan::{RocketMqInterest, RocketMqSource};

/// A RocketMQ cluster with one set of credentials.
#[derive(Clone, Debug)]
pub struct RocketMqAccess {
    /// `host:port` of the name servers.
    pub name_servers: Vec<String>,
    /// Access key and secret key. Absent: requests are not signed.
    pub credentials: Option<Credentials>,
    /// Present: TLS.
    pub tls: Option<TlsAccess>,
}

/// Apache RocketMQ, by its remoting protocol.
#[derive(Debug)]
pub struct RocketMq;

impl Broker for RocketMq {
    const NAME: &'static str = "rocketmq";
    type Source = RocketMqSource;
    type Access = RocketMqAccess;
    type Reader = Result<RocketMqReader, Problem>;

    async fn access<S: SecretReader>(
        source: &RocketMqSource,
        secrets: &S,
    ) -> Result<RocketMqAccess, S::Error> {
        let credentials = match &source.credentials {
            Some(reference) => Some(secrets.credentials(reference, None).await?),
            None => None,
        };
        Ok(RocketMqAccess {
            name_servers: source.name_servers.clone(),
            credentials,
            tls: secrets.tls(source.tls.as_ref()).await?,
        })
    }

    fn interest(source: &RocketMqSource) -> RocketMqInterest {
        source.interest.clone()
    }

    fn identify(access: &RocketMqAccess, digest: &mut Digest) {
        // A set: whatever the order, it is the same cluster.
        let servers: BTreeSet<&String> = access.name_servers.iter().collect();
        digest.text(&servers.len().to_string());
        servers.into_iter().for_each(|server| digest.text(server));
        digest.present(access.credentials.is_some());
        if let Some(credentials) = &access.credentials {
            digest.credentials(credentials);
        }
        digest.tls(access.tls.as_ref());
    }

    fn reader(access: &RocketMqAccess, addresses: &AddressPolicy, budget: Budget) -> Self::Reader {
        RocketMqReader::new(access.clone(), addresses, budget)
    }
}
