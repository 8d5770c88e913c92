//! Delay probes: small messages in the queues of an object, and the time until its consumers are done with them.
//!
//! `tracks` decides which queue is due and what statistics show; `sender` publishes, in a task of its own; the reader hands
//! over what is due after its readings are complete, and waits for nothing. An object has one batch under way, and a queue
//! one probe that is not processed.

mod sender;
mod tracks;

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::Instant;

use self::sender::Sender;
use self::tracks::{Sent, Tracks};
use super::backlog::Counts;
use super::link::Endpoint;
use crate::brokers::Problem;
use crate::brokers::observation::ProbedDelay;

/// Time in which RabbitMQ renews its statistics, where it is not known (`collect_statistics_interval`).
const STATISTICS_INTERVAL: Duration = Duration::from_secs(5);

/// What is known of the probes of one object.
#[derive(Debug, Default)]
pub(super) struct DelayProbes {
    tracks: Tracks,
    under_way: Option<oneshot::Receiver<Vec<Sent>>>,
}

/// The probes of one broker: its sender, once there is something to send.
#[derive(Debug, Default)]
pub(super) struct Probing {
    sender: Option<Sender>,
}

/// What one object wants of its queues, which were counted by statistics that were asked for at `now`.
pub(super) struct Asked<'a> {
    pub(super) vhost: &'a str,
    pub(super) counted: Vec<(&'a str, &'a Counts)>,
    pub(super) interval: Option<Duration>,
    pub(super) period: Duration,
    pub(super) now: Instant,
}

impl Probing {
    /// What probes measured, after those that are due are sent. `endpoint` makes a connection for the sender.
    pub(super) fn run(
        &mut self,
        probes: &mut DelayProbes,
        asked: &Asked<'_>,
        endpoint: impl Fn() -> Result<Endpoint, Problem>,
    ) -> ProbedDelay {
        let Asked { vhost, counted, interval, period, now } = asked;
        probes.receive();
        let interval = interval.unwrap_or(STATISTICS_INTERVAL);
        let measured = probes.tracks.observe(counted.iter().copied(), interval, *period, *now);
        if probes.under_way.is_some() {
            return measured;
        }
        let sender = match &mut self.sender {
            Some(sender) if !sender.is_over() => sender,
            // Its settings are those of the reader, which could be used.
            none => match endpoint() {
                Ok(endpoint) => none.insert(Sender::start(endpoint)),
                Err(_) => return measured,
            },
        };
        let queues = probes.tracks.take_due(counted.iter().copied(), *period, *now);
        if !queues.is_empty() {
            probes.under_way = sender.send(vhost, queues);
            if probes.under_way.is_none() {
                probes.tracks.lost();
            }
        }
        measured
    }
}

impl DelayProbes {
    fn receive(&mut self) {
        let Some(under_way) = &mut self.under_way else { return };
        match under_way.try_recv() {
            Ok(sent) => self.tracks.answer(sent),
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Closed) => self.tracks.lost(),
        }
        self.under_way = None;
    }
}
