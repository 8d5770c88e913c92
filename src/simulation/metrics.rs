//! The metrics of a run.

use super::model::{Fault, FaultKind, Load, World};
use super::rises::{Rise, rises};

/// A change in the other direction within this time undoes the one before.
const REVERSAL_WITHIN: u32 = 600;

/// The sums of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Messages that arrived.
    pub arrived: u64,
    /// Messages that were processed.
    pub processed: u64,
    /// Messages not processed at the end.
    pub backlog: u64,
    /// Messages that retention deleted before they were processed.
    pub lost: u64,
    /// Messages that were lost, or waited for longer than they should, those not processed at the end included.
    pub late: u64,
    /// Half of the messages waited no longer, in seconds. This and the next two: by the message, from its arrival to
    /// its processing; what is not processed at the end has its age then.
    pub age_p50: u32,
    /// 99 % of the messages waited no longer.
    pub age_p99: u32,
    /// No message waited longer.
    pub age_max: u32,
    /// Hours of pods, from their creation on.
    pub pod_hours: f64,
    /// Changes of the replicas.
    pub actions: u32,
    /// Changes that went against the one before within 10 minutes.
    pub reversals: u32,
    /// Changes to zero while there was work.
    pub wrong_zeros: u32,
    /// Times that replicas rose to the highest count of the run so far while more could not help: consumers down, a
    /// database saturated, a partition stuck. Counted from one minute into the fault on, when it can be known.
    pub vain_climbs: u32,
    /// Those of them that ended at the most replicas that there may be.
    pub climbs_to_max: u32,
    /// Seconds from the end of an outage until the backlog was gone: no message was older than 10 s. Absent without an
    /// outage, or if the run ended before.
    pub recovery_seconds: Option<u32>,
    /// For each rise of the load by half or more that then stays for 10 minutes: how often replicas were added until it
    /// left its new level, or for 20 minutes (DS2's measure: an engine that knows its consumers needs one step).
    pub steps_after_rise: Vec<u32>,
}

impl Metrics {
    /// Late messages, in percent of those that arrived.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // Far below what a f64 holds exactly.
    pub fn late_percent(&self) -> f64 {
        if self.arrived == 0 { 0.0 } else { 100.0 * self.late as f64 / self.arrived as f64 }
    }
}

/// Records the metrics of a run.
#[derive(Debug)]
pub(super) struct MetricsRecorder<'a> {
    faults: &'a [Fault],
    late_after: u32,
    pod_seconds: u64,
    last_action: Option<(u32, bool)>,
    highest: i32,
    most: i32,
    /// The rises of the load that are evaluated.
    rises: Vec<Rise>,
    /// What follows the last end of an outage: when it ended.
    recovering_since: Option<u32>,
    metrics: Metrics,
}

/// Age of the oldest message at which a backlog counts as gone: what consumers that keep up are processing.
const CAUGHT_UP: u32 = 10;

/// From when on a fault can be known.
const KNOWN_AFTER: u32 = 60;

impl<'a> MetricsRecorder<'a> {
    /// `most` replicas are all that there may be.
    pub(super) fn new(load: &Load, faults: &'a [Fault], late_after: u32, most: i32) -> Self {
        let rises = rises(load);
        let metrics = Metrics { steps_after_rise: vec![0; rises.len()], ..Metrics::default() };
        Self {
            faults,
            late_after,
            pod_seconds: 0,
            last_action: None,
            highest: 0,
            most,
            rises,
            recovering_since: None,
            metrics,
        }
    }

    /// A second has passed.
    pub(super) fn second(&mut self, world: &World) {
        self.pod_seconds += u64::try_from(world.pods()).unwrap_or_default();
        let now = world.now();
        if self.faults.iter().any(|fault| fault.kind == FaultKind::Outage && fault.until == now) {
            (self.recovering_since, self.metrics.recovery_seconds) = (Some(now), None);
        }
        if let Some(since) = self.recovering_since
            && world.oldest_age().is_none_or(|age| age <= CAUGHT_UP)
        {
            self.metrics.recovery_seconds = Some(now - since);
            self.recovering_since = None;
        }
    }

    /// The replicas are about to change.
    pub(super) fn scaled(&mut self, world: &World, to: i32) {
        let (now, up) = (world.now(), to > world.replicas());
        self.metrics.actions += 1;
        for (rise, steps) in self.rises.iter().zip(&mut self.metrics.steps_after_rise) {
            *steps += u32::from(up && (rise.from..rise.until).contains(&now));
        }
        if self.last_action.is_some_and(|(at, before)| before != up && now - at < REVERSAL_WITHIN) {
            self.metrics.reversals += 1;
        }
        self.last_action = Some((now, up));
        self.metrics.wrong_zeros += u32::from(to == 0 && world.backlog() > 0);
        self.highest = self.highest.max(world.replicas());
        let hopeless = |fault: &Fault| {
            fault.kind.is_beyond_replicas() && (fault.from + KNOWN_AFTER..fault.until).contains(&now)
        };
        if to > self.highest && self.faults.iter().any(hopeless) {
            self.metrics.vain_climbs += 1;
            self.metrics.climbs_to_max += u32::from(to >= self.most);
        }
        self.highest = self.highest.max(to);
    }

    /// The run is over.
    pub(super) fn close(self, world: &World) -> Metrics {
        let mut delays = world.delays().clone();
        let processed = delays.total();
        for (at, messages) in world.partitions().iter().flat_map(|partition| partition.unprocessed()) {
            delays.processed(world.now() - at, messages);
        }
        let percentile = |share| delays.percentile(share).unwrap_or_default();
        #[allow(clippy::cast_precision_loss)] // Far below what a f64 holds exactly.
        let pod_hours = self.pod_seconds as f64 / 3600.0;
        Metrics {
            arrived: world.arrived(),
            processed,
            backlog: world.backlog(),
            lost: world.lost(),
            late: delays.longer_than(self.late_after) + world.lost(),
            age_p50: percentile(0.5),
            age_p99: percentile(0.99),
            age_max: percentile(1.0),
            pod_hours,
            ..self.metrics
        }
    }
}
