//! What is wrong with the consumers, found from readings, for every policy. More replicas help with none of it.
//!
//! Nothing here decides. What is reported and what holds a decision is the same judgement, made once for each complete
//! reading: an incomplete or unknown one judges nothing, and a time in which there was none counts for nothing.

mod expiring;
mod finding;
mod hot;
mod left_out;
mod pace;
mod pods;

use std::time::Duration;

use jiff::Timestamp;

use crate::brokers::observation::{Backlog, Shape};
use crate::engine::Target;
use crate::engine::evidence::freshness;
use crate::engine::learn::{Rates, ServiceRate, StuckCause, StuckPartition};
use crate::engine::units::elapsed;
use crate::plan::ScalingPlan;
pub use expiring::Expiring;
pub(in crate::engine) use expiring::expiring;
pub use finding::{Finding, Unhealthy, UnhealthyReason};
pub use hot::Hot;
use left_out::NotConsumed;
pub(in crate::engine) use left_out::workable;
use pace::Pace;
pub use pods::MissingPods;
use pods::Pods;

/// Nothing processed for so long is a stall, at least. So long must anything last before it is found.
const PATIENCE: Duration = Duration::from_secs(60);
/// Commits that are missing in a stall, and messages that could have been processed.
const MISSING_COMMITS: u32 = 3;
const MISSING_MESSAGES: f64 = 5.0;
/// A time between commits as long as this is believed step by step, so that it says too little of a message.
const SURE: Duration = Duration::from_secs(120);

/// Why replicas stay.
pub(in crate::engine) struct Hold {
    /// What is wrong.
    pub(in crate::engine) unhealthy: Unhealthy,
    /// None may be removed either.
    pub(in crate::engine) both_ways: bool,
    /// It is a guess: nothing was ever seen to be processed, which may be because there are too few.
    pub(in crate::engine) guessed: bool,
}

/// What a reading shows, and what was learned before it.
pub(in crate::engine) struct Facts<'a> {
    pub(in crate::engine) plan: &'a ScalingPlan,
    pub(in crate::engine) target: Target,
    /// A complete reading, and when it was begun.
    pub(in crate::engine) backlog: &'a Backlog,
    pub(in crate::engine) taken_at: Timestamp,
    pub(in crate::engine) rates: &'a Rates,
    pub(in crate::engine) rate: Option<ServiceRate>,
    /// There is more than what is always on its way.
    pub(in crate::engine) working_off: bool,
}

/// What status keeps of the health for a later process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedHealth {
    /// The consumers were found to process nothing.
    pub nothing_processed: bool,
    /// Partitions were found that nobody consumes, while others are consumed.
    pub not_consumed: bool,
    /// When too few replicas were ready for so long that it was reported, and still are.
    pub pods_missing: Option<Timestamp>,
}

/// The health of the consumers of one workload, and of its pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::engine) struct Health {
    diagnosis: Option<Diagnosis>,
    /// An earlier process saw that nothing was processed, and this one has not seen more yet.
    stood_still: bool,
    /// An earlier process found partitions without a consumer, and no reading has shown an assignment since.
    left_out_before: bool,
    /// The last complete reading, or else the first that was not.
    complete_at: Option<Timestamp>,
    pace: Pace,
    pods: Pods,
}

/// What the last complete reading showed.
#[derive(Clone, Debug, PartialEq)]
struct Diagnosis {
    at: Timestamp,
    /// Since when complete readings have followed each other.
    since: Timestamp,
    /// Since when there have been replicas that could work.
    present_since: Option<Timestamp>,
    /// Since when none of them has been in the group, or at the queue, although there is work.
    absent_since: Option<Timestamp>,
    hot: Option<Hot>,
    not_consumed: NotConsumed,
    /// Partitions that are left out of sizing.
    stuck: Vec<StuckPartition>,
    findings: Vec<Finding>,
    /// Why more replicas would not help.
    hold: Option<Unhealthy>,
    /// Nothing processed for so long is a stall.
    limit: Duration,
    /// How long a message takes was not given, measured or seen.
    guessed: bool,
}

impl Health {
    /// Begins with what an earlier process saw.
    pub(in crate::engine) fn recall(&mut self, saved: SavedHealth) {
        self.stood_still = saved.nothing_processed;
        self.left_out_before = saved.not_consumed;
        self.pods.recall(saved.pods_missing);
    }

