//! Temporary queues: created, counted and deleted.
//!
//! Each has an exchange of its name, by which copies keep their routing keys. No publisher knows it but distributors, so
//! that a queue whose exchange is deleted gets nothing any more: its end is checked after that. Quorum queues cannot be
//! deleted "if empty" or "if unused".

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::time::Instant;

use super::super::answer::Failure;
use super::super::json::{Value, Visitor};
use super::super::link::Endpoint;
use super::rights::{Answer, Asked, NOT_FOUND};
use super::{Problem, problem};

/// Queues of a page: the most that RabbitMQ gives.
const PAGE: usize = 500;
/// So many deliveries are enough for consumers that fail, or are killed, for a while.
const ENOUGH_DELIVERIES: i64 = 1000;
/// Settings of policies that take messages from a queue.
const LIMITS: [&str; 4] = ["message-ttl", "expires", "max-length", "max-length-bytes"];

/// A temporary queue in the statistics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemporaryQueue {
    /// Its name.
    pub name: String,
    /// Ready and unacknowledged messages. Absent: not reported yet.
    pub messages: Option<i64>,
    /// Consumers. Absent: not reported yet.
    pub consumers: Option<i64>,
    /// A setting of a policy that takes messages from it.
    pub limit: Option<String>,
    /// The policies in effect are known: those of a new queue are not, for up to 10 s.
    pub reports_policies: bool,
}

/// What the leader of a queue has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Ready messages. 0 also where the leader is away.
    pub ready: i64,
    /// Consumers.
    pub consumers: u32,
}

/// What temporary queues are like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    /// Exchange and routing key of dead letters.
    pub dead_letters: Option<(String, Option<String>)>,
    /// One consumer at a time gets messages.
    pub single_active_consumer: bool,
    /// After how many deliveries a message is dropped or dead-lettered.
    pub delivery_limit: Option<i64>,
}

/// A page of queues.
#[derive(Debug, Default)]
pub(super) struct Page {
    queues: Vec<TemporaryQueue>,
    current: TemporaryQueue,
}

impl Page {
    /// Those whose names begin with this: the page is of names that contain it. None: there may be more.
    pub(super) fn queues(self, prefix: &str) -> Option<Vec<TemporaryQueue>> {
        let queues = self.queues;
        let fits = queues.len() < PAGE;
        fits.then(|| queues.into_iter().filter(|queue| queue.name.starts_with(prefix)).collect())
    }
}

