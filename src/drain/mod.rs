//! Emergency drains: the backlog is moved into a temporary topic with more partitions, or into temporary queues, and consumed
//! there by more pods.
//!
//! The steps are the same for both shapes of a backlog ([`names::Shape`]); brokers are asked by `controllers::drain`.
//!
//! | part | what it is for | may do I/O |
//! |---|---|---|
//! | [`plan`], [`risks`] | what a drain would do, whether it is worth it, and what of the source and its brokers speaks against it | no |
//! | [`emergency`] | when a drain of a `QueueScaler` is proposed or started | no |
//! | [`step`] | from what is seen to the next step of a run; [`transitions`] has the legal ones | no |
//! | [`names`], [`manifests`] | names of what a run creates; its Jobs and Deployment | no |
//! | [`report`] | conditions, events and progress of a run | no |
//! | [`distribution`] | what the pods that copy are told, and what they answer | no |
//! | [`copy`], [`distribute`] | the program of these pods | yes |
//! | [`command`] | `queuescaler drain` | yes |
//!
//! `controllers::drain` joins these with the API server and the broker.

pub mod command;
pub mod copy;
pub mod distribute;
pub mod distribution;
pub mod emergency;
pub mod manifests;
pub mod names;
pub mod plan;
pub mod report;
pub mod risks;
pub mod seen;
pub mod step;
pub mod transitions;
