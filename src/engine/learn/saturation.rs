//! Whether added replicas add throughput, or only wait for something that all of them share: a database, a limit of
//! requests, a lock.
//!
//! What all replicas process together is compared before and after replicas were added, both measured while there was
//! work for all. Two additions in a row that gained less than a tenth of what was to be expected, or a large one that
//! gained less than half, mean that more do not help. Then half of what was useless is given back, and nothing is added
//! for a while that doubles each time. A measurement that shows that it was not so ends that at once: replicas that
//! needed time to warm up, or throughput that falls with the replicas that were given back.
//!
//! Before it comes to that, a doubt is enough to go slowly: when each replica does less than it used to, either the work
//! got harder, and more help, or what they share has no more to give. Then a quarter more is tried, and only when that
//! gained what it should the way is free. The same holds after the first addition without a gain.

#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;

use super::progress::Measurement;
use crate::engine::units::elapsed;

/// Less than this part of the expected gain is none.
const GAIN: f64 = 0.1;
/// The same for a large addition, which counts as two: the first of its replicas may well have helped.
const LARGE_GAIN: f64 = 0.5;
/// An addition of this part is large.
const LARGE: f64 = 0.5;
/// Additions without a gain that are enough.
const STRIKES: u32 = 2;
/// How long nothing is added at first, and at most. Longer than the usual window of `scaleDown`, or nothing would ever
/// be given back.
const PAUSE: Duration = Duration::from_secs(600);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// As many replicas that process more than this had to warm up.
const WARMED_UP: f64 = 1.25;
/// A smaller change of the throughput than this part proves nothing.
const TELLING: f64 = 0.15;
/// Measurements of one count of replicas that can be compared.
const FEWEST: u32 = 3;
/// Measurements with a longer pause between them are not averaged: what replicas share may have changed meanwhile.
const ONE_STATE: Duration = Duration::from_secs(300);
/// What was measured longer ago than this was measured of something else.
const COMPARABLE: Duration = Duration::from_secs(1800);

/// Replicas that do less than this part of what they used to are slow.
const SLOW: f64 = 0.75;
/// Half-life of what they used to do, in seconds of measuring.
const USUAL: f64 = 1800.0;
/// A longer time without a measurement counts as this one.
const APART: Duration = Duration::from_secs(60);

/// Whether more replicas add throughput, as far as measurements show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Phase {
    /// Nothing speaks against more.
    Free,
    /// Each replica does less than it used to, or the last addition gained nothing: nobody knows yet whether more help.
    Doubted {
        /// The most replicas that are tried.
        most: u32,
    },
    /// Those that were added processed little more.
    Limited {
        /// The most replicas that are of any use.
        most: u32,
    },
    /// The same, and a few more are tried after a pause.
    Retrying {
        /// The most replicas that are tried.
        most: u32,
        /// The most replicas that were of any use.
        useful: u32,
    },
}

impl Phase {
    /// The most replicas that are of any use, if that was found.
    pub(in crate::engine) fn useful(self) -> Option<u32> {
        match self {
            Self::Limited { most: useful } | Self::Retrying { useful, .. } => Some(useful),
            Self::Free | Self::Doubted { .. } => None,
        }
    }
}

/// What speaks against more replicas, as far as it has to survive the process (`status.saturation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saturated {
    /// The most replicas that seem to be of any use, or that may be tried while that is in doubt.
    pub replicas: u32,
    /// From then on more are tried.
    pub until: Timestamp,
    /// How often in a row added replicas processed little more. 0: it is only a doubt.
    pub times: u32,
}

/// What additions of replicas gained.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::engine) struct Saturation {
    /// Throughput of so many replicas, as last measured.
    last: Option<Throughput>,
    /// The throughput before the last addition.
    before: Option<Throughput>,
    strikes: u32,
    /// The throughput before the first addition without a gain.
    base: Option<Throughput>,
    limit: Option<UsefulReplicas>,
    pauses: u32,
    /// Messages per second that each replica used to process.
    usual: Usual,
    /// They do less than that.
    slow: bool,
    /// Since when they do, or there is a limit, and what each used to process then.
    suspected: Option<(Timestamp, f64)>,
    /// The doubt of an earlier process, until there are measurements.
    doubt: Option<Saturated>,
}

/// A mean of the first measurements, then an exponential average.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Usual {
    per_second: f64,
    measurements: u32,
}

