//! The source of RocketMQ: a topic, its consumer group, and how the operator reaches name servers and brokers.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CredentialsSecretRef, Tls};

/// A consumer group and the topic that it reads. The backlog is what the group has not consumed, of all brokers that have
/// the topic, with the messages that wait to be retried.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("!self.topic.startsWith('%RETRY%')").message("topic is the one that the group subscribes to: its retry topics are read with it").field_path(".topic"))]
#[x_kube(validation = Rule::new("!has(self.popInvisibleSeconds) || (has(self.consumeType) && self.consumeType == 'Pop')").message("popInvisibleSeconds needs consumeType Pop").field_path(".popInvisibleSeconds"))]
#[serde(rename_all = "camelCase")]
pub struct RocketMq {
    /// Addresses of the name servers of one cluster, as host:port. The first that answers is used; it names the brokers. A
    /// host without a dot is a Service in the QueueScaler's namespace. At most 16.
    #[schemars(length(min = 1, max = 16), inner(length(min = 3, max = 260), regex(pattern = r"^[^\s,;/@]+:[0-9]{1,5}$")), extend("x-kubernetes-list-type" = "set"))]
    pub name_servers: Vec<String>,
    /// The topic that the workload reads.
    #[schemars(length(min = 1, max = 127), regex(pattern = r"^[%|A-Za-z0-9_-]+$"))]
    pub topic: String,
    /// The consumer group of the workload, which consumes in the model CLUSTERING. Broadcasting is refused: every replica
    /// gets every message, so that more replicas do not help.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[%|A-Za-z0-9_-]+$"))]
    pub consumer_group: String,
    /// How the consumers get messages. Pull, also by push consumers: each queue has one consumer, and no more replicas are
    /// requested than there are queues. Pop, also by clients of a proxy (gRPC): any consumer gets any message, and the
    /// messages in progress are not reported. Default: found while a consumer is connected, which needs the right Sub; until
    /// then nothing is taken for empty that may be in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consume_type: Option<ConsumeType>,
    /// Longest time in seconds for which a message that was popped is invisible to other consumers. With it, readings are
    /// complete when no message was popped for so long, although consumers are connected. It must not be shorter than what
    /// consumers set. Needs consumeType Pop. Default: readings are lower bounds while a consumer is connected, and for 75 s
    /// after, so that no replicas are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 5, max = 43_200))]
    pub pop_invisible_seconds: Option<i32>,
    /// Names (brokerName) of the brokers that have the topic. A broker that is down disappears from the name servers, with its
    /// messages: one of these that is missing makes readings lower bounds. Default: the brokers that were seen since the
    /// operator began to read the source. At most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 255)), extend("x-kubernetes-list-type" = "set"))]
    pub brokers: Option<Vec<String>>,
    /// The Secret with access key (as the user) and secret key (as the password) for the brokers, in the same namespace.
    /// Requests are signed; the secret key is not sent. Default: requests are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<CredentialsSecretRef>,
    /// If present, even empty: connect to name servers and brokers with TLS. Default: plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// How consumers of RocketMQ get messages.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConsumeType {
    /// Each queue has one consumer of the group, which reads on from an offset.
    Pull,
    /// Any consumer gets any message, and acknowledges each.
    Pop,
}
