//! The source of Pulsar, checked.

use std::fmt;
use std::sync::Arc;

use super::Invalid;
use super::source::{TlsRef, http_url, sorted};
use crate::api::{self, Batching, SubscriptionType, TokenSecretRef};

/// A Secret with a token.
pub type TokenRef = TokenSecretRef;

/// A Pulsar cluster and what is read of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PulsarSource {
    /// Base URLs of the admin API, sorted, with full host names, without a trailing slash. At least one.
    pub admin_urls: Vec<String>,
    /// Absent: no token is sent.
    pub token: Option<TokenRef>,
    /// How https is verified. Absent: by the authorities that the system trusts.
    pub tls: Option<TlsRef>,
    /// What is read.
    pub interest: PulsarInterest,
}

/// What a `QueueScaler` wants to know of a Pulsar cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PulsarInterest {
    /// The topics, sorted, without repetition, at least one.
    pub topics: Vec<TopicName>,
    /// The subscription, on each of them.
    pub subscription: String,
    /// How its consumers share messages, where the brokers do not report it.
    pub subscription_type: SubscriptionType,
    /// Whether messages are batched. Absent: not known.
    pub batching: Option<Batching>,
}

/// The name of a topic that is persistent. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

/// What all names of topics begin with.
const DOMAIN: &str = "persistent://";

