//! The management API: queues by single requests or by listings, and what each refusal means.
//!
//! Only GET requests, so nothing on the broker changes.

use std::collections::{BTreeSet, HashMap};

use futures::future::try_join_all;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::answer::{Failure, Findings};
use super::backlog::Finding;
use super::http::{Answer, Http};
use super::questions::{Question, fits_in_a_path};
use super::row::{COLUMNS, QueueRow};
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};

/// Queues in one page: the most that RabbitMQ gives.
const PAGE_SIZE: usize = 500;

/// Queues of a virtual host that are read at most, so that no server can fill the memory.
const MOST_QUEUES: usize = 100_000;

/// What is left as it is in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A management API.
pub(super) struct Management {
    http: Http,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<QueueRow>,
    page_count: usize,
    total_count: usize,
}

/// RabbitMQ's own description of an error.
#[derive(Deserialize)]
struct Complaint {
    error: String,
    #[serde(default)]
    reason: String,
}

impl Management {
    pub(super) fn new(http: Http) -> Self {
        Self { http }
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
        if question.listing {
            let queues = self.listing(vhost, deadline).await?;
            return Ok(Findings { queues, complete: true });
        }
        let queues = self.each(vhost, &question.names, deadline).await?;
        Ok(Findings { queues, complete: false })
    }

    async fn each(
        &self,
        vhost: &str,
        names: &BTreeSet<String>,
        deadline: Instant,
    ) -> Result<HashMap<String, Finding>, Failure> {
        let queues = names.iter().map(|name| async {
            let path = format!("{}/{}?columns={COLUMNS}", queues_of(vhost), escape(name));
            let finding = match self.get(&path, deadline).await? {
                Some(body) => self.parse::<QueueRow>(&body)?.finding(name, vhost),
                None => Finding::Missing,
            };
            Ok::<_, Failure>((name.clone(), finding))
        });
        let found: HashMap<_, _> = try_join_all(queues).await?.into_iter().collect();
        if found.values().any(|finding| *finding == Finding::Missing) {
            // The answer for a queue is the same when its virtual host is missing; that for a listing is not.
            let path = format!("{}?page=1&page_size=1&columns=name", queues_of(vhost));
            self.get(&path, deadline).await?.ok_or_else(|| no_vhost(vhost))?;
        }
        Ok(found)
    }

    async fn listing(&self, vhost: &str, deadline: Instant) -> Result<HashMap<String, Finding>, Failure> {
        if let Some(rows) = self.pages(vhost, deadline).await? {
            return Ok(rows);
        }
        // Queues came or went between two pages, and one may have slipped through. A single large answer has no gap.
        let path = format!("{}?columns={COLUMNS}", queues_of(vhost));
        let body = self.get(&path, deadline).await?.ok_or_else(|| no_vhost(vhost))?;
        let rows: Vec<QueueRow> = self.parse(&body)?;
        self.by_name(vhost, &rows)
    }

    /// All pages, or none when they do not fit together.
    async fn pages(
        &self,
        vhost: &str,
        deadline: Instant,
    ) -> Result<Option<HashMap<String, Finding>>, Failure> {
        let mut found = HashMap::new();
        let mut rows = 0;
        let mut total = None;
        for number in 1.. {
            let path = format!("{}?page={number}&page_size={PAGE_SIZE}&columns={COLUMNS}", queues_of(vhost));
            let answer = self.http.get(&path, deadline).await?;
            if number > 1 && answer.status == StatusCode::BAD_REQUEST {
                return Ok(None); // this page is gone
            }
            let body = self.accept(answer)?.ok_or_else(|| no_vhost(vhost))?;
            let page: Page = self.parse(&body)?;
            if page.total_count > MOST_QUEUES || rows > MOST_QUEUES {
                let message = format!("virtual host {} has more than {MOST_QUEUES} queues", quote(vhost));
                return Err(Failure::Unusable(Problem::new(SourceReason::ResponseInvalid, message)));
            }
            if *total.get_or_insert(page.total_count) != page.total_count {
                return Ok(None);
            }
            rows += page.items.len();
            found.extend(self.by_name(vhost, &page.items)?);
            if number >= page.page_count {
                break;
            }
        }
        // Fewer names than rows: one queue stood on two pages.
        let fits = found.len() == rows && total == Some(rows);
        Ok(fits.then_some(found))
    }

