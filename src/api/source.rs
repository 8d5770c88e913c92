//! Sources of the backlog: Kafka, RabbitMQ, ActiveMQ Classic, Artemis, Pulsar (`pulsar`) or RocketMQ (`rocketmq`), with addresses, credentials and TLS.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pulsar::Pulsar;
use super::rocketmq::RocketMq;
use super::rules::{exactly_one_field, exactly_one_of};

/// The queue that the workload consumes. Exactly one of activemq, artemis, kafka, pulsar, rabbitmq, rocketmq.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[schemars(transform = exactly_one_field)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// A consumer group of a Kafka cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<Kafka>,
    /// Queues of a RabbitMQ broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rabbitmq: Option<RabbitMq>,
    /// Queues of ActiveMQ Classic brokers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activemq: Option<ActiveMq>,
    /// Queues of Artemis brokers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artemis: Option<Artemis>,
    /// A subscription of Pulsar topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulsar: Option<Pulsar>,
    /// A consumer group of a RocketMQ topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rocketmq: Option<RocketMq>,
}

/// A consumer group and the topics that it reads. The backlog is the group's lag.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = exactly_one_of(&["topics", "topicPattern"]))]
#[x_kube(validation = Rule::new("!has(self.topicExcludePattern) || has(self.topicPattern)").message("topicExcludePattern needs topicPattern; leave the topic out of topics instead").field_path(".topicExcludePattern"))]
#[x_kube(validation = Rule::new("self.bootstrapServers.all(server, !server.contains('://'))").message("a bootstrap server is host:port without a scheme such as PLAINTEXT://; set tls or sasl instead of another scheme").field_path(".bootstrapServers"))]
#[x_kube(validation = Rule::new("self.bootstrapServers.all(server, !server.contains(','))").message("each bootstrap server is an item of its own, not a part of a list with commas").field_path(".bootstrapServers"))]
#[x_kube(validation = Rule::new("self.bootstrapServers.all(server, server.contains('://') || server.contains(',') || server.matches('^([[][0-9A-Fa-f:.]+[]]|[A-Za-z0-9._-]+):[0-9]{1,5}$'))").message("a bootstrap server must be host:port, such as kafka:9092 or [2001:db8::7]:9092").field_path(".bootstrapServers"))]
#[serde(rename_all = "camelCase")]
pub struct Kafka {
    /// The first brokers to connect to, as host:port; name more than one, so that one can be down. A host without a dot
    /// is a Service in the QueueScaler's namespace. The operator must reach the addresses that the brokers advertise.
    #[schemars(length(min = 1, max = 32), inner(length(min = 3, max = 260)))]
    pub bootstrap_servers: Vec<String>,
    /// The consumer group of the workload. Its lag is the backlog.
    #[schemars(length(min = 1, max = 255))]
    pub consumer_group: String,
    /// Names of the topics that the group reads. If one is missing, readings are incomplete and no replicas are removed.
    /// Exactly one of topics, topicPattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 249), regex(pattern = r"^[A-Za-z0-9._-]+$")), extend("x-kubernetes-list-type" = "set"))]
    pub topics: Option<Vec<String>>,
    /// A regular expression (syntax of the regex crate) that matches the whole name of a topic.
    /// New topics are found within 30 s. Exactly one of topics, topicPattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub topic_pattern: Option<String>,
    /// A regular expression (syntax of the regex crate). Topics whose whole name matches are left out although
    /// topicPattern matches them: dead-letter and retry topics that the workload does not read. Default: none is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub topic_exclude_pattern: Option<String>,
    /// Topics that consumers, or Kafka Connect or Streams, send messages to that they cannot process: how many there are
    /// and how many come is reported, and the built-in alert DeadLetters fires when some come. They are never consumed, and
    /// are no part of the backlog. A topic that does not exist is reported (DeadLettersUnknown). At most 16. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 249), regex(pattern = r"^[A-Za-z0-9._-]+$")), extend("x-kubernetes-list-type" = "set"))]
    pub dead_letter_topics: Option<Vec<String>>,
    /// The consumer's isolation level (isolation.level). ReadCommitted does not count messages of open transactions.
    /// Default ReadUncommitted.
    #[serde(default)]
    pub isolation_level: IsolationLevel,
    /// Where the consumer starts without a committed offset (auto.offset.reset). Without a commit, Latest counts no
    /// messages and Earliest counts all retained messages. Default Latest.
    #[serde(default)]
    pub offset_reset: OffsetReset,
    /// If present, even empty: connect with TLS. Default: plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// If present: authenticate with SASL. Default: no authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
}

