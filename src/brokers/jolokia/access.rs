//! How brokers with Jolokia agents are reached, and the entries of ActiveMQ Classic and Artemis in the registry of brokers.

use super::{Flavor, JolokiaReader};
use crate::brokers::access::{Credentials, Digest, SecretReader, TlsAccess};
use crate::brokers::address::AddressPolicy;
use crate::brokers::broker::Broker;
use crate::brokers::budget::Budget;
use crate::plan::{JolokiaInterest, JolokiaSource};

/// The brokers of one source with one set of credentials.
#[derive(Clone, Debug)]
pub struct JolokiaAccess {
    /// What kind of brokers they are.
    pub flavor: Flavor,
    /// URLs of the agents, without a trailing slash.
    pub urls: Vec<String>,
    /// Absent: each broker's own.
    pub broker_name: Option<String>,
    /// The header Origin. Absent: scheme, host and port of the URL.
    pub origin: Option<String>,
    /// User and password. Absent: none are sent.
    pub credentials: Option<Credentials>,
    /// Settings for an https URL.
    pub tls: Option<TlsAccess>,
}

async fn access<S: SecretReader>(
    flavor: Flavor,
    source: &JolokiaSource,
    secrets: &S,
) -> Result<JolokiaAccess, S::Error> {
    let credentials = match &source.credentials {
        Some(reference) => Some(secrets.credentials(reference, None).await?),
        None => None,
    };
    Ok(JolokiaAccess {
        flavor,
        urls: source.urls.clone(),
        broker_name: source.broker_name.clone(),
        origin: source.origin.clone(),
        credentials,
        tls: secrets.tls(source.tls.as_ref()).await?,
    })
}

fn identify(access: &JolokiaAccess, digest: &mut Digest) {
    digest.text(&access.urls.len().to_string());
    access.urls.iter().for_each(|url| digest.text(url));
    for optional in [&access.broker_name, &access.origin] {
        digest.present(optional.is_some());
        digest.text(optional.as_deref().unwrap_or_default());
    }
    digest.present(access.credentials.is_some());
    if let Some(credentials) = &access.credentials {
        digest.credentials(credentials);
    }
    digest.tls(access.tls.as_ref());
}

/// ActiveMQ Classic.
#[derive(Debug)]
pub struct ActiveMq;

impl Broker for ActiveMq {
    const NAME: &'static str = "activemq";
    type Source = JolokiaSource;
    type Access = JolokiaAccess;
    type Reader = JolokiaReader;

    async fn access<S: SecretReader>(source: &JolokiaSource, secrets: &S) -> Result<JolokiaAccess, S::Error> {
        access(Flavor::ActiveMq, source, secrets).await
    }

    fn interest(source: &JolokiaSource) -> JolokiaInterest {
        source.interest.clone()
    }

    fn identify(access: &JolokiaAccess, digest: &mut Digest) {
        identify(access, digest);
    }

    fn reader(access: &JolokiaAccess, addresses: &AddressPolicy, _: Budget) -> JolokiaReader {
        JolokiaReader::new(access.clone(), addresses)
    }
}

/// Artemis.
#[derive(Debug)]
pub struct Artemis;

impl Broker for Artemis {
    const NAME: &'static str = "artemis";
    type Source = JolokiaSource;
    type Access = JolokiaAccess;
    type Reader = JolokiaReader;

    async fn access<S: SecretReader>(source: &JolokiaSource, secrets: &S) -> Result<JolokiaAccess, S::Error> {
        access(Flavor::Artemis, source, secrets).await
    }

    fn interest(source: &JolokiaSource) -> JolokiaInterest {
        source.interest.clone()
    }

    fn identify(access: &JolokiaAccess, digest: &mut Digest) {
        identify(access, digest);
    }

    fn reader(access: &JolokiaAccess, addresses: &AddressPolicy, _: Budget) -> JolokiaReader {
        JolokiaReader::new(access.clone(), addresses)
    }
}
