//! What decisions remember of each other: recommendations, scale events and runs of quiet readings.
//!
//! Nothing here decides, and little has to survive a restart, all of which status keeps: the last scale, the service
//! rate, what speaks against more replicas, and that consumers stood still. Otherwise a new state is only slower to remove
//! replicas. Its size is bounded by the longest window and period, not by the polls.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::Target;
use super::diagnose::{Facts, Finding, Health, MissingPods, SavedHealth};
use super::learn::{
    Age, DeadLetterCount, DeadLetterHistory, Rates, Saturated, SavedServiceRate, ServiceRate,
};
use super::limit::damping::{self, Damping};
use super::units::elapsed;
use crate::api::ScalingPolicy;
use crate::api::status::RateBasis;
use crate::brokers::observation::Backlog;
use crate::plan::{Behavior, Policy, ScalingPlan, ScalingRules};

/// The memory of one `QueueScaler`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Which readings were taken into account.
    pub(super) counted: CountedReadings,
    /// Messages in queues that nobody consumes, when the workload last ran.
    pub(super) not_consumed: Option<u64>,
    recorded_at: Option<Timestamp>,
    lowest: Extreme<false>,
    highest: Extreme<true>,
    events: VecDeque<ScaleEvent>,
    last_scale: Option<Timestamp>,
    /// The last scale added replicas.
    added_last: bool,
    /// Since when a backlog is being worked off.
    pub(super) episode: Option<Timestamp>,
    /// Removals that were undone soon.
    pub(super) damping: Damping,
    /// What was learned of arrivals and replicas.
    pub(super) rates: Rates,
    /// What is wrong with consumers and pods.
    pub(super) health: Health,
    /// What consumers gave up on.
    pub(super) dead_letters: DeadLetterHistory,
    /// Readings in a row that want no more than the lowest count but zero.
    pub(super) low: Run,
    /// Readings in a row without any message.
    pub(super) empty: Run,
}

/// What status keeps for a later process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    /// What one replica processes.
    pub service_rate: Option<SavedServiceRate>,
    /// What speaks against more replicas.
    pub saturation: Option<Saturated>,
    /// Time between two commits of a consumer that has work.
    pub commit_interval: Option<Duration>,
    /// What was wrong with consumers and pods.
    pub health: SavedHealth,
    /// The last change of replicas.
    pub last_scale: Option<ScaleEvent>,
    /// Dead letters.
    pub dead_letters: Vec<DeadLetterCount>,
}

/// Which readings were taken into account, so that each counts once: for what is learned, and for decisions, which a
/// target that is not to be scaled does without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CountedReadings {
    learned: Option<Timestamp>,
    decided: Option<Timestamp>,
}

impl CountedReadings {
    /// Whether this reading is to be learned from, asked once: it is later than the last.
    pub(super) fn learns_from(&mut self, taken_at: Timestamp) -> bool {
        let is_new = self.learned.is_none_or(|learned| learned < taken_at);
        if is_new {
            self.learned = Some(taken_at);
        }
        is_new
    }

    /// Whether this reading counts for decisions, asked once, and the time since the one that did before.
    pub(super) fn decides_on(&mut self, taken_at: Timestamp) -> Option<Option<Duration>> {
        let before = self.decided.replace(taken_at);
        (before != Some(taken_at)).then(|| before.map(|before| elapsed(before, taken_at)))
    }

    /// Counts anew after the clock was set back.
    fn settle(&mut self, now: Timestamp) {
        self.learned.take_if(|learned| *learned > now);
    }
}

/// A change of the target's replicas that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleEvent {
    /// When.
    pub at: Timestamp,
    /// Replicas before.
    pub from: i32,
    /// Replicas after.
    pub to: i32,
}

impl State {
    /// Begins with what an earlier process saved in status. The windows of `behavior` start at the first reading, with the
    /// replicas found then as the first recommendation; its policies and the period of `steps` go on from the last scale.
    #[must_use]
    pub fn restored(saved: Saved) -> Self {
        let Saved { service_rate, saturation, commit_interval, health, last_scale, dead_letters } = saved;
        let mut state = Self { dead_letters: DeadLetterHistory::restored(dead_letters), ..Self::default() };
        state.rates.recall(service_rate, saturation);
        if let Some(interval) = commit_interval {
            state.rates.restore_commit_interval(interval);
        }
        state.health.recall(health);
        // After that: a removal of replicas of which nothing was known was a try.
        if let Some(event) = last_scale {
            state.scaled(event.from, event.to, event.at);
        }
        state
    }

    /// To be called after a write of [`Decision::replicas`](super::Decision::replicas) was accepted, and only then: a
    /// change that somebody else made is no scale event, as with the HPA.
    pub fn scaled(&mut self, from: i32, to: i32, now: Timestamp) {
        (self.last_scale, self.added_last) = (Some(now), to > from);
        let is_known = self.rates.service(None).is_some_and(|rate| rate.basis != RateBasis::Assumed);
        self.rates.scaled(from, to, now);
        self.damping.scaled(from, to, !is_known, now);
        self.events.push_back(ScaleEvent { at: now, from, to });
    }

