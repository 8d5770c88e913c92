//! What a kind of broker implements: how it is reached, what is asked of it, and who reads it.
//!
//! [`Sessions`](super::sessions::Sessions) is the registry of brokers: a kind of broker is a folder here that implements
//! [`Broker`], and one line there.

use super::access::{AccessKey, Digest, SecretReader};
use super::address::AddressPolicy;
use super::budget::Budget;
use super::reader::Reader;

/// A kind of broker, such as Kafka.
pub trait Broker: 'static {
    /// Its name as a value of metric labels.
    const NAME: &'static str;
    /// Its part of a checked plan: addresses, the Secrets that are named, and what is read.
    type Source: Sync;
    /// How one cluster is reached, with every Secret read.
    type Access: Clone + Send + Sync + 'static;
    /// Reads one cluster with one set of credentials.
    type Reader: Reader;

    /// Reads the Secrets that the source names.
    ///
    /// # Errors
    /// Those of the [`SecretReader`].
    fn access<S: SecretReader>(
        source: &Self::Source,
        secrets: &S,
    ) -> impl Future<Output = Result<Self::Access, S::Error>> + Send;

    /// What one object wants to know of the cluster.
    fn interest(source: &Self::Source) -> InterestOf<Self>;

    /// Adds everything that distinguishes a cluster and its credentials from others.
    fn identify(access: &Self::Access, digest: &mut Digest);

    /// A reader, not connected yet. `addresses` says where it is allowed to connect to, `budget` how much it reads.
    fn reader(access: &Self::Access, addresses: &AddressPolicy, budget: Budget) -> Self::Reader;

    /// The key of a cluster and its credentials.
    fn key(access: &Self::Access) -> AccessKey {
        let mut digest = Digest::new(Self::NAME);
        Self::identify(access, &mut digest);
        digest.finish()
    }
}

/// What an object wants to know of a broker.
pub type InterestOf<B> = <<B as Broker>::Reader as Reader>::Interest;
