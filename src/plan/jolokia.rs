//! Sources that are read through Jolokia (ActiveMQ Classic, Artemis), checked.

use super::Invalid;
use super::source::{CredentialsRef, TlsRef, http_url, sorted};
use crate::api::{self, RoutingType};

/// Brokers with a Jolokia agent each, and what is read of them.
#[derive(Clone, Debug, PartialEq)]
pub struct JolokiaSource {
    /// URLs of the agents, with full host names and their path, without a trailing slash. At least one.
    pub urls: Vec<String>,
    /// Absent: each broker's own.
    pub broker_name: Option<String>,
    /// The header Origin. Absent: scheme, host and port of the URL.
    pub origin: Option<String>,
    /// Absent: none are sent.
    pub credentials: Option<CredentialsRef>,
    /// How https is verified. Absent: by the authorities that the system trusts.
    pub tls: Option<TlsRef>,
    /// What is read.
    pub interest: JolokiaInterest,
}

/// What a `QueueScaler` wants to know of such brokers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JolokiaInterest {
    /// The queues, sorted, without repetition, at least one.
    pub queues: Vec<QueuePlace>,
    /// A queue that no active broker has is empty.
    pub missing_is_empty: bool,
}

/// A queue and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueuePlace {
    /// Its name.
    pub name: String,
    /// Its address; the same as the name for ActiveMQ Classic, which has none.
    pub address: String,
    /// Its address routes every message to each of its queues.
    pub multicast: bool,
}

pub(super) fn activemq(given: &api::ActiveMq, namespace: &str) -> Result<JolokiaSource, Invalid> {
    let field = "spec.source.activemq";
    let queues = queues(field, &given.queues)?;
    // A wildcard, options of a client, or several destinations: none is the name of a queue.
    if let Some(name) = queues.iter().find(|name| name.contains(['*', '?', '>', ','])) {
        let problem = format!(
            "\"{name}\" has one of * ? > or a comma, which no queue name has; make each queue an item of its own, \
             without options"
        );
        return Err(Invalid::new(format!("{field}.queues"), problem));
    }
    let place = |name: String| QueuePlace { address: name.clone(), name, multicast: false };
    Ok(JolokiaSource {
        urls: urls(field, &given.jolokia_urls, "/api/jolokia", namespace)?,
        broker_name: given.broker_name.clone(),
        origin: given.origin.clone(),
        credentials: given.credentials_secret_ref.clone(),
        tls: given.tls.clone(),
        interest: JolokiaInterest {
            queues: queues.into_iter().map(place).collect(),
            missing_is_empty: given.missing_queue_is_empty,
        },
    })
}

pub(super) fn artemis(given: &api::Artemis, namespace: &str) -> Result<JolokiaSource, Invalid> {
    let field = "spec.source.artemis";
    let queues = queues(field, &given.queues)?;
    if let Some(name) = queues.iter().find(|name| name.contains("::")) {
        let problem = format!("\"{name}\" is an address and a queue; write the part before :: into address");
        return Err(Invalid::new(format!("{field}.queues"), problem));
    }
    let multicast = given.routing_type == RoutingType::Multicast;
    if multicast && given.address.is_none() {
        let problem = "is needed with routingType Multicast, because the queues of an address with subscribers have \
                       names of their own";
        return Err(Invalid::new(format!("{field}.address"), problem));
    }
    let place = |name: String| QueuePlace {
        address: given.address.clone().unwrap_or_else(|| name.clone()),
        name,
        multicast,
    };
    Ok(JolokiaSource {
        urls: urls(field, &given.jolokia_urls, "/console/jolokia", namespace)?,
        broker_name: given.broker_name.clone(),
        origin: given.origin.clone(),
        credentials: given.credentials_secret_ref.clone(),
        tls: given.tls.clone(),
        interest: JolokiaInterest {
            queues: queues.into_iter().map(place).collect(),
            missing_is_empty: given.missing_queue_is_empty,
        },
    })
}

fn queues(field: &str, given: &[String]) -> Result<Vec<String>, Invalid> {
    let field = format!("{field}.queues");
    let queues = sorted(Some(given));
    if queues.is_empty() || queues.iter().any(String::is_empty) {
        return Err(Invalid::new(field, "at least one queue is needed, and none without a name"));
    }
    if let Some(name) = queues.iter().find(|name| name.contains(char::is_control)) {
        return Err(Invalid::new(field, format!("{name:?} has a control character, remove it")));
    }
    Ok(queues)
}

