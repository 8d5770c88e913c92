//! Addresses, names and references of a source, checked. Secrets are named here, never read.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use regex::Regex;

use super::Invalid;
use super::jolokia::{self, JolokiaSource};
use super::pulsar::{self, PulsarSource};
use super::rocketmq::{self, RocketMqSource};
use super::union::exactly_one;
use crate::api::{self, CredentialsSecretRef, IsolationLevel, OffsetReset, SaslMechanism};

/// Where the backlog is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A Kafka consumer group.
    Kafka(KafkaSource),
    /// RabbitMQ queues.
    RabbitMq(RabbitMqSource),
    /// Queues of ActiveMQ Classic.
    ActiveMq(JolokiaSource),
    /// Queues of Artemis.
    Artemis(JolokiaSource),
    /// A subscription of Pulsar topics.
    Pulsar(PulsarSource),
    /// A consumer group of a RocketMQ topic.
    RocketMq(RocketMqSource),
}

impl Source {
    /// The broker's name, as people write it.
    #[must_use]
    pub fn broker(&self) -> &'static str {
        match self {
            Self::Kafka(_) => "Kafka",
            Self::RabbitMq(_) => "RabbitMQ",
            Self::ActiveMq(_) => "ActiveMQ",
            Self::Artemis(_) => "Artemis",
            Self::Pulsar(_) => "Pulsar",
            Self::RocketMq(_) => "RocketMQ",
        }
    }

    /// Where the broker is, for messages: what is the same for all objects that name it in the same way.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            Self::Kafka(kafka) => kafka.bootstrap.join(","),
            Self::RabbitMq(rabbitmq) => format!("{}:{}", rabbitmq.host, rabbitmq.amqp_port),
            Self::ActiveMq(jolokia) | Self::Artemis(jolokia) => jolokia.urls.join(","),
            Self::Pulsar(pulsar) => pulsar.admin_urls.join(","),
            Self::RocketMq(rocketmq) => rocketmq.name_servers.join(","),
        }
    }

    /// The same however the servers are ordered and written, for what concerns all objects of a broker.
    #[must_use]
    pub fn broker_address(&self) -> String {
        match self {
            Self::Kafka(kafka) => in_order(&kafka.bootstrap),
            Self::RabbitMq(_) => self.address().to_ascii_lowercase(),
            Self::ActiveMq(jolokia) | Self::Artemis(jolokia) => in_order(&jolokia.urls),
            Self::Pulsar(pulsar) => in_order(&pulsar.admin_urls),
            Self::RocketMq(rocketmq) => in_order(&rocketmq.name_servers),
        }
    }

    /// The same, to which nothing is sent.
    #[must_use]
    pub fn without_probe(mut self) -> Self {
        match &mut self {
            Self::Kafka(kafka) => kafka.interest.probe = None,
            Self::RabbitMq(rabbitmq) => rabbitmq.interest.probe = None,
            Self::ActiveMq(_) | Self::Artemis(_) | Self::Pulsar(_) | Self::RocketMq(_) => {}
        }
        self
    }

    /// How consumers share the messages unless a reading shows otherwise (Kafka's share groups).
    #[must_use]
    pub fn sharing(&self) -> Sharing {
        match self {
            Self::Kafka(_) => Sharing::Partitioned,
            Self::RocketMq(rocketmq) => match rocketmq.interest.consume_type {
                Some(api::ConsumeType::Pop) => Sharing::Shared,
                Some(api::ConsumeType::Pull) | None => Sharing::Partitioned,
            },
            Self::RabbitMq(_) | Self::ActiveMq(_) | Self::Artemis(_) | Self::Pulsar(_) => Sharing::Shared,
        }
    }

    /// Time in which the broker renews its numbers; zero where every reading is a new one.
    #[must_use]
    pub fn statistics_interval(&self) -> Duration {
        match self {
            Self::Kafka(_) | Self::ActiveMq(_) | Self::Artemis(_) | Self::Pulsar(_) | Self::RocketMq(_) => {
                Duration::ZERO
            }
            // The default of RabbitMQ's collect_statistics_interval.
            Self::RabbitMq(_) => Duration::from_secs(5),
        }
    }
}

/// Servers, however they are ordered and written.
fn in_order(servers: &[String]) -> String {
    let mut servers: Vec<_> = servers.iter().map(|it| it.to_ascii_lowercase()).collect();
    servers.sort_unstable();
    servers.dedup();
    servers.join(",")
}

