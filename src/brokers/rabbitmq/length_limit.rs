//! Length limits of queues: how full a queue is, and what RabbitMQ does with messages beyond the limit. Pure.
//!
//! The lower one of argument and policy counts for each limit, ready messages and their bodies alone are limited, and an
//! argument takes precedence over the policy for what happens then (<https://www.rabbitmq.com/docs/maxlength>).

use super::json::Value;
use crate::brokers::observation::Overflow;

/// A queue is close to its limit from so many percent of it on.
const CLOSE_PERCENT: u128 = 90;

/// The fields of a queue that set limits, as far as they have been read.
#[derive(Debug, Default)]
pub(super) struct Limits {
    messages: Option<u64>,
    bytes: Option<u64>,
    own_overflow: Option<Overflow>,
    policy_overflow: Option<Overflow>,
    bytes_ready: Option<u64>,
}

/// The limit of a queue that is close to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    /// Messages, or their bytes, and how many of them the queue takes.
    pub length: u64,
    pub limit: u64,
    pub in_bytes: bool,
    pub overflow: Overflow,
}

impl Limits {
    /// The columns that it needs.
    pub(super) const COLUMNS: &str = "message_bytes_ready,arguments.x-max-length,arguments.x-max-length-bytes,\
                                      arguments.x-overflow,effective_policy_definition.max-length,\
                                      effective_policy_definition.max-length-bytes,effective_policy_definition.overflow";

    /// Takes a field of the queue's row, if it is one of a limit.
    pub(super) fn set(&mut self, field: &str, value: Value<'_>) {
        let lower = |limit: Option<u64>| limit.into_iter().chain(value.count()).min();
        match field {
            "message_bytes_ready" => self.bytes_ready = value.count(),
            "arguments.x-max-length" | "effective_policy_definition.max-length" => {
                self.messages = lower(self.messages);
            }
            "arguments.x-max-length-bytes" | "effective_policy_definition.max-length-bytes" => {
                self.bytes = lower(self.bytes);
            }
            "arguments.x-overflow" => self.own_overflow = overflow(value),
            "effective_policy_definition.overflow" => self.policy_overflow = overflow(value),
            _ => {}
        }
    }

    /// The limit that a queue with so many ready messages is close to, the one of messages first.
    pub(super) fn full(&self, ready: u64, kind: &str, is_dead_lettered: bool) -> Option<Full> {
        let overflow = match self.own_overflow.or(self.policy_overflow).unwrap_or(Overflow::Drop) {
            // Quorum queues have no such overflow and drop from the head instead.
            Overflow::RefuseToDeadLetters if kind == "quorum" => Overflow::Drop,
            overflow => overflow,
        };
        let overflow = match (overflow, is_dead_lettered) {
            (Overflow::Drop, true) => Overflow::DropToDeadLetters,
            (Overflow::RefuseToDeadLetters, false) => Overflow::Refuse,
            (overflow, _) => overflow,
        };
        let messages = self.messages.map(|limit| Full { length: ready, limit, in_bytes: false, overflow });
        let bytes = self.bytes.zip(self.bytes_ready);
        let bytes = bytes.map(|(limit, length)| Full { length, limit, in_bytes: true, overflow });
        [messages, bytes].into_iter().flatten().find(|full| ready > 0 && full.is_close())
    }
}

impl Full {
    fn is_close(&self) -> bool {
        u128::from(self.length) * 100 >= u128::from(self.limit) * CLOSE_PERCENT
    }
}

fn overflow(value: Value<'_>) -> Option<Overflow> {
    match value {
        Value::Text("drop-head") => Some(Overflow::Drop),
        Value::Text("reject-publish") => Some(Overflow::Refuse),
        Value::Text("reject-publish-dlx") => Some(Overflow::RefuseToDeadLetters),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Limits of a queue with these numbers and texts.
    fn limits(numbers: &[(&str, &str)], texts: &[(&str, &str)]) -> Limits {
        let mut limits = Limits::default();
        numbers.iter().for_each(|(field, number)| limits.set(field, Value::Number(number)));
        texts.iter().for_each(|(field, text)| limits.set(field, Value::Text(text)));
        limits
    }

    const OWN: &str = "arguments.x-max-length";
    const POLICY: &str = "effective_policy_definition.max-length";

    #[test]
    fn a_queue_is_close_to_its_limit_from_nine_tenths_on() {
        let full = |ready| limits(&[(OWN, "100")], &[]).full(ready, "classic", false);
        assert_eq!(full(89), None);
        let expected = Full { length: 90, limit: 100, in_bytes: false, overflow: Overflow::Drop };
        assert_eq!(full(90), Some(expected));
        assert_eq!(limits(&[], &[]).full(1_000_000, "classic", false), None, "no limit");
        assert_eq!(limits(&[(OWN, "0")], &[]).full(0, "classic", false), None, "it never has a message");
    }

    #[test]
    fn the_lower_limit_of_argument_and_policy_counts() {
        for numbers in [[(OWN, "100"), (POLICY, "10")], [(POLICY, "100"), (OWN, "10")]] {
            let full = limits(&numbers, &[]).full(10, "classic", false).unwrap();
            assert_eq!((full.length, full.limit), (10, 10));
        }
        let bytes =
            [("effective_policy_definition.max-length-bytes", "1000"), ("message_bytes_ready", "950")];
        let full = limits(&bytes, &[]).full(3, "classic", false).unwrap();
        assert_eq!((full.length, full.limit, full.in_bytes), (950, 1000, true));
        assert_eq!(limits(&bytes[..1], &[]).full(3, "classic", false), None, "the bytes are not known");
    }

    #[test]
    fn what_is_beyond_the_limit_goes_where_arguments_say() {
        let (own, policy) = ("arguments.x-overflow", "effective_policy_definition.overflow");
        let overflow = |texts: &[(&str, &str)], kind, is_dead_lettered| {
            limits(&[(OWN, "5")], texts).full(5, kind, is_dead_lettered).unwrap().overflow
        };
        assert_eq!(overflow(&[], "classic", false), Overflow::Drop);
        assert_eq!(overflow(&[], "classic", true), Overflow::DropToDeadLetters);
        assert_eq!(overflow(&[(policy, "reject-publish")], "classic", true), Overflow::Refuse);
        let both = [(own, "drop-head"), (policy, "reject-publish")];
        assert_eq!(overflow(&both, "classic", false), Overflow::Drop);
        let refused = [(own, "reject-publish-dlx")];
        assert_eq!(overflow(&refused, "classic", true), Overflow::RefuseToDeadLetters);
        assert_eq!(overflow(&refused, "classic", false), Overflow::Refuse);
        assert_eq!(overflow(&refused, "quorum", true), Overflow::DropToDeadLetters);
        assert_eq!(overflow(&[(own, "of a newer broker")], "classic", false), Overflow::Drop);
    }
}
