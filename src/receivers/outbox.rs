//! What is due for one receiver, and when. No clock: `now` is an argument.
//!
//! The outbox knows each alert that its receiver is to report, and whether it has. Alerts of one broker that cannot be
//! read are one group, and so one message; any other alert is a group by itself. What is not delivered waits here, so that
//! an alert that is over before it was delivered is not reported at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::alerts::notice::Group;
use crate::alerts::{AlertKey, Notice, NoticeState};

/// First and longest pause after a failure; each failure in a row doubles it.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// The same after a message that the service refuses: others are delivered meanwhile.
const REFUSED: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(3600));
/// The longest pause of either kind at a receiver where alerts expire unless they are renewed.
const LONGEST_OF_RENEWALS: Duration = Duration::from_secs(60);
/// Part of a pause by which it is shortened at random, so that receivers do not come at the same moment.
const JITTER: f64 = 0.2;

/// How fast a receiver is notified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// All alerts are one group: the receiver does its own grouping.
    pub(super) all_at_once: bool,
    /// The first message of a group waits for so long, for others of the group: they are found within a poll.
    pub(super) gather: Duration,
    /// Shortest time between two messages of a group that has changed.
    pub(super) between: Duration,
    /// Time after which an alert that goes on is reported again.
    pub(super) repeat: Duration,
}

/// What has one message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum GroupKey {
    One(AlertKey),
    Broker(Group, String),
    All,
}

#[derive(Debug)]
struct Item {
    notice: Arc<Notice>,
    /// The receiver has reported it as firing, and not yet as resolved.
    told: bool,
    /// Since when the notice has its state.
    since: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    /// When the last message went out.
    sent_at: Option<Instant>,
    /// The service refused the last message: not before then.
    not_before: Option<Instant>,
    refusals: u32,
}

/// The alerts of one receiver.
#[derive(Debug)]
pub(super) struct Outbox {
    pace: Pace,
    limit: usize,
    items: BTreeMap<GroupKey, BTreeMap<AlertKey, Item>>,
    count: usize,
    times: BTreeMap<GroupKey, Times>,
    blocked_until: Option<Instant>,
    failures: u32,
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Due {
    /// To be sent now, as one message.
    Now(Batch),
    /// Nothing before then.
    At(Instant),
    /// Nothing until something changes.
    Nothing,
}

/// Alerts that are one message.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    group: GroupKey,
    /// At least one; those that fire come first.
    pub(super) notices: Vec<Arc<Notice>>,
}

impl Outbox {
    pub(super) fn new(pace: Pace, limit: usize) -> Self {
        Self {
            pace,
            limit,
            items: BTreeMap::new(),
            count: 0,
            times: BTreeMap::new(),
            blocked_until: None,
            failures: 0,
        }
    }

    /// Notes how an alert stands. `told`: its receiver has reported it as firing, which was `ago` before. Returns false where
    /// there is no more room.
    pub(super) fn put(&mut self, notice: &Arc<Notice>, told: bool, ago: Duration, now: Instant) -> bool {
        let group = self.pace.group_of(notice);
        let items = self.items.entry(group.clone()).or_default();
        match items.get_mut(&notice.key) {
            Some(item) => {
                if item.notice.state != notice.state {
                    item.since = now;
                }
                item.told |= told;
                item.notice = Arc::clone(notice);
            }
            None if self.count >= self.limit => {
                if items.is_empty() {
                    self.items.remove(&group);
                }
                return false;
            }
            None => {
                self.count += 1;
                items.insert(notice.key.clone(), Item { notice: Arc::clone(notice), told, since: now });
            }
        }
        if told {
            let times = self.times.entry(group).or_default();
            times.sent_at = times.sent_at.or(now.checked_sub(ago)).or(Some(now));
        }
        true
    }

    /// Whether the receiver has reported this alert as firing, and not yet as resolved.
    pub(super) fn has_told(&self, notice: &Notice) -> bool {
        let items = self.items.get(&self.pace.group_of(notice));
        items.and_then(|items| items.get(&notice.key)).is_some_and(|item| item.told)
    }

    /// Forgets an alert.
    pub(super) fn remove(&mut self, notice: &Notice) {
        let group = self.pace.group_of(notice);
        let Some(items) = self.items.get_mut(&group) else { return };
        if items.remove(&notice.key).is_some() {
            self.count -= 1;
        }
        if items.is_empty() {
            self.items.remove(&group);
            self.times.remove(&group);
        }
    }

    /// Alerts that wait to be reported, as firing or as resolved.
    pub(super) fn waiting(&self) -> usize {
        self.items.values().flat_map(BTreeMap::values).filter(|item| item.is_new() || item.is_over()).count()
    }

