//! What has to be asked of a broker for the interests that are due. Pure.
//!
//! All interests in one virtual host are served by the same answers: by one request per queue while the queues are
//! few, else by one listing of the virtual host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Memory;
use crate::brokers::reader::Watched;
use crate::plan::{NameSelector, RabbitMqInterest};

/// Queues of one virtual host from which on a listing is cheaper for the broker than single requests.
///
/// Measured on RabbitMQ 4.0.5 with 1,000 queues: a listing takes 76 ms, a single queue 1 ms, and many requests cost
/// the broker more than their time.
pub(super) const MOST_SINGLE_REQUESTS: usize = 60;

/// Time between two listings that look for new matches of a pattern. With a poll period and a little delay added, a
/// new queue counts within 30 s.
pub(super) const PATTERN_REFRESH: Duration = Duration::from_secs(20);

/// What is to be found out in one virtual host.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Question {
    /// The queues, as far as their names are known.
    pub names: BTreeSet<String>,
    /// All queues of the virtual host are asked for in one listing.
    pub listing: bool,
    /// Patterns that are compared with the listing, if there is one.
    pub patterns: Vec<Arc<RabbitMqInterest>>,
}

impl Question {
    /// Whether the named queues can be asked for one by one, at a cost that the broker can bear.
    pub(super) fn names_are_few(&self) -> bool {
        self.names.len() <= MOST_SINGLE_REQUESTS && self.names.iter().all(|name| fits_in_a_path(name))
    }
}

/// The questions, by virtual host.
pub(super) fn questions(
    due: &[&mut Watched<RabbitMqInterest, Memory>],
    now: Instant,
) -> BTreeMap<String, Question> {
    let mut questions: BTreeMap<String, Question> = BTreeMap::new();
    for watched in due {
        let question = questions.entry(watched.interest.vhost.clone()).or_default();
        match &watched.interest.queues {
            NameSelector::Names(names) => question.names.extend(names.iter().cloned()),
            NameSelector::Pattern(_) => {
                question.names.extend(watched.memory.matches.iter().cloned());
                question.listing |= watched.memory.matches_are_older_than(PATTERN_REFRESH, now);
                // Earlier than it must be, since the listing may be there: so patterns that began at different times
                // come to share their listings. Not at every listing, as matching a thousand patterns is work.
                if watched.memory.matches_are_older_than(PATTERN_REFRESH / 2, now) {
                    question.patterns.push(Arc::clone(&watched.interest));
                }
            }
        }
    }
    for question in questions.values_mut() {
        question.listing |= !question.names_are_few();
    }
    questions
}

/// Whether a URL can name it: a segment of one or two dots means another place, escaped or not.
pub(super) fn fits_in_a_path(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::plan::NamePattern;

    pub(in crate::brokers::rabbitmq) fn pattern_of(pattern: &str) -> Arc<RabbitMqInterest> {
        let queues = NameSelector::Pattern(NamePattern::new(pattern, None).unwrap());
        Arc::new(RabbitMqInterest { vhost: "/".into(), queues, dead_letters: Vec::new(), probe: None })
    }

    pub(in crate::brokers::rabbitmq) fn question_of(
        names: &[&str],
        patterns: Vec<Arc<RabbitMqInterest>>,
    ) -> Question {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Question { names, listing: !patterns.is_empty(), patterns }
    }

    fn names(vhost: &str, names: &[&str]) -> Watched<RabbitMqInterest, Memory> {
        let queues = NameSelector::Names(names.iter().map(|name| (*name).to_owned()).collect());
        let interest =
            RabbitMqInterest { vhost: vhost.into(), queues, dead_letters: Vec::new(), probe: None };
        Watched { interest: Arc::new(interest), memory: Memory::default() }
    }

    fn pattern(matches: &[&str], matched_at: Option<Instant>) -> Watched<RabbitMqInterest, Memory> {
        let queues = NameSelector::Pattern(NamePattern::new("x.*", None).unwrap());
        let matches = matches.iter().map(|name| (*name).to_owned()).collect();
        let memory = Memory { matches, matched_at, ..Memory::default() };
        Watched {
            interest: Arc::new(RabbitMqInterest {
                vhost: "v".into(),
                queues,
                dead_letters: Vec::new(),
                probe: None,
            }),
            memory,
        }
    }

    fn ask(mut due: Vec<Watched<RabbitMqInterest, Memory>>, now: Instant) -> BTreeMap<String, Question> {
        questions(&due.iter_mut().collect::<Vec<_>>(), now)
    }

    #[test]
    fn few_queues_are_asked_for_one_by_one_and_each_once() {
        let asked =
            ask(vec![names("v", &["a", "b"]), names("v", &["b"]), names("w", &["a"])], Instant::now());
        assert_eq!(asked["v"].names.len(), 2);
        assert!(!asked["v"].listing && !asked["w"].listing);
    }

    #[test]
    fn many_queues_of_one_virtual_host_are_listed() {
        let many: Vec<String> = (0..=MOST_SINGLE_REQUESTS).map(|index| format!("q{index}")).collect();
        let each = || many.iter().map(|name| names("v", &[name]));
        assert!(ask(each().collect(), Instant::now())["v"].listing);
        assert!(!ask(each().skip(1).collect(), Instant::now())["v"].listing);
    }

    #[test]
    fn a_pattern_is_listed_every_20_s_and_its_matches_asked_between() {
        let then = Instant::now();
        assert!(ask(vec![pattern(&[], None)], then)["v"].listing);
        let between = ask(vec![pattern(&["x1"], Some(then))], then + Duration::from_secs(19));
        assert!(!between["v"].listing);
        assert!(between["v"].names.contains("x1"));
        assert!(ask(vec![pattern(&["x1"], Some(then))], then + PATTERN_REFRESH)["v"].listing);
    }

    #[test]
    fn a_name_that_a_url_cannot_carry_is_found_by_listing() {
        assert!(ask(vec![names("v", &[".."])], Instant::now())["v"].listing);
        assert!(!ask(vec![names("v", &["..."])], Instant::now())["v"].listing);
    }
}
