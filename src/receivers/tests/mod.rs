//! Receivers: the file, the forms, what is due when, and delivery to a server of this process.

mod config;
mod delivery;
mod forms;
mod http;
mod outbox;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::config::{Receiver, ReceiversFile};
use super::files::Files;
use super::message::sample_notice;
use crate::alerts::notice::Group;
use crate::alerts::{AlertKey, Notice, NoticeState};
use crate::api::Severity;
use crate::brokers::address::AddressPolicy;
use crate::brokers::names::Names;

/// An alert of this object.
fn notice(object: &str) -> Notice {
    Notice {
        key: AlertKey { namespace: "shop".into(), object: object.into(), alert: "backlog".into() },
        severity: Severity::Critical,
        title: "backlog above 1,000".into(),
        message: "backlog 1,001, above 1,000".into(),
        topic: "backlogAbove".into(),
        ..sample_notice("2026-01-31T18:00:00Z".parse().unwrap())
    }
}

/// That the object's broker cannot be read.
fn unreadable(object: &str) -> Notice {
    Notice {
        key: AlertKey { alert: "SourceUnreadable".into(), ..notice(object).key },
        group: Some(Group { broker: "Kafka kafka.shop.svc:9092".into() }),
        title: "backlog cannot be read".into(),
        message: "kafka.shop.svc:9092 does not answer".into(),
        topic: "SourceUnreadable".into(),
        ..notice(object)
    }
}

fn resolved(notice: &Notice) -> Notice {
    let resolved_at: Timestamp = "2026-01-31T18:30:00Z".parse().unwrap();
    Notice { state: NoticeState::Resolved, resolved_at: Some(resolved_at), ..notice.clone() }
}

/// A folder with a file of receivers and Secrets.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(receivers: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::write(folder.path().join("receivers.yaml"), receivers).unwrap();
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a key of a Secret, as the kubelet does.
    fn secret(&self, name: &str, key: &str, value: &str) {
        let folder = self.path().join("secrets").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(key), value).unwrap();
    }

    fn files(&self) -> Files {
        Files::new(self.path().join("receivers.yaml"), None)
    }

    /// Its only receiver.
    fn receiver(&self) -> Receiver {
        let mut file = ReceiversFile::parse(&self.files().text().unwrap()).unwrap();
        file.receivers.remove(0)
    }
}

/// Loopback is allowed, as `--allow-addresses` can.
fn loopback() -> AddressPolicy {
    AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], Vec::new(), Names::of_system())
}

fn arc(notice: Notice) -> Arc<Notice> {
    Arc::new(notice)
}
