//! The management API: queues by single requests or by listings.
//!
//! Only GET requests, so nothing on the broker changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use futures::future::try_join_all;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::Instant;

use super::answer::{Failure, Findings};
use super::backlog::{Finding, named};
use super::dead_letters::{Binding, Bindings, Route, Wanted};
use super::http::{Http, Reply};
use super::questions::{Question, fits_in_a_path};
use super::refusals::{Refusal, no_vhost};
use super::row::columns;
use super::rows::{Asked, Rows, Shape, check_queues, invalid, misdirected};
use super::statistics::{Overview, Uptimes};
use crate::brokers::budget::Budget;
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};

/// Queues in one page: the most that RabbitMQ gives.
const PAGE_SIZE: usize = 500;

/// Most bytes of an answer for one queue, for a page, and for each queue of a list. They are read while they arrive and
/// take no memory; a server that sends more is no management API.
const LARGEST_QUEUE: usize = 1024 * 1024;
const LARGEST_PAGE: usize = 8 * 1024 * 1024;
const LARGEST_ROW: usize = 1024;

/// Most bytes of an answer about settings.
const LARGEST_SETTINGS: usize = 1024 * 1024;

/// Routes of dead letters that are kept.
const MOST_ROUTES: usize = 50_000;

/// Share of the time that a listing gets where named queues can be asked for without it.
const LISTING_SHARE: f32 = 0.6;

/// Characters that a path segment does not escape.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A management API.
pub(super) struct Management {
    http: Http,
    most_matches: usize,
    budget: Budget,
    /// The broker counts messages: its overview reports it, or counters were seen.
    counts_messages: AtomicBool,
    /// Where the dead letters of queues go that have a place for them, by virtual host and queue, as last answered.
    routes: Mutex<BTreeMap<(String, String), Route>>,
}

impl Management {
    /// `most_matches`: queues of one pattern that are kept at most, and one more. `budget`: those of a virtual host
    /// that are listed at most.
    pub(super) fn new(http: Http, most_matches: usize, budget: Budget) -> Self {
        Self { http, most_matches, budget, counts_messages: AtomicBool::new(false), routes: Mutex::default() }
    }

    /// Settings of the broker. None: it does not answer, which does no harm.
    pub(super) async fn overview(&self, deadline: Instant) -> Option<Overview> {
        let path = "/api/overview?columns=rates_mode,disable_stats";
        let reply = self.http.get(path, LARGEST_SETTINGS, Overview::default, deadline).await;
        let Ok(Reply::Read(overview)) = reply else { return None };
        if let Some(counts) = overview.counts_messages {
            self.counts_messages.store(counts, Ordering::Relaxed);
        }
        Some(overview)
    }

    /// Uptimes of the nodes. None: they do not answer, or the user is not allowed to read them.
    pub(super) async fn uptimes(&self, deadline: Instant) -> Option<Uptimes> {
        let path = "/api/nodes?columns=name,uptime";
        match self.http.get(path, LARGEST_SETTINGS, Uptimes::default, deadline).await {
            Ok(Reply::Read(uptimes)) => Some(uptimes),
            _ => None,
        }
    }

