//! The memory of a drain from one reconcile to the next. All of it may be lost: the journal is in its status.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt;
use tokio::time::Instant;

use super::queue::Emptiness;
use crate::api::drain_status::DrainPlan;
use crate::api::{QueueDrain, QueueScaler};
use crate::brokers::access::AccessKey;
use crate::brokers::kafka::admin::KafkaAdmin;
use crate::brokers::rabbitmq::admin::RabbitMqAdmin;
use crate::controllers::claims::Key;
use crate::drain::report::Sample;
use crate::plan::{Plan, validate};

/// The memories of all drains.
#[derive(Debug, Default)]
pub(in crate::controllers) struct DrainMemories(Mutex<HashMap<Key, Arc<tokio::sync::Mutex<Memory>>>>);

impl DrainMemories {
    /// The memory of a drain, new if there is none.
    pub(super) fn of(&self, key: &Key) -> Arc<tokio::sync::Mutex<Memory>> {
        let mut memories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(memories.entry(key.clone()).or_default())
    }

    /// Forgets a drain.
    pub(in crate::controllers) fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// What is remembered of one drain.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The object as it was last written, which the watch may not have seen yet.
    latest: Option<QueueDrain>,
    /// Identity and generation of the `QueueScaler`, and its plan.
    plan: Option<(Option<String>, Option<i64>, Arc<Plan>)>,
    /// The connection to the cluster.
    pub(super) admin: Option<(AccessKey, KafkaAdmin)>,
    /// The same of a RabbitMQ broker.
    pub(super) rabbitmq: Option<(AccessKey, RabbitMqAdmin)>,
    /// The generation for which a temporary queue was declared and deleted.
    pub(super) tried: Option<i64>,
    /// This process has declared and bound all temporary queues of the run.
    pub(super) is_created: bool,
    /// Since when all temporary queues are there, as this process knows.
    pub(super) all_since: Option<Instant>,
    /// Since when the temporary queues are empty.
    pub(super) empty: Option<Emptiness>,
    /// When the plan was calculated, for which generation, and what came of it.
    pub(super) planned: Option<(Instant, Option<i64>, DrainPlan)>,
    /// What was counted for rates.
    pub(super) sample: Option<Sample>,
    /// When the status was last written.
    pub(super) written: Option<Instant>,
    /// What an effect of this step came to that trying again does not change.
    pub(super) refusal: Option<(String, String)>,
    /// The namespace is being deleted.
    pub(super) namespace_ends: bool,
}

impl Memory {
    /// The later one of what the watch saw and what was last written: an old journal must not be acted on.
    pub(super) fn latest(&mut self, watched: &QueueDrain) -> QueueDrain {
        let version = |object: &QueueDrain| object.resource_version()?.parse::<u128>().ok();
        let is_later =
            |known: &&QueueDrain| known.uid() == watched.uid() && version(known) > version(watched);
        if let Some(known) = self.latest.as_ref().filter(is_later) {
            return known.clone();
        }
        if self.latest.as_ref().is_some_and(|known| known.uid() != watched.uid()) {
            *self = Self::default();
        }
        self.latest = None;
        watched.clone()
    }

    /// Notes a version that was written.
    pub(super) fn wrote(&mut self, object: &QueueDrain) {
        self.latest = Some(object.clone());
        self.written = Some(Instant::now());
    }

    /// The plan of the `QueueScaler`'s generation. Absent: it is invalid.
    pub(super) fn plan(&mut self, scaler: &QueueScaler, namespace: &str) -> Option<Arc<Plan>> {
        let (uid, generation) = (scaler.uid(), scaler.metadata.generation);
        if let Some((known, of, plan)) = &self.plan
            && (known, of) == (&uid, &generation)
        {
            return Some(Arc::clone(plan));
        }
        let plan = Arc::new(validate(scaler, namespace).ok()?);
        self.plan = Some((uid, generation, Arc::clone(&plan)));
        Some(plan)
    }
}
