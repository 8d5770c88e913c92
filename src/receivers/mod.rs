//! Receivers of alerts: who is notified, in which form, and when. The only place from which alerts leave the cluster.
//!
//! ```text
//! reconcile ──► Notifier::update ──► Outbox of each receiver ──► delivery task ──► form ──► HTTP
//!     ▲          (returns at once)     (bounded, pure)            (one each)                  │
//!     └──────────────────────────── acknowledgement ◄─────────────────────────────────────────┘
//! ```
//!
//! | module | what it does | may do I/O |
//! |---|---|---|
//! | [`config`] | the administrator's file, checked | no |
//! | [`files`] | reads the file and the mounted Secrets, again when they change | yes |
//! | [`message`] | one message for an alert, or for many of one broker | no |
//! | [`template`] | the administrator's template of a body, bounded | no |
//! | [`forms`] | the request that a service expects, and what its answer means | no |
//! | [`outbox`] | what is due for one receiver: grouping, repeats, back-off | no |
//! | [`http`] | sends a request to a permitted address, and reads a bounded answer | yes |
//! | [`delivery`] | the task of one receiver | yes |
//! | [`notifier`] | all of them, and what controllers use | yes |
//! | [`command`] | `queuescaler receivers test` | yes |
//!
//! What is sent follows from what is so, not from what happened: an outbox knows which alerts fire, and what its receiver
//! has reported of them (`status.alerts[].notified`). Nothing waits for a receiver, and a receiver waits for no other.
//! Only the leader delivers.

pub mod command;
pub mod config;
mod delivery;
mod drops;
mod files;
pub mod forms;
mod http;
pub mod message;
pub mod notifier;
mod outbox;
mod template;
#[cfg(test)]
mod tests;
