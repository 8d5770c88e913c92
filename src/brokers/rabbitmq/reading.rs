//! From what was found out about a virtual host to the reading of one interest. Pure.

use std::collections::HashMap;

use tokio::time::Instant;

use super::Memory;
use super::answer::Findings;
use super::backlog::{Counters, Finding, add_up, named, stream};
use super::questions::PATTERN_REFRESH;
use super::transports::Outcome;
use crate::brokers::observation::quote;
use crate::brokers::{Problem, Reading, SourceReason};
use crate::plan::{NameSelector, RabbitMqInterest};

/// Queues that one pattern can match.
pub(super) const MOST_MATCHES: usize = 10_000;

static MISSING: Finding = Finding::Missing;

/// The reading of one interest; what must be known at the next poll goes into its memory.
pub(super) fn reading(
    interest: &RabbitMqInterest,
    memory: &mut Memory,
    outcome: Option<&Outcome>,
    now: Instant,
) -> Reading {
    match outcome {
        Some(Outcome::Complete(findings)) => complete(interest, memory, findings, now),
        Some(Outcome::ReadyOnly(findings, why)) => ready_only(interest, memory, findings, why),
        Some(Outcome::Nothing(problem)) => Reading::Unknown(problem.clone()),
        None => {
            let message = format!("virtual host {} was not asked for", quote(&interest.vhost));
            Reading::Unknown(Problem::new(SourceReason::Timeout, message))
        }
    }
}

fn complete(interest: &RabbitMqInterest, memory: &mut Memory, found: &Findings, now: Instant) -> Reading {
    if matches!(interest.queues, NameSelector::Pattern(_))
        && found.listed
        && memory.matches_are_older_than(PATTERN_REFRESH / 2, now)
    {
        memory.matches = found.queues.keys().filter(|name| interest.queues.matches(name)).cloned().collect();
        memory.matches.sort_unstable();
        memory.matched_at = Some(now);
    }
    if memory.matches.len() > MOST_MATCHES {
        return Reading::Unknown(too_many_matches(interest));
    }
    let wanted = wanted(interest, &memory.matches, &found.queues);
    let streams = wanted.iter().filter(|(_, finding)| finding.is_stream());
    let streams = streams.map(|(name, _)| (*name).to_owned()).collect();
    let counted: Vec<_> = wanted.iter().map(|(name, finding)| (*name, finding.counts())).collect();
    memory.queues.observe(&counted, now);
    let history = &memory.queues;
    // New matches are not seen without the listing that is due.
    let gap = found.unlisted.as_ref().filter(|_| {
        matches!(interest.queues, NameSelector::Pattern(_))
            && memory.matches_are_older_than(PATTERN_REFRESH, now)
    });
    let reading = match (wanted.is_empty(), gap) {
        (true, Some(problem)) => Reading::Unknown(problem.clone()),
        (true, None) => {
            let (vhost, queues) = (quote(&interest.vhost), quote(&interest.queues.to_string()));
            let message = format!("no queue of virtual host {vhost} matches {queues}");
            Reading::Unknown(Problem::new(SourceReason::QueueNotFound, message))
        }
        (false, gap) => match (add_up(&interest.vhost, wanted, history, history.counters()), gap) {
            (Reading::Known(backlog), Some(problem)) => Reading::AtLeast(backlog, problem.clone()),
            (reading, _) => reading,
        },
    };
    memory.streams = streams;
    reading
}

fn too_many_matches(interest: &RabbitMqInterest) -> Problem {
    let message = format!(
        "{} matches more than {MOST_MATCHES} queues of virtual host {}; nothing is read; narrow the pattern",
        quote(&interest.queues.to_string()),
        quote(&interest.vhost)
    );
    Problem::new(SourceReason::BudgetExceeded, message)
}

fn ready_only(interest: &RabbitMqInterest, memory: &Memory, found: &Findings, why: &Problem) -> Reading {
    let wanted = wanted(interest, &memory.matches, &found.queues);
    if wanted.is_empty() {
        return Reading::Unknown(why.clone());
    }
    // By AMQP a stream is a queue of all the messages that it retains.
    let streams: HashMap<_, _> = memory
        .streams
        .iter()
        .map(|name| (name.as_str(), Finding::Unusable(stream(&named(name, &interest.vhost)))))
        .collect();
    let wanted = wanted.into_iter().map(|(name, finding)| (name, streams.get(name).unwrap_or(finding)));
    match add_up(&interest.vhost, wanted, &memory.queues, Counters::default()) {
        Reading::Known(backlog) | Reading::AtLeast(backlog, _) => Reading::AtLeast(backlog, why.clone()),
        unknown @ Reading::Unknown(_) => unknown,
    }
}