    /// Takes a complete reading into account that is later than the last.
    pub(in crate::engine) fn diagnose(&mut self, facts: &Facts) {
        let fresh = |diagnosis: &Diagnosis| elapsed(diagnosis.at, facts.taken_at) <= freshness(facts.plan);
        let before = self.diagnosis.take().filter(fresh);
        if before.is_none() {
            self.pace.observation_gap();
        }
        self.pace.observe(facts.taken_at, facts.backlog, facts.rates.moved());
        let diagnosis = Diagnosis::after(before, facts, &self.pace, self.left_out_before);
        self.left_out_before &= !left_out::is_assigned(facts.backlog);
        // What lasts is found again, as soon as there are readings for long enough.
        let is_found_again = elapsed(diagnosis.since, diagnosis.at) >= diagnosis.limit;
        self.stood_still &= !is_found_again && !self.pace.is_known() && facts.backlog.messages > 0;
        self.complete_at = Some(diagnosis.at);
        self.diagnosis = Some(diagnosis);
    }

    /// Takes a reading into account that is not complete, and judges nothing: without one that is, what an earlier process
    /// saw counts no longer than what this one did would.
    pub(in crate::engine) fn miss(&mut self, plan: &ScalingPlan, taken_at: Timestamp) {
        let complete_at = *self.complete_at.get_or_insert(taken_at);
        self.stood_still &= elapsed(complete_at, taken_at) <= freshness(plan);
    }

    /// Looks at the replicas, and forgets what has become old.
    pub(in crate::engine) fn observe_pods(
        &mut self,
        plan: &ScalingPlan,
        target: Target,
        usual_start: Duration,
        now: Timestamp,
    ) {
        self.diagnosis
            .take_if(|diagnosis| diagnosis.at > now || elapsed(diagnosis.at, now) > freshness(plan));
        self.pods.observe(target, usual_start, now);
    }

    /// What is wrong, the worst first. Absent: not known.
    pub(in crate::engine) fn findings(&self) -> Option<&[Finding]> {
        self.diagnosis.as_ref().map(|diagnosis| diagnosis.findings.as_slice())
    }

    /// Whether there were no complete readings for long enough to find anything wrong, or what an earlier process saw.
    pub(in crate::engine) fn is_new(&self) -> bool {
        self.stood_still
            || self
                .diagnosis
                .as_ref()
                .is_none_or(|diagnosis| elapsed(diagnosis.since, diagnosis.at) < PATIENCE)
    }

    /// Partitions that no replica helps, and that are left out of sizing.
    pub(in crate::engine) fn stuck(&self) -> &[StuckPartition] {
        self.diagnosis.as_ref().map(|diagnosis| diagnosis.stuck.as_slice()).unwrap_or_default()
    }

    /// Replicas that should be ready by now and are not.
    pub(in crate::engine) fn missing_pods(&self) -> Option<MissingPods> {
        self.pods.missing()
    }

    /// Whether there is nobody who could commit or acknowledge anything.
    pub(in crate::engine) fn nobody_consumes(&self) -> bool {
        self.is(UnhealthyReason::NoConsumers)
    }

    /// Whether nothing at all is processed.
    pub(in crate::engine) fn stands_still(&self) -> bool {
        self.is(UnhealthyReason::Stalled) || self.is(UnhealthyReason::NoConsumers)
    }

    /// Why no replicas are to be added now.
    pub(in crate::engine) fn hold(&self, target: Target) -> Option<Hold> {
        let up_only = |unhealthy| Hold { unhealthy, both_ways: false, guessed: false };
        if let Some(diagnosis) = &self.diagnosis
            && let Some(unhealthy) = diagnosis.hold.clone()
        {
            return Some(Hold {
                unhealthy,
                both_ways: self.is(UnhealthyReason::Stalled),
                guessed: diagnosis.guessed,
            });
        }
        if self.stood_still {
            return Some(up_only(Unhealthy::BeforeRestart));
        }
        let missing = self.missing_pods().map(|missing| up_only(Unhealthy::MissingPods(missing)));
        let trouble = || up_only(Unhealthy::TargetTrouble);
        missing.or_else(|| target.trouble.then(trouble))
    }

    fn is(&self, reason: UnhealthyReason) -> bool {
        self.findings().unwrap_or_default().iter().any(|finding| finding.reason() == reason)
    }
}

