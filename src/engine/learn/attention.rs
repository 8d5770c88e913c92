//! How a consumer treats one of its partitions, to distinguish one that is blocked from one whose turn has not
//! come: what was fetched of one partition can be worked through before the next one, for minutes.

use std::time::Duration;

use jiff::Timestamp;

use crate::engine::units::elapsed;

/// What is served with shorter breaks is served steadily.
const BREAK: Duration = Duration::from_secs(30);

/// Since when a partition has been served as it should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::engine) struct Attention {
    served: Timestamp,
    steady_since: Timestamp,
    /// Absent: its oldest message waits for longer than a break.
    kept_up_since: Option<Timestamp>,
}

impl Attention {
    pub(in crate::engine) fn new(at: Timestamp) -> Self {
        Self { served: at, steady_since: at, kept_up_since: Some(at) }
    }

    /// Takes a reading into account: whether something was done or nothing was left, and how long the oldest message
    /// has waited. `interval` is the time between readings or commits, whichever is longer: in less than two of them
    /// no break can be seen.
    pub(in crate::engine) fn observe(
        &mut self,
        at: Timestamp,
        served: bool,
        oldest: Duration,
        interval: Duration,
    ) {
        let longest = BREAK.max(interval.saturating_mul(2));
        if elapsed(self.served, at) > longest {
            self.steady_since = at;
        }
        if served {
            self.served = at;
        }
        self.kept_up_since = (oldest <= longest).then(|| self.kept_up_since.unwrap_or(at));
    }

    /// How long it has been served without a longer break.
    pub(in crate::engine) fn steady(&self, at: Timestamp) -> Duration {
        elapsed(self.steady_since, at)
    }

    /// How long none of its messages has waited for long.
    pub(in crate::engine) fn kept_up(&self, at: Timestamp) -> Duration {
        self.kept_up_since.map_or(Duration::ZERO, |since| elapsed(since, at))
    }
}

/// How one consumer treats its partitions.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Turns {
    /// Partitions that stand still although something is left.
    still: u32,
    /// Others that have something to do.
    busy: u32,
    /// The shortest time for which all the others have been served steadily, or kept up with.
    steady: Duration,
    kept_up: Duration,
}

impl Default for Turns {
    fn default() -> Self {
        Self { still: 0, busy: 0, steady: Duration::MAX, kept_up: Duration::MAX }
    }
}

impl Turns {
    /// A partition that stands still.
    pub(in crate::engine) fn add_still(&mut self) {
        self.still += 1;
    }

    /// Another one.
    pub(in crate::engine) fn add(&mut self, attention: &Attention, has_work: bool, at: Timestamp) {
        self.busy += u32::from(has_work);
        self.steady = self.steady.min(attention.steady(at));
        self.kept_up = self.kept_up.min(attention.kept_up(at));
    }

    /// Whether those that stand still have had their turn. When several others are served again and again for `limit`,
    /// the turn has come round. Else the consumer must have been done with the others for half of that. It has `held`
    /// them for so long.
    pub(in crate::engine) fn came(&self, limit: Duration, held: Duration) -> bool {
        let comes_round = self.busy >= 2 && self.still == 1 && self.steady.min(held) >= limit;
        comes_round || self.kept_up.min(held) >= limit / 2
    }
}