impl Visitor for Page {
    fn value(&mut self, path: &str, value: Value<'_>) -> Result<(), Failure> {
        let count = || value.count().and_then(|count| i64::try_from(count).ok());
        match (path, value) {
            ("items[].name", Value::Text(name)) => name.clone_into(&mut self.current.name),
            ("items[].messages", _) => self.current.messages = count(),
            ("items[].consumers", _) => self.current.consumers = count(),
            ("items[].effective_policy_definition", Value::Object | Value::Array) => {
                self.current.reports_policies = true;
            }
            (path, _) => {
                let name = path.strip_prefix("items[].effective_policy_definition.");
                let is_few = || count().is_some_and(|count| count < ENOUGH_DELIVERIES);
                if let Some(name) =
                    name.filter(|name| LIMITS.contains(name) || *name == "delivery-limit" && is_few())
                {
                    self.current.limit = Some(name.to_owned());
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, path: &str) -> Result<(), Failure> {
        if path == "items[]" {
            let queue = std::mem::take(&mut self.current);
            if self.queues.len() < PAGE {
                self.queues.push(queue);
            }
        }
        Ok(())
    }
}

pub(super) async fn count(
    endpoint: &Endpoint,
    vhost: &str,
    queue: &str,
    deadline: Instant,
) -> Result<Option<Counted>, Problem> {
    let link = endpoint.open(vhost, deadline).await.map_err(problem)?;
    counted(&Asked { endpoint, link: &link, deadline }, queue).await
}

async fn counted(asked: &Asked<'_>, queue: &str) -> Result<Option<Counted>, Problem> {
    let mut found = None;
    let answer = asked
        .on_channel(async |channel| {
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let queue = channel.queue_declare(queue.into(), passive, FieldTable::default()).await?;
            found = Some(Counted { ready: queue.message_count().into(), consumers: queue.consumer_count() });
            Ok(())
        })
        .await?;
    match answer {
        Answer::Done => Ok(found),
        Answer::Closed(NOT_FOUND, words) if !words.contains("down or inaccessible") => Ok(None),
        Answer::Closed(_, words) => {
            let message = format!("queue {queue} cannot be read: {words}");
            Err(Problem::new(crate::brokers::SourceReason::StatsUnavailable, message))
        }
    }
}

pub(super) async fn create(
    endpoint: &Endpoint,
    vhost: &str,
    names: &[String],
    kind: &Kind,
    deadline: Instant,
) -> Result<Option<String>, Problem> {
    let link = endpoint.open(vhost, deadline).await.map_err(problem)?;
    let asked = Asked { endpoint, link: &link, deadline };
    for name in names {
        let created = asked
            .on_channel(async |channel| {
                let (queue, exchange) = (name.as_str(), name.as_str());
                let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
                let (fanout, arguments) = (ExchangeKind::Fanout, no_alternate(name));
                channel.exchange_declare(exchange.into(), fanout, durable, arguments).await?;
                let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
                channel.queue_declare(queue.into(), durable, kind.arguments()).await?;
                let options = QueueBindOptions::default();
                let no_arguments = FieldTable::default();
                channel.queue_bind(queue.into(), exchange.into(), "".into(), options, no_arguments).await
            })
            .await?;
        if let Answer::Closed(_, words) = created {
            // Nobody would find an exchange without its queue.
            asked.delete_exchange(name).await?;
            return Ok(Some(words));
        }
    }
    Ok(None)
}

/// An alternate exchange that does not exist, instead of that of a policy, which would take copies if the binding is gone:
/// so they are returned.
fn no_alternate(name: &str) -> FieldTable {
    let mut arguments = FieldTable::default();
    let nowhere = format!("{name}.nowhere");
    arguments.insert("alternate-exchange".into(), AMQPValue::LongString(nowhere.into()));
    arguments
}

impl Kind {
    fn arguments(&self) -> FieldTable {
        let text = |text: &str| AMQPValue::LongString(text.into());
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text("quorum"));
        if let Some((exchange, key)) = &self.dead_letters {
            arguments.insert("x-dead-letter-exchange".into(), text(exchange));
            if let Some(key) = key {
                arguments.insert("x-dead-letter-routing-key".into(), text(key));
            }
        }
        if self.single_active_consumer {
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        }
        if let Some(limit) = self.delivery_limit {
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(limit));
        }
        arguments
    }
}

pub(super) async fn delete(
    endpoint: &Endpoint,
    vhost: &str,
    name: &str,
    deadline: Instant,
) -> Result<Option<String>, Problem> {
    let link = endpoint.open(vhost, deadline).await.map_err(problem)?;
    let asked = Asked { endpoint, link: &link, deadline };
    if let Answer::Closed(_, words) = asked.delete_exchange(name).await? {
        return Ok(Some(words));
    }
    let Some(left) = counted(&asked, name).await? else { return Ok(None) };
    if left.ready > 0 || left.consumers > 0 {
        return Ok(Some(format!("it has {} messages and {} consumers", left.ready, left.consumers)));
    }
    // Quorum queues refuse the flags if-empty and if-unused.
    Ok(asked.delete_queue(name).await?.words())
}

#[cfg(test)]
mod tests {
    use super::super::super::json::Document;
    use super::*;

    #[test]
    fn a_page_has_the_queues_of_the_prefix_and_what_limits_them() {
        let json = r#"{"items":[{"name":"orders.drain.1.0","messages":7,"consumers":1},
            {"name":"old.orders.drain.1.0","messages":9},
            {"name":"orders.drain.1.1","effective_policy_definition":{"message-ttl":5,"ha-mode":"all"}}]}"#;
        let (mut document, mut page) = (Document::new(), Page::default());
        document.feed(json.as_bytes(), &mut page).unwrap();
        document.finish(&mut page).unwrap();
        let queues = page.queues("orders.drain.1.").unwrap();
        let first = TemporaryQueue {
            name: "orders.drain.1.0".into(),
            messages: Some(7),
            consumers: Some(1),
            limit: None,
            reports_policies: false,
        };
        assert_eq!(queues[0], first);
        assert_eq!((queues.len(), queues[1].messages, queues[1].reports_policies), (2, None, true));
        let limit = |policy: &str| {
            let json = format!(r#"{{"items":[{{"name":"a","effective_policy_definition":{{{policy}}}}}]}}"#);
            let (mut document, mut page) = (Document::new(), Page::default());
            document.feed(json.as_bytes(), &mut page).unwrap();
            document.finish(&mut page).unwrap();
            page.queues("a").unwrap().remove(0).limit
        };
        assert_eq!(limit(r#""delivery-limit":20"#).as_deref(), Some("delivery-limit"));
        assert_eq!(limit(r#""delivery-limit":1000000"#), None);
        assert_eq!(queues[1].limit.as_deref(), Some("message-ttl"));
    }
}
