//! Delay probes: small messages in the topics of a group, and the time until the group's commits pass them.
//!
//! `tracks` decides which partition is due and what a commit shows; `sender` writes to the topics, in a task of its own; the
//! reader hands over what is due after its readings are complete, and waits for nothing. A group has one batch under way,
//! and a partition one probe that is not processed.

mod produce;
mod sender;
mod tracks;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::Instant;

use self::sender::Sender;
use self::tracks::{Sent, Tracks};
use super::KafkaWatched;
use super::cluster::Cluster;
use crate::brokers::{Problem, Reading, SourceReason};

/// What is known of the probes of one interest.
#[derive(Debug, Default)]
pub(super) struct DelayProbes {
    tracks: Tracks,
    under_way: Option<oneshot::Receiver<Vec<Sent>>>,
}

/// The probes of one cluster: its sender, once there is something to send.
#[derive(Debug, Default)]
pub(super) struct Probing {
    sender: Option<Sender>,
}

impl Probing {
    /// Adds to each reading what probes measured, and sends those that are due. `cluster` makes connections for the sender.
    pub(super) fn run(
        &mut self,
        due: &mut [&mut KafkaWatched],
        readings: &mut [Reading],
        cluster: impl Fn() -> Result<Cluster, Problem>,
    ) {
        let now = Instant::now();
        for (one, reading) in due.iter_mut().zip(readings) {
            let Some(period) = one.interest.probe else { continue };
            let probes = one.memory.delay_probes.get_or_insert_default();
            probes.receive();
            let Some(backlog) = reading.backlog_mut() else {
                let is_other = |problem: &Problem| {
                    matches!(problem.reason, SourceReason::OffsetAheadOfLog | SourceReason::OffsetsVanished)
                };
                if reading.problem().is_some_and(is_other) {
                    probes.tracks.clear();
                }
                continue;
            };
            let mut measured = probes.tracks.observe(backlog.topics(), period, now);
            // Members of a share group acknowledge single messages, so that no commit passes one.
            if one.memory.group.is_share() {
                let message = "share groups have no commits that could pass a probe; remove spec.probe";
                measured.problem = Some(Problem::new(SourceReason::ShareGroupNotSupported, message));
            } else if probes.under_way.is_none() {
                let sender = match &mut self.sender {
                    Some(sender) if !sender.is_over() => sender,
                    // Its settings are those of the reader, which could be used.
                    none => match cluster() {
                        Ok(cluster) => none.insert(Sender::start(cluster)),
                        Err(_) => continue,
                    },
                };
                let partitions = probes.tracks.take_due(backlog.topics(), period, now);
                if !partitions.is_empty() {
                    probes.under_way = sender.send(partitions);
                    if probes.under_way.is_none() {
                        probes.tracks.lost();
                    }
                }
            }
            backlog.probe = Some(measured);
        }
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