impl Usual {
    fn observe(&mut self, per_second: f64, time: Duration) {
        let even = 1.0 / f64::from(self.measurements.min(2 * FEWEST) + 1);
        let part = 1.0 - 0.5_f64.powf(time.as_secs_f64() / USUAL);
        let part = if self.measurements < 2 * FEWEST { even } else { part };
        self.per_second += (per_second - self.per_second) * part;
        self.measurements = self.measurements.saturating_add(1);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Throughput {
    at: Timestamp,
    replicas: u32,
    per_second: f64,
    /// Measurements that this is the average of.
    measurements: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct UsefulReplicas {
    replicas: u32,
    until: Timestamp,
    /// What all processed together then. Absent: an earlier process knew.
    reached: Option<Throughput>,
}

impl Saturation {
    /// Begins with what an earlier process found: what one of the replicas there used to do, and what spoke against more.
    pub(in crate::engine) fn recall(&mut self, usual: Option<f64>, found: Option<Saturated>) {
        let usual = usual.filter(|per_second| per_second.is_finite() && *per_second > 0.0);
        self.usual =
            usual.map_or_else(Usual::default, |per_second| Usual { per_second, measurements: 2 * FEWEST });
        match found.filter(|found| found.replicas > 0) {
            Some(Saturated { times: 0, .. }) => self.doubt = found,
            Some(Saturated { replicas, until, times }) => {
                (self.limit, self.pauses) = (Some(UsefulReplicas { replicas, until, reached: None }), times);
            }
            None => {}
        }
    }

    /// What a later process has to know.
    pub(in crate::engine) fn found(&self, now: Timestamp) -> Option<Saturated> {
        match (self.phase(now), self.last) {
            (Phase::Free, _) => None,
            (Phase::Limited { most: replicas } | Phase::Retrying { useful: replicas, .. }, _) => {
                Some(Saturated { replicas, until: self.limit?.until, times: self.pauses.max(1) })
            }
            (Phase::Doubted { most: replicas }, Some(last)) if self.doubt.is_none() => {
                Some(Saturated { replicas, until: last.at.saturating_add(COMPARABLE).ok()?, times: 0 })
            }
            (Phase::Doubted { .. }, _) => self.doubt,
        }
    }

    /// Replicas were written.
    pub(in crate::engine) fn scaled(&mut self, from: i32, to: i32, at: Timestamp) {
        if to > from {
            let fresh = |throughput: &Throughput| elapsed(throughput.at, at) < COMPARABLE;
            self.before = self.last.filter(fresh);
        }
    }

    /// Replicas were measured. Says since when they did less than they could, and what each used to do before that, if
    /// it is over now: what was measured meanwhile was measured of what they share.
    pub(in crate::engine) fn measured(
        &mut self,
        at: Timestamp,
        one: &Measurement,
    ) -> Option<(Timestamp, f64)> {
        self.expire(at);
        let is_harder = self.judge(at, one);
        if self.limit.is_some() || self.slow {
            self.suspected.get_or_insert((at, self.usual.per_second));
            return None;
        }
        // Who does less for long enough is used to it.
        let is_over = |usual: f64| !is_harder && one.per_second >= SLOW * usual;
        self.suspected.take().filter(|(_, usual)| is_over(*usual))
    }

    /// Drops a limit that does not count any more, and what was suspected for nothing but that.
    fn expire(&mut self, now: Timestamp) {
        let expired = self.limit.take_if(|limit| !counts(limit.until, now)).is_some();
        self.suspected.take_if(|_| expired && !self.slow);
    }

    /// Whether it is the work that got harder, and not what they share that has no more to give.
    fn judge(&mut self, at: Timestamp, one: &Measurement) -> bool {
        let now = Throughput::of(at, one).averaged_with(self.last);
        let time = self.last.replace(now).map_or(APART, |last| elapsed(last.at, at).min(APART));
        self.usual.observe(one.per_second, time);
        if now.measurements < FEWEST {
            return false;
        }
        self.doubt = None;
        // Also where a limit turns out to be none: what is tried next is tried with care.
        self.slow = now.each() < SLOW * self.usual.per_second;
        if let Some(limit) = &mut self.limit {
            // As long as it holds, this is what there is to compare with.
            limit.reached.get_or_insert(now);
            let limit = *limit;
            if limit.is_disproved_by(now) {
                (self.limit, self.pauses) = (None, 0);
            }
            if at < limit.until {
                return false;
            }
        }
        let Some(before) = self.before.take_if(|before| now.replicas > before.replicas) else { return false };
        // What is tried after a pause needs no second proof, and no small one that it was right.
        let large = self.limit.is_some() || now.added_to(before) >= LARGE;
        let gain = now.gain_over(before);
        // A tenth of a quarter is less than what measurements differ by; with a doubt that would free by accident.
        if gain >= if large || self.slow { LARGE_GAIN } else { GAIN } {
            (self.strikes, self.pauses, self.base, self.limit) = (0, 0, None, None);
            // A smaller gain, or that of fewer replicas, may be an accident.
            let is_harder = gain >= LARGE_GAIN && now.added_to(before) >= TELLING;
            if is_harder {
                self.usual = Usual { per_second: now.each(), measurements: now.measurements };
                self.slow = false;
            }
            return is_harder;
        }
        let base = *self.base.get_or_insert(before);
        self.strikes += if large { STRIKES } else { 1 };
        if self.strikes >= STRIKES {
            let useful = f64::from(base.replicas) * (now.per_second / base.per_second).max(1.0);
            let pause = PAUSE.saturating_mul(1 << self.pauses.min(6)).min(LONGEST_PAUSE);
            self.limit = Some(UsefulReplicas {
                // What was tried after a pause and failed is given back, and half of the rest.
                replicas: between(useful, self.limit.map_or(now.replicas, |limit| limit.replicas)),
                until: at.saturating_add(pause).unwrap_or(Timestamp::MAX),
                reached: Some(now),
            });
            (self.strikes, self.base) = (0, None);
            self.pauses = self.pauses.saturating_add(1);
        }
        false
    }

    /// The pods are made of something else: what they used to do says nothing.
    pub(in crate::engine) fn renew(&mut self) {
        (self.usual, self.slow) = (Usual::default(), false);
    }

    /// Whether more replicas add throughput. After the pause a quarter more is tried, and with a doubt as well.
    pub(in crate::engine) fn phase(&self, now: Timestamp) -> Phase {
        if let Some(UsefulReplicas { replicas, until, .. }) =
            self.limit.filter(|limit| counts(limit.until, now))
        {
            return if now < until {
                Phase::Limited { most: replicas }
            } else {
                Phase::Retrying { most: quarter_more(replicas), useful: replicas }
            };
        }
        if let Some(doubt) = self.doubt.filter(|doubt| now < doubt.until && counts(doubt.until, now)) {
            return Phase::Doubted { most: doubt.replicas };
        }
        let Some(last) = self.last.filter(|last| elapsed(last.at, now) < COMPARABLE) else {
            return Phase::Free;
        };
        let failed = self.strikes > 0 && self.base.is_some_and(|base| elapsed(base.at, now) < COMPARABLE);
        if !self.slow && !failed {
            return Phase::Free;
        }
        // One try after the other.
        let most = if last.measurements < FEWEST { last.replicas } else { quarter_more(last.replicas) };
        Phase::Doubted { most }
    }
}

impl Throughput {
    fn of(at: Timestamp, one: &Measurement) -> Self {
        let per_second = one.per_second * f64::from(one.replicas);
        Self { at, replicas: one.replicas, per_second, measurements: 1 }
    }

    /// A single measurement may be a tenth off, which would hide the difference.
    fn averaged_with(self, last: Option<Self>) -> Self {
        let same = |last: &Self| last.replicas == self.replicas && elapsed(last.at, self.at) < ONE_STATE;
        let Some(last) = last.filter(same) else { return self };
        let known = last.measurements.min(2 * FEWEST);
        let per_second = last.per_second + (self.per_second - last.per_second) / f64::from(known + 1);
        Self { per_second, measurements: known + 1, ..self }
    }

    /// Messages per second of each replica.
    fn each(self) -> f64 {
        self.per_second / f64::from(self.replicas.max(1))
    }

    /// Replicas more than before, as a part of those.
    fn added_to(self, before: Self) -> f64 {
        f64::from(self.replicas) / f64::from(before.replicas) - 1.0
    }

    /// What was gained, as a part of what as many replicas more should have gained.
    fn gain_over(self, before: Self) -> f64 {
        (self.per_second / before.per_second - 1.0) / self.added_to(before)
    }
}

impl UsefulReplicas {
    fn is_disproved_by(&self, now: Throughput) -> bool {
        let Some(reached) = self.reached else { return false };
        if now.per_second >= reached.per_second * WARMED_UP {
            return true;
        }
        if now.replicas >= reached.replicas {
            return false;
        }
        // What commits hide from a measurement is larger than what a few replicas can show.
        let fewer = 1.0 - f64::from(now.replicas) / f64::from(reached.replicas);
        1.0 - now.per_second / reached.per_second > (fewer * 0.75).max(TELLING)
    }
}

/// Whether something that was to hold until then still counts. What is further off than any pause is no time of ours.
fn counts(until: Timestamp, now: Timestamp) -> bool {
    elapsed(until, now) < COMPARABLE && elapsed(now, until) <= LONGEST_PAUSE
}

fn quarter_more(replicas: u32) -> u32 {
    replicas + (replicas / 4).max(1)
}

/// Half of what is useless is given back.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Between two counts.
fn between(useful: f64, replicas: u32) -> u32 {
    (f64::midpoint(useful, f64::from(replicas)).ceil() as u32).min(replicas)
}
