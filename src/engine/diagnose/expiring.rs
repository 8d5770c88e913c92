//! Whether messages will be deleted before anybody processes them. Pure, and decides nothing: more replicas are added
//! for the backlog, not for this.
//!
//! Known is only what the broker says of its deletion by time and by size. Of a message with a time of its own, and of a
//! topic whose settings cannot be read, nothing is known here.

use std::sync::Arc;
use std::time::Duration;

use crate::brokers::observation::{Backlog, SizeLimit};
use crate::engine::learn::Rates;

/// Messages that are close to being deleted, or will be before their turn comes.
#[derive(Clone, Debug, PartialEq)]
pub enum Expiring {
    /// Because of their age.
    Age {
        /// The topic; empty for RabbitMQ.
        topic: Arc<str>,
        /// After this time messages are deleted.
        retention: Duration,
        /// How long the oldest has waited.
        age: Duration,
        /// How long the newest will wait, where that is too long.
        drain: Option<Duration>,
    },
    /// Because their partition has too many bytes.
    Size(SizeLimit),
}

/// The first topic whose oldest message has used up four fifths of its time, or whose newest has not time enough until
/// the backlog is gone, `drain` seconds from now; else the first with a partition whose backlog has four fifths of the
/// bytes that are retained. An absent `drain` says nothing.
pub(in crate::engine) fn expiring(rates: &Rates, backlog: &Backlog, drain: Option<f64>) -> Option<Expiring> {
    by_age(rates, backlog, drain).or_else(|| by_size(backlog))
}

fn by_age(rates: &Rates, backlog: &Backlog, drain: Option<f64>) -> Option<Expiring> {
    // With several topics it is not known when each of them is done.
    let drain = drain.filter(|_| backlog.topics().len() <= 1);
    let drain = drain.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    backlog.retention.iter().find_map(|retention| {
        let age = rates.oldest_of(&retention.topic)?;
        let drain = drain.filter(|drain| *drain > retention.time);
        let expiring = age >= retention.time.mul_f64(0.8) || drain.is_some();
        expiring.then(|| Expiring::Age {
            topic: Arc::clone(&retention.topic),
            retention: retention.time,
            age,
            drain,
        })
    })
}

fn by_size(backlog: &Backlog) -> Option<Expiring> {
    let is_close = |it: &&SizeLimit| u128::from(it.bytes) * 5 >= u128::from(it.limit) * 4;
    backlog.size_limits.iter().find(is_close).cloned().map(Expiring::Size)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::brokers::observation::{
        Dated, Observation, PartitionOffsets, Partitioned, Reading, Retention, TopicOffsets,
    };
    use crate::engine::tests::plan;
    use crate::engine::{State, Target, assess};

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// A topic whose oldest message is so old.
    fn judge(age: Duration, kept: &[Retention], drain: Option<f64>, messages: u64) -> Option<Expiring> {
        let topic: Arc<str> = "orders".into();
        let partition =
            PartitionOffsets { start: 0, end: messages, committed: Some(0), backlog: messages, owner: None };
        let dated =
            Dated { topic: Arc::clone(&topic), partition: 0, offset: 0, written: at(0) - age, certain: true };
        let backlog = Backlog {
            messages,
            shape: Partitioned {
                topics: vec![TopicOffsets { name: topic, partitions: vec![Some(partition)] }],
                ..Partitioned::default()
            }
            .into(),
            dated: vec![dated],
            retention: kept.to_vec(),
            ..Backlog::default()
        };
        let mut state = State::default();
        let reading = Reading::Known(backlog.clone());
        let observation = Observation { taken_at: at(0), reading, failed_polls: 0 };
        assess(&plan(), Target::missing(), Some(&observation), &mut state, at(0));
        expiring(&state.rates, &backlog, drain)
    }

    fn kept(topic: &str) -> Vec<Retention> {
        vec![Retention { topic: topic.into(), time: HOUR }]
    }

    #[test]
    fn a_message_that_has_used_up_four_fifths_of_its_time_expires() {
        let age = HOUR.mul_f64(0.8);
        let expected = Expiring::Age { topic: "orders".into(), retention: HOUR, age, drain: None };
        assert_eq!(judge(age, &kept("orders"), None, 9), Some(expected));
        assert_eq!(judge(age - Duration::from_secs(1), &kept("orders"), None, 9), None);
        assert_eq!(judge(age, &kept("others"), None, 9), None, "of this topic nothing is known");
        assert_eq!(judge(age, &[], None, 9), None);
    }

    #[test]
    fn a_backlog_that_takes_longer_than_its_messages_are_kept_expires() {
        let found = judge(Duration::ZERO, &kept("orders"), Some(3601.0), 9).unwrap();
        assert!(matches!(found, Expiring::Age { drain: Some(drain), .. } if drain.as_secs() == 3601));
        assert_eq!(judge(Duration::ZERO, &kept("orders"), Some(3600.0), 9), None);
        assert_eq!(judge(Duration::ZERO, &kept("orders"), Some(f64::INFINITY), 9), None);
    }

    #[test]
    fn nothing_expires_where_nothing_waits() {
        assert_eq!(judge(HOUR, &kept("orders"), Some(9999.0), 0), None);
    }

    #[test]
    fn a_backlog_with_four_fifths_of_the_bytes_that_are_retained_expires() {
        let limit = |bytes| SizeLimit { topic: "orders".into(), partition: 3, bytes, limit: 10_000 };
        let found = |size_limits: &[SizeLimit]| {
            by_size(&Backlog { size_limits: size_limits.to_vec(), ..Backlog::default() })
        };
        assert_eq!(found(&[limit(7999)]), None);
        assert_eq!(found(&[limit(7999), limit(8000)]), Some(Expiring::Size(limit(8000))));
        assert_eq!(found(&[limit(u64::MAX)]), Some(Expiring::Size(limit(u64::MAX))));
        assert_eq!(found(&[]), None);
    }
}