    /// Time between two commits of a consumer that has work, as measured or restored. Absent: not known.
    pub(super) fn commit_interval(&self) -> Option<Duration> {
        self.rates.commit_interval()
    }

    /// What speaks against more replicas: something that all of them share seems to be at its limit. Absent: nothing.
    pub(super) fn saturated(&self, now: Timestamp) -> Option<Saturated> {
        self.rates.saturated(now)
    }

    /// Messages that arrive per second, over the last minute. Absent until there are enough readings.
    pub(super) fn arrival_rate(&self) -> Option<f64> {
        self.rates.arrivals().rate()
    }

    /// How long the oldest message that is not processed has waited, as of the last complete reading, and how sure that
    /// is. Absent: not known. Decisions use what is sure of it only.
    pub(super) fn oldest_message_age(&self) -> Option<Age> {
        self.rates.age()
    }

    /// How fast one replica is, as far as it is known; the hint of the plan counts until it is learned.
    pub(super) fn service_rate(&self, plan: &ScalingPlan) -> Option<ServiceRate> {
        let hint = match &plan.policy {
            Policy::DrainTime(policy) => policy.hint_per_second(),
            Policy::BacklogPerReplica { .. } | Policy::Steps { .. } => None,
        };
        self.rates.service(hint)
    }

    /// What is wrong with the consumers, the worst first. Empty: nothing. Absent: there is no fresh complete reading.
    pub(super) fn consumers_health(&self) -> Option<&[Finding]> {
        self.health.findings()
    }

    /// Whether complete readings are too few yet to find anything wrong with the consumers.
    pub(super) fn knows_consumers_briefly(&self) -> bool {
        self.health.is_new()
    }

    /// Replicas that should be ready by now and are not, if they are many.
    pub(super) fn missing_pods(&self) -> Option<MissingPods> {
        self.health.missing_pods()
    }

    /// Learns from a complete reading that was not taken into account before.
    pub(super) fn learn(
        &mut self,
        plan: &ScalingPlan,
        target: Target,
        taken_at: Timestamp,
        backlog: &Backlog,
    ) {
        self.rates.observe(taken_at, backlog, target, plan.poll_period);
    }

    /// Finds what is wrong with the consumers, by a complete reading that was learned from.
    pub(super) fn diagnose(
        &mut self,
        plan: &ScalingPlan,
        target: Target,
        taken_at: Timestamp,
        backlog: &Backlog,
    ) {
        let rate = self.service_rate(plan);
        let (rates, working_off) = (&self.rates, self.episode.is_some());
        self.health.diagnose(&Facts { plan, target, backlog, taken_at, rates, rate, working_off });
    }

    /// Whether the last write added replicas.
    pub(super) fn added_last(&self) -> bool {
        self.added_last
    }

    /// When the replicas were last written.
    pub(super) fn last_scale(&self) -> Option<Timestamp> {
        self.last_scale
    }

    /// Forgets what no rule asks for any more, and survives a clock that was set back: what would lie in the future
    /// has happened now, else its windows would last until the clock catches up.
    pub(super) fn advance(&mut self, behavior: &Behavior, now: Timestamp) {
        self.counted.settle(now);
        self.rates.settle(now);
        self.damping.settle(now);
        self.dead_letters.settle(now);
        let times = [
            &mut self.recorded_at,
            &mut self.last_scale,
            &mut self.episode,
            &mut self.low.last,
            &mut self.empty.last,
        ];
        for time in times.into_iter().flatten() {
            *time = (*time).min(now);
        }
        self.lowest.settle(now);
        self.highest.settle(now);
        for event in &mut self.events {
            event.at = event.at.min(now);
        }
        let longest = longest_period(&behavior.up).max(longest_period(&behavior.down));
        self.events.retain(|event| elapsed(event.at, now) < longest);
    }

    /// The next reading starts the windows anew, and the count of readings in agreement.
    pub(super) fn interrupt(&mut self) {
        self.recorded_at = None;
        self.doubt();
    }

    /// Nothing is known for sure: readings in agreement are counted anew.
    pub(super) fn doubt(&mut self) {
        self.low = Run::default();
        self.empty = Run::default();
    }

    /// Records a recommendation. `current` goes before it when it is the first one, or the first after the readings
    /// had stopped for longer than the window: an empty window must not let the first reading act as if it had stood
    /// for all of it.
    pub(super) fn recommend(&mut self, replicas: i32, current: i32, plan: &ScalingPlan, now: Timestamp) {
        let (up, down) = (plan.behavior.up.window, plan.behavior.down.window);
        let patience = down.max(super::evidence::freshness(plan));
        let kept = down.saturating_add(damping::PATIENCE);
        if self.recorded_at.is_none_or(|at| elapsed(at, now) > patience) {
            self.lowest.push(current, up, now);
            self.highest.push(current, kept, now);
        }
        self.lowest.push(replicas, up, now);
        self.highest.push(replicas, kept, now);
        self.recorded_at = Some(now);
    }

    /// The lowest recommendation of the window before `now`.
    pub(super) fn lowest(&self, window: Duration, now: Timestamp) -> Option<i32> {
        self.lowest.within(window, now)
    }

