//! Alerts: what is wrong with a backlog for so long that a person should know. Pure: no clock, no I/O.
//!
//! [`State::evaluate`] runs once in a reconcile, on the assessment and what status is made of, whatever the mode. Sending
//! what comes out of it is the business of `receivers`, which nobody waits for.
//!
//! ```text
//!                beyond            for forSeconds
//!   inactive ─────────────► pending ─────────────► firing ──┐ back for the recovery time,
//!      ▲                       │ not beyond                 │ or the alert no longer exists
//!      ├───────────────────────┘                            ▼
//!      └──────────────── all who were notified know ── resolved
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `measure` | how a rule of `spec.alerts` stands: beyond its threshold, between, back, or unknown |
//! | `built_in` | the same for the built-in alerts, with their severities and times |
//! | `lifecycle` | the states above, one alert at a time |
//! | `evaluate` | all alerts of an object, and what is saved in status |
//! | [`notice`] | what receivers are to report, and the sentences |
//!
//! What is unknown neither fires an alert nor resolves it. A time without a reading counts for nothing: an alert that was
//! pending before it is pending anew. State is restored from `status.alerts`, with the receivers that reported an alert, so
//! that a new leader reports none twice and forgets none.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod built_in;
mod evaluate;
mod lifecycle;
pub(crate) mod measure;
pub mod notice;
#[cfg(test)]
mod tests;

pub use built_in::defaults;
pub use evaluate::{RULE, State};
pub use notice::{AlertKey, Notice, NoticeState};

/// How an alert's measure stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// Beyond the threshold.
    Beyond,
    /// Not beyond it, and not far enough from it for the alert to be over.
    Between,
    /// Far enough from it.
    Back,
    /// It is not known.
    Unknown,
}

impl Level {
    /// Of something that is so, or is not.
    fn of(beyond: bool) -> Self {
        if beyond { Self::Beyond } else { Self::Back }
    }

    /// Of what a part shows: the whole can be more.
    fn of_lower_bound(self) -> Self {
        if self == Self::Beyond { self } else { Self::Unknown }
    }
}