/// How the consumers of a source share its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Each partition is read by one consumer of a group.
    Partitioned,
    /// Any consumer may get any message.
    Shared,
}

/// A Kafka cluster and what is read of it.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaSource {
    /// `host:port` of the first brokers, full names.
    pub bootstrap: Vec<String>,
    /// Present: TLS.
    pub tls: Option<TlsRef>,
    /// Present: SASL.
    pub sasl: Option<SaslRef>,
    /// What is read.
    pub interest: KafkaInterest,
}

/// What a `QueueScaler` wants to know of a Kafka cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KafkaInterest {
    /// The consumer group.
    pub group: String,
    /// The topics.
    pub topics: NameSelector,
    /// Up to which offset the consumer reads.
    pub isolation: IsolationLevel,
    /// Where the consumer starts without a commit.
    pub offset_reset: OffsetReset,
    /// Topics of dead letters, sorted, without repetition.
    pub dead_letters: Vec<String>,
    /// Time between two delay probes of a partition. Absent: none is sent.
    pub probe: Option<Duration>,
}

/// A RabbitMQ broker and what is read of it.
#[derive(Clone, Debug, PartialEq)]
pub struct RabbitMqSource {
    /// Full host name or address.
    pub host: String,
    /// AMQP port.
    pub amqp_port: u16,
    /// Base URL of the management API, without a trailing slash.
    pub management_url: Option<String>,
    /// Absent: RabbitMQ's default user.
    pub credentials: Option<CredentialsRef>,
    /// Present: TLS.
    pub tls: Option<TlsRef>,
    /// What is read.
    pub interest: RabbitMqInterest,
}

/// What a `QueueScaler` wants to know of a RabbitMQ broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RabbitMqInterest {
    /// The virtual host.
    pub vhost: String,
    /// The queues.
    pub queues: NameSelector,
    /// Queues of dead letters, sorted, without repetition, besides those that are found.
    pub dead_letters: Vec<String>,
    /// Time between two delay probes of a queue. Absent: none is sent.
    pub probe: Option<Duration>,
}

/// SASL mechanism and the Secret with the credentials.
#[derive(Clone, Debug, PartialEq)]
pub struct SaslRef {
    /// How to authenticate.
    pub mechanism: SaslMechanism,
    /// Present: the user; else it is in the Secret.
    pub username: Option<String>,
    /// The Secret.
    pub credentials: CredentialsRef,
    /// Present with OAuthBearer: where tokens come from.
    pub oauth: Option<OAuthRef>,
}

/// A token server.
#[derive(Clone, Debug, PartialEq)]
pub struct OAuthRef {
    /// URL of its token endpoint.
    pub token_url: String,
    /// The scope that is asked for.
    pub scope: Option<String>,
    /// The audience that is asked for.
    pub audience: Option<String>,
    /// Extensions of SASL for the brokers.
    pub extensions: BTreeMap<String, String>,
    /// The Secrets for its certificate.
    pub tls: Option<TlsRef>,
}

/// A Secret with a user and a password.
pub type CredentialsRef = CredentialsSecretRef;

/// The Secrets that TLS needs.
pub type TlsRef = api::Tls;

/// Names, or a pattern that a whole name must match.
#[derive(Clone, Debug)]
pub enum NameSelector {
    /// Exactly these, sorted, without repetition, at least one.
    Names(Vec<String>),
    /// All that match as a whole.
    Pattern(NamePattern),
}

impl NameSelector {
    /// The name, if it is exactly one.
    #[must_use]
    pub fn only(&self) -> Option<&str> {
        match self {
            Self::Names(names) if names.len() == 1 => names.first().map(String::as_str),
            Self::Names(_) | Self::Pattern(_) => None,
        }
    }
}

/// A pattern that a whole name must match, and one that it must not match.
#[derive(Clone, Debug)]
pub struct NamePattern {
    include: Regex,
    exclude: Option<Regex>,
}

impl NamePattern {
    /// Compiles the patterns, each for whole names.
    ///
    /// # Errors
    /// A pattern is not a regular expression, or is too large: which, and why.
    pub fn new(include: &str, exclude: Option<&str>) -> Result<Self, PatternError> {
        Ok(Self {
            include: whole_name(include).map_err(PatternError::Include)?,
            exclude: exclude.map(whole_name).transpose().map_err(PatternError::Exclude)?,
        })
    }

