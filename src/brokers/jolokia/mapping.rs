//! What differs between ActiveMQ Classic and Artemis: the names of MBeans, their attributes, and what they mean. Pure.

use std::fmt::Write;
use std::time::Duration;

use super::answer::{Attributes, Scalar};
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};
use crate::plan::QueuePlace;

/// A count beyond this is no count.
const ABSURD: u64 = 1_000_000_000_000_000;
/// A message that has waited so much longer than the broker runs has no time of its own: Artemis calculates the age of a
/// message without a creation time since 1970.
const OLDEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A kind of broker that is read through Jolokia.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// ActiveMQ Classic.
    ActiveMq,
    /// Artemis.
    Artemis,
}

/// What a broker says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub name: String,
    /// It serves clients: it has started, and is no backup or slave.
    pub is_active: bool,
    /// Since it started. Its counters begin with it.
    pub uptime: Option<Duration>,
}

/// The numbers of one queue of one broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Messages that are due, delivered or not.
    pub messages: u64,
    /// Messages that are delivered and not acknowledged.
    pub in_flight: u64,
    /// Messages that ever arrived, since the broker or the queue began.
    pub arrived: Option<u64>,
    /// Messages that ever left it.
    pub processed: Option<u64>,
    /// Consumers.
    pub consumers: Option<u32>,
    /// Consumers that get messages, at most. Absent: any number.
    pub at_most: Option<u32>,
    /// How long the first message that is not delivered has waited.
    pub age: Option<Duration>,
}

