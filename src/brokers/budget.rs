//! Budgets: how much of a broker's answers the operator holds for one `QueueScaler` or one broker cluster. Pure.
//!
//! A broker, or a tenant who names one, decides how many partitions, brokers and queues it reports. Without a limit one
//! object could take the memory and the sockets of all others. The administrator sets the limits with options of `run`;
//! an object that exceeds one is refused with a reason that names the number, the limit and the option.

use super::{Problem, SourceReason};

/// Limits of one object or of one session, which is a broker cluster with one set of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Partitions of all topics that one object selects.
    pub partitions: u32,
    /// Brokers of one Kafka cluster.
    pub brokers: u32,
    /// Queues of one virtual host, or topics of one Kafka cluster, that a pattern or a listing covers.
    pub queues: u32,
    /// Bytes of answers that one session holds in memory at once.
    pub answer_bytes: u32,
    /// Open connections of one session; brokers beyond them take turns.
    pub connections: u32,
}

impl Default for Budget {
    /// Generous for real clusters: Kafka recommends at most 4,000 partitions a broker and 200,000 a cluster, and the
    /// largest known clusters have some hundred brokers. With these limits one hostile broker costs less than 16 MiB.
    fn default() -> Self {
        Self { partitions: 20_000, brokers: 500, queues: 100_000, answer_bytes: 8 << 20, connections: 64 }
    }
}

/// What a budget limits and refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`Budget::partitions`].
    Partitions,
    /// [`Budget::brokers`].
    Brokers,
    /// [`Budget::queues`], where they are queues.
    Queues,
    /// [`Budget::queues`], where they are topics.
    Topics,
    /// [`Budget::answer_bytes`].
    AnswerBytes,
}

impl Budget {
    /// The number up to which nothing is refused.
    #[must_use]
    pub fn most(&self, limit: Limit) -> u64 {
        u64::from(match limit {
            Limit::Partitions => self.partitions,
            Limit::Brokers => self.brokers,
            Limit::Queues | Limit::Topics => self.queues,
            Limit::AnswerBytes => self.answer_bytes,
        })
    }

    /// Checks a number that a broker reports. `subject` is what has so many, for the message, as in `topic orders`.
    ///
    /// # Errors
    /// [`SourceReason::BudgetExceeded`], naming the number, the limit and the option that raises it.
    pub fn check(&self, limit: Limit, subject: &str, number: u64) -> Result<(), Problem> {
        let most = self.most(limit);
        if number <= most {
            return Ok(());
        }
        let (number, most) = match limit {
            // Rounded away from each other, so that the two never look equal.
            Limit::AnswerBytes => (number.div_ceil(MIB), most / MIB),
            _ => (number, most),
        };
        let (number, most) = (grouped(number), grouped(most));
        let message = match limit {
            Limit::Partitions => format!(
                "{subject} has {number} partitions, more than the {most} that one QueueScaler reads; \
                 select fewer topics, or let an administrator raise --max-partitions"
            ),
            Limit::Brokers => format!(
                "{subject} reports {number} brokers, more than the {most} of a cluster that are read; \
                 check the address, or let an administrator raise --max-brokers"
            ),
            Limit::Queues => format!(
                "{subject} has {number} queues, more than the {most} that a listing may have; \
                 name the queues, or let an administrator raise --max-queues"
            ),
            Limit::Topics => format!(
                "{subject} has {number} topics, more than the {most} that a pattern is matched with; \
                 name the topics, or let an administrator raise --max-queues"
            ),
            Limit::AnswerBytes => format!(
                "{subject} has {number} MiB, more than the {most} MiB of an answer that are read; \
                 select fewer topics or queues, or let an administrator raise --max-answer-mib"
            ),
        };
        Err(Problem::new(SourceReason::BudgetExceeded, message))
    }
}

const MIB: u64 = 1 << 20;

/// A number with a comma between each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_number_limit_and_option() {
        for (limit, option) in [
            (Limit::Partitions, "--max-partitions"),
            (Limit::Brokers, "--max-brokers"),
            (Limit::Queues, "--max-queues"),
            (Limit::Topics, "--max-queues"),
        ] {
            let most = Budget::default().most(limit);
            assert_eq!(Budget::default().check(limit, "it", most), Ok(()));
            let problem = Budget::default().check(limit, "it", 1_234_567).unwrap_err();
            assert_eq!(problem.reason, SourceReason::BudgetExceeded);
            for part in ["it ", "1,234,567", &grouped(most), option] {
                assert!(problem.message.contains(part), "{part}: {problem}");
            }
        }
    }

    #[test]
    fn an_answer_one_byte_too_long_does_not_look_as_long_as_the_limit() {
        let problem = Budget::default().check(Limit::AnswerBytes, "it", (8 << 20) + 1).unwrap_err();
        assert!(problem.message.contains("has 9 MiB, more than the 8 MiB"), "{problem}");
        assert!(problem.message.contains("--max-answer-mib"), "{problem}");
    }
}
