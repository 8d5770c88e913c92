//! Named scenarios: what arrives, and what goes wrong. They are sized by what the workload can do, so that the same name
//! means the same difficulty for each.

use super::model::{Fault, FaultKind, Load};

/// A scenario that can be asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Load rises at once to five times as much, and falls back.
    Step,
    /// Two days with a quiet night and a busy afternoon.
    Diurnal,
    /// Seven times as much within a minute, gone again in half an hour.
    FlashCrowd,
    /// Consumers process nothing for 10 minutes.
    Outage,
    /// Half of the messages suddenly have one key.
    HotKey,
    /// One partition stands still.
    PoisonMessage,
    /// The database that all consumers share serves less than what arrives.
    SaturatingDatabase,
    /// The broker cannot be read for 10 minutes, in which the load doubles.
    MetricLoss,
    /// Half of the pods die with their nodes.
    NodeLoss,
    /// Consumers process nothing for 10 minutes, and are updated while they process the backlog.
    Rollout,
}

const MINUTE: u32 = 60;
const HOUR: u32 = 3600;

impl Scenario {
    /// All of them, in the order of documentation.
    pub const ALL: [Self; 10] = [
        Self::Step,
        Self::Diurnal,
        Self::FlashCrowd,
        Self::Outage,
        Self::HotKey,
        Self::PoisonMessage,
        Self::SaturatingDatabase,
        Self::MetricLoss,
        Self::NodeLoss,
        Self::Rollout,
    ];

    /// The scenario of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scenario| scenario.name() == name)
    }

    /// As it is written on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Diurnal => "diurnal",
            Self::FlashCrowd => "flash-crowd",
            Self::Outage => "outage",
            Self::HotKey => "hot-key",
            Self::PoisonMessage => "poison-message",
            Self::SaturatingDatabase => "saturating-database",
            Self::MetricLoss => "metric-loss",
            Self::NodeLoss => "node-loss",
            Self::Rollout => "rollout",
        }
    }

    /// What it is, in a sentence.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Step => "load rises at once to five times as much for an hour, and falls back",
            Self::Diurnal => "two days with a quiet night and a busy afternoon",
            Self::FlashCrowd => "seven times as much within a minute, gone again in half an hour",
            Self::Outage => "what the consumers need is down for 10 minutes",
            Self::HotKey => "half of the messages have one key for an hour",
            Self::PoisonMessage => "one partition stands still for 45 minutes",
            Self::SaturatingDatabase => {
                "the database of all consumers serves less than what arrives for an hour"
            }
            Self::MetricLoss => "the broker cannot be read for 10 minutes, in which the load doubles",
            Self::NodeLoss => "half of the pods die with their nodes",
            Self::Rollout => "an outage of 10 minutes, and a rolling update while its backlog is worked off",
        }
    }

    /// The load and the faults for a workload that can process `capacity` messages per second at most.
    #[must_use]
    pub fn script(self, capacity: f64) -> (Load, Vec<Fault>) {
        let steady = |share: f64, seconds| Load { steps: vec![(0, share * capacity)], seconds };
        let steps = |steps: &[(u32, f64)], seconds| {
            let steps = steps.iter().map(|(from, share)| (*from, share * capacity)).collect();
            Load { steps, seconds }
        };
        let fault = |from, minutes, kind| vec![Fault { from, until: from + minutes * MINUTE, kind }];
        let begin = 30 * MINUTE;
        match self {
            Self::Step => (steps(&[(0, 0.1), (begin, 0.5), (begin + HOUR, 0.1)], 3 * HOUR), vec![]),
            Self::Diurnal => {
                let day = f64::from(24 * HOUR);
                let share = |second: f64| {
                    // The least at 3 o'clock.
                    let wave = 0.5 - 0.5 * ((second / day - 0.125) * std::f64::consts::TAU).cos();
                    capacity * (0.03 + 0.57 * wave * wave)
                };
                (Load::from_curve(48 * HOUR, MINUTE, share), vec![])
            }
            Self::FlashCrowd => {
                let share = |second: f64| {
                    let since = second - f64::from(begin);
                    let crowd = match since {
                        _ if since < 0.0 => 0.0,
                        _ if since < 60.0 => since / 60.0,
                        _ if since < 600.0 => 1.0,
                        _ => (-(since - 600.0) / 400.0).exp(),
                    };
                    capacity * (0.1 + 0.6 * crowd)
                };
                (Load::from_curve(3 * HOUR, 10, share), vec![])
            }
            Self::Outage => (steady(0.3, 2 * HOUR), fault(begin, 10, FaultKind::Outage)),
            Self::HotKey => (steady(0.3, 2 * HOUR), fault(begin, 60, FaultKind::HotKey { share: 0.5 })),
            Self::PoisonMessage => (steady(0.3, 2 * HOUR), fault(begin, 45, FaultKind::Poison)),
            Self::SaturatingDatabase => {
                (steady(0.3, 3 * HOUR), fault(begin, 60, FaultKind::Saturation { limit: 0.25 * capacity }))
            }
            Self::MetricLoss => (
                steps(&[(0, 0.2), (begin + 2 * MINUTE, 0.4), (begin + HOUR, 0.2)], 3 * HOUR),
                fault(begin, 10, FaultKind::MetricLoss),
            ),
            Self::NodeLoss => {
                let kind = FaultKind::NodeLoss { share: 0.5 };
                (steady(0.3, 2 * HOUR), vec![Fault { from: begin, until: begin + 1, kind }])
            }
            Self::Rollout => {
                let mut faults = fault(begin, 10, FaultKind::Outage);
                let from = begin + 12 * MINUTE;
                faults.push(Fault { from, until: from + 1, kind: FaultKind::Rollout });
                (steady(0.3, 2 * HOUR), faults)
            }
        }
    }
}
