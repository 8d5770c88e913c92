//! Queues of dead letters: those that the user names, and those that the queues' dead-letter exchanges lead to by the
//! bindings that the user is allowed to read.
//!
//! None of this is needed for a reading, so that it is asked after it, rarely, and fails nothing: bindings once in ten
//! minutes, queues of dead letters each half minute. Objects without any cost nothing. Nothing is consumed or changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::answer::Failure;
use super::backlog::{Finding, named};
use super::json::{Value, Visitor};
use super::management::Management;
use crate::brokers::observation::{DeadLetterCounts, DeadLetters, quote};
use crate::brokers::{Problem, SourceReason};

/// Time between two questions for the bindings of an exchange.
const BINDINGS_EVERY: Duration = Duration::from_secs(600);
/// Time between two questions for a queue of dead letters.
const QUEUES_EVERY: Duration = Duration::from_secs(30);
/// What was counted stands for so long while a queue cannot be counted.
const COUNTED_FOR: Duration = Duration::from_secs(120);
/// Questions of either kind in one poll. Others wait for the next one.
const AT_ONCE: usize = 32;
/// Queues of dead letters of one object.
const MOST: usize = 16;
/// Bindings of one exchange that are looked at.
const MOST_BINDINGS: usize = 1000;
/// What all this may add to the time of a poll.
const LONGEST: Duration = Duration::from_secs(2);

/// Where a queue's dead letters go, by its arguments or its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// The exchange. Empty: the default exchange, which leads to the queue that the key names.
    pub exchange: String,
    /// The routing key that they get. Absent: they keep their own.
    pub key: Option<String>,
}

/// A queue that an exchange leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub queue: String,
    pub key: String,
}

/// What one object wants to know.
pub(super) struct Wanted<'a> {
    pub vhost: &'a str,
    /// The queues that it reads.
    pub queues: Vec<&'a str>,
    /// The queues of dead letters that the user names.
    pub named: &'a [String],
}

/// What is known of one broker. By virtual host and name.
#[derive(Debug, Default)]
pub(super) struct Book {
    bindings: BTreeMap<(String, String), Asked<Vec<Binding>>>,
    queues: BTreeMap<(String, String), Asked<Option<DeadLetters>>>,
}

#[derive(Debug)]
struct Asked<A> {
    at: Instant,
    answer: A,
}