    /// The highest recommendation of the window before `now`.
    pub(super) fn highest(&self, window: Duration, now: Timestamp) -> Option<i32> {
        self.highest.within(window, now)
    }

    /// Replicas added less replicas removed by the scale events of the period before `now`.
    pub(super) fn change(&self, period: Duration, now: Timestamp) -> i32 {
        let recent = self.events.iter().filter(|event| elapsed(event.at, now) < period);
        recent.fold(0, |sum, event| sum.saturating_add(event.to.saturating_sub(event.from)))
    }

    /// Values kept, to check that they are few.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.lowest.kept.len() + self.highest.kept.len() + self.events.len()
    }
}

fn longest_period(rules: &ScalingRules) -> Duration {
    rules.policies.iter().map(ScalingPolicy::period).max().unwrap_or_default()
}

/// The extremes of a sliding window: a value is kept only until a later one surpasses it, so that the first one left
/// in a window is its extreme.
#[derive(Clone, Debug, Default, PartialEq)]
struct Extreme<const HIGHEST: bool> {
    kept: VecDeque<(Timestamp, i32)>,
}

impl<const HIGHEST: bool> Extreme<HIGHEST> {
    fn push(&mut self, value: i32, window: Duration, now: Timestamp) {
        let surpassed = |old: i32| if HIGHEST { old <= value } else { old >= value };
        while self.kept.back().is_some_and(|(_, old)| surpassed(*old)) {
            self.kept.pop_back();
        }
        self.kept.push_back((now, value));
        while self.kept.front().is_some_and(|(at, _)| elapsed(*at, now) >= window) {
            self.kept.pop_front();
        }
    }

    fn within(&self, window: Duration, now: Timestamp) -> Option<i32> {
        self.kept.iter().find(|(at, _)| elapsed(*at, now) < window).map(|(_, value)| *value)
    }

    fn settle(&mut self, now: Timestamp) {
        for (at, _) in &mut self.kept {
            *at = (*at).min(now);
        }
    }
}

/// Readings in a row for which something holds, at least an interval apart to be counted. A tenth less will do: polls
/// that come once an interval are never so far apart exactly, and each that is a little early would be lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    count: u32,
    last: Option<Timestamp>,
}

/// How much earlier than an interval a reading can come and still be the next one. A poll is not later or earlier than
/// this, whatever the interval.
const EARLY: Duration = Duration::from_millis(500);

impl Run {
    /// Takes a reading into account.
    pub(super) fn observe(&mut self, holds: bool, taken_at: Timestamp, interval: Duration) {
        if !holds {
            *self = Self::default();
        } else if self.last.is_none_or(|last| elapsed(last, taken_at) >= interval - EARLY.min(interval / 10))
        {
            *self = Self { count: self.count.saturating_add(1), last: Some(taken_at) };
        }
    }

    /// Readings counted.
    pub(super) fn count(self) -> u32 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_extremes_of_a_window_are_those_of_all_its_values() {
        let window = Duration::from_secs(30);
        let (mut lowest, mut highest) = (Extreme::<false>::default(), Extreme::<true>::default());
        // A sequence without order but always the same.
        let values: Vec<i32> = (0..2000_i64).map(|n| i32::try_from(n * n * 7919 % 101).unwrap()).collect();
        for (second, value) in (0_i64..).zip(&values) {
            lowest.push(*value, window, at(second));
            highest.push(*value, window, at(second));
            let first = usize::try_from((second - 29).max(0)).unwrap();
            let all = &values[first..=usize::try_from(second).unwrap()];
            assert_eq!(lowest.within(window, at(second)), all.iter().min().copied());
            assert_eq!(highest.within(window, at(second)), all.iter().max().copied());
        }
    }

    #[test]
    fn a_value_leaves_the_window_exactly_at_its_end() {
        let window = Duration::from_secs(60);
        let mut highest = Extreme::<true>::default();
        highest.push(9, window, at(0));
        assert_eq!(highest.within(window, at(59)), Some(9));
        assert_eq!(highest.within(window, at(60)), None);
    }

    #[test]
    fn an_hour_of_readings_every_second_is_kept_in_few_values() {
        let window = Duration::from_secs(3600);
        let mut highest = Extreme::<true>::default();
        for second in 0..3600 {
            highest.push(i32::try_from(second * second * 7919 % 101).unwrap(), window, at(second));
        }
        assert!(highest.kept.len() <= 101, "{} kept", highest.kept.len());
    }

    #[test]
    fn readings_closer_than_the_interval_count_once_but_for_a_tenth() {
        let mut run = Run::default();
        let interval = Duration::from_secs(5);
        let millis = |millis| Timestamp::from_millisecond(millis).unwrap();
        for (taken_at, count) in [(0, 1), (1000, 1), (4499, 1), (4998, 2), (9497, 2), (9996, 3)] {
            run.observe(true, millis(taken_at), interval);
            assert_eq!(run.count(), count, "at {taken_at} ms");
        }
        run.observe(false, at(11), interval);
        assert_eq!(run.count(), 0);
    }
}
