//! Delivers to one receiver: takes what is due from its outbox, sends it, and notes what came of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::config::{Receiver, Unusable};
use super::files::Files;
use super::forms::{OneOf, Refused, Secrets};
use super::http::{self, Trust};
use super::message::{Message, Setting};
use super::notifier::{Acknowledgement, Inner, moment, since_last_report};
use super::outbox::{Batch, Due, Outbox};
use crate::alerts::{Notice, NoticeState};
use crate::brokers::address::AddressPolicy;

/// Changes within this time are taken together: all objects of a broker are reconciled after its poll.
const TOGETHER: Duration = Duration::from_millis(100);
/// Pause while another process may lead.
const NOT_LEADING: Duration = Duration::from_secs(1);

/// One receiver with what waits for it.
pub(super) struct Lane {
    pub(super) receiver: Arc<Receiver>,
    pub(super) setting: Arc<Setting>,
    pub(super) outbox: Mutex<Outbox>,
    pub(super) changed: Notify,
}

impl Lane {
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what an object has to report, instead of what it had before. Returns how many new ones there is no room for.
    pub(super) fn take(&self, before: &[Arc<Notice>], notices: &[Arc<Notice>]) -> usize {
        let (now, wall) = moment();
        let mut outbox = self.outbox();
        let is_there =
            |old: &&Arc<Notice>| !notices.iter().any(|new| new.key == old.key && new.group == old.group);
        before.iter().filter(is_there).for_each(|old| outbox.remove(old));
        let mut dropped = 0;
        for notice in notices {
            let told = notice.notified.contains(&self.receiver.name);
            let reported = told || outbox.has_told(notice);
            let wanted = self.wants(notice);
            let notice = match (wanted, reported, notice.state) {
                (true, _, NoticeState::Firing) | (_, true, NoticeState::Resolved) => Arc::clone(notice),
                // Its rule names other receivers now.
                (false, true, NoticeState::Firing) => {
                    Arc::new(Notice { state: NoticeState::Resolved, ..Notice::clone(notice) })
                }
                (_, false, _) => {
                    outbox.remove(notice);
                    continue;
                }
            };
            let ago = since_last_report(&notice, self.receiver.repeat(), wall);
            let is_new = !before.iter().any(|old| old.key == notice.key && old.since == notice.since);
            if !outbox.put(&notice, told, ago, now) && is_new {
                dropped += 1;
            }
        }
        drop(outbox);
        self.changed.notify_one();
        dropped
    }

    /// Whether this receiver is to report an alert.
    fn wants(&self, notice: &Notice) -> bool {
        let Receiver { name, default, min_severity, .. } = self.receiver.as_ref();
        let selected = if notice.receivers.is_empty() { *default } else { notice.receivers.contains(name) };
        let severe = min_severity.is_none_or(|least| notice.severity >= least);
        selected && severe && self.receiver.allows(&notice.key.namespace)
    }
}

/// Delivers for ever.
pub(super) async fn run(lane: Arc<Lane>, inner: Arc<Inner>) {
    let name = lane.receiver.name.as_str();
    loop {
        let due = {
            let outbox = lane.outbox();
            inner.metrics.notifications_waiting(name, i64::try_from(outbox.waiting()).unwrap_or(i64::MAX));
            outbox.due(Instant::now())
        };
        match due {
            Due::Nothing => changed(&lane).await,
            Due::At(then) => tokio::select! {
                () = changed(&lane) => {}
                () = sleep_until(then) => {}
            },
            Due::Now(_) if inner.leadership.check().is_err() => sleep(NOT_LEADING).await,
            Due::Now(batch) => deliver(&lane, &batch, &inner).await,
        }
    }
}

async fn changed(lane: &Lane) {
    lane.changed.notified().await;
    sleep(TOGETHER).await;
}

async fn deliver(lane: &Lane, batch: &Batch, inner: &Inner) {
    let name = lane.receiver.name.as_str();
    let only_resolved = batch.notices.iter().all(|notice| notice.state == NoticeState::Resolved);
    let sent = match &inner.files {
        Some(_) if only_resolved && !lane.receiver.send_resolved => Ok(()),
        Some(files) => {
            let notices: Vec<&Notice> = batch.notices.iter().map(AsRef::as_ref).collect();
            let sent = send(&lane.receiver, &notices, &lane.setting, files, &inner.addresses).await;
            let result = if sent.is_ok() { "delivered" } else { "failed" };
            inner.metrics.notifications(name, result, 1);
            sent
        }
        None => return,
    };
    let now = Instant::now();
    match sent {
        Ok(()) => {
            let reported = lane.outbox().accepted(batch, now);
            tracing::debug!(receiver = name, alerts = reported.len(), "alerts are delivered");
            for (key, reported) in reported {
                let acknowledgement =
                    Acknowledgement { alert: key.alert, receiver: name.to_owned(), reported };
                inner.acknowledge(&(key.namespace, key.object), acknowledgement);
            }
        }
        Err(Refused::Later(problem, asked)) => {
            let pause = lane.outbox().failed(asked, random(), now);
            tracing::warn!(receiver = name, problem, again_in = ?pause, "cannot deliver an alert, trying again");
        }
        Err(Refused::Message(problem)) => {
            let pause = lane.outbox().refused(batch, now);
            tracing::error!(receiver = name, problem, again_in = ?pause, "a receiver refuses an alert");
        }
    }
}

/// Sends these alerts as one message.
pub(super) async fn send(
    receiver: &Arc<Receiver>,
    notices: &[&Notice],
    setting: &Setting,
    files: &Files,
    addresses: &AddressPolicy,
) -> Result<(), Refused> {
    let unusable = |problem: Unusable| Refused::Later(problem.0, None);
    let Some(first) = notices.first() else { return Ok(()) };
    let (reader, files) = (Arc::clone(receiver), files.clone());
    let read = tokio::task::spawn_blocking(move || read(&reader, &files)).await;
    let read = read.unwrap_or_else(|error| Err(Unusable(error.to_string())));
    let (secrets, trust) = read.map_err(unusable)?;
    let message = Message::of(first, notices, setting);
    let requests = receiver.form.requests(notices, &message, setting, &secrets, Timestamp::now());
    for one_of in &requests.map_err(unusable)? {
        send_one_of(one_of, &trust, receiver, addresses).await?;
    }
    Ok(())
}

/// Reads the Secrets of a receiver, and the certificates that it trusts.
fn read(receiver: &Receiver, files: &Files) -> Result<(Secrets, Trust), Unusable> {
    let secrets = files.secrets(&receiver.form)?;
    let authority = receiver.form.authority().map(|key| secrets.certificates(key)).transpose()?;
    Ok((secrets, Trust::new(authority)))
}

/// Sends all of these, at the same time: one of them has to be accepted.
async fn send_one_of(
    requests: &OneOf,
    trust: &Trust,
    receiver: &Receiver,
    addresses: &AddressPolicy,
) -> Result<(), Refused> {
    let sends = requests.iter().map(|request| async {
        let body = http::send(request, trust, addresses).await?;
        receiver.form.accepted(&body)
    });
    let mut refused = Refused::Later("there is no address".to_owned(), None);
    for sent in join_all(sends).await {
        match sent {
            Ok(()) => return Ok(()),
            Err(problem) => refused = problem,
        }
    }
    Err(refused)
}

/// A number from 0 to 1, to spread pauses.
fn random() -> f64 {
    let mut bytes = [0; 2];
    // Without randomness pauses are not spread, which is no reason to fail.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    f64::from(u16::from_be_bytes(bytes)) / f64::from(u16::MAX)
}