    fn by_name(&self, vhost: &str, rows: &[QueueRow]) -> Result<HashMap<String, Finding>, Failure> {
        let named = rows.iter().map(|row| row.name().map(|name| (name.to_owned(), row.finding(name, vhost))));
        named.collect::<Option<_>>().ok_or_else(|| self.not_understood("a queue has no name"))
    }

    async fn get(&self, path: &str, deadline: Instant) -> Result<Option<Vec<u8>>, Failure> {
        self.accept(self.http.get(path, deadline).await?)
    }

    /// The body, or none when RabbitMQ says that the thing does not exist.
    fn accept(&self, answer: Answer) -> Result<Option<Vec<u8>>, Failure> {
        let server = self.http.server();
        let user = self.http.user();
        let complaint = || serde_json::from_slice::<Complaint>(&answer.body).ok();
        let unusable = |reason, message| Err(Failure::Unusable(Problem::new(reason, message)));
        match answer.status.as_u16() {
            200 => Ok(Some(answer.body)),
            404 if complaint().is_some() => Ok(None),
            401 => Err(self.unauthorized(complaint())),
            403 => {
                let message =
                    format!("the management API at {server} forbids user {user} to read the queues");
                Err(Failure::Vhost(Problem::new(SourceReason::AuthorizationFailed, message)))
            }
            429 => unusable(
                SourceReason::TooManyRequests,
                format!("the management API at {server} answers 429, too many requests; poll less often"),
            ),
            300..=399 => unusable(
                SourceReason::RedirectRefused,
                format!(
                    "the management API at {server} answers with a redirect, which is not followed; \
                     set managementUrl to where it leads"
                ),
            ),
            status @ 500.. => unusable(
                SourceReason::ManagementUnavailable,
                format!("the management API at {server} answers {status}"),
            ),
            status => unusable(
                SourceReason::ResponseInvalid,
                format!("{server} answers {status}, as no management API does; correct managementUrl"),
            ),
        }
    }

    /// RabbitMQ answers 401 to a wrong password as well as to a user without rights, and tells them apart in words.
    fn unauthorized(&self, complaint: Option<Complaint>) -> Failure {
        let user = self.http.user();
        let reason = complaint.filter(|said| said.error == "not_authorised").map(|said| said.reason);
        let reason = reason.unwrap_or_default();
        if reason.contains("access virtual host") {
            let message =
                format!("user {user} has no permission in the virtual host; grant it with set_permissions");
            Failure::Vhost(Problem::new(SourceReason::AuthorizationFailed, message))
        } else if reason.contains("Not management user") {
            let message = format!("user {user} may not use the management API; give it the tag management");
            Failure::Refused(Problem::new(SourceReason::AuthorizationFailed, message))
        } else {
            let message = format!(
                "the management API at {} refuses the password of user {user}; correct the Secret",
                self.http.server()
            );
            Failure::Refused(Problem::new(SourceReason::AuthenticationFailed, message))
        }
    }

    fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(body).map_err(|error| self.not_understood(&error.to_string()))
    }

    fn not_understood(&self, why: &str) -> Failure {
        let server = self.http.server();
        let message =
            format!("the answer of the management API at {server} cannot be understood: {}", quote(why));
        Failure::Unusable(Problem::new(SourceReason::ResponseInvalid, message))
    }
}

fn no_vhost(vhost: &str) -> Failure {
    let message = format!("virtual host {} does not exist; correct vhost or create it", quote(vhost));
    Failure::Vhost(Problem::new(SourceReason::VhostNotFound, message))
}

fn queues_of(vhost: &str) -> String {
    format!("/api/queues/{}", escape(vhost))
}

fn escape(segment: &str) -> impl std::fmt::Display {
    utf8_percent_encode(segment, SEGMENT)
}
