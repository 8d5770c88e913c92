//! The series of single `QueueDrain`s.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use crate::api::{DrainState, DrainStep};

/// What is shown of one drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// What becomes of it.
    pub state: DrainState,
    /// Its step.
    pub step: DrainStep,
    /// Messages copied.
    pub copied: i64,
    /// Copied messages that are consumed.
    pub consumed: i64,
    /// Messages to copy.
    pub total: i64,
    /// It takes longer than its deadline.
    pub is_late: bool,
    /// The estimate of the plan.
    pub estimated_seconds: Option<i64>,
    /// What it took until the target had its replicas back.
    pub took_seconds: Option<i64>,
}

/// The samples of all drains, by namespace and name.
#[derive(Debug, Default)]
pub struct DrainMetrics {
    samples: Mutex<BTreeMap<(String, String), Sample>>,
    hidden: AtomicBool,
}

impl DrainMetrics {
    /// Replaces the sample of a drain.
    pub fn set(&self, namespace: &str, name: &str, sample: Sample) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.insert((namespace.to_owned(), name.to_owned()), sample);
    }

    /// Whether the series are part of the exposition: only those of the leader are.
    pub(super) fn show(&self, shown: bool) {
        self.hidden.store(!shown, Ordering::Relaxed);
    }

    /// Ends the series of a drain.
    pub fn remove(&self, namespace: &str, name: &str) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.remove(&(namespace.to_owned(), name.to_owned()));
    }
}

/// A metric: its name, its help, and its value for a drain.
type Number = (&'static str, &'static str, fn(&Sample) -> Option<i64>);

const NUMBERS: [Number; 6] = [
    ("drain_messages_copied", "Messages that a drain has copied", |it| Some(it.copied)),
    ("drain_messages_consumed", "Copied messages that the pods of a drain have consumed", |it| {
        Some(it.consumed)
    }),
    ("drain_messages", "Messages that a drain is to copy", |it| Some(it.total)),
    ("drain_late", "1 while a drain takes longer than its deadline", |it| Some(i64::from(it.is_late))),
    ("drain_estimated_seconds", "Seconds until the backlog is consumed, by the plan of a drain", |it| {
        it.estimated_seconds
    }),
    (
        "drain_took_seconds",
        "Seconds from the start of a drain until its target had its replicas back",
        |it| it.took_seconds,
    ),
];

impl Collector for DrainMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let none = BTreeMap::new();
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let samples = if self.hidden.load(Ordering::Relaxed) { &none } else { &*samples };
        let mut family = encoder.encode_descriptor(
            "drain_phase",
            "1 for the state and the step that a drain is in",
            None,
            MetricType::Gauge,
        )?;
        for ((namespace, name), sample) in samples {
            let (state, step) = (format!("{:?}", sample.state), format!("{:?}", sample.step));
            let labels = [
                ("namespace", namespace.as_str()),
                ("name", name.as_str()),
                ("state", state.as_str()),
                ("step", step.as_str()),
            ];
            family.encode_family(&labels)?.encode_gauge(&1_i64)?;
        }
        for (metric, help, value) in NUMBERS {
            let mut family = encoder.encode_descriptor(metric, help, None, MetricType::Gauge)?;
            for ((namespace, name), sample) in samples {
                if let Some(value) = value(sample) {
                    let labels = [("namespace", namespace.as_str()), ("name", name.as_str())];
                    family.encode_family(&labels)?.encode_gauge(&value)?;
                }
            }
        }
        Ok(())
    }
}
