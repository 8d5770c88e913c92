//! How long it takes until replicas that were asked for work: pods that start, and a group that deals out anew.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use crate::brokers::observation::Backlog;
use crate::engine::Target;
use crate::engine::units::elapsed;

/// Times that are kept, each of those replicas that were first seen at work by the same reading.
const KEPT: usize = 64;
/// What is assumed before the first start was seen.
const ASSUMED: Duration = Duration::from_secs(30);
/// Starts that take longer than this are not planned for: they are a matter of the cluster's health.
const LONGEST: Duration = Duration::from_secs(300);

/// The last starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::engine) struct Startup {
    starts: VecDeque<(Duration, i32)>,
    asked: Option<Asked>,
}

/// Replicas were added.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Asked {
    at: Timestamp,
    /// How many there were to be.
    replicas: i32,
    /// How many work already.
    working: i32,
}

impl Startup {
    /// Replicas were written.
    pub(in crate::engine) fn scaled(&mut self, from: i32, to: i32, at: Timestamp) {
        self.asked = (to > from).then_some(Asked { at, replicas: to, working: from });
    }

    /// There was no reading for a while: when those that were added began is not known.
    pub(in crate::engine) fn observation_gap(&mut self) {
        self.asked = None;
    }

    /// Takes a reading into account.
    pub(in crate::engine) fn observe(&mut self, at: Timestamp, backlog: &Backlog, target: Target) {
        let Some(asked) = &mut self.asked else { return };
        let passed = elapsed(asked.at, at);
        if target.replicas != asked.replicas || target.rolling_out || passed > LONGEST {
            // What would be measured is something else.
            self.asked = None;
        } else if at > asked.at {
            let working = working(backlog, target);
            if working > asked.working {
                if self.starts.len() >= KEPT {
                    self.starts.pop_front();
                }
                self.starts.push_back((passed, working - asked.working));
                asked.working = working;
            }
            if is_complete(backlog, target) {
                self.asked = None;
            }
        }
    }

    /// Nine of ten replicas took no longer.
    pub(in crate::engine) fn usual(&self) -> Duration {
        let mut sorted: Vec<_> = self.starts.iter().copied().collect();
        sorted.sort_unstable();
        let all: i64 = sorted.iter().map(|(_, replicas)| i64::from(*replicas)).sum();
        let mut rest = all / 10;
        for (time, replicas) in sorted.into_iter().rev() {
            rest -= i64::from(replicas);
            if rest < 0 {
                return time;
            }
        }
        ASSUMED
    }
}

/// Replicas that are ready, and in their group if they are members of one that has assigned its partitions.
fn working(backlog: &Backlog, target: Target) -> i32 {
    let ready = target.ready.unwrap_or_default().min(target.replicas);
    if is_complete(backlog, target) {
        return target.replicas;
    }
    match backlog.members.filter(|members| *members > 0) {
        _ if backlog.rebalancing() => 0,
        Some(members) => ready.min(i32::try_from(members).unwrap_or(i32::MAX)),
        None => ready,
    }
}

/// All replicas are ready, and those that are members of a group are in it.
pub(in crate::engine) fn is_complete(backlog: &Backlog, target: Target) -> bool {
    let ready = target.ready.is_some_and(|ready| ready >= target.replicas);
    // Consumers that assign partitions to themselves have no members to wait for.
    let members = backlog.members.filter(|members| *members > 0).is_none_or(|members| {
        let replicas = u32::try_from(target.replicas).unwrap_or_default();
        members >= backlog.partitions().map_or(replicas, |partitions| replicas.min(partitions))
    });
    ready && members && !backlog.rebalancing()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::observation::Partitioned;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn target(replicas: i32, ready: i32) -> Target {
        Target { replicas, ready: Some(ready), ..Target::default() }
    }

    #[test]
    fn a_start_lasts_until_all_are_ready_and_in_the_group() {
        let mut startup = Startup::default();
        assert_eq!(startup.usual(), ASSUMED);
        let members = |members, rebalancing| Backlog {
            members: Some(members),
            shape: Partitioned { rebalancing, ..Partitioned::default() }.into(),
            ..Backlog::default()
        };
        startup.scaled(2, 4, at(0));
        startup.observe(at(5), &members(2, false), target(4, 2));
        startup.observe(at(10), &members(2, false), target(4, 4));
        startup.observe(at(15), &members(4, true), target(4, 4));
        assert_eq!(startup.usual(), ASSUMED);
        startup.observe(at(20), &members(4, false), target(4, 4));
        assert_eq!(startup.usual(), Duration::from_secs(20));
    }

    #[test]
    fn one_replica_in_ten_may_be_slow() {
        let mut startup = Startup::default();
        startup.scaled(2, 12, at(0));
        for (second, ready) in [(5, 2), (10, 7), (15, 7), (20, 11), (250, 12)] {
            startup.observe(at(second), &Backlog::default(), target(12, ready));
        }
        assert_eq!(startup.usual(), Duration::from_secs(20), "5 took 10 s, 4 took 20 s, and one 250 s");
    }

    #[test]
    fn one_start_in_ten_may_be_slow() {
        let mut startup = Startup::default();
        for seconds in [10, 11, 12, 13, 14, 15, 16, 17, 18, 200] {
            startup.scaled(1, 2, at(0));
            startup.observe(at(seconds), &Backlog::default(), target(2, 2));
        }
        assert_eq!(startup.usual(), Duration::from_secs(18));
    }
}