    /// Whether the name is selected.
    #[must_use]
    pub fn is_match(&self, name: &str) -> bool {
        self.include.is_match(name) && !self.exclude.as_ref().is_some_and(|exclude| exclude.is_match(name))
    }

    /// Both patterns as they were compiled.
    fn texts(&self) -> (&str, Option<&str>) {
        (self.include.as_str(), self.exclude.as_ref().map(Regex::as_str))
    }
}

/// A pattern that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The pattern of the names that are selected.
    #[error("{0}")]
    Include(String),
    /// The pattern of the names that are left out.
    #[error("{0}")]
    Exclude(String),
}

impl NameSelector {
    /// Whether what is selected depends on which names there are.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        matches!(self, Self::Pattern(_))
    }

    /// Whether the name is selected.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Names(names) => names.iter().any(|wanted| wanted == name),
            Self::Pattern(pattern) => pattern.is_match(name),
        }
    }
}

impl PartialEq for NameSelector {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Names(ours), Self::Names(theirs)) => ours == theirs,
            (Self::Pattern(ours), Self::Pattern(theirs)) => ours.texts() == theirs.texts(),
            _ => false,
        }
    }
}

impl Eq for NameSelector {}

impl std::hash::Hash for NameSelector {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self {
            Self::Names(names) => names.hash(state),
            Self::Pattern(pattern) => pattern.texts().hash(state),
        }
    }
}

impl fmt::Display for NameSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Names(names) => f.write_str(&names.join(", ")),
            Self::Pattern(NamePattern { include, exclude: None }) => write!(f, "pattern {include}"),
            Self::Pattern(NamePattern { include, exclude: Some(exclude) }) => {
                write!(f, "pattern {include} without {exclude}")
            }
        }
    }
}

pub(super) fn validate(given: &api::Source, namespace: &str) -> Result<Source, Invalid> {
    let api::Source { kafka, rabbitmq, activemq, artemis, pulsar, rocketmq } = given;
    let kafka = kafka.as_ref().map(|kafka| validate_kafka(kafka, namespace).map(Source::Kafka));
    let rabbitmq =
        rabbitmq.as_ref().map(|rabbitmq| validate_rabbitmq(rabbitmq, namespace).map(Source::RabbitMq));
    let activemq =
        activemq.as_ref().map(|activemq| jolokia::activemq(activemq, namespace).map(Source::ActiveMq));
    let artemis = artemis.as_ref().map(|artemis| jolokia::artemis(artemis, namespace).map(Source::Artemis));
    let pulsar = pulsar.as_ref().map(|pulsar| pulsar::validate(pulsar, namespace).map(Source::Pulsar));
    let rocketmq =
        rocketmq.as_ref().map(|rocketmq| rocketmq::validate(rocketmq, namespace).map(Source::RocketMq));
    let members = [
        ("activemq", activemq),
        ("artemis", artemis),
        ("kafka", kafka),
        ("pulsar", pulsar),
        ("rabbitmq", rabbitmq),
        ("rocketmq", rocketmq),
    ];
    exactly_one("spec.source", members)
}

pub(super) fn validate_kafka(given: &api::Kafka, namespace: &str) -> Result<KafkaSource, Invalid> {
    let field = "spec.source.kafka";
    let bootstrap = given.bootstrap_servers.iter().enumerate().map(|(index, server)| {
        full_address(server, namespace)
            .map_err(|problem| Invalid::new(format!("{field}.bootstrapServers[{index}]"), problem))
    });
    let bootstrap = bootstrap.collect::<Result<Vec<_>, _>>()?;
    if bootstrap.is_empty() {
        return Err(Invalid::new(
            format!("{field}.bootstrapServers"),
            "at least one broker as host:port is needed",
        ));
    }
    if given.consumer_group.is_empty() {
        return Err(Invalid::new(format!("{field}.consumerGroup"), "must not be empty"));
    }
    let topics = selector(Selection {
        field,
        names: ("topics", given.topics.as_deref()),
        pattern: ("topicPattern", given.topic_pattern.as_deref()),
        exclude: ("topicExcludePattern", given.topic_exclude_pattern.as_deref()),
    })?;
    Ok(KafkaSource {
        bootstrap,
        tls: given.tls.clone(),
        sasl: given.sasl.as_ref().map(|sasl| validate_sasl(sasl, namespace)).transpose()?,
        interest: KafkaInterest {
            group: given.consumer_group.clone(),
            topics,
            isolation: given.isolation_level,
            offset_reset: given.offset_reset,
            dead_letters: sorted(given.dead_letter_topics.as_deref()),
            // plan::probe adds it.
            probe: None,
        },
    })
}

