//! All alerts of one object: which of them fire now, what status saves, and what receivers are to report.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::lifecycle::{Times, Track, next};
use super::notice::{AlertKey, Group, Notice, NoticeState, sentences};
use super::{Level, built_in, measure};
use crate::api::{AlertState, AlertStatus, BuiltInAlert, Severity};
use crate::brokers::observation::longest_age;
use crate::engine::AssessedReading;
use crate::plan::{AlertRule, Plan};
use crate::report::Subject;

/// Bounds of the time that a measure must be back before its alert is resolved.
const RECOVERY: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));

/// What metrics call all rules of the user.
pub const RULE: &str = "rule";

/// The alerts of one object from one reconcile to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State(BTreeMap<String, Entry>);

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    track: Track,
    severity: Severity,
    /// What was wrong when it fired.
    message: Option<String>,
    /// The broker that was wrong when it fired.
    broker: Option<String>,
}

/// What an alert is of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'a> {
    Rule(&'a AlertRule),
    BuiltIn(BuiltInAlert),
}

impl State {
    /// The state that status saved.
    #[must_use]
    pub fn restored(saved: &[AlertStatus], now: Timestamp) -> Self {
        let entry = |saved: &AlertStatus| {
            let resolved_at = saved.resolved_at.as_ref().map(|time| time.0);
            let notified = saved.notified.clone();
            let track = Track::restored(saved.state, saved.since.0, resolved_at, notified, now);
            let (message, broker) = (saved.message.clone(), saved.broker.clone());
            let entry = Entry { track, severity: saved.severity, message, broker };
            (saved.name.clone(), entry)
        };
        Self(saved.iter().map(entry).collect())
    }

    /// Takes a reconcile into account. To be called once in each, whatever caused it: a reading that is seen again changes
    /// nothing but the time.
    pub fn evaluate(&mut self, plan: &Plan, subject: &Subject<'_>, now: Timestamp) {
        let mut before = std::mem::take(&mut self.0);
        let longest_gap = longest_age(plan.scaling.poll_period);
        let is_stale = |reading: &AssessedReading| {
            Duration::try_from(now.duration_since(reading.taken_at)).is_ok_and(|age| age > longest_gap)
        };
        // A reading that should have been replaced long ago shows nothing of now.
        let is_stale = subject.assessment.reading.as_ref().is_none_or(is_stale);
        for kind in kinds(plan) {
            let name = kind.name();
            let (severity, hold) = kind.severity_and_hold(plan);
            let recovery = hold.clamp(RECOVERY.0, RECOVERY.1);
            let level = match kind {
                Kind::Rule(_) if is_stale => Level::Unknown,
                Kind::Rule(rule) => measure::level(rule.measure, subject.assessment),
                Kind::BuiltIn(alert) => built_in::level(alert, &plan.scaling, subject, now),
            };
            let known = before.remove(name).map(|entry| (entry.track, (entry.message, entry.broker)));
            let (track, at_begin) = known.unzip();
            let (message, broker) = at_begin.unwrap_or_default();
            let fired_before = track.as_ref().is_some_and(|track| track.state == AlertState::Firing);
            let Some(track) = next(track, level, Times { hold, recovery, longest_gap }, now) else {
                continue;
            };
            let (message, broker) = match track.state {
                AlertState::Pending => (None, None),
                AlertState::Firing if !fired_before => (kind.sentence(subject), kind.broker(plan)),
                AlertState::Firing => (message, broker.or_else(|| kind.broker(plan))),
                AlertState::Resolved => (message, broker),
            };
            self.0.insert(name.to_owned(), Entry { track, severity, message, broker });
        }
        // Those that are left have no rule any more, or are switched off.
        for (name, entry) in before {
            if let Some(track) = entry.track.end(now) {
                self.0.insert(name, Entry { track, ..entry });
            }
        }
    }

    /// Notes what a receiver has reported.
    pub fn acknowledge(&mut self, alert: &str, receiver: &str, reported: NoticeState) {
        let Some(entry) = self.0.get_mut(alert) else { return };
        let notified = &mut entry.track.notified;
        notified.retain(|name| name != receiver);
        if reported == NoticeState::Firing {
            notified.push(receiver.to_owned());
            notified.sort_unstable();
        }
    }

    /// What status saves.
    #[must_use]
    pub fn status(&self) -> Vec<AlertStatus> {
        let shown = self.0.iter().filter(|(_, entry)| entry.track.is_shown());
        let saved = |(name, entry): (&String, &Entry)| AlertStatus {
            name: name.clone(),
            state: entry.track.state,
            severity: entry.severity,
            since: Time(entry.track.since),
            resolved_at: entry.track.resolved_at.map(Time),
            message: entry.message.clone(),
            broker: entry.broker.clone(),
            notified: entry.track.notified.clone(),
        };
        shown.map(saved).collect()
    }

