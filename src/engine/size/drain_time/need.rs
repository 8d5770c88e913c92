//! How many replicas a backlog and its arrivals need, as a fraction: the formula, and nothing else.

use std::time::Duration;

/// What the user asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::engine) struct Goal {
    /// Time in which the backlog is to be gone.
    pub(in crate::engine) horizon: Duration,
    /// The longest time that a message may wait is why there is no more of it.
    pub(in crate::engine) ages: bool,
    /// Time until replicas that are added now begin to work.
    pub(in crate::engine) dead_time: Duration,
    /// The shortest time that anything can be planned for: a poll, or a message.
    pub(in crate::engine) shortest: Duration,
    /// Spare capacity on arrivals, as a fraction.
    pub(in crate::engine) headroom: f64,
}

/// What there is to do, in messages and messages per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::engine) struct Work {
    /// Messages not yet processed that replicas can help.
    pub(in crate::engine) backlog: f64,
    /// Messages that arrive per second.
    pub(in crate::engine) arrivals: f64,
    /// Messages per second that the ready replicas process meanwhile.
    pub(in crate::engine) in_service: f64,
}

/// Messages per second that have to be processed, in its two parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::engine) struct Load {
    /// Arrivals with headroom.
    pub(in crate::engine) keep_up: f64,
    /// The backlog within the time that is left for it.
    pub(in crate::engine) catch_up: f64,
    /// Messages there will be when added replicas begin to work.
    pub(in crate::engine) backlog: f64,
    /// Seconds that are left for them then.
    pub(in crate::engine) seconds: f64,
    /// What has to be processed at least of it, where each replica has only its own part to do.
    pub(in crate::engine) least: f64,
}

/// Partitions cannot be shared out evenly. The replica that has most of them keeps this part of the headroom, and may
/// take so much longer for its backlog.
pub(in crate::engine) const SHARED: f64 = 0.5;
pub(in crate::engine) const LATER: f64 = 1.2;

impl Load {
    /// Both parts.
    pub(in crate::engine) fn total(&self) -> f64 {
        self.keep_up + self.catch_up
    }
}

/// `arrivals · (1 + headroom) + backlog / (horizon − dead time)`, where the backlog is the one there will be after
/// the dead time: arrivals that the ready replicas do not keep up with add to it.
pub(in crate::engine) fn load(work: Work, goal: Goal) -> Load {
    let dead_time = goal.dead_time.as_secs_f64();
    let growth = (work.arrivals - work.in_service).max(0.0) * dead_time;
    let backlog = (work.backlog + growth).max(0.0);
    let seconds = (goal.horizon.as_secs_f64() - dead_time).max(goal.shortest.as_secs_f64()).max(0.001);
    let keep_up = |headroom: f64| work.arrivals * (1.0 + headroom);
    let catch_up = backlog / seconds;
    let least = keep_up(goal.headroom * SHARED) + catch_up / LATER;
    Load { keep_up: keep_up(goal.headroom), catch_up, backlog, seconds, least }
}

/// Replicas for competing consumers of one queue: what the load needs, but no fewer than keep the waiting short at
/// random arrivals (square-root staffing: R + √R with R replicas busy on average).
pub(in crate::engine) fn competing(load: Load, arrivals: f64, per_replica: f64) -> f64 {
    let busy = arrivals / per_replica;
    (load.total() / per_replica).max(busy + busy.sqrt())
}

/// Seconds until the backlog is gone with this capacity. Absent: never.
pub(in crate::engine) fn drain_seconds(backlog: f64, arrivals: f64, capacity: f64) -> Option<f64> {
    if backlog <= 0.0 {
        return Some(0.0);
    }
    let spare = capacity - arrivals;
    (spare > 0.0).then(|| backlog / spare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(horizon: u64, dead_time: u64) -> Goal {
        let seconds = Duration::from_secs;
        Goal {
            horizon: seconds(horizon),
            ages: false,
            dead_time: seconds(dead_time),
            shortest: seconds(5),
            headroom: 0.3,
        }
    }

    fn work(backlog: f64, arrivals: f64) -> Work {
        Work { backlog, arrivals, in_service: 0.0 }
    }

    /// Replicas of 2 messages per second.
    fn needed(work: Work, goal: Goal) -> f64 {
        load(work, goal).total() / 2.0
    }

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    #[test]
    fn ten_replicas_work_off_a_thousand_messages_in_50_s() {
        assert!(near(needed(work(1000.0, 0.0), goal(50, 0)), 10.0));
        assert_eq!(drain_seconds(1000.0, 0.0, 20.0), Some(50.0));
    }

    #[test]
    fn arrivals_are_kept_up_with_and_their_headroom_is_spare() {
        // (20 · 1.3 + 1000 / 50) / 2
        assert!(near(needed(work(1000.0, 20.0), goal(50, 0)), 23.0));
    }

    #[test]
    fn the_fullest_replica_keeps_half_of_the_headroom() {
        // 20 · 1.15 + 1000 / 60
        assert!(near(load(work(1000.0, 20.0), goal(50, 0)).least, 23.0 + 1000.0 / 60.0));
    }

    #[test]
    fn what_arrives_until_replicas_work_is_part_of_the_backlog() {
        // (20 · 1.3 + (1000 + 20 · 10) / (50 − 10)) / 2
        assert!(near(needed(work(1000.0, 20.0), goal(50, 10)), 28.0));
    }

    #[test]
    fn replicas_that_work_already_keep_the_backlog_from_growing() {
        let served = |in_service| load(Work { in_service, ..work(1000.0, 20.0) }, goal(50, 10)).backlog;
        assert!(near(served(15.0), 1050.0));
        assert!(near(served(30.0), 1000.0), "what they process besides is no promise");
    }

    #[test]
    fn a_goal_that_dead_time_has_used_up_leaves_the_shortest_time() {
        assert!(near(load(work(1000.0, 0.0), goal(50, 60)).catch_up, 200.0));
    }

    #[test]
    fn competing_consumers_get_the_square_root_on_top() {
        let light = load(work(0.0, 8.0), goal(300, 0));
        // 4 busy: 4 · 1.3 = 5.2 is less than 4 + 2.
        assert!(near(competing(light, 8.0, 2.0), 6.0));
        let heavy = load(work(0.0, 800.0), goal(300, 0));
        // 400 busy: 520 is more than 400 + 20.
        assert!(near(competing(heavy, 800.0, 2.0), 520.0));
    }

    #[test]
    fn a_backlog_that_grows_is_never_gone() {
        assert_eq!(drain_seconds(100.0, 20.0, 20.0), None);
        assert_eq!(drain_seconds(0.0, 20.0, 10.0), Some(0.0));
    }
}
