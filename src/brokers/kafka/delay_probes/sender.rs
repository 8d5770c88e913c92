//! Sends delay probes to one cluster: a task of its own with connections of its own, so that a broker that does not answer
//! holds up no reading. It has the reader's settings: the same addresses are refused, the same budget and credentials hold.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::super::cluster::{Cluster, Poll};
use super::super::topics::{Topics, in_words};
use super::produce::{Produce, batch};
use super::tracks::Sent;
use crate::api::IsolationLevel;
use crate::brokers::observation::quote;
use crate::brokers::probe_message::new_id;
use crate::brokers::{Problem, SourceReason};

/// Batches that wait, one of each consumer group at most.
const WAITING: usize = 256;
/// Longest time for one batch, all brokers together.
const DEADLINE: Duration = Duration::from_secs(10);
/// Time for the replicas to have a record, in milliseconds.
const REPLICATED_WITHIN: i32 = 3000;

const INVALID_RECORD: i16 = 87;
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
const NOT_ENOUGH_REPLICAS: [i16; 2] = [19, 20];

/// A partition.
type Place = (Arc<str>, usize);

/// Where a probe is in the log, or why it is in none.
type Offset = Result<u64, Arc<Problem>>;

/// Probes of one consumer group.
struct Batch {
    partitions: Vec<Place>,
    answer: oneshot::Sender<Vec<Sent>>,
}

/// The task's end that is used. The task ends with it.
#[derive(Debug)]
pub(super) struct Sender(mpsc::Sender<Batch>);

impl Sender {
    /// A task that sends to this cluster.
    pub(super) fn start(cluster: Cluster) -> Self {
        let (sender, batches) = mpsc::channel(WAITING);
        tokio::spawn(run(cluster, batches));
        Self(sender)
    }

    /// Has probes sent to these partitions. Absent: too many wait already, or the task is gone.
    pub(super) fn send(&self, partitions: Vec<Place>) -> Option<oneshot::Receiver<Vec<Sent>>> {
        let (answer, answered) = oneshot::channel();
        match self.0.try_send(Batch { partitions, answer }) {
            Ok(()) => Some(answered),
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => None,
        }
    }

    /// Whether the task ended, as after a panic.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_closed()
    }
}

async fn run(mut cluster: Cluster, mut batches: mpsc::Receiver<Batch>) {
    while let Some(Batch { partitions, answer }) = batches.recv().await {
        let sent = send(&partitions, &mut cluster).await;
        // Whoever asked may be gone.
        let _ = answer.send(sent);
    }
}

async fn send(partitions: &[Place], cluster: &mut Cluster) -> Vec<Sent> {
    let mut poll = Poll::new(Instant::now() + DEADLINE);
    let at = Instant::now();
    let offsets = match produce(partitions, cluster, &mut poll).await {
        Ok(offsets) => offsets,
        Err(problem) => {
            let problem = Arc::new(problem);
            partitions.iter().map(|_| Err(Arc::clone(&problem))).collect()
        }
    };
    cluster.finish(poll, true);
    let sent = |(place, offset): (&Place, Offset)| {
        let (topic, partition) = place.clone();
        Sent { topic, partition, at, offset }
    };
    partitions.iter().zip(offsets).map(sent).collect()
}

/// The offset of each probe, or why it has none.
async fn produce(
    partitions: &[Place],
    cluster: &mut Cluster,
    poll: &mut Poll,
) -> Result<Vec<Offset>, Problem> {
    let names: BTreeSet<_> = partitions.iter().map(|(topic, _)| Arc::clone(topic)).collect();
    let mut topics = Topics::default();
    topics.refresh(&names, cluster, poll).await?;
    let now = Timestamp::now();
    let batch = batch(&new_id(), &format!("{now:.3}"), now.as_millisecond()).map_err(|error| {
        Problem::new(SourceReason::ResponseInvalid, format!("a probe cannot be written: {error}"))
    })?;
    let mut work: HashMap<i32, HashMap<Arc<str>, Vec<i32>>> = HashMap::new();
    for (topic, partition) in partitions {
        let Ok(index) = i32::try_from(*partition) else { continue };
        if let Some(leader) = topics.leader(topic, index) {
            work.entry(leader).or_default().entry(Arc::clone(topic)).or_default().push(index);
        }
    }
    let call = |topics: HashMap<_, _>| {
        vec![Produce {
            topics: topics.into_iter().collect(),
            batch: batch.clone(),
            timeout: REPLICATED_WITHIN,
        }]
    };
    let work: HashMap<_, _> = work.into_iter().map(|(node, topics)| (node, call(topics))).collect();
    let mut written = HashMap::new();
    let mut failed = HashMap::new();
    for answered in cluster.call_each(work, poll).await {
        match answered.answers {
            Ok(answers) => {
                let answers = answers.into_iter().flatten();
                written.extend(answers.map(|(topic, partition, offset)| ((topic, partition), offset)));
            }
            Err(problem) => _ = failed.insert(answered.node, problem),
        }
    }
    let offset = |(topic, partition): &Place| {
        let index = i32::try_from(*partition).unwrap_or(i32::MAX);
        match written.get(&(Arc::clone(topic), index)) {
            Some(Ok(offset)) => u64::try_from(*offset).map_err(|_| Arc::new(refusal(topic, 0))),
            Some(Err(error)) => Err(Arc::new(refusal(topic, *error))),
            None => {
                let failure = topics.leader(topic, index).and_then(|leader| failed.get(&leader)).cloned();
                // What is wrong with the topic as a whole says more.
                let of_topic = topics.logs(topic, IsolationLevel::default()).err().map(Arc::new);
                Err(failure.or(of_topic).unwrap_or_else(|| Arc::new(unanswered(topic, *partition))))
            }
        }
    };
    Ok(partitions.iter().map(offset).collect())
}

fn unanswered(topic: &str, partition: usize) -> Problem {
    let message = format!("no broker takes a probe for partition {}-{partition}", quote(topic));
    Problem::new(SourceReason::BrokerUnreachable, message)
}

fn refusal(topic: &str, error: i16) -> Problem {
    let topic = quote(topic);
    match error {
        TOPIC_AUTHORIZATION_FAILED => Problem::new(
            SourceReason::AuthorizationFailed,
            format!(
                "the user is not allowed to write probes to topic {topic}; allow it: kafka-acls --add --allow-principal \
                 User:<user> --operation Write --topic {topic}, or remove spec.probe"
            ),
        ),
        INVALID_RECORD => Problem::new(
            SourceReason::ResponseInvalid,
            format!(
                "topic {topic} takes no probe: it is compacted, and a probe has no key; remove spec.probe"
            ),
        ),
        error if NOT_ENOUGH_REPLICAS.contains(&error) => Problem::new(
            SourceReason::BrokerUnreachable,
            format!(
                "topic {topic} takes no message now: fewer replicas are in sync than min.insync.replicas"
            ),
        ),
        error => Problem::new(
            SourceReason::StatsUnavailable,
            format!("a probe for topic {topic} is refused: {}", in_words(error)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_way_out() {
        let message = refusal("orders", TOPIC_AUTHORIZATION_FAILED).message;
        assert!(message.contains("--operation Write --topic orders"), "{message}");
        assert!(refusal("orders", INVALID_RECORD).message.contains("compacted"));
        assert_eq!(refusal("orders", 19).reason, SourceReason::BrokerUnreachable);
        assert!(refusal("orders", 6).message.starts_with("a probe for topic orders is refused: "));
    }
}
