//! Alerts from readings to status and notices, and back from status.

mod built_in;
mod properties;
mod rules;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::api::status::AgeBasis;
use crate::api::{AlertState, AlertStatus, EmergencyDrainStatus, Mode, QueueScaler};
use crate::engine::explain::{Explanation, Need};
use crate::engine::{Age, AssessedReading, Assessment, Decision, Limit, Reason};
use crate::plan::{Plan, validate};
use crate::report::{Subject, TargetProblem};
use crate::workload::Workload;

/// A poll.
const PERIOD: i64 = 5;

/// An object whose assessments are made up, and its alerts.
struct World {
    plan: Plan,
    state: State,
    now: Timestamp,
    assessment: Assessment,
    workload: Workload,
    problem: Option<TargetProblem>,
    emergency: Option<EmergencyDrainStatus>,
}

impl World {
    /// With these fields of the specification besides what it must have.
    fn with(fields: Value) -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let workload = Workload {
            uid: "1".into(),
            resource_version: "2".into(),
            replicas: 4,
            ready: Some(3),
            selector: None,
            template: None,
            rolling_out: false,
            trouble: None,
        };
        let mut world = Self {
            plan: plan(fields),
            state: State::default(),
            now,
            assessment: Assessment::default(),
            workload,
            problem: None,
            emergency: None,
        };
        world.read(Some(0));
        world
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            generation: Some(1),
            mode: Mode::Active,
            target: self.problem.as_ref().map_or(Ok(&self.workload), Err),
            draining: None,
            emergency: self.emergency.as_ref(),
            observed_target: Some(&self.workload),
            assessment: &self.assessment,
        }
    }

    /// The reading is this from now on; absent: it is unknown.
    fn read(&mut self, messages: Option<u64>) {
        let unknown = crate::brokers::Problem::new(
            crate::brokers::SourceReason::BrokerUnreachable,
            "kafka:9092 does not answer",
        );
        self.assessment.reading = Some(AssessedReading {
            taken_at: self.now,
            messages,
            partitions: None,
            consumers: None,
            problem: messages.is_none().then_some(unknown),
            notes: Vec::new(),
        });
    }

    fn reading(&mut self) -> &mut AssessedReading {
        self.assessment.reading.as_mut().unwrap()
    }

    /// A poll with the same result as the one before.
    fn poll(&mut self) {
        self.after(PERIOD);
    }

    /// The same so many seconds later.
    fn after(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        let now = self.now;
        self.reading().taken_at = now;
        self.evaluate();
    }

    /// Polls until so many seconds have passed.
    fn polls(&mut self, seconds: i64) {
        (0..seconds / PERIOD).for_each(|_| self.poll());
    }

    fn evaluate(&mut self) {
        let mut state = std::mem::take(&mut self.state);
        state.evaluate(&self.plan, &self.subject(), self.now);
        self.state = state;
    }

    /// Another process goes on from status as it is stored.
    fn restart(&mut self) {
        let stored = serde_json::to_value(self.state.status()).unwrap();
        let read: Vec<AlertStatus> = serde_json::from_value(stored).unwrap();
        self.state = State::restored(&read, self.now);
    }

    fn alert(&self, name: &str) -> Option<AlertState> {
        self.state.status().iter().find(|alert| alert.name == name).map(|alert| alert.state)
    }

    fn notices(&self) -> Vec<Notice> {
        self.state.notices(("shop", "orders"), &self.plan, &self.subject(), self.now)
    }

    fn notice(&self, name: &str) -> Option<Notice> {
        self.notices().into_iter().find(|notice| notice.key.alert == name)
    }
}

/// A decision for this reason that keeps the replicas.
fn decided(reason: Reason, limited_by: Option<Limit>) -> Option<Decision> {
    let explanation = Explanation::from(Need::Paused { replicas: 4 });
    Some(Decision { desired: 4, replicas: 4, reason, explanation, limited_by, fallback: false })
}

fn plan(fields: Value) -> Plan {
    let mut spec = json!({
        "scaleTargetRef": {"name": "orders"}, "maxReplicas": 4, "pollPeriodSeconds": PERIOD,
        "source": {"kafka": {
            "bootstrapServers": ["kafka:9092"], "consumerGroup": "orders", "topics": ["orders"],
        }},
    });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    validate(&QueueScaler::new("orders", serde_json::from_value(spec).unwrap()), "shop").unwrap()
}

/// A rule with these fields, as the only one.
fn rule(fields: Value) -> Value {
    let mut rule = json!({"name": "rule", "severity": "Critical", "receivers": ["oncall"]});
    rule.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"alerts": [rule], "probe": {}})
}