impl TopicName {
    /// A topic by its full name, such as `persistent://public/default/orders`.
    ///
    /// # Errors
    /// It is no such name: what would be right.
    pub fn new(full: &str) -> Result<Self, String> {
        let way_out = || format!("\"{full}\" must be persistent://tenant/namespace/topic");
        let parts: Vec<&str> = full.strip_prefix(DOMAIN).ok_or_else(way_out)?.split('/').collect();
        // A URL reads a segment of one or two dots as another place.
        let usable = |part: &&str| {
            !matches!(*part, "" | "." | "..")
                && !part.contains(|it: char| it.is_control() || it.is_whitespace())
        };
        if parts.len() != 3 || !parts.iter().all(usable) {
            return Err(way_out());
        }
        let number = full.rsplit_once("-partition-").map(|(_, number)| number).unwrap_or_default();
        if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("\"{full}\" is one partition; name the topic without -partition-{number}"));
        }
        Ok(Self(full.into()))
    }

    /// Its full name.
    #[must_use]
    pub fn full(&self) -> &str {
        &self.0
    }

    /// Tenant, namespace and its name within that.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.strip_prefix(DOMAIN).unwrap_or_default().split('/')
    }

    /// Tenant and namespace, joined by a slash.
    #[must_use]
    pub fn namespace(&self) -> &str {
        let place = self.0.strip_prefix(DOMAIN).unwrap_or_default();
        place.rsplit_once('/').map_or(place, |(namespace, _)| namespace)
    }

    /// The full name of a partition.
    #[must_use]
    pub fn partition(&self, number: u32) -> String {
        format!("{}-partition-{number}", self.0)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn validate(given: &api::Pulsar, namespace: &str) -> Result<PulsarSource, Invalid> {
    let field = |name: &str| format!("spec.source.pulsar.{name}");
    let topics = sorted(Some(&given.topics));
    let topics = topics
        .iter()
        .map(|topic| TopicName::new(topic).map_err(|problem| Invalid::new(field("topics"), problem)))
        .collect::<Result<Vec<_>, _>>()?;
    if topics.is_empty() {
        return Err(Invalid::new(field("topics"), "at least one topic is needed"));
    }
    let subscription = &given.subscription;
    if subscription.is_empty() || subscription.contains(char::is_control) {
        let problem = "must not be empty, and has no control characters";
        return Err(Invalid::new(field("subscription"), problem));
    }
    Ok(PulsarSource {
        admin_urls: admin_urls(&field("adminUrls"), &given.admin_urls, namespace)?,
        token: given.token_secret_ref.clone(),
        tls: given.tls.clone(),
        interest: PulsarInterest {
            topics,
            subscription: subscription.clone(),
            subscription_type: given.subscription_type,
            batching: given.batching,
        },
    })
}

fn admin_urls(field: &str, given: &[String], namespace: &str) -> Result<Vec<String>, Invalid> {
    let urls = given.iter().enumerate().map(|(index, url)| {
        let field = format!("{field}[{index}]");
        let url = http_url(&field, url, namespace)?;
        let path = url.path().trim_end_matches('/');
        if path.ends_with("/admin") || path.ends_with("/admin/v2") {
            let problem = "is the address without /admin: the operator appends /admin/v2 and the rest";
            return Err(Invalid::new(field, problem));
        }
        Ok(url.as_str().trim_end_matches('/').to_owned())
    });
    let mut urls = urls.collect::<Result<Vec<_>, Invalid>>()?;
    urls.sort_unstable();
    urls.dedup();
    if urls.is_empty() {
        return Err(Invalid::new(field, "at least one URL is needed"));
    }
    Ok(urls)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::QueueScaler;
    use crate::plan::{Plan, Sharing, Source, validate};

    fn pulsar(changed: &Value) -> Value {
        let mut pulsar = json!({
            "adminUrls": ["http://pulsar:8080"], "topics": ["persistent://public/default/orders"],
            "subscription": "workers", "subscriptionType": "Shared",
        });
        pulsar.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        pulsar
    }

    fn plan(changed: &Value, spec: &Value) -> Result<Plan, Invalid> {
        let mut object = json!({"scaleTargetRef": {"name": "orders"}, "maxReplicas": 4,
                                "source": {"pulsar": pulsar(changed)}});
        object.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        validate(&QueueScaler::new("orders", serde_json::from_value(object).unwrap()), "shop")
    }

    fn source(changed: &Value) -> PulsarSource {
        match plan(changed, &json!({})).unwrap().source {
            Source::Pulsar(source) => source,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hosts_are_completed_and_topics_are_sorted() {
        let topics = ["persistent://t/n/b", "persistent://t/n/a", "persistent://t/n/b"];
        let urls = ["https://proxy.example:8443/pulsar/", "http://pulsar:8080", "http://pulsar:8080/"];
        let found = source(&json!({"topics": topics, "adminUrls": urls}));
        assert_eq!(found.admin_urls, ["http://pulsar.shop.svc:8080", "https://proxy.example:8443/pulsar"]);
        let names: Vec<_> = found.interest.topics.iter().map(TopicName::full).collect();
        assert_eq!(names, ["persistent://t/n/a", "persistent://t/n/b"]);
        assert_eq!((found.token, found.interest.batching), (None, None));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_field() {
        for (changed, field, words) in [
            (json!({"topics": ["orders"]}), "topics", "persistent://tenant"),
            (json!({"topics": ["non-persistent://t/n/a"]}), "topics", "persistent://tenant"),
            (json!({"topics": ["persistent://t/n/a/b"]}), "topics", "persistent://tenant"),
            (json!({"topics": ["persistent://t/n/.."]}), "topics", "persistent://tenant"),
            (json!({"topics": ["persistent://t/n/a\n"]}), "topics", "persistent://tenant"),
            (json!({"topics": ["persistent://t/n/a-partition-7"]}), "topics", "without -partition-7"),
            (json!({"topics": []}), "topics", "at least one"),
            (json!({"subscription": ""}), "subscription", "empty"),
            (json!({"adminUrls": ["http://a:1", "ftp://b"]}), "adminUrls[1]", "http"),
            (json!({"adminUrls": ["http://u:p@a:1"]}), "adminUrls[0]", "credentials"),
            (json!({"adminUrls": ["http://a:1/admin/v2/"]}), "adminUrls[0]", "without /admin"),
            (json!({"adminUrls": []}), "adminUrls", "at least one"),
        ] {
            let invalid = plan(&changed, &json!({})).unwrap_err();
            assert_eq!(invalid.field, format!("spec.source.pulsar.{field}"), "{changed}");
            assert!(invalid.problem.contains(words), "{invalid}");
        }
    }

    #[test]
    fn a_topic_may_be_named_like_part_of_a_partition() {
        for name in ["persistent://t/n/a-partition-", "persistent://t/n/a-partition-x", "persistent://t/n/1"]
        {
            assert_eq!(TopicName::new(name).unwrap().full(), name);
        }
        let topic = TopicName::new("persistent://t/n/a").unwrap();
        assert_eq!(topic.partition(3), "persistent://t/n/a-partition-3");
        assert_eq!((topic.namespace(), topic.segments().count()), ("t/n", 3));
    }

    #[test]
    fn any_consumer_may_get_any_message() {
        let source = plan(&json!({}), &json!({})).unwrap().source;
        assert_eq!((source.sharing(), source.broker()), (Sharing::Shared, "Pulsar"));
        assert_eq!(source.broker_address(), "http://pulsar.shop.svc:8080");
    }

    #[test]
    fn neither_probes_nor_drains_are_for_it() {
        let drain = json!({"emergencyDrain": {"whenEstimatedDrainAboveSeconds": 3600, "template": {}}});
        for (spec, field) in [(json!({"probe": {}}), "spec.probe"), (drain, "spec.emergencyDrain")] {
            assert_eq!(plan(&json!({}), &spec).unwrap_err().field, field);
        }
    }
}
