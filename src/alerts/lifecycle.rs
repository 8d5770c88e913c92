//! The states of one alert: inactive, pending, firing, resolved. See the picture of the parent module.

use std::time::Duration;

use jiff::Timestamp;

use super::Level;
use crate::api::AlertState;

/// An alert that fires again within this time of its end is flapping.
const FLAPPING: Duration = Duration::from_secs(900);
/// The longest time that a flapping alert has to be back before it is resolved.
const LONGEST_RECOVERY: Duration = Duration::from_secs(3600);

/// How long an alert's measure must be beyond, and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// Beyond for so long: it fires.
    pub(super) hold: Duration,
    /// Back for so long: it is resolved. Doubled for each time that the alert flaps.
    pub(super) recovery: Duration,
    /// The longest time between two readings that counts: after a longer one both begin anew.
    pub(super) longest_gap: Duration,
}

/// One alert that is not inactive, or was resolved a moment ago.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Track {
    /// Its state.
    pub(super) state: AlertState,
    /// Since when the measure is beyond.
    pub(super) since: Timestamp,
    /// When it was resolved.
    pub(super) resolved_at: Option<Timestamp>,
    /// Receivers that have reported it as firing and not yet as resolved.
    pub(super) notified: Vec<String>,
    /// Since when the measure is back.
    back_since: Option<Timestamp>,
    /// When the measure was last known.
    known_at: Timestamp,
    /// How often in a row it fired again soon after its end.
    flaps: u32,
}

impl Track {
    /// An alert whose measure is beyond from now on.
    fn new(now: Timestamp) -> Self {
        Self {
            state: AlertState::Pending,
            since: now,
            resolved_at: None,
            notified: Vec::new(),
            back_since: None,
            known_at: now,
            flaps: 0,
        }
    }

    /// As status saved it. The time in which nobody evaluated it, such as a change of leader, is no gap.
    pub(super) fn restored(
        state: AlertState,
        since: Timestamp,
        resolved_at: Option<Timestamp>,
        notified: Vec<String>,
        now: Timestamp,
    ) -> Self {
        // A clock that was set back must not keep it pending for ever.
        Self { state, since: since.min(now), resolved_at, notified, ..Self::new(now) }
    }

    /// Whether status shows it.
    pub(super) fn is_shown(&self) -> bool {
        self.state != AlertState::Resolved || !self.notified.is_empty()
    }

    /// Ends an alert that no longer exists.
    pub(super) fn end(self, now: Timestamp) -> Option<Self> {
        match self.state {
            AlertState::Firing => Some(self.resolved(now)),
            AlertState::Pending => self.not_fired(now),
            AlertState::Resolved => Some(self).filter(Self::is_shown),
        }
    }

    fn resolved(self, now: Timestamp) -> Self {
        Self { state: AlertState::Resolved, resolved_at: Some(now), back_since: None, ..self }
    }

    /// Pending, and back before it fired: nothing, unless somebody still takes it to be firing.
    fn not_fired(self, now: Timestamp) -> Option<Self> {
        let resolved_at = self.resolved_at.unwrap_or(now);
        let known = self.flaps > 0 || !self.notified.is_empty();
        known.then_some(Self { state: AlertState::Resolved, resolved_at: Some(resolved_at), ..self })
    }
}

/// The alert after its measure was found at this level.
pub(super) fn next(track: Option<Track>, level: Level, times: Times, now: Timestamp) -> Option<Track> {
    let Some(mut track) = track else {
        return (level == Level::Beyond).then(|| fired(Track::new(now), times, now));
    };
    if level == Level::Unknown {
        return Some(track);
    }
    let had_gap = elapsed(track.known_at, now) > times.longest_gap;
    track.known_at = now;
    match (track.state, level) {
        (AlertState::Pending, Level::Beyond) => {
            track.since = if had_gap { now } else { track.since.min(now) };
            Some(fired(track, times, now))
        }
        (AlertState::Pending, _) => track.not_fired(now),
        (AlertState::Firing, Level::Back) => {
            let since = track.back_since.filter(|since| !had_gap && *since <= now).unwrap_or(now);
            track.back_since = Some(since);
            let recovery = times.recovery.saturating_mul(1 << track.flaps.min(6));
            let recovery = recovery.min(LONGEST_RECOVERY.max(times.recovery));
            Some(if elapsed(since, now) >= recovery { track.resolved(now) } else { track })
        }
        (AlertState::Firing, _) => {
            track.back_since = None;
            Some(track)
        }
        (AlertState::Resolved, Level::Beyond) => {
            let soon = track.resolved_at.is_some_and(|at| elapsed(at, now) < FLAPPING);
            let flaps = if soon { track.flaps.saturating_add(1) } else { 0 };
            Some(fired(Track { flaps, notified: track.notified, ..Track::new(now) }, times, now))
        }
        (AlertState::Resolved, _) => {
            let recent = track.resolved_at.is_some_and(|at| elapsed(at, now) < FLAPPING);
            Some(track).filter(|track| recent || track.is_shown())
        }
    }
}

/// Pending, or firing if it lasts for long enough.
fn fired(track: Track, times: Times, now: Timestamp) -> Track {
    let lasts = elapsed(track.since, now) >= times.hold;
    let state = if lasts { AlertState::Firing } else { AlertState::Pending };
    Track { state, back_since: None, ..track }
}

/// Time from `earlier` to `now`, zero when it lies in the future.
fn elapsed(earlier: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(earlier)).unwrap_or_default()
}