/// Up to which offset a consumer reads.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IsolationLevel {
    /// Up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Up to the last stable offset: records of open transactions are not counted.
    ReadCommitted,
}

/// Where a consumer without a committed offset starts.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OffsetReset {
    /// At the end: messages from before its first commit are not backlog.
    #[default]
    Latest,
    /// At the beginning: all retained messages are backlog.
    Earliest,
}

/// SASL authentication to Kafka.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("(self.mechanism == 'OAuthBearer') == has(self.oauth)").message("mechanism OAuthBearer needs oauth with the tokenUrl, and no other mechanism has oauth").field_path(".oauth"))]
#[serde(rename_all = "camelCase")]
pub struct Sasl {
    /// Plain, ScramSha256, ScramSha512 or OAuthBearer. Plain sends the password itself, and OAuthBearer a token that
    /// anybody can use: use these only with tls.
    pub mechanism: SaslMechanism,
    /// The user. Default: the one in the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub username: Option<String>,
    /// The Secret with the credentials, in the same namespace. With OAuthBearer: identifier and secret of the client that
    /// the token server knows.
    pub credentials_secret_ref: CredentialsSecretRef,
    /// With OAuthBearer: where tokens come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OAuth>,
}

/// Tokens from an OAuth 2.0 server, by client credentials. A token is asked for again before it expires.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("!has(self.extensions) || self.extensions.all(name, name.matches('^[A-Za-z]+$') && name != 'auth')").message("the name of an extension has letters only, and is not auth").field_path(".extensions"))]
#[serde(rename_all = "camelCase")]
pub struct OAuth {
    /// The token endpoint, as https://login.example.com/realms/kafka/protocol/openid-connect/token. The client's secret is
    /// sent there: use https.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^https?://[^?#@]+$"))]
    pub token_url: String,
    /// The scope that is asked for. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub scope: Option<String>,
    /// The audience that is asked for, if the server needs one. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub audience: Option<String>,
    /// SASL extensions that the brokers ask for, as logicalCluster and identityPoolId of Confluent Cloud. At most 8.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 8), extend("maxProperties" = 8), extend("additionalProperties" = {"type": "string", "minLength": 1, "maxLength": 255}))]
    pub extensions: BTreeMap<String, String>,
    /// How the certificate of the token server is verified. Default: by the public authorities that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// A SASL mechanism.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SaslMechanism {
    /// RFC 4616.
    Plain,
    /// RFC 5802 with SHA-256.
    ScramSha256,
    /// RFC 5802 with SHA-512.
    ScramSha512,
    /// RFC 7628: a token of an OAuth 2.0 server.
    OAuthBearer,
}