fn validate_sasl(given: &api::Sasl, namespace: &str) -> Result<SaslRef, Invalid> {
    let field = "spec.source.kafka.sasl.oauth";
    let oauth = match (given.mechanism, &given.oauth) {
        (SaslMechanism::OAuthBearer, None) => {
            return Err(Invalid::new(field, "is needed with mechanism OAuthBearer: where tokens come from"));
        }
        (SaslMechanism::OAuthBearer, Some(oauth)) => Some(validate_oauth(field, oauth, namespace)?),
        (_, Some(_)) => return Err(Invalid::new(field, "needs mechanism OAuthBearer")),
        (_, None) => None,
    };
    Ok(SaslRef {
        mechanism: given.mechanism,
        username: given.username.clone(),
        credentials: given.credentials_secret_ref.clone(),
        oauth,
    })
}

fn validate_oauth(field: &str, given: &api::OAuth, namespace: &str) -> Result<OAuthRef, Invalid> {
    // A name or a value with a byte 1 would add to the message; Kafka knows letters only (RFC 7628, section 3.1).
    for (name, value) in &given.extensions {
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
        let is_value = !value.is_empty() && value.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if !is_name || !is_value || name == "auth" {
            let problem =
                "is no extension: its name has letters only and is not auth, its value is visible ASCII";
            return Err(Invalid::new(format!("{field}.extensions[{name:?}]"), problem));
        }
    }
    Ok(OAuthRef {
        token_url: http_url(&format!("{field}.tokenUrl"), &given.token_url, namespace)?.into(),
        scope: given.scope.clone(),
        audience: given.audience.clone(),
        extensions: given.extensions.clone(),
        tls: given.tls.clone(),
    })
}

fn validate_rabbitmq(given: &api::RabbitMq, namespace: &str) -> Result<RabbitMqSource, Invalid> {
    let field = "spec.source.rabbitmq";
    let default_port = if given.tls.is_some() { 5671 } else { 5672 };
    let amqp_port = u16::try_from(given.amqp_port.unwrap_or(default_port))
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| Invalid::new(format!("{field}.amqpPort"), "must be from 1 to 65535"))?;
    let management_url =
        given.management_url.as_deref().map(|url| management_url(url, namespace)).transpose()?;
    if given.vhost.eq_ignore_ascii_case("%2f") {
        let problem = "is the plain name of the virtual host: write / instead of %2F";
        return Err(Invalid::new(format!("{field}.vhost"), problem));
    }
    let queues = selector(Selection {
        field,
        names: ("queues", given.queues.as_deref()),
        pattern: ("queuePattern", given.queue_pattern.as_deref()),
        exclude: ("queueExcludePattern", given.queue_exclude_pattern.as_deref()),
    })?;
    if given.dead_letter_queues.is_some() && management_url.is_none() {
        let problem = "needs managementUrl, because AMQP does not count arrivals";
        return Err(Invalid::new(format!("{field}.deadLetterQueues"), problem));
    }
    if matches!(queues, NameSelector::Pattern(_)) && management_url.is_none() {
        let problem = "needs managementUrl, because AMQP cannot list queues";
        return Err(Invalid::new(format!("{field}.queuePattern"), problem));
    }
    Ok(RabbitMqSource {
        host: full_host(&given.host, namespace),
        amqp_port,
        management_url,
        credentials: given.credentials_secret_ref.clone(),
        tls: given.tls.clone(),
        interest: RabbitMqInterest {
            vhost: given.vhost.clone(),
            queues,
            dead_letters: sorted(given.dead_letter_queues.as_deref()),
            // plan::probe adds it.
            probe: None,
        },
    })
}

/// How a source selects its topics or queues: members of `field`, by their names.
struct Selection<'a> {
    field: &'a str,
    names: (&'a str, Option<&'a [String]>),
    pattern: (&'a str, Option<&'a str>),
    exclude: (&'a str, Option<&'a str>),
}

