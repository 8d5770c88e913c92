//! An object's reading of its source: Secrets, subscription, newest observation.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::brokers::access::AccessKey;
use crate::brokers::observation::Recalled;
use crate::brokers::sessions::{Keyed, Sessions};
use crate::brokers::{Observation, Problem, Reading, SourceReason, Wake};
use crate::cluster::secrets::{SecretError, Secrets};
use crate::plan::Source;

/// How often an object asks for its Secrets, which as a rule are in the cache: its time decides how often they are read.
const REREAD: Duration = Duration::from_secs(10);
/// When an object is reconciled although nothing else wakes it, to ask for its Secrets.
const REVISIT: Duration = Duration::from_secs(30);

/// One object's source.
#[derive(Debug, Default)]
pub(super) struct Watching {
    source: Option<(Source, Duration)>,
    read_at: Option<Instant>,
    current: Option<Keyed>,
    /// With new credentials, until its first reading: the old one serves meanwhile, so that no poll fails.
    next: Option<Keyed>,
    /// Those to what was asked for before an edit, until there is one to what is asked for now: as a rule both are of
    /// the same session, which must not end in between and lose its connections and its back-off.
    replaced: [Option<Keyed>; 2],
    /// Since when the Secrets are unusable, and why.
    unusable: Option<(Timestamp, Problem)>,
}

impl Watching {
    /// Subscribes by the source and its Secrets as they are now, and returns the newest observation.
    pub(super) async fn observe(
        &mut self,
        source: &Source,
        period: Duration,
        secrets: &Secrets,
        sessions: &Sessions,
        wake: &Wake,
        recalled: Recalled,
    ) -> Option<Arc<Observation>> {
        if self.source.as_ref().is_none_or(|known| *known != (source.clone(), period)) {
            let replaced = [self.current.take(), self.next.take()];
            let replaced =
                if replaced.iter().any(Option::is_some) { replaced } else { take(&mut self.replaced) };
            *self = Self { source: Some((source.clone(), period)), replaced, ..Self::default() };
        }
        if [&mut self.current, &mut self.next].map(forget_if_over).contains(&true) {
            self.read_at = None;
        }
        if self.read_at.is_none_or(|at| at.elapsed() >= REREAD) {
            self.read_at = Some(Instant::now());
            let secrets = if self.is_refused() { secrets.clone().refused() } else { secrets.clone() };
            match sessions.join(source, &secrets, self.key(), (period, wake), recalled).await {
                Ok(changed) => {
                    self.unusable = None;
                    self.replaced = Default::default();
                    self.next = changed.or(self.next.take());
                }
                Err(SecretError::Unusable(problem)) => {
                    (self.current, self.next, self.replaced) = (None, None, Default::default());
                    let since = self.unusable.as_ref().map_or_else(Timestamp::now, |(since, _)| *since);
                    self.unusable = Some((since, problem));
                }
                Err(SecretError::ApiServer(problem)) if self.current.is_none() && self.next.is_none() => {
                    self.unusable = Some((Timestamp::now(), problem));
                }
                Err(SecretError::ApiServer(_)) => {}
            }
        }
        if self.next.as_ref().is_some_and(|(_, next)| next.latest().is_some()) || self.current.is_none() {
            self.current = self.next.take().or(self.current.take());
        }
        match &self.unusable {
            Some((since, problem)) => Some(Arc::new(unusable(*since, problem, period))),
            None => self.current.as_ref().and_then(|(_, subscription)| subscription.latest()),
        }
    }

    /// When the object must be reconciled although no observation may come.
    pub(super) fn next_reconcile(&self) -> Duration {
        if self.is_refused() || self.unusable.is_some() { REREAD } else { REVISIT }
    }

    /// The cluster and credentials of the last subscription made.
    fn key(&self) -> Option<AccessKey> {
        self.next.as_ref().or(self.current.as_ref()).map(|(key, _)| *key)
    }

    /// Whether the broker refuses the credentials.
    fn is_refused(&self) -> bool {
        let latest = self.current.as_ref().and_then(|(_, subscription)| subscription.latest());
        let problem = latest.as_ref().and_then(|observation| observation.reading.problem());
        problem.is_some_and(|problem| {
            matches!(problem.reason, SourceReason::AuthenticationFailed | SourceReason::TLSHandshakeFailed)
        })
    }
}

/// Forgets a subscription from which nothing will come any more. Returns whether it did.
fn forget_if_over(subscription: &mut Option<Keyed>) -> bool {
    subscription.take_if(|(_, subscription)| subscription.is_over()).is_some()
}

/// The polls that fall due while the Secrets are unusable fail, each at its time.
fn unusable(since: Timestamp, problem: &Problem, period: Duration) -> Observation {
    let elapsed = Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or_default();
    let missed = elapsed.as_secs() / period.as_secs().max(1);
    let missed = u32::try_from(missed).unwrap_or(u32::MAX);
    let taken_at = since.checked_add(period.saturating_mul(missed)).unwrap_or(since);
    let failed_polls = missed.saturating_add(1);
    Observation { taken_at, reading: Reading::Unknown(problem.clone()), failed_polls }
}

#[cfg(test)]
mod tests {
    use kube::{Client, Config};
    use tokio::sync::mpsc;

    use super::*;
    use crate::api::{IsolationLevel, OffsetReset};
    use crate::brokers::address::AddressPolicy;
    use crate::brokers::budget::Budget;
    use crate::cluster::secrets::SecretCache;
    use crate::plan::{KafkaInterest, KafkaSource, NameSelector};
    use crate::telemetry::metrics::Metrics;

    /// A cluster that refuses whoever asks: loopback, which is not connected to.
    fn refusing() -> Source {
        Source::Kafka(KafkaSource {
            bootstrap: vec!["127.0.0.1:9092".into()],
            tls: None,
            sasl: None,
            interest: KafkaInterest {
                group: "orders".into(),
                topics: NameSelector::Names(vec!["orders".into()]),
                isolation: IsolationLevel::ReadUncommitted,
                offset_reset: OffsetReset::Latest,
                dead_letters: Vec::new(),
                probe: None,
            },
        })
    }

    #[tokio::test(start_paused = true)]
    async fn edits_of_the_only_object_of_a_session_do_not_end_its_back_off() {
        // Without credentials no Secret is read, so that no API server is needed.
        let client = Client::try_from(Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let secrets = SecretCache::new(client).of("shop");
        let metrics = Metrics::new();
        let sessions = Sessions::new(AddressPolicy::default(), Budget::default(), Arc::clone(&metrics));
        let (wake, mut woken) = mpsc::unbounded_channel();
        let wake: Wake = Arc::new(move || wake.send(()).unwrap());
        let mut watching = Watching::default();
        for seconds in 5..10 {
            let period = Duration::from_secs(seconds);
            assert!(
                watching
                    .observe(&refusing(), period, &secrets, &sessions, &wake, Recalled::default())
                    .await
                    .is_none()
            );
            woken.recv().await.unwrap();
            let observation = watching
                .observe(&refusing(), period, &secrets, &sessions, &wake, Recalled::default())
                .await
                .unwrap();
            assert!(matches!(&observation.reading, Reading::Unknown(problem)
                if problem.reason == SourceReason::AddressDenied));
        }
        let asked = "queuescaler_poll_duration_seconds_count{broker=\"kafka\"} 1\n";
        let metrics = metrics.exposition().unwrap();
        assert!(metrics.contains(asked), "{metrics}");
    }
}
