//! Alert rules and the switches of built-in alerts, checked and with the defaults filled in.

use std::time::Duration;

use jiff::Timestamp;

use super::Invalid;
use super::scaling::{at_least, seconds};
use super::union::exactly_one;
use crate::api::alerts::MEASURES;
use crate::api::{self, BuiltInAlert, QueueScalerSpec, Severity};

/// Which alerts an object has, and who is notified of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertPlan {
    /// Rules of the user. Their names differ.
    pub rules: Vec<AlertRule>,
    /// Built-in alerts that are switched off.
    pub disabled: Vec<BuiltInAlert>,
    /// Severities of built-in alerts that differ from their default.
    pub severities: Vec<(BuiltInAlert, Severity)>,
    /// Receivers of built-in alerts. Empty: the default receivers.
    pub built_in_receivers: Vec<String>,
    /// Until then nobody is notified.
    pub silenced_until: Option<Timestamp>,
}

impl AlertPlan {
    /// Names of all receivers that alerts select.
    pub fn receivers(&self) -> impl Iterator<Item = &String> {
        self.rules.iter().flat_map(|rule| &rule.receivers).chain(&self.built_in_receivers)
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRule {
    /// Unique in its object.
    pub name: String,
    /// What is measured, and from where on it is too much.
    pub measure: Measure,
    /// How long it must last.
    pub hold: Duration,
    /// How urgent it is.
    pub severity: Severity,
    /// Who is notified. Empty: the default receivers.
    pub receivers: Vec<String>,
}

/// What a rule measures, with its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// More messages than this.
    BacklogAbove(u64),
    /// The oldest message has waited longer than this, 1 s or more.
    OldestMessageAgeAbove(Duration),
    /// The ready replicas need longer than this, 1 s or more.
    EstimatedDrainAbove(Duration),
    /// Fewer consumers than this, 1 or more.
    ConsumersBelow(u32),
    /// More than `maxReplicas` are needed.
    AtMaxReplicas,
    /// The probe measures a longer delay than this, 1 s or more.
    ProbeDelayAbove(Duration),
}

impl Measure {
    /// The field that asks for it.
    #[must_use]
    pub fn field(self) -> &'static str {
        let [backlog, age, drain, consumers, at_max, probe] = MEASURES;
        match self {
            Self::BacklogAbove(_) => backlog,
            Self::OldestMessageAgeAbove(_) => age,
            Self::EstimatedDrainAbove(_) => drain,
            Self::ConsumersBelow(_) => consumers,
            Self::AtMaxReplicas => at_max,
            Self::ProbeDelayAbove(_) => probe,
        }
    }
}

/// A month: the longest time that a rule can ask for.
const LONGEST: std::ops::RangeInclusive<i32> = 1..=2_592_000;

pub(super) fn validate(spec: &QueueScalerSpec) -> Result<AlertPlan, Invalid> {
    let mut rules: Vec<AlertRule> = Vec::with_capacity(spec.alerts.len());
    for (index, given) in spec.alerts.iter().enumerate() {
        let rule = rule(index, given)?;
        if rules.iter().any(|other| other.name == rule.name) {
            let problem = format!("is {} a second time, each rule needs a name of its own", rule.name);
            return Err(Invalid::new(format!("spec.alerts[{index}].name"), problem));
        }
        if matches!(rule.measure, Measure::ProbeDelayAbove(_)) && spec.probe.is_none() {
            let problem = "needs spec.probe, which measures the delay";
            return Err(Invalid::new(format!("spec.alerts[{index}].{}", rule.measure.field()), problem));
        }
        rules.push(rule);
    }
    let built_in = spec.built_in_alerts.clone().unwrap_or_default();
    Ok(AlertPlan {
        rules,
        disabled: built_in.disabled,
        severities: built_in.severity_overrides.iter().map(|it| (it.alert, it.severity)).collect(),
        built_in_receivers: built_in.receivers,
        silenced_until: spec.alerts_silenced_until.as_ref().map(|time| time.0),
    })
}

fn rule(index: usize, given: &api::AlertRule) -> Result<AlertRule, Invalid> {
    let field = |name: &str| format!("spec.alerts[{index}]{name}");
    let api::AlertRule {
        name,
        backlog_above,
        oldest_message_age_above_seconds,
        estimated_drain_above_seconds,
        consumers_below,
        at_max_replicas,
        probe_delay_above_seconds,
        for_seconds,
        severity,
        receivers,
    } = given;
    // A built-in alert has a capital letter in its name, and shares the list in status.
    let is_name = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(Invalid::new(field(".name"), "must be lower-case letters, digits and dashes"));
    }
    let [backlog, age, drain, consumers, at_max, probe] = MEASURES;
    let time = |given: &Option<i32>, name: &str| {
        given.map(|given| seconds(given, LONGEST, &field(&format!(".{name}"))))
    };
    let messages = backlog_above.map(|given| at_least(given, 0, &field(".backlogAbove")));
    let fewest = consumers_below.map(|given| {
        let count = u32::try_from(given).ok().filter(|count| *count > 0);
        let problem = || Invalid::new(field(".consumersBelow"), format!("is {given}, must be 1 or more"));
        count.ok_or_else(problem)
    });
    let measure = exactly_one(
        &field(""),
        [
            (backlog, messages.map(|given| given.map(Measure::BacklogAbove))),
            (
                age,
                time(oldest_message_age_above_seconds, age)
                    .map(|given| given.map(Measure::OldestMessageAgeAbove)),
            ),
            (
                drain,
                time(estimated_drain_above_seconds, drain)
                    .map(|given| given.map(Measure::EstimatedDrainAbove)),
            ),
            (consumers, fewest.map(|given| given.map(Measure::ConsumersBelow))),
            (at_max, at_max_replicas.map(|_| Ok(Measure::AtMaxReplicas))),
            (probe, time(probe_delay_above_seconds, probe).map(|given| given.map(Measure::ProbeDelayAbove))),
        ],
    )?;
    Ok(AlertRule {
        name: name.clone(),
        measure,
        hold: seconds(*for_seconds, 0..=86_400, &field(".forSeconds"))?,
        severity: *severity,
        receivers: receivers.clone(),
    })
}
