//! The source of Pulsar: topics, their subscription, and how the operator reaches the brokers' admin API.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Tls;

/// A subscription of Pulsar topics, read through the admin API. The backlog is what the subscription has not acknowledged,
/// of all topics and partitions, without messages that are delayed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("self.adminUrls.all(url, !url.matches('/admin(/v[0-9]+)?/*$'))").message("an item of adminUrls is the address without /admin: the operator appends /admin/v2 and the rest").field_path(".adminUrls"))]
#[x_kube(validation = Rule::new("self.topics.all(topic, !topic.matches('-partition-[0-9]+$'))").message("name the topic without -partition- and the number: all its partitions are read").field_path(".topics"))]
#[serde(rename_all = "camelCase")]
pub struct Pulsar {
    /// URLs of the admin API (webServiceUrl) of brokers or proxies of one cluster, http or https, without credentials. One
    /// is read at a time, and another if that does not answer. A redirect to the broker that has a topic is followed to the
    /// hosts of these URLs and to their subdomains, as the pods of a headless Service have, with the same scheme and port. A
    /// host without a dot is a Service in the QueueScaler's namespace. At most 16.
    #[schemars(length(min = 1, max = 16), inner(length(min = 8, max = 512), regex(pattern = r"^https?://[^@\s?#]+$")), extend("x-kubernetes-list-type" = "set"))]
    pub admin_urls: Vec<String>,
    /// Full names of the topics that the workload reads, such as persistent://public/default/orders. All partitions are
    /// read, and counted against the number that the topic has. At most 256.
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 512), regex(pattern = r"^persistent://[-=:.\w]+/[-=:.\w]+/[^/\s]+$")), extend("x-kubernetes-list-type" = "set"))]
    pub topics: Vec<String>,
    /// The subscription of the workload, the same on all topics. It must exist: create it before the first consumer
    /// connects, if replicas start at zero.
    #[schemars(length(min = 1, max = 255))]
    pub subscription: String,
    /// The type that the consumers subscribe with. It bounds the replicas that are useful: Exclusive 1, Failover one for
    /// each partition, Shared and KeyShared any number. Pulsar reports it only while a consumer is connected; a type that it
    /// reports is used instead.
    pub subscription_type: SubscriptionType,
    /// Whether producers batch messages. Pulsar counts batches, not messages. Disabled: each counts as one message. Enabled:
    /// messages are estimated, by the average number of messages in a batch that connected consumers report. Default: not
    /// known; readings are complete while the backlog is empty or connected consumers report one message in each batch, and
    /// otherwise a lower bound, with which no replicas are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batching: Option<Batching>,
    /// The Secret with a token (JSON Web Token) for the admin API, in the same namespace. Its role needs the permission
    /// consume on the topics. Default: none is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<TokenSecretRef>,
    /// How an https URL is verified, and the certificate of the client. Default: the public authorities that the system
    /// trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// How the consumers of a subscription of Pulsar share its messages.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscriptionType {
    /// Only one consumer can subscribe.
    Exclusive,
    /// One consumer gets the messages of a partition, the others wait.
    Failover,
    /// Any consumer gets any message.
    Shared,
    /// Any consumer gets messages, those with the same key all to the same.
    KeyShared,
}

/// Whether producers send several messages as one.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Batching {
    /// No producer batches messages.
    Disabled,
    /// Producers may batch messages.
    Enabled,
}

/// A Secret of the same namespace with a token.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct TokenSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key of the token in the Secret. Default token.
    #[serde(default = "token")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

fn token() -> String {
    "token".into()
}