impl Flavor {
    /// The broker's name, as people write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ActiveMq => "ActiveMQ",
            Self::Artemis => "Artemis",
        }
    }

    /// Where its web console serves Jolokia.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::ActiveMq => "/api/jolokia",
            Self::Artemis => "/console/jolokia",
        }
    }

    /// The MBean of the broker; without a name, that of any.
    pub(super) fn broker(self, name: Option<&str>) -> String {
        match (self, name) {
            (Self::ActiveMq, Some(name)) => {
                format!("org.apache.activemq:type=Broker,brokerName={}", classic(name))
            }
            (Self::ActiveMq, None) => "org.apache.activemq:type=Broker,brokerName=*".to_owned(),
            (Self::Artemis, Some(name)) => format!("org.apache.activemq.artemis:broker={}", quoted(name)),
            (Self::Artemis, None) => "org.apache.activemq.artemis:broker=*".to_owned(),
        }
    }

    /// The attributes of a broker that are read.
    pub(super) fn broker_attributes(self) -> &'static [&'static str] {
        match self {
            Self::ActiveMq => &["BrokerName", "Slave", "UptimeMillis"],
            Self::Artemis => &["Name", "Active", "Backup", "UptimeMillis"],
        }
    }

    /// The MBean of a queue.
    pub(super) fn queue(self, broker: &str, place: &QueuePlace) -> String {
        let broker = self.broker(Some(broker));
        match self {
            Self::ActiveMq => {
                format!("{broker},destinationType=Queue,destinationName={}", classic(&place.name))
            }
            Self::Artemis => format!(
                "{broker},component=addresses,address={},subcomponent=queues,routing-type={},queue={}",
                quoted(&place.address),
                if place.multicast { "\"multicast\"" } else { "\"anycast\"" },
                quoted(&place.name)
            ),
        }
    }

    /// The MBeans of the consumers of a queue, where only they show that one is exclusive.
    pub(super) fn consumers(self, broker: &str, place: &QueuePlace) -> Option<String> {
        match self {
            Self::ActiveMq => Some(format!("{},endpoint=Consumer,*", self.queue(broker, place))),
            Self::Artemis => None,
        }
    }

    /// The attributes of a queue that are read.
    pub(super) fn queue_attributes(self) -> &'static [&'static str] {
        match self {
            Self::ActiveMq => {
                &["Name", "QueueSize", "InFlightCount", "ConsumerCount", "EnqueueCount", "DequeueCount"]
            }
            Self::Artemis => &[
                "Name",
                "MessageCount",
                "ScheduledCount",
                "DeliveringCount",
                "ConsumerCount",
                "MessagesAdded",
                "MessagesAcknowledged",
                "MessagesExpired",
                "MessagesKilled",
                "FirstMessageAge",
                "Exclusive",
                "MaxConsumers",
            ],
        }
    }

    /// What the attributes of a broker mean. None: it does not say what must be known.
    pub(super) fn identity(self, read: Attributes<'_>) -> Option<Identity> {
        let (name, is_active) = match self {
            // A broker is a slave until its connectors have started, which they do after its queues are there
            // (BrokerService.startAllConnectors).
            Self::ActiveMq => ("BrokerName", !read.get("Slave").boolean()?),
            // A broker is active after its journal was loaded (ActiveMQServerImpl.completeActivation).
            Self::Artemis => ("Name", read.get("Active").boolean()? && !read.get("Backup").boolean()?),
        };
        let uptime = read.get("UptimeMillis").count().map(Duration::from_millis);
        let name = read.get(name).text();
        (!name.is_empty()).then(|| Identity { name: name.to_owned(), is_active, uptime })
    }

    /// What the attributes of a queue mean.
    ///
    /// # Errors
    /// They are those of another queue, or a number that is needed is missing or impossible.
    pub(super) fn counts(
        self,
        read: Attributes<'_>,
        place: &QueuePlace,
        server: &str,
        uptime: Option<Duration>,
    ) -> Result<Counts, Problem> {
        // Names with other characters are written with _ or & in ActiveMQ's MBeans, where two names can meet.
        let name = read.get("Name").text();
        if name != place.name {
            let message = format!(
                "the Jolokia agent at {server} answers for queue {} with the numbers of queue {}; rename one of them",
                quote(&place.name),
                quote(name)
            );
            return Err(Problem::new(SourceReason::ResponseInvalid, message));
        }
        let needed = |attribute: &str| needed(read.get(attribute), attribute, place, server);
        let optional = |attribute: &str| read.get(attribute).count().filter(|count| *count < ABSURD);
        let small = |attribute: &str| optional(attribute).and_then(|count| u32::try_from(count).ok());
        Ok(match self {
            Self::ActiveMq => {
                let messages = needed("QueueSize")?;
                Counts {
                    messages,
                    in_flight: optional("InFlightCount").unwrap_or_default().min(messages),
                    arrived: optional("EnqueueCount"),
                    processed: optional("DequeueCount"),
                    consumers: small("ConsumerCount"),
                    at_most: None,
                    age: None,
                }
            }
            Self::Artemis => {
                let messages = needed("MessageCount")?.saturating_sub(needed("ScheduledCount")?);
                let left = ["MessagesAcknowledged", "MessagesExpired", "MessagesKilled"];
                let exclusive = read.get("Exclusive").boolean() == Some(true);
                let at_most = if exclusive { Some(1) } else { small("MaxConsumers") };
                Counts {
                    messages,
                    in_flight: optional("DeliveringCount").unwrap_or_default().min(messages),
                    arrived: optional("MessagesAdded"),
                    processed: left
                        .iter()
                        .try_fold(0_u64, |sum, attribute| Some(sum.saturating_add(optional(attribute)?))),
                    consumers: small("ConsumerCount"),
                    // A queue that takes no consumer gives no reason to run none.
                    at_most: at_most.map(|consumers| consumers.max(1)),
                    age: optional("FirstMessageAge")
                        .map(Duration::from_millis)
                        .filter(|age| *age <= uptime.unwrap_or_default().saturating_add(OLDEST)),
                }
            }
        })
    }
}

fn needed(value: &Scalar, attribute: &str, place: &QueuePlace, server: &str) -> Result<u64, Problem> {
    if let Some(count) = value.count().filter(|count| *count < ABSURD) {
        return Ok(count);
    }
    let queue = quote(&place.name);
    let (reason, message) = match value {
        Scalar::Absent | Scalar::Null => (
            SourceReason::StatsUnavailable,
            format!("the Jolokia agent at {server} gives no {attribute} for queue {queue}"),
        ),
        value => (
            SourceReason::ResponseInvalid,
            format!(
                "the Jolokia agent at {server} gives {} as {attribute} of queue {queue}",
                quote(&value.to_string())
            ),
        ),
    };
    Err(Problem::new(reason, message))
}

