//! Events (events.k8s.io) about one object.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::time::Instant;

use super::lease::{Leadership, NotLeader};
use super::throttle::retry_at;
use crate::report;

/// Longest note that the API server takes, in bytes.
const NOTE_LIMIT: usize = 1024;

/// Publishes events in the name of the operator.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
    leadership: Leadership,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("events")
    }
}

impl Events {
    /// Events that name this instance as their reporter.
    #[must_use]
    pub fn new(client: Client, instance: String, leadership: Leadership) -> Self {
        let reporter = Reporter { controller: "queuescaler.io/queuescaler".into(), instance: Some(instance) };
        Self { client, reporter, leadership }
    }

    /// Publishes an event about an object. An event that cannot be written is logged and lost, unless the API server asks
    /// to send it later.
    pub async fn publish(&self, object: &ObjectReference, event: &report::Event) -> Published {
        let event = Event {
            type_: if event.warning { EventType::Warning } else { EventType::Normal },
            reason: event.reason.clone(),
            note: Some(cut(&event.message)),
            action: event.action.to_owned(),
            secondary: None,
        };
        // A recorder that lived longer would fold this event into an earlier one with the same reason, and repeat its
        // message: the numbers of another scale.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        match self.leadership.write(recorder.publish(&event, object)).await {
            Ok(Ok(())) | Err(NotLeader) => {}
            Ok(Err(error)) => {
                if let Some(then) = retry_at(&error) {
                    return Published::NotBefore(then);
                }
                if namespace_ends(&error) {
                    tracing::debug!(reason = event.reason, "no event, as the namespace is being deleted");
                } else {
                    tracing::warn!(%error, reason = event.reason, "cannot publish an event");
                }
            }
        }
        Published::Done
    }
}

/// What came of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is written, or will never be.
    Done,
    /// The API server is overloaded: to be sent again from then on.
    NotBefore(Instant),
}

/// Nothing can be created in a namespace that is being deleted, while its objects go one after the other.
fn namespace_ends(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}

fn cut(message: &str) -> String {
    let end =
        (0..=NOTE_LIMIT.min(message.len())).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    message.get(..end).unwrap_or_default().to_owned()
}