fn selector(selection: Selection<'_>) -> Result<NameSelector, Invalid> {
    let Selection { field, names: (names_field, names), pattern, exclude } = selection;
    let (pattern_field, pattern) = pattern;
    let (exclude_field, exclude) = exclude;
    match (names, pattern) {
        (Some(_), None) if exclude.is_some() => {
            let problem = format!("needs {pattern_field}; leave the name out of {names_field} instead");
            Err(Invalid::new(format!("{field}.{exclude_field}"), problem))
        }
        (Some(names), None) if !names.is_empty() => Ok(NameSelector::Names(sorted(Some(names)))),
        (None, Some(pattern)) => {
            NamePattern::new(pattern, exclude).map(NameSelector::Pattern).map_err(|error| {
                let which = match error {
                    PatternError::Include(_) => pattern_field,
                    PatternError::Exclude(_) => exclude_field,
                };
                Invalid::new(format!("{field}.{which}"), error.to_string())
            })
        }
        _ => {
            let problem = format!("exactly one of {names_field} (not empty), {pattern_field} must be set");
            Err(Invalid::new(field, problem))
        }
    }
}

pub(super) fn sorted(names: Option<&[String]>) -> Vec<String> {
    let mut names = names.unwrap_or_default().to_vec();
    names.sort_unstable();
    names.dedup();
    names
}

/// Bytes that a compiled pattern may take: one object's pattern must not fill the operator's memory.
const PATTERN_SIZE_LIMIT: usize = 256 * 1024;

fn whole_name(pattern: &str) -> Result<Regex, String> {
    // Compiled alone first: "a)|(b" would be valid inside the parentheses.
    regex::RegexBuilder::new(pattern)
        .size_limit(PATTERN_SIZE_LIMIT)
        .build()
        .and_then(|_| {
            regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(PATTERN_SIZE_LIMIT).build()
        })
        .map_err(|error| format!("is not a regular expression: {error}"))
}

/// Splits `host:port`, checks the port and completes the host.
pub(super) fn full_address(address: &str, namespace: &str) -> Result<String, String> {
    let way_out = || format!("\"{address}\" must be host:port with a port from 1 to 65535");
    if let Some((scheme, _)) = address.split_once("://") {
        return Err(format!(
            "\"{address}\" must be host:port without {scheme}://; set tls or sasl instead of another scheme"
        ));
    }
    if address.contains(',') {
        return Err(format!("\"{address}\" must be one broker; make each one an item of the list"));
    }
    let (host, port) = address.rsplit_once(':').ok_or_else(way_out)?;
    let port = u16::from_str(port).ok().filter(|port| *port > 0).ok_or_else(way_out)?;
    if host.is_empty() {
        return Err(way_out());
    }
    Ok(format!("{}:{port}", full_host(host, namespace)))
}

/// A host without a dot means a Service of the object's namespace, as it does for the pods there; the operator runs
/// elsewhere and would resolve it in its own.
fn full_host(host: &str, namespace: &str) -> String {
    let complete = host.contains(['.', ':']) || host.eq_ignore_ascii_case("localhost");
    if complete { host.to_owned() } else { format!("{host}.{namespace}.svc") }
}

fn management_url(given: &str, namespace: &str) -> Result<String, Invalid> {
    let field = "spec.source.rabbitmq.managementUrl";
    let url = http_url(field, given, namespace)?;
    if url.path().trim_end_matches('/').ends_with("/api") {
        return Err(Invalid::new(
            field,
            "is the address without /api: the operator appends /api and the rest",
        ));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// A URL without credentials and query, whose host is a full name.
pub(super) fn http_url(field: &str, given: &str, namespace: &str) -> Result<url::Url, Invalid> {
    let mut url =
        url::Url::parse(given).map_err(|error| Invalid::new(field, format!("is not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Invalid::new(field, "must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Invalid::new(
            field,
            "must not contain credentials; name a Secret in credentialsSecretRef",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Invalid::new(field, "must end with the path, without ? or #"));
    }
    let host = url.host_str().map(|host| full_host(host, namespace));
    url.set_host(host.as_deref())
        .map_err(|error| Invalid::new(field, format!("has no usable host: {error}")))?;
    Ok(url)
}
