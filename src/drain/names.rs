//! Names of what a drain creates. Each has a part of the `QueueDrain`'s UID, so that no two runs share anything. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// Longest name of a topic (`Topic.MAX_NAME_LENGTH`).
const LONGEST_TOPIC: usize = 249;
/// Longest name of a consumer group that is given: other clients set no limit, and status has one.
const LONGEST_GROUP: usize = 255;
/// Longest name of a Deployment or Job whose pods have labels with it.
const LONGEST_WORKLOAD: usize = 63;
/// Longest name of a queue (a short string of AMQP), less the number of a temporary one.
const LONGEST_QUEUE: usize = 255 - 8;
/// Characters of the UID in names of topics and groups, and in those of workloads.
const OF_TOPIC: usize = 8;
const OF_WORKLOAD: usize = 5;

/// How the backlog is stored, and its copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// A topic with partitions and a consumer group, whose offsets show what is copied and consumed.
    #[default]
    Partitioned,
    /// A queue, from which messages go when they are copied, and temporary queues.
    Shared,
}

/// The names of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// How the backlog is stored.
    pub shape: Shape,
    /// The topic, or the queue, whose backlog is drained.
    pub source_topic: String,
    /// The consumer group whose backlog it is.
    pub source_group: String,
    /// The temporary topic, or what the names of the temporary queues begin with.
    pub topic: String,
    /// Its consumer group.
    pub group: String,
    /// The Deployment that consumes it.
    pub deployment: String,
    /// The Job that copies.
    pub copy: String,
    /// The Job that verifies.
    pub verify: String,
}

impl Names {
    /// The names of the drain with this name and UID.
    #[must_use]
    pub fn of(drain: &str, uid: &str, topic: &str, group: &str, target: &str) -> Self {
        let (long, short) = (id(uid, OF_TOPIC), id(uid, OF_WORKLOAD));
        let workload =
            |name: &str, suffix: &str| joined(name, &format!("-{suffix}-{short}"), LONGEST_WORKLOAD);
        Self {
            shape: Shape::Partitioned,
            source_topic: topic.to_owned(),
            source_group: group.to_owned(),
            topic: joined(topic, &format!(".drain.{long}"), LONGEST_TOPIC),
            group: joined(group, &format!(".drain.{long}"), LONGEST_GROUP),
            deployment: workload(target, "drain"),
            copy: workload(drain, "copy"),
            verify: workload(drain, "verify"),
        }
    }

    /// The same for a queue.
    #[must_use]
    pub fn of_queue(drain: &str, uid: &str, queue: &str, target: &str) -> Self {
        let suffix = format!("-drain-{}", id(uid, OF_WORKLOAD));
        Self {
            shape: Shape::Shared,
            topic: queue_prefix(queue, uid),
            group: String::new(),
            // A number can follow.
            deployment: joined(target, &suffix, LONGEST_WORKLOAD - 4),
            ..Self::of(drain, uid, queue, "", target)
        }
    }

    /// The Deployments that consume so many temporary queues, and the name of the queue of each.
    #[must_use]
    pub fn consumers(&self, queues: i32) -> Vec<(String, String)> {
        let name = |number| match queues {
            ..=1 => self.deployment.clone(),
            _ => format!("{}-{number}", self.deployment),
        };
        (0..queues.max(1)).map(|number| (name(number), format!("{}{number}", self.topic))).collect()
    }

    /// Where copies are, for messages.
    #[must_use]
    pub fn temporary(&self) -> String {
        match self.shape {
            Shape::Partitioned => format!("topic {}", self.topic),
            Shape::Shared => format!("queues {}*", self.topic),
        }
    }
}

/// What the names of the temporary queues of the drain with this UID begin with; their numbers follow.
#[must_use]
pub fn queue_prefix(queue: &str, uid: &str) -> String {
    joined(queue, &format!(".drain.{}.", id(uid, OF_TOPIC)), LONGEST_QUEUE)
}

fn id(uid: &str, length: usize) -> String {
    uid.chars().filter(char::is_ascii_alphanumeric).take(length).collect()
}

/// Both, the first one cut so that they fit.
fn joined(name: &str, suffix: &str, longest: usize) -> String {
    let room = longest.saturating_sub(suffix.len());
    let mut end = room.min(name.len());
    while !name.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let cut = name.get(..end).unwrap_or_default().trim_end_matches(['-', '.']);
    format!("{cut}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0f9c2b1e-7d50-4c3e-9a53-1f6f0d1a2b3c";

    #[test]
    fn names_have_a_part_of_the_uid() {
        let names = Names::of("orders-now", UID, "orders", "billing", "orders-consumer");
        let expected = Names {
            shape: Shape::Partitioned,
            source_topic: "orders".into(),
            source_group: "billing".into(),
            topic: "orders.drain.0f9c2b1e".into(),
            group: "billing.drain.0f9c2b1e".into(),
            deployment: "orders-consumer-drain-0f9c2".into(),
            copy: "orders-now-copy-0f9c2".into(),
            verify: "orders-now-verify-0f9c2".into(),
        };
        assert_eq!(names, expected);
    }

    #[test]
    fn long_names_are_cut_and_stay_different() {
        let long = "a".repeat(300);
        let names = Names::of(&long, UID, &long, &"ä".repeat(200), &format!("{}-{long}", "b".repeat(46)));
        assert_eq!(names.topic.len(), LONGEST_TOPIC);
        assert!(names.group.len() <= LONGEST_GROUP && names.group.ends_with(".drain.0f9c2b1e"));
        assert!(names.deployment.len() <= LONGEST_WORKLOAD && !names.deployment.contains("--"));
        assert_ne!(names.copy, names.verify);
    }

    #[test]
    fn each_of_several_temporary_queues_has_a_deployment() {
        let names = Names::of_queue("orders-now", UID, "orders", &"c".repeat(80));
        assert!(names.deployment.ends_with("-drain-0f9c2"));
        let one = (names.deployment.clone(), "orders.drain.0f9c2b1e.0".to_owned());
        assert_eq!(names.consumers(1), [one]);
        let last = names.consumers(100).pop().unwrap();
        assert_eq!(last, (format!("{}-99", names.deployment), "orders.drain.0f9c2b1e.99".to_owned()));
        assert!(last.0.len() <= LONGEST_WORKLOAD);
    }

    #[test]
    fn temporary_queues_have_a_prefix_and_room_for_a_number() {
        assert_eq!(queue_prefix("orders", UID), "orders.drain.0f9c2b1e.");
        assert_eq!(queue_prefix(&"a".repeat(255), UID).len(), LONGEST_QUEUE);
    }
}