    /// Alerts that fire now: how many of each severity and name. All rules of the user have one name, [`RULE`], as metrics
    /// are labelled by it.
    #[must_use]
    pub fn firing(&self) -> Vec<(&'static str, &'static str, i64)> {
        let mut counts = BTreeMap::new();
        for (name, entry) in &self.0 {
            if entry.track.state == AlertState::Firing {
                let name = BuiltInAlert::named(name).map_or(RULE, BuiltInAlert::name);
                *counts.entry((entry.severity, name)).or_default() += 1;
            }
        }
        counts.into_iter().map(|((severity, name), count)| (severity.label(), name, count)).collect()
    }

    /// What receivers are to report of the object of this namespace and name.
    #[must_use]
    pub fn notices(
        &self,
        (namespace, object): (&str, &str),
        plan: &Plan,
        subject: &Subject<'_>,
        now: Timestamp,
    ) -> Vec<Notice> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let silenced = plan.alerts.silenced_until.is_some_and(|until| now < until);
        let known: BTreeMap<&str, Kind<'_>> = kinds(plan).map(|kind| (kind.name(), kind)).collect();
        let notice = |(name, entry): (&String, &Entry)| {
            let state = match entry.track.state {
                AlertState::Pending => return None,
                AlertState::Firing => NoticeState::Firing,
                AlertState::Resolved if entry.track.notified.is_empty() => return None,
                AlertState::Resolved => NoticeState::Resolved,
            };
            let kind = known.get(name.as_str()).copied();
            let current = || kind.and_then(|kind| kind.sentence(subject));
            let message = match state {
                NoticeState::Firing => current().or_else(|| entry.message.clone()),
                NoticeState::Resolved => entry.message.clone(),
            };
            // Not that of the plan: a broker's address that is corrected would leave the alert of the old one open for ever.
            let group = entry.broker.as_deref().map(|broker| Group { broker: broker.into() });
            Some(Notice {
                key: AlertKey {
                    namespace: namespace.to_owned(),
                    object: object.to_owned(),
                    alert: name.clone(),
                },
                state,
                severity: entry.severity,
                since: entry.track.since,
                resolved_at: entry.track.resolved_at,
                receivers: kind.map(|kind| kind.receivers(plan).to_vec()).unwrap_or_default(),
                notified: entry.track.notified.clone(),
                silenced,
                group,
                title: kind.map_or_else(|| format!("alert {name}"), |kind| kind.title()),
                message: message.unwrap_or_default(),
                action: sentences::action(subject),
                next: kind.map(|kind| kind.next_step().to_owned()).unwrap_or_default(),
                topic: kind.map(|kind| kind.topic().to_owned()).unwrap_or_default(),
            })
        };
        self.0.iter().filter_map(notice).collect()
    }
}

/// All alerts of a plan that are not switched off.
fn kinds(plan: &Plan) -> impl Iterator<Item = Kind<'_>> {
    let disabled = &plan.alerts.disabled;
    let built_in = BuiltInAlert::ALL.into_iter().filter(|alert| !disabled.contains(alert));
    plan.alerts.rules.iter().map(Kind::Rule).chain(built_in.map(Kind::BuiltIn))
}

impl<'a> Kind<'a> {
    /// The broker that an alert is about that all its objects have.
    fn broker(self, plan: &Plan) -> Option<String> {
        matches!(self, Kind::BuiltIn(BuiltInAlert::SourceUnreadable))
            .then(|| format!("{} {}", plan.source.broker(), plan.source.broker_address()))
    }

    fn name(self) -> &'a str {
        match self {
            Self::Rule(rule) => &rule.name,
            Self::BuiltIn(alert) => alert.name(),
        }
    }

    fn severity_and_hold(self, plan: &Plan) -> (Severity, Duration) {
        match self {
            Self::Rule(rule) => (rule.severity, rule.hold),
            Self::BuiltIn(alert) => {
                let (severity, hold) = built_in::defaults(alert);
                let mut changed = plan.alerts.severities.iter();
                (changed.find(|(other, _)| *other == alert).map_or(severity, |(_, given)| *given), hold)
            }
        }
    }

    fn sentence(self, subject: &Subject<'_>) -> Option<String> {
        match self {
            Self::Rule(rule) => sentences::of_measure(rule.measure, subject.assessment),
            Self::BuiltIn(alert) => built_in::sentence(alert, subject),
        }
    }

    fn receivers(self, plan: &'a Plan) -> &'a [String] {
        match self {
            Self::Rule(rule) => &rule.receivers,
            Self::BuiltIn(_) => &plan.alerts.built_in_receivers,
        }
    }

    fn title(self) -> String {
        match self {
            Self::Rule(rule) => sentences::title_of_measure(rule.measure),
            Self::BuiltIn(alert) => sentences::title_of_built_in(alert).to_owned(),
        }
    }

    fn next_step(self) -> &'static str {
        match self {
            Self::Rule(rule) => sentences::next_step_of_measure(rule.measure),
            Self::BuiltIn(alert) => sentences::next_step_of_built_in(alert),
        }
    }

    fn topic(self) -> &'static str {
        match self {
            Self::Rule(rule) => rule.measure.field(),
            Self::BuiltIn(alert) => alert.name(),
        }
    }
}
