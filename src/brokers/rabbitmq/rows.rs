//! Queues in an answer of the management API, row by row, each checked against the question. Pure.
//!
//! An answer to another question must not be counted. A reverse proxy that decodes `%2F` turns `/api/queues/%2F` into
//! `/api/queues/`, which lists the queues of all virtual hosts.

use std::collections::HashMap;

use super::answer::Failure;
use super::backlog::{Finding, named};
use super::dead_letters::Route;
use super::json::{Value, Visitor};
use super::questions::Question;
use super::row::QueueRow;
use crate::brokers::budget::{Budget, Limit};
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};

/// The form that an answer must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One queue.
    Queue,
    /// An array of all queues.
    List,
    /// An object with some of the queues and the number of all.
    Page,
}

/// What was asked.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// `host:port`, for messages.
    pub server: &'a str,
    pub vhost: &'a str,
    /// Present: only this queue was asked for.
    pub queue: Option<&'a str>,
    /// Which queues of a list are kept.
    pub question: &'a Question,
    /// Matches of one pattern that are kept at most, and one more.
    pub most_matches: usize,
    /// How many queues a listing may have.
    pub budget: Budget,
    /// The broker counts messages, so that a queue without counters was never used.
    pub counts_messages: bool,
}

/// The queues of an answer.
pub(super) struct Rows<'a> {
    asked: Asked<'a>,
    shape: Shape,
    row: QueueRow,
    /// The wanted queues.
    pub found: HashMap<String, Finding>,
    /// Queues read, wanted or not.
    pub rows: usize,
    /// Names of the first and the last queue read.
    pub ends: Option<(String, String)>,
    /// How many queues and pages there are, as a page reports.
    pub total_count: Option<u64>,
    pub page_count: Option<u64>,
    /// How many queues each pattern of the question matched.
    matches: Vec<usize>,
    /// The broker counts messages.
    pub saw_counters: bool,
    /// Where the dead letters of wanted queues go.
    pub routes: Vec<(String, Route)>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(asked: Asked<'a>, shape: Shape) -> Self {
        Self {
            asked,
            shape,
            row: QueueRow::default(),
            found: HashMap::new(),
            rows: 0,
            ends: None,
            total_count: None,
            page_count: None,
            matches: vec![0; asked.question.patterns.len()],
            saw_counters: false,
            routes: Vec::new(),
        }
    }

    /// The virtual host that was asked for.
    pub(super) fn vhost(&self) -> &'a str {
        self.asked.vhost
    }

    /// The path of a row, and what the paths of its fields begin with.
    fn row_path(&self) -> (&'static str, &'static str) {
        match self.shape {
            Shape::Queue => ("", ""),
            Shape::List => ("[]", "[]."),
            Shape::Page => ("items[]", "items[]."),
        }
    }

    fn take_row(&mut self) -> Result<(), Failure> {
        let row = std::mem::take(&mut self.row);
        let Asked { server, vhost, queue, budget, counts_messages, .. } = self.asked;
        self.saw_counters |= row.has_counters();
        let Some(name) = row.name.as_deref() else { return Err(self.invalid("a queue has no name")) };
        let Some(of) = row.vhost.as_deref() else {
            return Err(self.invalid(&format!("queue {} has no virtual host", quote(name))));
        };
        if of != vhost {
            return Err(misdirected(server, &format!("virtual host {}", quote(vhost)), &named(name, of)));
        }
        if let Some(queue) = queue.filter(|queue| *queue != name) {
            return Err(misdirected(server, &named(queue, vhost), &named(name, of)));
        }
        self.rows = self.rows.saturating_add(1);
        check_queues(&budget, vhost, self.rows)?;
        if queue.is_some() || self.is_wanted(name) {
            if self.found.insert(name.to_owned(), row.finding(name, vhost, counts_messages)).is_some() {
                return Err(self.invalid(&format!("queue {} is listed twice", quote(name))));
            }
            self.routes.extend(row.route().map(|route| (name.to_owned(), route)));
        }
        match (&mut self.ends, row.name) {
            (Some((_, last)), Some(name)) => *last = name,
            (none, Some(name)) => *none = Some((name.clone(), name)),
            (_, None) => {}
        }
        Ok(())
    }

    fn is_wanted(&mut self, name: &str) -> bool {
        let Asked { question, most_matches, .. } = self.asked;
        let mut wanted = question.names.contains(name);
        for (pattern, matches) in question.patterns.iter().zip(&mut self.matches) {
            if *matches <= most_matches && pattern.queues.matches(name) {
                *matches = matches.saturating_add(1);
                wanted = true;
            }
        }
        wanted
    }

    fn invalid(&self, why: &str) -> Failure {
        invalid(self.asked.server, why)
    }
}