/// The queues that the interest adds up. A name that the user gave must exist; a match of the pattern may have gone.
fn wanted<'a>(
    interest: &'a RabbitMqInterest,
    matches: &'a [String],
    found: &'a HashMap<String, Finding>,
) -> Vec<(&'a str, &'a Finding)> {
    let find = |name: &'a String| (name.as_str(), found.get(name).unwrap_or(&MISSING));
    match &interest.queues {
        NameSelector::Names(names) => names.iter().map(find).collect(),
        NameSelector::Pattern(_) => {
            matches.iter().map(find).filter(|(_, finding)| **finding != Finding::Missing).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::rabbitmq::backlog::Counts;
    use crate::plan::NamePattern;

    fn names(names: &[&str]) -> RabbitMqInterest {
        let queues = NameSelector::Names(names.iter().map(|name| (*name).to_owned()).collect());
        RabbitMqInterest { vhost: "shop".into(), queues, dead_letters: Vec::new(), probe: None }
    }

    fn pattern() -> RabbitMqInterest {
        let queues = NameSelector::Pattern(NamePattern::new("work.*", None).unwrap());
        RabbitMqInterest { vhost: "shop".into(), queues, dead_letters: Vec::new(), probe: None }
    }

    /// Queues with so many ready messages.
    fn findings(listed: bool, queues: &[(&str, u64)]) -> Findings {
        let counted = |ready| Finding::Counted(Counts { ready, ..Counts::default() });
        let queues = queues.iter().map(|(name, ready)| ((*name).to_owned(), counted(*ready))).collect();
        Findings { queues, listed, unlisted: None }
    }

    fn away() -> Problem {
        Problem::new(SourceReason::ManagementUnavailable, "away")
    }

    fn messages(reading: &Reading) -> Option<u64> {
        reading.backlog().map(|backlog| backlog.messages)
    }

    #[test]
    fn a_pattern_adds_up_its_matches_and_drops_those_that_are_gone() {
        let (interest, mut memory, now) = (pattern(), Memory::default(), Instant::now());
        let listed = Outcome::Complete(findings(true, &[("work1", 1), ("work2", 2), ("other", 9)]));
        let first = reading(&interest, &mut memory, Some(&listed), now);
        assert!(matches!(first, Reading::Known(_)), "{first:?}");
        assert_eq!(messages(&first), Some(3));
        let asked = Outcome::Complete(findings(false, &[("work2", 2)]));
        let second = reading(&interest, &mut memory, Some(&asked), now);
        assert!(matches!(second, Reading::Known(_)), "{second:?}");
        assert_eq!(messages(&second), Some(2));
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_unknown() {
        let listed = Outcome::Complete(findings(true, &[("other", 9)]));
        let reading = reading(&pattern(), &mut Memory::default(), Some(&listed), Instant::now());
        assert!(matches!(reading, Reading::Unknown(_)), "{reading:?}");
        assert_eq!(reading.problem().unwrap().reason, SourceReason::QueueNotFound);
    }

    #[test]
    fn r5_ready_messages_alone_are_a_lower_bound() {
        let ready = Outcome::ReadyOnly(findings(false, &[("orders", 0)]), away());
        let reading = reading(&names(&["orders"]), &mut Memory::default(), Some(&ready), Instant::now());
        let Reading::AtLeast(backlog, problem) = reading else { panic!("{reading:?}") };
        assert_eq!((backlog.messages, problem), (0, away()));
    }

    #[test]
    fn a_pattern_that_was_never_listed_is_unknown_to_amqp() {
        let ready = Outcome::ReadyOnly(findings(false, &[("work1", 5)]), away());
        let reading = reading(&pattern(), &mut Memory::default(), Some(&ready), Instant::now());
        assert_eq!(reading, Reading::Unknown(away()));
    }

    #[test]
    fn a_stream_that_the_management_api_told_of_stays_refused() {
        let (interest, mut memory, now) = (names(&["log"]), Memory::default(), Instant::now());
        let refused = Finding::Unusable(stream("queue log"));
        let found = Findings { queues: [("log".to_owned(), refused)].into(), ..Findings::default() };
        reading(&interest, &mut memory, Some(&Outcome::Complete(found)), now);
        let ready = Outcome::ReadyOnly(findings(false, &[("log", 1_000_000)]), away());
        let reading = reading(&interest, &mut memory, Some(&ready), now);
        assert!(matches!(reading, Reading::Unknown(_)), "{reading:?}");
        assert_eq!(reading.problem().unwrap().reason, SourceReason::StreamNotSupported);
    }
}