/// Queues of one virtual host. The backlog is their ready and unacknowledged messages, added up.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = exactly_one_of(&["queues", "queuePattern"]))]
#[x_kube(validation = Rule::new("!has(self.queueExcludePattern) || has(self.queuePattern)").message("queueExcludePattern needs queuePattern; leave the queue out of queues instead").field_path(".queueExcludePattern"))]
#[x_kube(validation = Rule::new("!has(self.queuePattern) || has(self.managementUrl)").message("queuePattern needs managementUrl, because AMQP cannot list queues").field_path(".queuePattern"))]
#[x_kube(validation = Rule::new("!has(self.deadLetterQueues) || has(self.managementUrl)").message("deadLetterQueues needs managementUrl, because AMQP does not count arrivals").field_path(".deadLetterQueues"))]
#[x_kube(validation = Rule::new("!has(self.vhost) || !self.vhost.matches('^%2[Ff]$')").message("vhost is the plain name of the virtual host: write / instead of %2F").field_path(".vhost"))]
#[x_kube(validation = Rule::new("!has(self.managementUrl) || !self.managementUrl.matches('/api/*$')").message("managementUrl is the address without /api: the operator appends /api and the rest").field_path(".managementUrl"))]
#[x_kube(validation = Rule::new("!has(self.managementUrl) || has(self.credentialsSecretRef)").message("managementUrl needs credentialsSecretRef").field_path(".managementUrl"))]
#[serde(rename_all = "camelCase")]
pub struct RabbitMq {
    /// Host name or address of the broker. A host without a dot is a Service in the QueueScaler's namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9._:-]+$"))]
    pub host: String,
    /// Port for AMQP, which is used while the management API does not answer. 1 to 65535. Default 5672, with tls 5671.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub amqp_port: Option<i32>,
    /// URL of the management API, http or https, without credentials. Recommended: without it only ready messages are
    /// seen, so readings are AtLeast and replicas are never removed. Needs credentialsSecretRef. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512), regex(pattern = r"^https?://[^@\s?#]+$"))]
    pub management_url: Option<String>,
    /// The virtual host. Default /.
    #[serde(default = "root_vhost")]
    #[schemars(length(min = 1, max = 255))]
    pub vhost: String,
    /// Names of the queues that the workload reads: classic or quorum queues. Exactly one of queues, queuePattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 255)), extend("x-kubernetes-list-type" = "set"))]
    pub queues: Option<Vec<String>>,
    /// A regular expression (syntax of the regex crate) that matches the whole name of a queue. Needs managementUrl.
    /// New queues are found within 30 s. Exactly one of queues, queuePattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub queue_pattern: Option<String>,
    /// A regular expression (syntax of the regex crate). Queues whose whole name matches are left out although
    /// queuePattern matches them: dead-letter and retry queues that the workload does not read. Default: none is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub queue_exclude_pattern: Option<String>,
    /// Queues of dead letters, besides those that the dead-letter exchanges of the queues lead to, which are found: how many
    /// messages there are and how many come is reported, and the built-in alert DeadLetters fires when some come. They are
    /// never consumed, and are no part of the backlog. A queue that does not exist is reported (DeadLettersUnknown). Needs
    /// managementUrl. At most 16. Default: those that are found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 255)), extend("x-kubernetes-list-type" = "set"))]
    pub dead_letter_queues: Option<Vec<String>>,
    /// The Secret with user and password for AMQP and the management API, in the same namespace.
    /// Default: RabbitMQ's default user guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<CredentialsSecretRef>,
    /// If present, even empty: connect to AMQP with TLS. An https managementUrl uses the same settings. Default: plain
    /// text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// Queues of ActiveMQ Classic, read through Jolokia. The backlog is their messages, in flight or not, of all brokers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("self.queues.all(queue, !queue.matches('[*?>,]'))").message("a queue name has no *, ?, > or comma: make each queue an item of its own, without options").field_path(".queues"))]
#[serde(rename_all = "camelCase")]
pub struct ActiveMq {
    /// URLs of the Jolokia agents, one for each broker whose messages the workload consumes, http or https, without
    /// credentials. Not a Service in front of several brokers. Their backlogs are added up. A URL without a path gets
    /// /api/jolokia. A host without a dot is a Service in the QueueScaler's namespace. At most 16.
    #[schemars(length(min = 1, max = 16), inner(length(min = 8, max = 512), regex(pattern = r"^https?://[^@\s?#]+$")), extend("x-kubernetes-list-type" = "set"))]
    pub jolokia_urls: Vec<String>,
    /// The name of the broker (brokerName), the same on all URLs. Default: the name that each broker reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub broker_name: Option<String>,
    /// Names of the queues that the workload reads. A virtual topic is a queue: Consumer.<name>.VirtualTopic.<topic>.
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 255)), extend("x-kubernetes-list-type" = "set"))]
    pub queues: Vec<String>,
    /// True counts a queue that no active broker has as empty, for queues that brokers delete when they are not in use.
    /// False keeps the replicas and reports the missing queue, because its name can be wrong. Default false.
    #[serde(default)]
    pub missing_queue_is_empty: bool,
    /// The value of the header Origin, which the agents compare with the allow-origin of jolokia-access.xml, such as
    /// http://activemq:8161. Default: scheme, host and port of the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512), regex(pattern = r"^https?://[^@\s/?#]+$"))]
    pub origin: Option<String>,
    /// The Secret with user and password for the agents, in the same namespace. Default: none are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<CredentialsSecretRef>,
    /// How an https URL is verified, and the certificate of the client. Default: the public authorities that the system
    /// trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// Queues of one address of Artemis, or of one address each, read through Jolokia. The backlog is their messages, in flight
