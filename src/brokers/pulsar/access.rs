//! How a Pulsar cluster is reached, and Pulsar's entry in the registry of brokers.

use secrecy::{ExposeSecret, SecretString};

use super::PulsarReader;
use crate::brokers::access::{Digest, SecretReader, TlsAccess};
use crate::brokers::address::AddressPolicy;
use crate::brokers::broker::Broker;
use crate::brokers::budget::Budget;
use crate::plan::{PulsarInterest, PulsarSource};

/// A Pulsar cluster with one token.
#[derive(Clone, Debug)]
pub struct PulsarAccess {
    /// Base URLs of the admin API, without a trailing slash.
    pub admin_urls: Vec<String>,
    /// Absent: none is sent.
    pub token: Option<SecretString>,
    /// Settings for an https URL.
    pub tls: Option<TlsAccess>,
}

/// Pulsar, by its admin API.
#[derive(Debug)]
pub struct Pulsar;

impl Broker for Pulsar {
    const NAME: &'static str = "pulsar";
    type Source = PulsarSource;
    type Access = PulsarAccess;
    type Reader = PulsarReader;

    async fn access<S: SecretReader>(source: &PulsarSource, secrets: &S) -> Result<PulsarAccess, S::Error> {
        let token = match &source.token {
            Some(reference) => Some(secrets.token(reference).await?),
            None => None,
        };
        Ok(PulsarAccess {
            admin_urls: source.admin_urls.clone(),
            token,
            tls: secrets.tls(source.tls.as_ref()).await?,
        })
    }

    fn interest(source: &PulsarSource) -> PulsarInterest {
        source.interest.clone()
    }

    fn identify(access: &PulsarAccess, digest: &mut Digest) {
        digest.text(&access.admin_urls.len().to_string());
        access.admin_urls.iter().for_each(|url| digest.text(url));
        digest.present(access.token.is_some());
        digest.text(access.token.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default());
        digest.tls(access.tls.as_ref());
    }

    fn reader(access: &PulsarAccess, addresses: &AddressPolicy, _: Budget) -> PulsarReader {
        PulsarReader::new(access.clone(), addresses)
    }
}
