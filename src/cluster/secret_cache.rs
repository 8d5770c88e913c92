//! Secrets as they were last read, shared by all objects that name them.
//!
//! A Secret is read by name (the operator has no right to list or watch Secrets, so that it cannot collect what nobody
//! pointed it to), and by one request at a time however many objects name it. While it stays the same it is read ever
//! less often; while its credentials are refused, or it is missing, a correction is seen soon.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use secrecy::SecretSlice;
use tokio::time::{Instant, timeout};

/// Longest wait for the API server.
const DEADLINE: Duration = Duration::from_secs(5);
/// Time between two reads of a Secret that has just changed. It doubles each time that nothing has changed …
const SHORTEST: Duration = Duration::from_secs(30);
/// … up to this: by then at the latest a new password is used while the old one still works.
const LONGEST: Duration = Duration::from_secs(300);
/// The same while what it holds is refused, and after a Secret could not be read.
pub(super) const REFUSED: Duration = Duration::from_secs(10);

/// The data of a Secret.
pub(super) type Data = HashMap<String, SecretSlice<u8>>;

/// Namespace and name.
type Key = (String, String);

/// All Secrets that are in use.
#[derive(Clone)]
pub struct SecretCache {
    client: Client,
    entries: Arc<Mutex<HashMap<Key, Arc<Entry>>>>,
}

impl std::fmt::Debug for SecretCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("secrets")
    }
}

/// One Secret. Who reads it holds the lock, and the others wait for the same answer.
#[derive(Default)]
struct Entry(tokio::sync::Mutex<Option<Read>>);

struct Read {
    at: Instant,
    /// How long this holds, unless a shorter time is asked for.
    period: Duration,
    version: Option<String>,
    found: Result<Arc<Data>, Unreadable>,
}

/// Why a Secret cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    Missing,
    Forbidden,
    /// The API server does not answer.
    NoAnswer,
}

impl SecretCache {
    /// Nothing read yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, entries: Arc::default() }
    }

    /// The data of a Secret, no older than its period, and than `at_most` if that is shorter.
    pub(super) async fn get(&self, key: &Key, at_most: Duration) -> Result<Arc<Data>, Unreadable> {
        let entry = self.entry(key);
        let mut read = entry.0.lock().await;
        if let Some(known) = read.as_ref().filter(|known| known.at.elapsed() < known.period.min(at_most)) {
            return known.found.clone();
        }
        let answer = self.request(key).await;
        // Without an answer what was read before may still be right, but nobody is to ask again at each poll.
        let (version, found) = match answer {
            Ok((version, data)) => (version, Ok(data)),
            Err(problem) => (None, Err(problem)),
        };
        let unchanged =
            |known: &&Read| known.found.is_ok() && known.version.is_some() && known.version == version;
        let period = match read.as_ref().filter(unchanged) {
            _ if found.is_err() => REFUSED,
            Some(known) => known.period.saturating_mul(2).clamp(SHORTEST, LONGEST),
            None => SHORTEST,
        };
        *read = Some(Read { at: Instant::now(), period, version, found: found.clone() });
        found
    }

    fn entry(&self, key: &Key) -> Arc<Entry> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if !entries.contains_key(key) {
            // What nobody has asked for since long before it would be read again is not in use.
            entries.retain(|_, entry| {
                Arc::strong_count(entry) > 1
                    || entry
                        .0
                        .try_lock()
                        .is_ok_and(|read| read.as_ref().is_some_and(|read| read.at.elapsed() < 2 * LONGEST))
            });
        }
        Arc::clone(entries.entry(key.clone()).or_default())
    }

    async fn request(&self, (namespace, name): &Key) -> Result<(Option<String>, Arc<Data>), Unreadable> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        match timeout(DEADLINE, api.get(name)).await {
            Ok(Ok(secret)) => {
                let data = secret.data.unwrap_or_default().into_iter();
                let data = data.map(|(key, value)| (key, SecretSlice::from(value.0))).collect();
                Ok((secret.metadata.resource_version, Arc::new(data)))
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(Unreadable::Missing),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(Unreadable::Forbidden),
            Ok(Err(_)) | Err(_) => Err(Unreadable::NoAnswer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    /// A cache in front of an API server whose Secret has this version, 0 for none, and how often that was asked.
    fn cache(version: &Arc<AtomicUsize>) -> (SecretCache, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let (counted, version) = (Arc::clone(&asked), Arc::clone(version));
        let service = tower::service_fn(move |_: Request<Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            let version = version.load(Ordering::Relaxed);
            let secret =
                serde_json::json!({"metadata": {"name": "kafka", "resourceVersion": version.to_string()}});
            let status = if version == 0 { 404 } else { 200 };
            let answer = Response::builder().status(status).body(Body::from(secret.to_string().into_bytes()));
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok::<_, Infallible>(answer.unwrap())
            }
        });
        (SecretCache::new(Client::new(service, "shop")), asked)
    }

    /// As many objects as share a Secret, each at its poll for this long.
    async fn polled(cache: &SecretCache, minutes: u64, at_most: Duration) {
        let key = ("shop".to_owned(), "kafka".to_owned());
        for _ in 0..minutes * 12 {
            let all = (0..100).map(|_| cache.get(&key, at_most));
            futures::future::join_all(all).await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn objects_share_a_secret_and_ask_ever_less_often_while_it_stays() {
        let version = Arc::new(AtomicUsize::new(1));
        let (cache, asked) = cache(&version);
        polled(&cache, 60, LONGEST).await;
        let first = asked.swap(0, Ordering::Relaxed);
        assert!(first <= 17, "{first} requests in the first hour");
        polled(&cache, 60, LONGEST).await;
        let second = asked.swap(0, Ordering::Relaxed);
        assert!(second <= 12, "{second} requests in the second hour");
        // A change is seen within the period, and watched closely from then on.
        version.store(2, Ordering::Relaxed);
        polled(&cache, 10, LONGEST).await;
        let after = asked.load(Ordering::Relaxed);
        assert!((4..=8).contains(&after), "{after} requests after a change");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_or_missing_secret_is_read_again_soon() {
        for (version, at_most) in [(1, REFUSED), (0, LONGEST)] {
            let version = Arc::new(AtomicUsize::new(version));
            let (cache, asked) = cache(&version);
            polled(&cache, 10, at_most).await;
            let asked = asked.load(Ordering::Relaxed);
            assert!((40..=60).contains(&asked), "{asked} requests in ten minutes");
        }
    }
}
