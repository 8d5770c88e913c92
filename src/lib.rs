//! QueueScaler: scales the consumers of Kafka, RabbitMQ, ActiveMQ and Artemis queues and of Pulsar and RocketMQ topics by their backlog.
//!
//! # Modules
//!
//! | module | what it is for | may do I/O |
//! |---|---|---|
//! | [`api`] | what users write and read: types, schema, admission rules | no |
//! | [`plan`] | from a raw specification to a checked plan; the only reader of raw specifications | no |
//! | [`brokers`] | reads backlogs: sessions that poll, `kafka`, `rabbitmq`, `jolokia` (ActiveMQ Classic and Artemis), `pulsar`, `rocketmq`, TLS, refused addresses; sends the probes of objects that ask for them | yes, but `observation` and `kafka::backlog` |
//! | [`engine`] | from a reading to an assessment: `learn`, `diagnose`, `size`, `limit` (the gates, which hold replicas back); see its own page | no |
//! | [`simulation`] | a model of a queue and its consumers, to try the engine on without any; nothing of the operator uses it | no, but its [`command`](simulation::command)s |
//! | [`workload`] | a workload as Kubernetes shows it | no |
//! | [`report`] | from an assessment to status, conditions and events | no |
//! | [`alerts`] | from what is reported to which alerts fire, and what receivers are to report of them | no |
//! | [`receivers`] | who is notified of alerts: Alertmanager, webhooks, chats; delivery by tasks of their own | yes |
//! | [`drain`] | emergency drains of a backlog: plan, steps of a run, and `copy`, which the pods of `queuescaler distribute` run, for topics and queues; the only user of librdkafka; see its own page | only what its page names |
//! | [`cluster`] | the API server: watches, `/scale`, status, Secrets, events, the lease | yes |
//! | [`controllers`] | the reconcile of a `QueueScaler` and that of a `QueueDrain`, which join all of these: lists of steps | through the others |
//! | [`telemetry`] | metrics, logs, `/livez` and `/readyz` | yes |
//! | [`cli`], [`run`] | options; wiring, leadership and the order of ending | yes |
//!
//! # Direction of dependencies
//!
//! ```text
//! api ◄── plan ◄── engine ◄── report ◄─┬─ cluster ◄─┬─ controllers ◄── run
//!  ▲       ▲          │                 └─ alerts  ◄─┘    │
//!  └───────┴────── brokers ◄──────────────── cluster ◄────┘
//! ```
//!
//! `engine` knows of `brokers` no more than the types of an observation, which are pure. `cluster` knows of `brokers`
//! how a broker is reached, because that is what Secrets are read for; a broker reads them itself, by a `SecretReader`.
//! Only `controllers` join what decides with what does I/O. `tests/architecture` checks that the modules without I/O have
//! no clock, no task, no client and no way to a module that has. Not drawn: `workload` is below `report`; `telemetry` is
//! used by `brokers`, `receivers`, `controllers` and `run`; `receivers` use `alerts`, the lease, and the addresses and TLS
//! of `brokers`; `simulation` uses `engine` and `plan`.
//!
//! # Where a change goes
//!
//! | to add | goes into | besides |
//! |---|---|---|
//! | a gate, which holds replicas back | a variant of `Gate` in `engine/limit/gates.rs`; if status names it, a `Limit` in `engine/reason.rs` and its sentence in `engine/explain` | CONTRIBUTING.md, "Adding a gate" |
//! | a wait of one policy after a change | a `Pause` in `engine/size`, which `engine/limit/settling.rs` evaluates | |
//! | a policy | `api/policy.rs`, `plan/scaling.rs`, a file in `engine/size` | `docs/decisions.md` |
//! | a finding about consumers or pods | `engine/diagnose`, its sentence in `engine/explain` | `docs/conditions.md` |
//! | something to measure or to keep between readings | `engine/learn`, `engine/state.rs` | status, if it must survive a restart |
//! | a broker | `brokers/<name>`, which implements `Broker` and `Reader` and reads its Secrets itself; `brokers/sessions.rs` (the registry), `api/source.rs`, `plan/source.rs` | CONTRIBUTING.md, "Adding a broker" |
//! | a condition or an event | `report` | CONTRIBUTING.md, "Adding a condition" |
//! | an alert rule for Prometheus | `charts/queuescaler/files/alerts.yaml` | `docs/metrics.md` |
//! | a measure of alert rules | a field of `AlertRule` in `api/alerts.rs`, a variant of `plan::Measure`, `alerts/measure.rs`, its sentences in `alerts/notice` | `docs/alerts.md` |
//! | a built-in alert | a variant of `BuiltInAlert` in `api/alerts.rs`, which the compiler asks for in `alerts/built_in.rs` and `alerts/notice` | its place in `ALL`, without which it is never evaluated; `docs/alerts.md` |
//! | a form of receivers | a variant of `Form` in `receivers/forms`, `receivers/config.rs`, the chart's `values.schema.json` | `docs/receivers.md`; what its service documents, in `receivers/tests/documented` |
//! | a module without I/O | a row of `PURE` in `tests/architecture/main.rs`; nothing fails if it is forgotten | |
//!
//! `alerts` are evaluated on what a reconcile found, with `now` as an argument; an invalid specification has no assessment,
//! so that its alerts stay as they are. Since when an alert fires and who has reported it is in status, as nothing in
//! memory is needed after a restart. `controllers/reporting.rs` hands what is to be reported to `receivers`, which have a
//! bounded outbox and a task each, so that no reconcile waits.
//!
//! # The life of a poll
//!
//! A [`QueueScaler`](api::QueueScaler) that the watch brings is checked by [`plan::validate`] and subscribed to the
//! session of its broker cluster and credentials; whoever shares these shares the session. When its period is over the
//! session reads for all who are due, in a handful of requests, and gives each an
//! [`Observation`](brokers::Observation): `Known`, `AtLeast` or `Unknown`. This wakes the object's reconcile, which takes
//! the workload from a watch, asks for conflicting autoscalers (or an older `QueueScaler`), and calls [`engine::assess`]
//! once, with the time as an argument:
//!
//! ```text
//! observation ──► learn ──► diagnose ──► size ──► limit ──► Assessment ──┬─► act (/scale)
//!                                                                        ├─► report: status, conditions, events
//!                                                                        ├─► alerts: pending, firing, resolved
//!                                                                        └─► telemetry: series
//! ```
//!
//! If the replicas of its decision differ from the workload's, they are written through `/scale` onto the version that
//! was read; if that version is gone, the workload is read afresh and assessed again. [`report::status`] makes status and
//! conditions of the [`Assessment`](engine::Assessment), and what changed in it events; both are written only if they are
//! worth it, and everything only while the lease holds.
//!
//! # Invariants
//!
//! 1. `Unknown` and `AtLeast` never lower replicas; only `maxReplicas` does, at any time. Zero needs three complete
//!    readings in a row.
//! 2. A workload is written only through `/scale`, by compare and swap, within its bounds, at most once per reading
//!    and generation of the object.
//! 3. While nothing changes nothing is written to the API server, besides the lease.
//! 4. Nothing in memory is needed after a restart, except to be a little slower. A drain stores in status what it is about
//!    to do before it does it.
//! 5. Passwords and keys are `secrecy` types; no reference leaves the object's namespace, and none is a file path.
//! 6. While a drain owns a workload nobody else scales it; a temporary topic or queue is deleted only after it is proven
//!    empty.
//! 7. One malformed object, one dead broker or one slow receiver affects nobody else.
//! 8. Reading changes nothing on a broker. Only a drain, and the probe of an object that asks for it, write to one.

pub mod alerts;
pub mod api;
pub mod brokers;
pub mod cli;
pub mod cluster;
pub mod controllers;
pub mod drain;
pub mod engine;
pub mod plan;
pub mod receivers;
pub mod report;
pub mod run;
pub mod simulation;
pub mod telemetry;
pub mod workload;
