//! Which brokers have a topic, as a name server answers. Pure.

use std::collections::HashMap;

use serde::Deserialize;

/// `brokerId` of a master. Consumers commit there.
const MASTER: &str = "0";
/// Right to read, of `perm` (`PermName`).
const READ: u32 = 4;

/// One broker that has the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Name of the broker (`brokerName`).
    pub(super) broker: String,
    /// `host:port` of the master. Absent: it is down.
    pub(super) master: Option<String>,
    /// Queues that consumers read.
    pub(super) queues: u32,
    /// Whether consumers are allowed to read them.
    pub(super) readable: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Route {
    broker_datas: Vec<BrokerData>,
    queue_datas: Vec<QueueData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BrokerData {
    broker_name: String,
    broker_addrs: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueueData {
    broker_name: String,
    read_queue_nums: u32,
    perm: u32,
}

/// The brokers of a route, sorted by name. Absent: it is no route.
pub(super) fn parts(body: &[u8]) -> Option<Vec<Part>> {
    let route: Route = serde_json::from_slice(body).ok()?;
    let mut masters: HashMap<_, _> = route
        .broker_datas
        .into_iter()
        .map(|mut broker| (broker.broker_name, broker.broker_addrs.remove(MASTER)))
        .collect();
    let parts = route.queue_datas.into_iter().map(|queues| Part {
        master: masters.remove(&queues.broker_name).flatten(),
        broker: queues.broker_name,
        queues: queues.read_queue_nums,
        readable: queues.perm & READ != 0,
    });
    let mut parts: Vec<_> = parts.collect();
    parts.sort_by(|one, other| one.broker.cmp(&other.broker));
    parts.dedup_by(|one, other| one.broker == other.broker);
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_route_is_read() {
        let body = br#"{"brokerDatas":[{"brokerAddrs":{"0":"10.213.0.1:24429"},"brokerName":"broker-1","cluster":"reader","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-1","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":4}]}"#;
        let part = Part {
            broker: "broker-1".into(),
            master: Some("10.213.0.1:24429".into()),
            queues: 4,
            readable: true,
        };
        assert_eq!(parts(body), Some(vec![part]));
    }

    #[test]
    fn a_broker_without_a_master_or_the_right_to_read_is_seen() {
        let body = br#"{"brokerDatas":[{"brokerAddrs":{"1":"h:1"},"brokerName":"b"},{"brokerAddrs":{"0":"h:2"},"brokerName":"a"}],
            "queueDatas":[{"brokerName":"b","perm":4,"readQueueNums":2},{"brokerName":"a","perm":2,"readQueueNums":1}]}"#;
        let found = parts(body).unwrap();
        assert_eq!((found[0].broker.as_str(), found[0].readable), ("a", false));
        assert_eq!((found[1].master.as_ref(), found[1].queues), (None, 2));
        for other in ["{}", "[]", "", r#"{"brokerDatas":[],"queueDatas":[{}]}"#] {
            assert_eq!(parts(other.as_bytes()), None, "{other}");
        }
    }
}