    /// What is due first.
    pub(super) fn due(&self, now: Instant) -> Due {
        let due =
            self.items.iter().filter_map(|(group, items)| Some((self.due_at(group, items)?, group, items)));
        let Some((at, group, items)) = due.min_by_key(|(at, ..)| *at) else { return Due::Nothing };
        let at = self.blocked_until.map_or(at, |until| at.max(until));
        if at > now {
            return Due::At(at);
        }
        let reported = items.values().filter(|item| !item.is_held_back(&self.pace));
        let reported = reported.filter(|item| item.told || item.is_new()).map(|item| &item.notice);
        let mut notices: Vec<_> = reported.cloned().collect();
        notices.sort_by_key(|notice| (notice.state, notice.key.clone()));
        Due::Now(Batch { group: group.clone(), notices })
    }

    /// When a group has a message to send.
    fn due_at(&self, group: &GroupKey, items: &BTreeMap<AlertKey, Item>) -> Option<Instant> {
        let Pace { gather, between, repeat, .. } = self.pace;
        let times = self.times.get(group).copied().unwrap_or_default();
        let gather = if matches!(group, GroupKey::One(_)) { Duration::ZERO } else { gather };
        let items = || items.values().filter(|item| !item.is_held_back(&self.pace));
        let goes_on = items().any(|item| item.told && !item.is_over());
        let changed = items().filter(|item| item.is_new() || item.is_over()).map(|item| item.since).min();
        // A group that was reported, and still is what it was in part, is reported again after a pause.
        let after = times.sent_at.filter(|_| goes_on).map(|at| at + between);
        let changed = changed.map(|since| after.map_or(since + gather, |after| after.max(since + gather)));
        let repeated = times.sent_at.filter(|_| goes_on).map(|at| at + repeat);
        let at = [changed, repeated].into_iter().flatten().min()?;
        Some(times.not_before.map_or(at, |not_before| at.max(not_before)))
    }

    /// Notes that a batch was accepted. Returns what its receiver has reported now.
    pub(super) fn accepted(&mut self, batch: &Batch, now: Instant) -> Vec<(AlertKey, NoticeState)> {
        (self.failures, self.blocked_until) = (0, None);
        self.times.insert(batch.group.clone(), Times { sent_at: Some(now), ..Times::default() });
        for sent in &batch.notices {
            let item = self.items.get_mut(&batch.group).and_then(|items| items.get_mut(&sent.key));
            let Some(item) = item else { continue };
            item.told = sent.state == NoticeState::Firing;
            if item.notice.state == NoticeState::Resolved && !item.told {
                self.remove(sent);
            }
        }
        if !self.items.contains_key(&batch.group) {
            self.times.remove(&batch.group);
        }
        batch.notices.iter().map(|sent| (sent.key.clone(), sent.state)).collect()
    }

    /// Notes that nothing can be delivered now. `asked` is the pause that the service asks for, `random` in 0..=1. Returns
    /// the pause.
    pub(super) fn failed(&mut self, asked: Option<Duration>, random: f64, now: Instant) -> Duration {
        let pause = self.pace.pause(PAUSES, self.failures).mul_f64(1.0 - JITTER * random.clamp(0.0, 1.0));
        let pause = asked.map_or(pause, |asked| asked.max(pause));
        self.failures = self.failures.saturating_add(1);
        self.blocked_until = Some(now + pause);
        pause
    }

    /// Notes that the service does not accept this message.
    pub(super) fn refused(&mut self, batch: &Batch, now: Instant) -> Duration {
        let times = self.times.entry(batch.group.clone()).or_default();
        let pause = self.pace.pause(REFUSED, times.refusals);
        (times.refusals, times.not_before) = (times.refusals.saturating_add(1), Some(now + pause));
        pause
    }
}

impl Item {
    /// Its `QueueScaler` is silenced, and nothing is to be sent of it. One that goes on and is renewed there would end, and be
    /// reported as over, if it were not renewed.
    fn is_held_back(&self, pace: &Pace) -> bool {
        let is_renewed = pace.all_at_once && self.told && self.notice.state == NoticeState::Firing;
        self.notice.silenced && !is_renewed
    }

    /// It fires, and its receiver has not reported that.
    fn is_new(&self) -> bool {
        !self.notice.silenced && !self.told && self.notice.state == NoticeState::Firing
    }

    /// It is over, and its receiver has reported it as firing.
    fn is_over(&self) -> bool {
        !self.notice.silenced && self.told && self.notice.state == NoticeState::Resolved
    }
}

impl Pace {
    /// The pause after so many failures in a row: the first one doubled with each, up to the longest.
    fn pause(&self, (first, longest): (Duration, Duration), times: u32) -> Duration {
        let longest = if self.all_at_once { longest.min(LONGEST_OF_RENEWALS) } else { longest };
        first.saturating_mul(1 << times.min(16)).min(longest)
    }

    fn group_of(&self, notice: &Notice) -> GroupKey {
        match &notice.group {
            _ if self.all_at_once => GroupKey::All,
            Some(group) => GroupKey::Broker(group.clone(), notice.key.alert.clone()),
            None => GroupKey::One(notice.key.clone()),
        }
    }
}