impl Visitor for Rows<'_> {
    fn value(&mut self, path: &str, value: Value<'_>) -> Result<(), Failure> {
        let (row, fields) = self.row_path();
        if path.is_empty() {
            return match (self.shape, value) {
                (Shape::Queue | Shape::Page, Value::Object) | (Shape::List, Value::Array) => Ok(()),
                (Shape::Queue, Value::Array) => {
                    let asked = self.asked.queue.map(|queue| named(queue, self.asked.vhost));
                    Err(misdirected(self.asked.server, &asked.unwrap_or_default(), "a list of queues"))
                }
                _ => Err(self.invalid("it is not what was asked for")),
            };
        }
        match (self.shape, path) {
            (Shape::Page, "total_count") => self.total_count = value.count(),
            (Shape::Page, "page_count") => self.page_count = value.count(),
            _ if path == row && value != Value::Object => return Err(self.invalid("a queue is no object")),
            _ => {
                if let Some(field) = path.strip_prefix(fields) {
                    self.row.set(field, value);
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, path: &str) -> Result<(), Failure> {
        if path == self.row_path().0 { self.take_row() } else { Ok(()) }
    }
}

/// Refuses a virtual host that has more queues than the administrator lets the operator list.
pub(super) fn check_queues(budget: &Budget, vhost: &str, queues: usize) -> Result<(), Failure> {
    let subject = format!("virtual host {}", quote(vhost));
    let queues = u64::try_from(queues).unwrap_or(u64::MAX);
    budget.check(Limit::Queues, &subject, queues).map_err(Failure::Unusable)
}

/// The answer is that to another question.
pub(super) fn misdirected(server: &str, asked: &str, answered: &str) -> Failure {
    let message = format!(
        "the management API at {server} was asked for {asked} and answers with {answered}; nothing of it is counted; \
         a reverse proxy probably decodes %2F in paths: let it pass paths unchanged, or set managementUrl to the \
         broker itself"
    );
    Failure::Unusable(Problem::new(SourceReason::ResponseInvalid, message))
}

/// The answer is none that a management API gives.
pub(super) fn invalid(server: &str, why: &str) -> Failure {
    let message = format!(
        "the answer of the management API at {server} is not understood: {}; correct managementUrl if this is \
         another server",
        quote(why)
    );
    Failure::Unusable(Problem::new(SourceReason::ResponseInvalid, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::rabbitmq::json::{Document, Unread};
    use crate::brokers::rabbitmq::questions::tests::{pattern_of, question_of};

    const COUNTS: &str = r#""type":"classic","messages_ready":1,"messages_unacknowledged":0"#;

    fn row(name: &str, vhost: &str) -> String {
        format!(r#"{{"name":"{name}","vhost":"{vhost}",{COUNTS}}}"#)
    }

    fn read<'a>(
        question: &'a Question,
        queue: Option<&'a str>,
        shape: Shape,
        json: &str,
    ) -> Result<Rows<'a>, Problem> {
        let asked = Asked {
            server: "mq:15672",
            vhost: "/",
            queue,
            question,
            most_matches: 2,
            budget: Budget { queues: 10, ..Budget::default() },
            counts_messages: true,
        };
        let (mut document, mut rows) = (Document::new(), Rows::new(asked, shape));
        let read = document.feed(json.as_bytes(), &mut rows);
        match read.and_then(|()| document.finish(&mut rows)) {
            Ok(()) => Ok(rows),
            Err(Unread::Refused(Failure::Unusable(problem))) => Err(problem),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_wanted_queues_are_kept() {
        let question = question_of(&["a"], vec![pattern_of("c.*")]);
        let list = format!("[{},{},{}]", row("a", "/"), row("b", "/"), row("c1", "/"));
        let rows = read(&question, None, Shape::List, &list).unwrap();
        let mut names: Vec<_> = rows.found.keys().cloned().collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "c1"]);
        assert_eq!((rows.rows, rows.ends), (3, Some(("a".into(), "c1".into()))));
    }

    #[test]
    fn a_page_has_its_counts_before_or_after_its_rows() {
        let question = question_of(&["a"], vec![]);
        for page in [
            format!(r#"{{"items":[{}],"page_count":3,"total_count":1200}}"#, row("a", "/")),
            format!(r#"{{"total_count":1200,"page_count":3,"items":[{}]}}"#, row("a", "/")),
        ] {
            let rows = read(&question, None, Shape::Page, &page).unwrap();
            assert_eq!((rows.total_count, rows.page_count, rows.found.len()), (Some(1200), Some(3), 1));
        }
    }

    #[test]
    fn a_pattern_keeps_no_more_matches_than_its_limit_and_one() {
        let question = question_of(&["q8"], vec![pattern_of("q.*")]);
        let list: Vec<_> = (0..9).map(|index| row(&format!("q{index}"), "/")).collect();
        let rows = read(&question, None, Shape::List, &format!("[{}]", list.join(","))).unwrap();
        assert_eq!((rows.found.len(), rows.rows), (4, 9));
    }

    #[test]
    fn a_virtual_host_with_more_queues_than_the_budget_is_refused() {
        let question = question_of(&["q1"], vec![]);
        let list: Vec<_> = (0..11).map(|index| row(&format!("q{index}"), "/")).collect();
        let problem =
            read(&question, None, Shape::List, &format!("[{}]", list.join(","))).map(|_| ()).unwrap_err();
        assert_eq!(problem.reason, SourceReason::BudgetExceeded);
        assert!(problem.message.contains("--max-queues"), "{problem}");
    }

    #[test]
    fn queues_of_another_virtual_host_are_refused_and_the_proxy_is_named() {
        let question = question_of(&["a"], vec![]);
        let list = format!("[{},{}]", row("a", "/"), row("b", "billing"));
        let page = format!(r#"{{"items":[{}],"page_count":1,"total_count":1}}"#, row("b", "billing"));
        let queue = row("a", "billing");
        for (shape, json, queue) in
            [(Shape::List, &list, None), (Shape::Page, &page, None), (Shape::Queue, &queue, Some("a"))]
        {
            let problem = read(&question, queue, shape, json).map(|_| ()).unwrap_err();
            assert_eq!(problem.reason, SourceReason::ResponseInvalid);
            assert!(
                problem.message.contains("billing") && problem.message.contains("reverse proxy"),
                "{problem}"
            );
        }
    }

    #[test]
    fn another_queue_or_a_list_is_no_answer_for_a_queue() {
        let question = question_of(&["a"], vec![]);
        for json in [row("b", "/"), format!("[{}]", row("a", "/"))] {
            let problem = read(&question, Some("a"), Shape::Queue, &json).map(|_| ()).unwrap_err();
            assert!(problem.message.contains("reverse proxy"), "{problem}");
        }
    }

    #[test]
    fn a_queue_without_name_or_virtual_host_or_listed_twice_is_invalid() {
        let question = question_of(&["a"], vec![]);
        let twice = format!("[{},{}]", row("a", "/"), row("a", "/"));
        for list in [r#"[{"name":"a"}]"#, r#"[{"vhost":"/"}]"#, "[1,2]", "{}", twice.as_str()] {
            let problem = read(&question, None, Shape::List, list).map(|_| ()).unwrap_err();
            assert_eq!(problem.reason, SourceReason::ResponseInvalid, "{list}");
        }
    }
}
