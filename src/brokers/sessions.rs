//! All sessions of the operator, and the registry of brokers: finds the session for a cluster and its credentials, or
//! begins it.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::access::{AccessKey, SecretReader};
use super::address::AddressPolicy;
use super::broker::{Broker, InterestOf};
use super::budget::Budget;
use super::jolokia::access::{ActiveMq, Artemis};
use super::kafka::access::{Kafka, KafkaAccess};
use super::kafka::admin::KafkaAdmin;
use super::observation::Recalled;
use super::pulsar::access::Pulsar;
use super::rabbitmq::access::{RabbitMq, RabbitMqAccess};
use super::rabbitmq::admin::RabbitMqAdmin;
use super::rocketmq::access::RocketMq;
use super::session::{Command, Receiver, Session, Wake};
use super::{Observation, Problem};
use crate::plan::Source;
use crate::telemetry::metrics::{Metrics, PollMetrics};

/// The sessions, by broker cluster and credentials.
#[derive(Debug)]
pub struct Sessions {
    addresses: AddressPolicy,
    budget: Budget,
    metrics: Arc<Metrics>,
    /// Each is a [`Handle`] of its broker's interest: an [`AccessKey`] is made of the broker's name, too.
    running: Mutex<HashMap<AccessKey, Weak<dyn Any + Send + Sync>>>,
    next_id: AtomicU64,
}

/// A subscription, and the cluster and credentials that it is to.
pub type Keyed = (AccessKey, Subscription);

impl Sessions {
    /// No sessions yet. `addresses` says which addresses they are allowed to connect to, `budget` how much they read.
    #[must_use]
    pub fn new(addresses: AddressPolicy, budget: Budget, metrics: Arc<Metrics>) -> Self {
        Self { addresses, budget, metrics, running: Mutex::default(), next_id: AtomicU64::new(0) }
    }

    /// The registry of brokers: reads the Secrets that the source names, and polls its cluster until the subscription
    /// is dropped. Absent where the Secrets lead to `current`, so that the subscription to that serves on.
    ///
    /// # Errors
    /// A Secret cannot be had.
    pub async fn join<S: SecretReader>(
        &self,
        source: &Source,
        secrets: &S,
        current: Option<AccessKey>,
        (period, wake): (Duration, &Wake),
        recalled: Recalled,
    ) -> Result<Option<Keyed>, S::Error> {
        match source {
            Source::Kafka(source) => {
                self.join_as::<Kafka, S>(source, secrets, current, (period, wake), recalled).await
            }
            Source::RabbitMq(source) => {
                self.join_as::<RabbitMq, S>(source, secrets, current, (period, wake), recalled).await
            }
            Source::ActiveMq(source) => {
                self.join_as::<ActiveMq, S>(source, secrets, current, (period, wake), recalled).await
            }
            Source::Artemis(source) => {
                self.join_as::<Artemis, S>(source, secrets, current, (period, wake), recalled).await
            }
            Source::Pulsar(source) => {
                self.join_as::<Pulsar, S>(source, secrets, current, (period, wake), recalled).await
            }
            Source::RocketMq(source) => {
                self.join_as::<RocketMq, S>(source, secrets, current, (period, wake), recalled).await
            }
        }
    }

    async fn join_as<B: Broker, S: SecretReader>(
        &self,
        source: &B::Source,
        secrets: &S,
        current: Option<AccessKey>,
        (period, wake): (Duration, &Wake),
        recalled: Recalled,
    ) -> Result<Option<Keyed>, S::Error> {
        let access = B::access(source, secrets).await?;
        let key = B::key(&access);
        let subscribe =
            || self.subscribe::<B>(&access, B::interest(source), recalled, period, Arc::clone(wake));
        Ok((current != Some(key)).then(|| (key, subscribe())))
    }

    /// An administrator of a Kafka cluster, within the same limits. Nothing is connected yet.
    ///
    /// # Errors
    /// Certificates, keys or a bootstrap server cannot be used.
    pub fn kafka_admin(&self, access: KafkaAccess) -> Result<KafkaAdmin, Problem> {
        KafkaAdmin::new(access, &self.addresses, self.budget)
    }

