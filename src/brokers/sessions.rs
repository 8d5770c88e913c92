//! All sessions of the operator: finds the one for a cluster and its credentials, or begins it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::Observation;
use super::access::{AccessKey, KafkaAccess, RabbitMqAccess};
use super::address::AddressPolicy;
use super::budget::Budget;
use super::kafka::KafkaReader;
use super::rabbitmq::RabbitMqReader;
use super::reader::Reader;
use super::session::{Command, Receiver, Session, Wake};
use crate::plan::{KafkaInterest, RabbitMqInterest};
use crate::telemetry::metrics::{Metrics, PollMetrics};

/// The sessions, by broker cluster and credentials.
#[derive(Debug)]
pub struct Sessions {
    addresses: AddressPolicy,
    budget: Budget,
    metrics: Arc<Metrics>,
    kafka: Registry<KafkaInterest>,
    rabbitmq: Registry<RabbitMqInterest>,
}

impl Sessions {
    /// No sessions yet. `addresses` says which addresses they are allowed to connect to, `budget` how much they read.
    #[must_use]
    pub fn new(addresses: AddressPolicy, budget: Budget, metrics: Arc<Metrics>) -> Self {
        Self { addresses, budget, metrics, kafka: Registry::default(), rabbitmq: Registry::default() }
    }

    /// Polls a Kafka cluster for this interest until the subscription is dropped.
    pub fn subscribe_kafka(
        &self,
        access: &KafkaAccess,
        interest: KafkaInterest,
        period: Duration,
        wake: Wake,
    ) -> Subscription {
        let (own_access, addresses, budget) = (access.clone(), self.addresses.clone(), self.budget);
        let reader = move || KafkaReader::new(own_access.clone(), addresses.clone(), budget);
        self.kafka.subscribe(access.key(), reader, self.metrics.polls("kafka"), interest, period, wake)
    }

    /// Polls a RabbitMQ broker for this interest until the subscription is dropped.
    pub fn subscribe_rabbitmq(
        &self,
        access: &RabbitMqAccess,
        interest: RabbitMqInterest,
        period: Duration,
        wake: Wake,
    ) -> Subscription {
        let (own_access, addresses, budget) = (access.clone(), self.addresses.clone(), self.budget);
        let reader = move || RabbitMqReader::new(own_access.clone(), addresses.clone(), budget);
        self.rabbitmq.subscribe(access.key(), reader, self.metrics.polls("rabbitmq"), interest, period, wake)
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

#[derive(Debug)]
struct Registry<I> {
    sessions: Mutex<HashMap<AccessKey, Weak<Handle<I>>>>,
    next_id: AtomicU64,
}

impl<I> Default for Registry<I> {
    fn default() -> Self {
        Self { sessions: Mutex::default(), next_id: AtomicU64::new(0) }
    }
}

/// The last one that is dropped ends the session's task.
struct Handle<I> {
    commands: mpsc::UnboundedSender<Command<I>>,
    metrics: PollMetrics,
}

impl<I> std::fmt::Debug for Handle<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("session")
    }
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
        // A session that is gone already needs no word.
        let _ = self.session.commands.send(Command::Unsubscribe { id: self.id });
    }
}

impl<I: Send + Sync + 'static> Registry<I> {
    fn subscribe<R: Reader<Interest = I>>(
        &self,
        key: AccessKey,
        reader: impl Fn() -> R + Send + Sync + 'static,
        metrics: PollMetrics,
        interest: I,
        period: Duration,
        wake: Wake,
    ) -> Subscription {
        let session = self.session(key, reader, metrics);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, observations) = watch::channel(None);
        let interest = Arc::new(interest);
        let _ = session.commands.send(Command::Subscribe { id, interest, period, sender, wake });
        Subscription { observations, _end: Box::new(Unsubscribe { id, session }) }
    }

    fn session<R: Reader<Interest = I>>(
        &self,
        key: AccessKey,
        reader: impl Fn() -> R + Send + Sync + 'static,
        metrics: PollMetrics,
    ) -> Arc<Handle<I>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sessions.get(&key).and_then(Weak::upgrade);
        // One whose task is gone, as after a panic, would never poll again.
        if let Some(session) = known.filter(|session| !session.commands.is_closed()) {
            return session;
        }
        sessions.retain(|_, session| session.strong_count() > 0);
        let (commands, received) = mpsc::unbounded_channel();
        metrics.session_began();
        tokio::spawn(Session::new(reader, received, metrics.clone()).run());
        let session = Arc::new(Handle { commands, metrics });
        sessions.insert(key, Arc::downgrade(&session));
        session
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::NameSelector;

    #[tokio::test(start_paused = true)]
    async fn a_session_whose_task_is_gone_is_replaced_at_the_next_subscription() {
        let sessions = Sessions::new(AddressPolicy::default(), Budget::default(), Metrics::new());
        // Loopback is refused, so that nothing is connected to.
        let access = RabbitMqAccess {
            host: "127.0.0.1".into(),
            amqp_port: 5672,
            management_url: None,
            credentials: crate::brokers::access::Credentials {
                username: "guest".into(),
                password: "guest".into(),
            },
            tls: None,
        };
        let interest =
            RabbitMqInterest { vhost: "/".into(), queues: NameSelector::Names(vec!["orders".into()]) };
        let subscribe = |wake| {
            let period = Duration::from_secs(5);
            sessions.subscribe_rabbitmq(&access, interest.clone(), period, wake)
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