/// or not and without those scheduled for later, of all brokers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("self.queues.all(queue, !queue.contains('::'))").message("a queue is its name alone: write the part before :: into address").field_path(".queues"))]
#[x_kube(validation = Rule::new("self.routingType != 'Multicast' || has(self.address)").message("routingType Multicast needs address, because the queues of an address with subscribers have names of their own").field_path(".address"))]
#[serde(rename_all = "camelCase")]
pub struct Artemis {
    /// URLs of the Jolokia agents, one for each broker whose messages the workload consumes, http or https, without
    /// credentials. Not a Service in front of several brokers. Their backlogs are added up; name backups too. A URL without
    /// a path gets /console/jolokia. A host without a dot is a Service in the QueueScaler's namespace. At most 16.
    #[schemars(length(min = 1, max = 16), inner(length(min = 8, max = 512), regex(pattern = r"^https?://[^@\s?#]+$")), extend("x-kubernetes-list-type" = "set"))]
    pub jolokia_urls: Vec<String>,
    /// The name of the broker (name in broker.xml), the same on all URLs. Default: the name that each broker reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub broker_name: Option<String>,
    /// Names of the queues that the workload reads. A durable subscription is a queue, named by client and subscription.
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 255)), extend("x-kubernetes-list-type" = "set"))]
    pub queues: Vec<String>,
    /// The address of the queues. Default: the name of each queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub address: Option<String>,
    /// Anycast for queues with competing consumers, Multicast for the queues of subscriptions, which needs address.
    /// Default Anycast.
    #[serde(default)]
    pub routing_type: RoutingType,
    /// True counts a queue that no active broker has as empty, for queues that brokers delete when they are empty
    /// (auto-delete-queues). False keeps the replicas and reports the missing queue, because its name can be wrong. Default
    /// false.
    #[serde(default)]
    pub missing_queue_is_empty: bool,
    /// The value of the header Origin, which the agents compare with the allow-origin of jolokia-access.xml, such as
    /// http://artemis:8161. Default: scheme, host and port of the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512), regex(pattern = r"^https?://[^@\s/?#]+$"))]
    pub origin: Option<String>,
    /// The Secret with user and password for the agents, in the same namespace. Default: none are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<CredentialsSecretRef>,
    /// How an https URL is verified, and the certificate of the client. Default: the public authorities that the system
    /// trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// How an address of Artemis routes messages to its queues.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RoutingType {
    /// Each message to one queue.
    #[default]
    Anycast,
    /// Each message to every queue.
    Multicast,
}

fn root_vhost() -> String {
    "/".into()
}

/// How a TLS connection is verified, and the certificate of the client.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// The Secret with the certificates (PEM) of the trusted authorities. Default: the public authorities that the
    /// system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// A Secret with the client's certificate and private key. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_secret_ref: Option<ClientCertificateSecretRef>,
    /// True accepts any certificate: anyone on the network path can read and change everything. The condition
    /// SourceObserved reports it. Default false.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// One key of a Secret of the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key in the Secret. Default ca.crt.
    #[serde(default = "ca_crt")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

fn ca_crt() -> String {
    "ca.crt".into()
}

/// A Secret of the same namespace with a client certificate and its private key. The keys default to those of the type
/// kubernetes.io/tls.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClientCertificateSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key of the certificate chain (PEM) in the Secret's data. Default tls.crt; Strimzi writes user.crt.
    #[serde(default = "tls_crt")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub certificate_key: String,
    /// Key of the private key (PEM) in the Secret's data. Default tls.key; Strimzi writes user.key.
    #[serde(default = "tls_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub private_key_key: String,
}

fn tls_crt() -> String {
    "tls.crt".into()
}

fn tls_key() -> String {
    "tls.key".into()
}

/// A Secret of the same namespace with a user and a password. The keys default to those of the type
/// kubernetes.io/basic-auth.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key of the user in the Secret. Default username.
    #[serde(default = "username")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub username_key: String,
    /// Key of the password in the Secret. Default password.
    #[serde(default = "password")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub password_key: String,
}

fn username() -> String {
    "username".into()
}

fn password() -> String {
    "password".into()
}
