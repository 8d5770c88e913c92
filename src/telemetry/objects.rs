//! The series of single `QueueScaler`s. One map of samples instead of a map per metric: an object costs little, and
//! its series vanish together.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue};
use prometheus_client::metrics::MetricType;

use crate::api::Mode;

/// What is shown of one object. An absent number has no series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Messages not yet processed.
    pub backlog: Option<u64>,
    /// Seconds that the oldest message has waited.
    pub oldest_age: Option<f64>,
    /// Messages that arrive per second.
    pub arrival_rate: Option<f64>,
    /// Messages that one replica processes per second.
    pub service_rate: Option<f64>,
    /// Seconds until the backlog is gone with the ready replicas.
    pub estimated_drain: Option<f64>,
    /// Dead letters that wait. Absent: there is no place for them, or none of which it is known.
    pub dead_letters: Option<u64>,
    /// Those that came within the last hour. Absent: there is no place for them.
    pub dead_letters_last_hour: Option<u64>,
    /// Places of them that cannot be read or do not exist. Absent: there is no place for them.
    pub dead_letters_unknown: Option<u64>,
    /// Seconds that consumers take for a message, as probes measured it. Absent: none is sent, or it is not known.
    pub probe_delay: Option<f64>,
    /// By kind: current, ready, desired, min, max.
    pub replicas: Vec<(&'static str, i32)>,
    /// By type: True, False or Unknown.
    pub conditions: Vec<(&'static str, &'static str)>,
    /// Alerts that fire, by severity (info, warning, critical) and name (of a built-in alert, or one for all rules).
    pub alerts_firing: Vec<(&'static str, &'static str, i64)>,
    /// Active, DryRun or Paused.
    pub mode: &'static str,
    /// Known, AtLeast or Unknown.
    pub quality: &'static str,
}

impl Sample {
    /// Nothing known but the mode.
    #[must_use]
    pub fn of(mode: Mode) -> Self {
        let mode = match mode {
            Mode::Active => "Active",
            Mode::DryRun => "DryRun",
            Mode::Paused => "Paused",
        };
        Self { mode, quality: "Unknown", ..Self::default() }
    }
}

/// The samples of all objects, by namespace and name.
#[derive(Debug, Default)]
pub struct ObjectMetrics {
    samples: Mutex<BTreeMap<(String, String), Sample>>,
    hidden: AtomicBool,
}

impl ObjectMetrics {
    /// Replaces the sample of an object.
    pub fn set(&self, namespace: &str, name: &str, sample: Sample) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.insert((namespace.to_owned(), name.to_owned()), sample);
    }

    /// Whether the series are part of the exposition: only those of the leader are.
    pub fn show(&self, shown: bool) {
        self.hidden.store(!shown, Ordering::Relaxed);
    }

    /// Ends the series of an object.
    pub fn remove(&self, namespace: &str, name: &str) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.remove(&(namespace.to_owned(), name.to_owned()));
    }
}

impl Collector for ObjectMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let none = BTreeMap::new();
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let samples = if self.hidden.load(Ordering::Relaxed) { &none } else { &*samples };
        let mut exposition = Exposition { encoder: &mut encoder, samples };
        exposition.gauge("backlog", "Messages not yet processed", |sample| series(sample.backlog))?;
        exposition.gauge(
            "oldest_message_age_seconds",
            "Seconds that the oldest message that is not processed has waited; exact, estimated or at least, as \
             oldestMessageAgeBasis in status shows",
            |sample| series(sample.oldest_age),
        )?;
        exposition
            .gauge("arrival_rate", "Messages that arrive per second", |sample| series(sample.arrival_rate))?;
        exposition.gauge(
            "service_rate_per_replica",
            "Messages that one replica processes per second",
            |sample| series(sample.service_rate),
        )?;
        exposition.gauge(
            "estimated_drain_seconds",
            "Seconds until the backlog is gone with the ready replicas",
            |sample| series(sample.estimated_drain),
        )?;
        exposition.gauge("dead_letters", "Messages in the topics or queues of dead letters", |sample| {
            series(sample.dead_letters)
        })?;
        exposition.gauge(
            "dead_letters_last_hour",
            "Messages that came to the topics or queues of dead letters within the last hour",
            |sample| series(sample.dead_letters_last_hour),
        )?;
        exposition.gauge(
            "dead_letters_unknown",
            "Topics or queues of dead letters that do not exist or cannot be read, so that dead_letters lacks them",
            |sample| series(sample.dead_letters_unknown),
        )?;
        exposition.gauge(
            "probe_delay_seconds",
            "Seconds that consumers take for a message that is sent now, of the slowest partition or queue, as spec.probe measures it",
            |sample| series(sample.probe_delay),
        )?;
        exposition.gauge("replicas", "Replicas of the target, by kind", |sample| {
            sample
                .replicas
                .iter()
                .map(|(kind, replicas)| (vec![("kind", *kind)], i64::from(*replicas)))
                .collect()
        })?;
        exposition.gauge("condition", "1 for the status that a condition has", |sample| {
            let condition = |(type_, status): &(&'static str, &'static str)| {
                (vec![("type", *type_), ("status", *status)], 1_i64)
            };
            sample.conditions.iter().map(condition).collect()
        })?;
        let help =
            "Alerts that fire, by severity and by name: a built-in alert, or rule for all of spec.alerts";
        exposition.gauge("alerts_firing", help, |sample| {
            let series = |(severity, alert, count): &(&'static str, &'static str, i64)| {
                (vec![("severity", *severity), ("alert", *alert)], *count)
            };
            sample.alerts_firing.iter().map(series).collect()
        })?;
        exposition.gauge("mode", "1 for the mode of the QueueScaler", |sample| {
            vec![(vec![("mode", sample.mode)], 1_i64)]
        })?;
        exposition.gauge("reading_quality", "1 for the quality of the last reading", |sample| {
            vec![(vec![("quality", sample.quality)], 1_i64)]
        })
    }
}

type Series<V> = Vec<(Vec<(&'static str, &'static str)>, V)>;

fn series<V>(value: Option<V>) -> Series<V> {
    value.into_iter().map(|value| (Vec::new(), value)).collect()
}

struct Exposition<'a, 'e> {
    encoder: &'a mut DescriptorEncoder<'e>,
    samples: &'a BTreeMap<(String, String), Sample>,
}

impl Exposition<'_, '_> {
    fn gauge<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Fn(&Sample) -> Series<V>,
    ) -> Result<(), fmt::Error> {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for ((namespace, name), sample) in self.samples {
            for (labels, value) in series(sample) {
                let mut all = vec![("namespace", namespace.as_str()), ("name", name.as_str())];
                all.extend(labels);
                family.encode_family(&all)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn series_carry_the_objects_names_and_vanish_with_it() {
        let metrics = Metrics::new();
        metrics.leads_while(|| true);
        let sample = Sample {
            backlog: Some(48_000),
            replicas: vec![("current", 6)],
            conditions: vec![("Ready", "True")],
            mode: "Active",
            quality: "Known",
            ..Sample::default()
        };
        metrics.objects().set("shop", "orders", sample);
        let text = metrics.exposition().unwrap();
        for line in [
            r#"queuescaler_backlog{namespace="shop",name="orders"} 48000"#,
            r#"queuescaler_replicas{namespace="shop",name="orders",kind="current"} 6"#,
            r#"queuescaler_condition{namespace="shop",name="orders",type="Ready",status="True"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("queuescaler_arrival_rate{"), "an absent number has no series");
        metrics.objects().remove("shop", "orders");
        assert!(!metrics.exposition().unwrap().contains("shop"));
    }
}