fn urls(field: &str, given: &[String], path: &str, namespace: &str) -> Result<Vec<String>, Invalid> {
    let urls = given.iter().enumerate().map(|(index, url)| {
        let mut url = http_url(&format!("{field}.jolokiaUrls[{index}]"), url, namespace)?;
        if url.path() == "/" {
            url.set_path(path);
        }
        Ok(url.as_str().trim_end_matches('/').to_owned())
    });
    let mut urls = urls.collect::<Result<Vec<_>, Invalid>>()?;
    urls.sort_unstable();
    urls.dedup();
    if urls.is_empty() {
        return Err(Invalid::new(format!("{field}.jolokiaUrls"), "at least one URL is needed"));
    }
    Ok(urls)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::QueueScaler;
    use crate::plan::{Plan, Sharing, Source, validate};

    fn plan(source: &Value) -> Result<Plan, Invalid> {
        let spec = json!({"scaleTargetRef": {"name": "orders"}, "maxReplicas": 4, "source": source});
        validate(&QueueScaler::new("orders", serde_json::from_value(spec).unwrap()), "shop")
    }

    fn source(source: &Value) -> JolokiaSource {
        match plan(source).unwrap().source {
            Source::ActiveMq(source) | Source::Artemis(source) => source,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hosts_are_completed_and_a_missing_path_is_that_of_the_broker() {
        let urls = json!(["http://b:8161", "https://a.example:8443/jolokia/", "http://b:8161/"]);
        for (broker, path) in [("activemq", "/api/jolokia"), ("artemis", "/console/jolokia")] {
            let found = source(&json!({broker: {"jolokiaUrls": urls, "queues": ["b", "a", "b"]}}));
            let expected = [format!("http://b.shop.svc:8161{path}"), "https://a.example:8443/jolokia".into()];
            assert_eq!(found.urls, expected);
            let names: Vec<_> = found.interest.queues.iter().map(|queue| queue.name.as_str()).collect();
            assert_eq!(names, ["a", "b"]);
            assert!(!found.interest.missing_is_empty);
        }
    }

    #[test]
    fn queues_of_artemis_have_their_own_address_or_share_one() {
        let own = source(&json!({"artemis": {"jolokiaUrls": ["http://a:1"], "queues": ["orders"]}}));
        let place = |address: &str, name: &str, multicast| QueuePlace {
            name: name.into(),
            address: address.into(),
            multicast,
        };
        assert_eq!(own.interest.queues, [place("orders", "orders", false)]);
        let shared = source(&json!({"artemis": {
            "jolokiaUrls": ["http://a:1"], "queues": ["cid.sub"], "address": "news", "routingType": "Multicast",
        }}));
        assert_eq!(shared.interest.queues, [place("news", "cid.sub", true)]);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_field() {
        let activemq = |queue: &str| json!({"activemq": {"jolokiaUrls": ["http://a:1"], "queues": [queue]}});
        let artemis = |queue: &str| json!({"artemis": {"jolokiaUrls": ["http://a:1"], "queues": [queue]}});
        for (source, field) in [
            (activemq("orders.*"), "spec.source.activemq.queues"),
            (activemq("orders?prefetch=1"), "spec.source.activemq.queues"),
            (activemq("orders,returns"), "spec.source.activemq.queues"),
            (activemq("orders.>"), "spec.source.activemq.queues"),
            (activemq("orders\n"), "spec.source.activemq.queues"),
            (artemis("orders::orders"), "spec.source.artemis.queues"),
            (artemis(""), "spec.source.artemis.queues"),
            (
                json!({"artemis": {"jolokiaUrls": ["http://a:1"], "queues": ["s"], "routingType": "Multicast"}}),
                "spec.source.artemis.address",
            ),
            (
                json!({"artemis": {"jolokiaUrls": ["http://a:1", "http://u:p@b:1"], "queues": ["s"]}}),
                "spec.source.artemis.jolokiaUrls[1]",
            ),
            (
                json!({"activemq": {"jolokiaUrls": ["ftp://a:1"], "queues": ["s"]}}),
                "spec.source.activemq.jolokiaUrls[0]",
            ),
            (json!({"activemq": {"jolokiaUrls": [], "queues": ["s"]}}), "spec.source.activemq.jolokiaUrls"),
        ] {
            assert_eq!(plan(&source).unwrap_err().field, field, "{source}");
        }
    }

    #[test]
    fn any_consumer_may_get_any_message() {
        let source = json!({"artemis": {"jolokiaUrls": ["http://b:1", "http://A:1"], "queues": ["orders"]}});
        let source = plan(&source).unwrap().source;
        assert_eq!((source.sharing(), source.broker()), (Sharing::Shared, "Artemis"));
        let address = "http://a.shop.svc:1/console/jolokia,http://b.shop.svc:1/console/jolokia";
        assert_eq!(source.broker_address(), address);
    }

    #[test]
    fn neither_probes_nor_drains_are_for_them() {
        let spec = json!({
            "scaleTargetRef": {"name": "orders"}, "maxReplicas": 4, "probe": {},
            "source": {"activemq": {"jolokiaUrls": ["http://a:1"], "queues": ["orders"]}},
        });
        let object = QueueScaler::new("orders", serde_json::from_value(spec).unwrap());
        assert_eq!(validate(&object, "shop").unwrap_err().field, "spec.probe");
    }
}