    /// An administrator of a RabbitMQ broker, within the same limits. Nothing is connected yet.
    ///
    /// # Errors
    /// Certificates, keys or a URL cannot be used, or there is no management API.
    pub fn rabbitmq_admin(&self, access: &RabbitMqAccess) -> Result<RabbitMqAdmin, Problem> {
        RabbitMqAdmin::new(access, &self.addresses)
    }

    /// Polls a cluster for this interest until the subscription is dropped.
    pub fn subscribe<B: Broker>(
        &self,
        access: &B::Access,
        interest: InterestOf<B>,
        recalled: Recalled,
        period: Duration,
        wake: Wake,
    ) -> Subscription {
        let session = self.session::<B>(access);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, observations) = watch::channel(None);
        let interest = Arc::new(interest);
        let _ = session.commands.send(Command::Subscribe { id, interest, recalled, period, sender, wake });
        Subscription { observations, _end: Box::new(Unsubscribe { id, session }) }
    }

    fn session<B: Broker>(&self, access: &B::Access) -> Arc<Handle<InterestOf<B>>> {
        let key = B::key(access);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let known = running.get(&key).and_then(Weak::upgrade).and_then(|session| session.downcast().ok());
        // One whose task is gone, as after a panic, would never poll again.
        if let Some(session) = known.filter(|session: &Arc<Handle<_>>| !session.commands.is_closed()) {
            return session;
        }
        running.retain(|_, session| session.strong_count() > 0);
        let metrics = self.metrics.polls(B::NAME);
        metrics.session_began();
        let (commands, received) = mpsc::unbounded_channel();
        let (access, addresses, budget) = (access.clone(), self.addresses.clone(), self.budget);
        let reader = move || B::reader(&access, &addresses, budget);
        tokio::spawn(Session::new(reader, received, metrics.clone()).run());
        let session = Arc::new(Handle { commands, metrics });
        let erased: Arc<dyn Any + Send + Sync> = session.clone();
        running.insert(key, Arc::downgrade(&erased));
        session
    }
}

/// A running interest. Dropping it ends the polling.
pub struct Subscription {
    observations: Receiver,
    _end: Box<dyn Send + Sync>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Subscription").field(&self.latest()).finish()
    }
}

impl Subscription {
    /// The newest observation, `None` before the first.
    #[must_use]
    pub fn latest(&self) -> Option<Arc<Observation>> {
        self.observations.borrow().clone()
    }

    /// No observation will come any more: the session is gone. Subscribe anew.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.observations.has_changed().is_err()
    }
}

/// The last one that is dropped ends the session's task.
struct Handle<I> {
    commands: mpsc::UnboundedSender<Command<I>>,
    metrics: PollMetrics,
}

impl<I> Drop for Handle<I> {
    fn drop(&mut self) {
        self.metrics.session_ended();
    }
}

struct Unsubscribe<I> {
    id: u64,
    session: Arc<Handle<I>>,
}

impl<I> Drop for Unsubscribe<I> {
    fn drop(&mut self) {
        // A session that is gone already needs no message.
        let _ = self.session.commands.send(Command::Unsubscribe { id: self.id });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::access::Credentials;
    use crate::plan::{NameSelector, RabbitMqInterest};

    #[tokio::test(start_paused = true)]
    async fn a_session_whose_task_panicked_is_replaced() {
        let sessions = Sessions::new(AddressPolicy::default(), Budget::default(), Metrics::new());
        // Loopback is refused, so that nothing is connected to.
        let access = RabbitMqAccess {
            host: "127.0.0.1".into(),
            amqp_port: 5672,
            management_url: None,
            credentials: Credentials { username: "guest".into(), password: "guest".into() },
            tls: None,
        };
        let interest = RabbitMqInterest {
            vhost: "/".into(),
            queues: NameSelector::Names(vec!["orders".into()]),
            dead_letters: Vec::new(),
            probe: None,
        };
        let subscribe = |wake| {
            let period = Duration::from_secs(5);
            sessions.subscribe::<RabbitMq>(&access, interest.clone(), Recalled::default(), period, wake)
        };
        let mut doomed = subscribe(Arc::new(|| panic!("a test's panic")));
        assert!(!doomed.is_over());
        while doomed.observations.changed().await.is_ok() {}
        assert!(doomed.is_over());
        let (wake, mut woken) = mpsc::unbounded_channel();
        let heir = subscribe(Arc::new(move || wake.send(()).unwrap()));
        woken.recv().await.unwrap();
        assert!(heir.latest().is_some());
    }
}