impl Diagnosis {
    fn after(before: Option<Self>, facts: &Facts, pace: &Pace, left_out_before: bool) -> Self {
        let &Facts { target, backlog, taken_at: at, rates, .. } = facts;
        let was = |reason| before.as_ref().is_some_and(|before| before.finds(reason));
        let since = before.as_ref().map_or(at, |before| before.since);
        let (was_stalled, was_absent) = (was(UnhealthyReason::Stalled), was(UnhealthyReason::NoConsumers));
        let (present_since, absent_since, hot, not_consumed, known) = before
            .map_or_else(Default::default, |it| {
                (it.present_since, it.absent_since, it.hot, it.not_consumed, it.stuck)
            });
        let away = backlog.members == Some(0);
        // Of a workload that does not report how many are ready, only members show that somebody could work.
        let is_present = target.ready.map_or(target.replicas > 0 && !away, |ready| ready > 0);
        let is_absent = target.ready.is_some_and(|ready| ready > 0) && away && backlog.messages > 0;
        let mut diagnosis = Self {
            at,
            since,
            // Those that come at last get their time.
            present_since: is_present.then(|| present_since.filter(|_| !was_absent || away).unwrap_or(at)),
            absent_since: is_absent.then(|| absent_since.unwrap_or(at)),
            hot: None,
            not_consumed: not_consumed.follow(backlog, at, left_out_before),
            stuck: Vec::new(),
            findings: Vec::new(),
            hold: None,
            limit: PATIENCE,
            guessed: false,
        };
        let ready = target.ready.unwrap_or(target.replicas);
        let mut limit = stall_limit(rates, facts.rate);
        let mut limit_of_one = limit;
        if facts.rate.is_none() && rates.commit_interval().is_none_or(|interval| interval >= SURE) {
            limit = limit.max(pace.patience(at));
            limit_of_one =
                limit_of_one.max(pace.patience_of_one(u32::try_from(ready).unwrap_or_default(), at));
            diagnosis.guessed = !pace.is_known();
        }
        diagnosis.limit = limit;
        let blocked: Vec<_> = known.into_iter().filter(StuckPartition::is_blocked).collect();
        let blocked = rates.stuck(backlog, &blocked, limit_of_one);
        diagnosis.stuck = left_out::stuck(blocked, &diagnosis.not_consumed, backlog, rates);
        let still = rates.moved().map(|moved| elapsed(moved, at));
        let lasts = |since: Option<Timestamp>, limit| since.is_some_and(|since| elapsed(since, at) >= limit);

        let pauses = pace.is_known().then(|| pace.patience(at));
        let absence = left_out::absence_limit(rates.commit_interval(), pauses);
        if lasts(diagnosis.absent_since, absence) && still.is_none_or(|still| still >= absence) {
            diagnosis.hold = Some(Unhealthy::NoneConsumes { ready });
            let time = diagnosis.absent_since.map_or(PATIENCE, |since| elapsed(since, at));
            let of_queues = matches!(backlog.shape, Shape::Shared(_));
            diagnosis.findings.push(Finding::NoConsumers { ready, time, of_queues });
            diagnosis.guessed = false;
            return diagnosis;
        }
        // That nothing comes for the others is no stall.
        let waiting = left_out::certain(backlog, &diagnosis.stuck) > 0;
        if let Some(still) = still.filter(|still| *still >= PATIENCE)
            && diagnosis.guessed
            && waiting
            && lasts(diagnosis.present_since, PATIENCE)
        {
            diagnosis.hold = Some(Unhealthy::NothingProcessed { ready, time: still, guessed: true });
        }
        if let Some(still) = still.filter(|still| *still >= limit)
            && waiting
            && lasts(diagnosis.present_since, limit)
            // Those that come and go have stalled; those that have just gone may be replaced.
            && (!away || was_stalled)
        {
            diagnosis.hold = Some(Unhealthy::NothingProcessed { ready, time: still, guessed: false });
            let stillest = rates.stillest();
            diagnosis.findings.push(Finding::Stalled { ready, time: still, stillest });
            return diagnosis;
        }
        let of = |cause| {
            let stuck: Vec<_> =
                diagnosis.stuck.iter().filter(|stuck| stuck.cause == cause).cloned().collect();
            Some(stuck).filter(|stuck| !stuck.is_empty())
        };
        let found = [
            of(StuckCause::Consumer).map(Finding::PodStuck),
            of(StuckCause::Message).map(Finding::PoisonMessage),
            of(StuckCause::NotConsumed).map(Finding::NotConsumed),
        ];
        diagnosis.findings.extend(found.into_iter().flatten());

        let saturated =
            rates.saturation(at).useful().filter(|useful| i64::from(target.replicas) >= i64::from(*useful));
        if let Some(useful) = saturated.filter(|_| facts.working_off) {
            diagnosis.findings.push(Finding::DownstreamSaturated { useful });
        }
        diagnosis.hot = Hot::follow(hot, facts, &diagnosis.stuck);
        if let Some(hot) = diagnosis.hot.clone().filter(|hot| elapsed(hot.since, at) >= PATIENCE) {
            diagnosis.findings.push(Finding::HotPartition(hot));
        }
        diagnosis
    }

    fn finds(&self, reason: UnhealthyReason) -> bool {
        self.findings.iter().any(|finding| finding.reason() == reason)
    }
}

/// From when on nothing processed is a stall: three commits are missing, or the time of five messages, or a minute.
fn stall_limit(rates: &Rates, rate: Option<ServiceRate>) -> Duration {
    let commits = rates.commit_interval().unwrap_or_default().saturating_mul(MISSING_COMMITS);
    let messages = rate.map_or(Duration::ZERO, |rate| {
        Duration::try_from_secs_f64(MISSING_MESSAGES / rate.capacity()).unwrap_or(Duration::MAX)
    });
    PATIENCE.max(commits).max(messages)
}