    /// Where the dead letters of a queue go.
    pub(super) fn route(&self, vhost: &str, queue: &str) -> Option<Route> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.get(&(vhost.to_owned(), queue.to_owned())).cloned()
    }

    /// The same of all queues of an object.
    pub(super) fn routes<'a>(&self, of: &Wanted<'a>) -> Vec<(&'a str, Route)> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if routes.is_empty() {
            return Vec::new();
        }
        let route = |queue: &&'a str| routes.get(&(of.vhost.to_owned(), (*queue).to_owned())).cloned();
        of.queues.iter().filter_map(|queue| Some((*queue, route(queue)?))).collect()
    }

    /// Where an exchange leads. None: it does not answer, or the user is not allowed to read it.
    pub(super) async fn bindings(
        &self,
        vhost: &str,
        exchange: &str,
        deadline: Instant,
    ) -> Option<Vec<Binding>> {
        if !fits_in_a_path(vhost) || !fits_in_a_path(exchange) {
            return None;
        }
        let columns = "destination,destination_type,routing_key";
        let (vhost, exchange) = (escape(vhost), escape(exchange));
        let path = format!("/api/exchanges/{vhost}/{exchange}/bindings/source?columns={columns}");
        match self.http.get(&path, LARGEST_SETTINGS, Bindings::default, deadline).await {
            Ok(Reply::Read(bindings)) => Some(bindings.found),
            _ => None,
        }
    }

    /// One queue, of which a reading needs nothing.
    pub(super) async fn queue(&self, vhost: &str, name: &str, deadline: Instant) -> Result<Finding, Problem> {
        if !fits_in_a_path(vhost) || !fits_in_a_path(name) {
            let message = format!("the management API has no URL for {}", named(name, vhost));
            return Err(Problem::new(SourceReason::ManagementUnavailable, message));
        }
        let question = Question::default();
        let path = format!("{}/{}?columns={}", queues_of(vhost), escape(name), columns());
        let asked = Asked { queue: Some(name), ..self.asked(vhost, &question) };
        let answer = self.get(&path, LARGEST_QUEUE, asked, Shape::Queue, deadline).await;
        let rows = answer.map_err(Failure::problem)?;
        Ok(rows.and_then(|mut rows| rows.found.remove(name)).unwrap_or(Finding::Missing))
    }

    /// Answers the question about one virtual host.
    pub(super) async fn ask(
        &self,
        vhost: &str,
        question: &Question,
        deadline: Instant,
    ) -> Result<Findings, Failure> {
        if !fits_in_a_path(vhost) {
            let message = format!("the management API has no URL for virtual host {}", quote(vhost));
            return Err(Failure::Unusable(Problem::new(SourceReason::ManagementUnavailable, message)));
        }
        let mut unlisted = None;
        if question.listing {
            let few = question.names_are_few() && !question.names.is_empty();
            let now = Instant::now();
            let patience = deadline.saturating_duration_since(now);
            let until = if few { now + patience.mul_f32(LISTING_SHARE) } else { deadline };
            match self.listing(vhost, question, until).await {
                Ok(queues) => return Ok(Findings { queues, listed: true, unlisted }),
                // A listing that fails concerns the patterns that need it.
                Err(Failure::Unusable(problem) | Failure::Unreachable(problem)) if few => {
                    unlisted = Some(problem);
                }
                Err(failure) => return Err(failure),
            }
        }
        let queues = self.each(vhost, question, deadline).await?;
        Ok(Findings { queues, listed: false, unlisted })
    }

    /// One request per named queue.
    async fn each(
        &self,
        vhost: &str,
        question: &Question,
        deadline: Instant,
    ) -> Result<HashMap<String, Finding>, Failure> {
        let queues = question.names.iter().map(|name| async {
            let path = format!("{}/{}?columns={}", queues_of(vhost), escape(name), columns());
            let asked = Asked { queue: Some(name), ..self.asked(vhost, question) };
            let finding = match self.get(&path, LARGEST_QUEUE, asked, Shape::Queue, deadline).await? {
                Some(mut rows) => rows.found.remove(name).unwrap_or(Finding::Missing),
                None => Finding::Missing,
            };
            Ok::<_, Failure>((name.clone(), finding))
        });
        let found: HashMap<_, _> = try_join_all(queues).await?.into_iter().collect();
        if let Some((missing, _)) = found.iter().find(|(_, finding)| **finding == Finding::Missing) {
            self.check_missing(vhost, missing, deadline).await?;
        }
        Ok(found)
    }

    /// Whether a queue that was not found by its own request is missing, or its virtual host, or whether the request
    /// reached another path: a reverse proxy may decode `%2F`.
    async fn check_missing(&self, vhost: &str, missing: &str, deadline: Instant) -> Result<(), Failure> {
        let question = Question { names: BTreeSet::from([missing.to_owned()]), ..Question::default() };
        let page = |query: String| {
            let path = format!("{}?page=1&{query}&columns=name,vhost", queues_of(vhost));
            let asked = self.asked(vhost, &question);
            async move { self.get(&path, LARGEST_PAGE, asked, Shape::Page, deadline).await }
        };
        // The answer for a queue is the same when its virtual host is missing; that for a listing is not. The listing
        // of all virtual hosts has another one at its end.
        let last = page("page_size=1&sort=vhost&sort_reverse=true".to_owned());
        last.await?.ok_or_else(|| no_vhost(vhost))?;
        let named_so = page(format!("page_size={PAGE_SIZE}&name={}", escape(missing)));
        let rows = named_so.await?.ok_or_else(|| no_vhost(vhost))?;
        if rows.found.contains_key(missing) {
            return Err(misdirected(
                self.http.server(),
                &named(missing, vhost),
                "404, though its list of queues has it",
            ));
        }
        Ok(())
    }

    async fn listing(
        &self,
        vhost: &str,
        question: &Question,
        deadline: Instant,
    ) -> Result<HashMap<String, Finding>, Failure> {
        if let Some(found) = self.pages(vhost, question, deadline).await? {
            return Ok(found);
        }
        // Queues came or went between two pages, and one may have slipped through. A single large answer has no gap.
        let path = format!("{}?columns={}", queues_of(vhost), columns());
        let asked = self.asked(vhost, question);
        let largest = usize::try_from(self.budget.queues).unwrap_or(usize::MAX).saturating_mul(LARGEST_ROW);
        let rows = self.get(&path, largest, asked, Shape::List, deadline).await?;
        Ok(rows.ok_or_else(|| no_vhost(vhost))?.found)
    }

    /// All pages, or none when they do not fit together.
    async fn pages(
        &self,
        vhost: &str,
        question: &Question,
        deadline: Instant,
    ) -> Result<Option<HashMap<String, Finding>>, Failure> {
        let mut found = HashMap::new();
        let mut rows = 0_usize;
        let mut total = None;
        let mut last: Option<String> = None;
        for number in 1.. {
            let path =
                format!("{}?page={number}&page_size={PAGE_SIZE}&columns={}", queues_of(vhost), columns());
            let asked = self.asked(vhost, question);
            let new = || Rows::new(asked, Shape::Page);
            let page = match self.http.get(&path, LARGEST_PAGE, new, deadline).await? {
                Reply::Read(page) => self.noted(page),
                Reply::Refused(refusal) if number > 1 && refusal.status == 400 => return Ok(None), // it is gone
                Reply::Refused(refusal) => {
                    self.missing(&refusal)?;
                    return Err(no_vhost(vhost));
                }
            };
            let (Some(total_count), Some(page_count)) = (page.total_count, page.page_count) else {
                return Err(invalid(self.http.server(), "a page has no total_count and page_count"));
            };
            if *total.get_or_insert(total_count) != total_count {
                return Ok(None);
            }
            rows = rows.saturating_add(page.rows);
            let queues = usize::try_from(total_count).unwrap_or(usize::MAX).max(rows);
            check_queues(&self.budget, vhost, queues)?;
            // Pages are sorted by name: one that does not begin behind the last has a queue that moved.
            if let Some((first, end)) = page.ends {
                if last.as_ref().is_some_and(|last| *last >= first) {
                    return Ok(None);
                }
                last = Some(end);
            }
            found.extend(page.found);
            if number >= page_count {
                break;
            }
            if page.rows == 0 {
                return Ok(None);
            }
        }
        let fits = total.and_then(|total| usize::try_from(total).ok()) == Some(rows);
        Ok(fits.then_some(found))
    }

    fn asked<'a>(&'a self, vhost: &'a str, question: &'a Question) -> Asked<'a> {
        Asked {
            server: self.http.server(),
            vhost,
            queue: None,
            question,
            most_matches: self.most_matches,
            budget: self.budget,
            counts_messages: self.counts_messages.load(Ordering::Relaxed),
        }
    }

    fn noted<'a>(&self, mut rows: Rows<'a>) -> Rows<'a> {
        let vhost = rows.vhost().to_owned();
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if routes.len() > MOST_ROUTES {
            // Of queues that come and go. Those that are there are found again.
            routes.clear();
        } else if !routes.is_empty() {
            rows.found.keys().for_each(|queue| _ = routes.remove(&(vhost.clone(), queue.clone())));
        }
        routes.extend(
            std::mem::take(&mut rows.routes)
                .into_iter()
                .map(|(queue, route)| ((vhost.clone(), queue), route)),
        );
        drop(routes);
        if rows.saw_counters {
            self.counts_messages.store(true, Ordering::Relaxed);
        }
        rows
    }

    /// The queues, or none when RabbitMQ reports that they do not exist.
    async fn get<'a>(
        &self,
        path: &str,
        largest: usize,
        asked: Asked<'a>,
        shape: Shape,
        deadline: Instant,
    ) -> Result<Option<Rows<'a>>, Failure> {
        match self.http.get(path, largest, || Rows::new(asked, shape), deadline).await? {
            Reply::Read(rows) => Ok(Some(self.noted(rows))),
            Reply::Refused(refusal) => self.missing(&refusal).map(|()| None),
        }
    }

    /// That the thing does not exist is no failure.
    fn missing(&self, refusal: &Refusal) -> Result<(), Failure> {
        match refusal.is_missing() {
            true => Ok(()),
            false => Err(refusal.failure(self.http.server(), self.http.credentials())),
        }
    }
}

pub(super) fn queues_of(vhost: &str) -> String {
    format!("/api/queues/{}", escape(vhost))
}

pub(super) fn escape(segment: &str) -> impl std::fmt::Display {
    utf8_percent_encode(segment, SEGMENT)
}