/// A name as ActiveMQ Classic writes it in an MBean's name (JMXSupport.encodeObjectNamePart).
fn classic(name: &str) -> String {
    name.chars().fold(String::with_capacity(name.len()), |mut written, character| {
        match character {
            ':' | ',' | '\'' | '"' => written.push('_'),
            '?' => written.push_str("&qe;"),
            '=' => written.push_str("&amp;"),
            '*' => written.push_str("&ast;"),
            other => written.push(other),
        }
        written
    })
}

/// A name as Artemis writes it in an MBean's name (ObjectName.quote): no character of it makes a pattern.
fn quoted(name: &str) -> String {
    let mut written = String::from("\"");
    for character in name.chars() {
        match character {
            '\n' => written.push_str("\\n"),
            '"' | '\\' | '*' | '?' => _ = write!(written, "\\{character}"),
            other => written.push(other),
        }
    }
    written.push('"');
    written
}

#[cfg(test)]
mod tests {
    use super::super::answer::answers;
    use super::*;

    /// As ActiveMQ 6.3.1 and Artemis 2.50.0 answer.
    const CLASSIC: &str = r#"{"Name":"orders","QueueSize":96,"InFlightCount":10,"ConsumerCount":1,"EnqueueCount":100,
        "DequeueCount":4}"#;
    const ARTEMIS: &str = r#"{"Name":"orders","MessageCount":96,"ScheduledCount":0,"DeliveringCount":6,"ConsumerCount":1,
        "MessagesAdded":100,"MessagesAcknowledged":3,"MessagesExpired":1,"MessagesKilled":0,"FirstMessageAge":30218,
        "Exclusive":false,"MaxConsumers":-1}"#;

    fn place(name: &str) -> QueuePlace {
        QueuePlace { name: name.into(), address: name.into(), multicast: false }
    }

    fn read<T>(value: &str, of: impl FnOnce(Attributes<'_>) -> T) -> T {
        let body = format!(r#"[{{"value":{value},"status":200}}]"#);
        let Ok(answers) = answers(body.as_bytes()).unwrap() else { panic!("one object") };
        of(answers[0].attributes())
    }

    fn counts(flavor: Flavor, value: &str) -> Result<Counts, Problem> {
        let uptime = Some(Duration::from_secs(3600));
        read(value, |read| flavor.counts(read, &place("orders"), "mq:8161", uptime))
    }

    #[test]
    fn real_answers_are_counted() {
        let common = Counts {
            messages: 96,
            in_flight: 10,
            arrived: Some(100),
            processed: Some(4),
            consumers: Some(1),
            at_most: None,
            age: None,
        };
        assert_eq!(counts(Flavor::ActiveMq, CLASSIC), Ok(common));
        let artemis = Counts { in_flight: 6, age: Some(Duration::from_millis(30_218)), ..common };
        assert_eq!(counts(Flavor::Artemis, ARTEMIS), Ok(artemis));
    }

    #[test]
    fn scheduled_messages_are_not_due() {
        let scheduled = ARTEMIS
            .replace("\"MessageCount\":96,\"ScheduledCount\":0", "\"MessageCount\":11,\"ScheduledCount\":10");
        assert_eq!(counts(Flavor::Artemis, &scheduled).unwrap().messages, 1);
    }

    #[test]
    fn an_age_since_1970_or_of_no_message_is_unknown() {
        let with = |age: &str| counts(Flavor::Artemis, &ARTEMIS.replace("30218", age)).unwrap().age;
        assert_eq!(with("1795899761839"), None, "a producer that sets no creation time");
        assert_eq!(with("null"), None, "all are being delivered");
        assert_eq!(with("-5"), None);
        assert_eq!(with("86400000"), Some(Duration::from_secs(86_400)), "older than the broker's start");
    }

    #[test]
    fn exclusive_queues_and_their_limits_of_consumers_cap_the_replicas() {
        let with =
            |from: &str, to: &str| counts(Flavor::Artemis, &ARTEMIS.replace(from, to)).unwrap().at_most;
        assert_eq!(with("\"Exclusive\":false", "\"Exclusive\":true"), Some(1));
        assert_eq!(with("\"MaxConsumers\":-1", "\"MaxConsumers\":3"), Some(3));
        assert_eq!(with("\"MaxConsumers\":-1", "\"MaxConsumers\":0"), Some(1));
    }

    #[test]
    fn numbers_that_are_missing_or_impossible_are_never_zero() {
        for (flavor, answer, attribute) in [
            (Flavor::ActiveMq, CLASSIC, "QueueSize"),
            (Flavor::Artemis, ARTEMIS, "MessageCount"),
            (Flavor::Artemis, ARTEMIS, "ScheduledCount"),
        ] {
            let renamed = answer.replace(&format!("\"{attribute}\""), "\"Other\"");
            let problem = counts(flavor, &renamed).unwrap_err();
            assert_eq!(problem.reason, SourceReason::StatsUnavailable, "{problem}");
            for number in ["-1", "1.5", "\"3\"", "[]", "{}", "true", "1000000000000000", "1e99"] {
                let with = answer.replacen(
                    &format!("\"{attribute}\":"),
                    &format!("\"{attribute}\":{number},\"x\":"),
                    1,
                );
                let problem = counts(flavor, &with).unwrap_err();
                assert_eq!(problem.reason, SourceReason::ResponseInvalid, "{with}: {problem}");
                assert!(
                    problem.message.contains("orders") && problem.message.contains(attribute),
                    "{problem}"
                );
            }
        }
    }

    #[test]
    fn the_numbers_of_another_queue_are_refused() {
        let other = CLASSIC.replace("\"orders\"", "\"or_ders\"");
        assert_eq!(counts(Flavor::ActiveMq, &other).unwrap_err().reason, SourceReason::ResponseInvalid);
        assert!(counts(Flavor::ActiveMq, "{}").is_err());
    }

    #[test]
    fn only_an_active_broker_is_active() {
        let active = |flavor: Flavor, value: &str| {
            read(value, |read| flavor.identity(read)).map(|identity| identity.is_active)
        };
        let classic = r#"{"BrokerName":"localhost","Slave":false,"UptimeMillis":5000}"#;
        assert_eq!(active(Flavor::ActiveMq, classic), Some(true));
        assert_eq!(active(Flavor::ActiveMq, &classic.replace("false", "true")), Some(false));
        let artemis = r#"{"Name":"b0","Active":true,"Backup":false,"UptimeMillis":5000}"#;
        assert_eq!(active(Flavor::Artemis, artemis), Some(true));
        assert_eq!(active(Flavor::Artemis, &artemis.replace("true", "false")), Some(false));
        assert_eq!(active(Flavor::Artemis, &artemis.replace("false", "true")), Some(false));
        assert_eq!(active(Flavor::Artemis, r#"{"Name":"b0"}"#), None);
    }

    #[test]
    fn names_are_written_so_that_no_read_is_a_search() {
        let queue = |flavor: Flavor, name: &str| flavor.queue("b0", &place(name));
        assert_eq!(
            queue(Flavor::ActiveMq, "a.b/c:d='e'"),
            "org.apache.activemq:type=Broker,brokerName=b0,destinationType=Queue,destinationName=a.b/c_d&amp;_e_"
        );
        assert_eq!(
            queue(Flavor::Artemis, r#"a*?"\,b"#),
            "org.apache.activemq.artemis:broker=\"b0\",component=addresses,address=\"a\\*\\?\\\"\\\\,b\",\
             subcomponent=queues,routing-type=\"anycast\",queue=\"a\\*\\?\\\"\\\\,b\""
        );
        let multicast = QueuePlace { name: "cid.sub".into(), address: "news".into(), multicast: true };
        assert!(
            Flavor::Artemis.queue("b0", &multicast).contains(r#"routing-type="multicast",queue="cid.sub""#)
        );
    }
}