impl Book {
    /// Asks for what is due. Returns the dead letters of each object.
    pub(super) async fn read(
        &mut self,
        wanted: &[Wanted<'_>],
        management: &Management,
        now: Instant,
        deadline: Instant,
    ) -> Vec<Vec<DeadLetters>> {
        let deadline = deadline.min(now + LONGEST);
        let routes: Vec<Vec<(&str, Route)>> = wanted.iter().map(|one| management.routes(one)).collect();
        let exchanges = wanted.iter().zip(&routes).flat_map(|(one, routes)| {
            let named = routes.iter().filter(|(_, route)| !route.exchange.is_empty());
            named.map(|(_, route)| (one.vhost.to_owned(), route.exchange.clone()))
        });
        let exchanges: BTreeSet<_> = exchanges.collect();
        self.bindings.retain(|place, _| exchanges.contains(place));
        let unasked = due(&exchanges, &self.bindings, BINDINGS_EVERY, now);
        let asked = unasked.into_iter().map(|(vhost, exchange)| async move {
            let answer = management.bindings(&vhost, &exchange, deadline).await;
            ((vhost, exchange), answer)
        });
        for (place, answer) in join_all(asked).await {
            // Users who are not allowed to read them, or an exchange that does not exist, lead nowhere.
            let answer = answer.unwrap_or_default();
            self.bindings.insert(place, Asked { at: now, answer });
        }

        let places: Vec<_> =
            wanted.iter().zip(&routes).map(|(one, routes)| self.places(one, routes)).collect();
        let queues: BTreeSet<_> = places.iter().flatten().cloned().collect();
        self.queues.retain(|place, _| queues.contains(place));
        let unasked = due(&queues, &self.queues, QUEUES_EVERY, now);
        let asked = unasked.into_iter().map(|(vhost, queue)| async move {
            let answer = management.queue(&vhost, &queue, deadline).await;
            ((vhost, queue), answer)
        });
        for ((vhost, queue), answer) in join_all(asked).await {
            let is_named = wanted.iter().any(|one| one.vhost == vhost && one.named.contains(&queue));
            // A queue that passes its messages on is one of retries.
            let passes_on = management.route(&vhost, &queue).is_some();
            let counts = answer.and_then(|finding| counted(&queue, &vhost, finding));
            let is_absence = |problem: &Problem| problem.reason.is_absence();
            let place = (vhost, queue);
            // What was counted stands until it is counted again, or is gone.
            if counts.as_ref().is_err_and(|problem| !is_absence(problem)) && self.is_counted(&place, now) {
                continue;
            }
            let name: Arc<str> = quote(&place.1).into();
            let answer = (is_named || !passes_on).then_some(DeadLetters { name, counts });
            self.queues.insert(place, Asked { at: now, answer });
        }
        self.known(&places)
    }

    /// What is known of each object without asking, while the management API does not answer.
    pub(super) fn last(&self, wanted: &[Wanted<'_>], management: &Management) -> Vec<Vec<DeadLetters>> {
        let places = wanted.iter().map(|one| self.places(one, &management.routes(one)));
        self.known(&places.collect::<Vec<_>>())
    }

    /// Whether a place was counted not long ago.
    fn is_counted(&self, place: &(String, String), now: Instant) -> bool {
        let is_counted = |asked: &&Asked<Option<DeadLetters>>| {
            now.saturating_duration_since(asked.at) < COUNTED_FOR
                && asked.answer.as_ref().is_some_and(|answer| answer.counts.is_ok())
        };
        self.queues.get(place).filter(is_counted).is_some()
    }

    fn known(&self, places: &[BTreeSet<(String, String)>]) -> Vec<Vec<DeadLetters>> {
        let known = |place| self.queues.get(place).and_then(|asked| asked.answer.clone());
        places.iter().map(|places| places.iter().filter_map(known).collect()).collect()
    }

    /// The queues that the dead letters of an object go to.
    fn places(&self, one: &Wanted<'_>, routes: &[(&str, Route)]) -> BTreeSet<(String, String)> {
        let mut queues: BTreeSet<&str> = one.named.iter().map(String::as_str).collect();
        for (queue, Route { exchange, key }) in routes {
            if exchange.is_empty() {
                queues.insert(key.as_deref().unwrap_or(queue));
                continue;
            }
            let asked = self.bindings.get(&(one.vhost.to_owned(), exchange.clone()));
            let bindings = asked.map(|asked| asked.answer.as_slice()).unwrap_or_default();
            // Of an exchange that compares keys, those of the key; of one that does not, all.
            let same = |binding: &&Binding| key.as_ref().is_some_and(|key| *key == binding.key);
            let any_same = bindings.iter().any(|binding| same(&binding));
            let chosen = bindings.iter().filter(|binding| !any_same || same(binding));
            queues.extend(chosen.map(|binding| binding.queue.as_str()));
        }
        // A queue that the object reads is its backlog.
        let is_own = |queue: &str| one.queues.contains(&queue) && !one.named.iter().any(|name| name == queue);
        let queues = queues.into_iter().filter(|queue| !is_own(queue)).take(MOST);
        queues.map(|queue| (one.vhost.to_owned(), queue.to_owned())).collect()
    }
}

/// What has to be asked again, of what was asked the longest ago, or never.
fn due<A>(
    wanted: &BTreeSet<(String, String)>,
    known: &BTreeMap<(String, String), Asked<A>>,
    every: Duration,
    now: Instant,
) -> Vec<(String, String)> {
    let mut due: Vec<_> =
        wanted.iter().map(|place| (known.get(place).map(|asked| asked.at), place)).collect();
    due.retain(|(at, _)| at.is_none_or(|at| now.saturating_duration_since(at) >= every));
    due.sort();
    due.into_iter().take(AT_ONCE).map(|(_, place)| place.clone()).collect()
}

/// The numbers of a queue. Of one that does not exist they are unknown: its name is wrong, or RabbitMQ drops what is to
/// go there.
fn counted(queue: &str, vhost: &str, finding: Finding) -> Result<DeadLetterCounts, Problem> {
    match finding {
        Finding::Counted(counts) => {
            let waiting = counts.ready.saturating_add(counts.unacknowledged);
            Ok(DeadLetterCounts { waiting, arrived: counts.published })
        }
        Finding::Missing => {
            let message = format!(
                "{} does not exist, so that its dead letters are unknown, and RabbitMQ drops what is to go there; \
                 declare it, or correct spec.source.rabbitmq.deadLetterQueues or the dead-letter routing key that names it",
                named(queue, vhost)
            );
            Err(Problem::new(SourceReason::QueueNotFound, message))
        }
        Finding::Unusable(problem) => Err(problem),
    }
}

/// The bindings of an exchange, as the management API lists them.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    pub found: Vec<Binding>,
    queue: Option<String>,
    to_queue: bool,
    key: Option<String>,
}

impl Visitor for Bindings {
    fn value(&mut self, path: &str, value: Value<'_>) -> Result<(), Failure> {
        match (path, value) {
            ("[].destination", Value::Text(name)) => self.queue = Some(name.to_owned()),
            ("[].destination_type", Value::Text(kind)) => self.to_queue = kind == "queue",
            ("[].routing_key", Value::Text(key)) => self.key = Some(key.to_owned()),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, path: &str) -> Result<(), Failure> {
        if path == "[]" {
            let (queue, key) = (self.queue.take(), self.key.take().unwrap_or_default());
            if let Some(queue) = queue.filter(|_| std::mem::take(&mut self.to_queue))
                && self.found.len() < MOST_BINDINGS
            {
                self.found.push(Binding { queue, key });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::rabbitmq::backlog::Counts;
    use crate::brokers::rabbitmq::json::Document;

    fn route(exchange: &str, key: Option<&str>) -> Route {
        Route { exchange: exchange.into(), key: key.map(str::to_owned) }
    }

    /// Queues of dead letters of `orders`, whose messages go to an exchange `dead` with these bindings.
    fn places(route: Route, named: &[&str], bindings: &[(&str, &str)]) -> Vec<String> {
        let mut book = Book::default();
        let binding = |(queue, key): &(&str, &str)| Binding { queue: (*queue).into(), key: (*key).into() };
        let answer = bindings.iter().map(binding).collect();
        book.bindings.insert(("shop".into(), "dead".into()), Asked { at: Instant::now(), answer });
        let named: Vec<_> = named.iter().map(|name| (*name).to_owned()).collect();
        let wanted = Wanted { vhost: "shop", queues: vec!["orders"], named: &named };
        let places = book.places(&wanted, &[("orders", route)]);
        places.into_iter().map(|(_, queue)| queue).collect()
    }

    #[test]
    fn dead_letters_go_where_exchange_and_key_lead() {
        let bindings = [("orders.dead", "orders"), ("bills.dead", "bills"), ("orders", "orders")];
        assert_eq!(places(route("dead", Some("orders")), &[], &bindings), ["orders.dead"]);
        assert_eq!(places(route("dead", Some("other")), &[], &bindings), ["bills.dead", "orders.dead"]);
        assert_eq!(places(route("dead", None), &[], &bindings), ["bills.dead", "orders.dead"]);
        assert_eq!(places(route("", Some("orders.dead")), &[], &[]), ["orders.dead"]);
        assert!(places(route("", None), &[], &[]).is_empty(), "they come back");
        assert!(places(route("unknown", None), &[], &bindings).is_empty());
        assert_eq!(places(route("unknown", None), &["parked"], &bindings), ["parked"]);
        let many: Vec<_> = (0..50).map(|number| (format!("q{number}"), String::new())).collect();
        let many: Vec<_> = many.iter().map(|(queue, key)| (queue.as_str(), key.as_str())).collect();
        assert_eq!(places(route("dead", None), &[], &many).len(), MOST);
    }

    #[test]
    fn questions_are_rare_and_few() {
        let now = Instant::now();
        let all: BTreeSet<_> = (0..50).map(|number| ("v".to_owned(), format!("{number:02}"))).collect();
        let mut known = BTreeMap::new();
        for place in due(&all, &known, QUEUES_EVERY, now) {
            known.insert(place, Asked { at: now, answer: () });
        }
        assert_eq!(known.len(), AT_ONCE);
        assert_eq!(due(&all, &known, QUEUES_EVERY, now).len(), 50 - AT_ONCE);
        let later = due(&all, &known, QUEUES_EVERY, now + QUEUES_EVERY);
        assert!(later.len() == AT_ONCE && later[0].1 == "32", "those that were never asked come first");
    }

    #[test]
    fn bindings_to_queues_are_kept() {
        // As RabbitMQ 3.10.8 answers.
        let json = r#"[{"destination":"orders.dead","destination_type":"queue","routing_key":"orders"},
            {"destination":"next","destination_type":"exchange","routing_key":""},
            {"destination":"all","destination_type":"queue","routing_key":""}]"#;
        let (mut document, mut bindings) = (Document::new(), Bindings::default());
        document.feed(json.as_bytes(), &mut bindings).unwrap();
        document.finish(&mut bindings).unwrap();
        let found: Vec<_> = bindings.found.iter().map(|it| (it.queue.as_str(), it.key.as_str())).collect();
        assert_eq!(found, [("orders.dead", "orders"), ("all", "")]);
    }

    #[test]
    fn a_queue_that_does_not_exist_is_unknown_and_not_empty() {
        let counts = Counts { ready: 3, unacknowledged: 1, published: Some(9), ..Counts::default() };
        let found = counted("dead", "shop", Finding::Counted(counts));
        assert_eq!(found, Ok(DeadLetterCounts { waiting: 4, arrived: Some(9) }));
        let problem = counted("dead", "shop", Finding::Missing).unwrap_err();
        assert_eq!(problem.reason, SourceReason::QueueNotFound);
        assert!(problem.message.contains("queue dead of virtual host shop does not exist"), "{problem}");
    }
}
