//! What a broker reports of its own statistics: whether it counts messages, and how often it renews its numbers. Pure.
//!
//! The interval (`collect_statistics_interval`, and the sampling of the management plugin behind it) has no field in
//! the management API. But a node computes its uptime whenever it emits its statistics (`emit_update` of
//! `rabbit_mgmt_external_stats.erl`), and the API repeats it until the next time: the steps of the uptime are the
//! interval.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::answer::Failure;
use super::json::{Value, Visitor};

/// Time between two questions about settings that only a restart of the broker changes.
const SETTINGS_PERIOD: Duration = Duration::from_secs(600);
/// Steps of a node's uptime that must be seen: one may have been missed between two polls.
const FEWEST_STEPS: u32 = 3;
/// Longest interval that is believed.
const LONGEST_INTERVAL: Duration = Duration::from_secs(600);
/// Nodes that are looked at.
const MOST_NODES: usize = 64;

/// What `/api/overview` reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Overview {
    /// Messages are counted, in total or in detail. Absent: not reported.
    pub counts_messages: Option<bool>,
    /// No numbers of queues are collected.
    pub disabled: bool,
}

impl Visitor for Overview {
    fn value(&mut self, path: &str, value: Value<'_>) -> Result<(), Failure> {
        match (path, value) {
            ("rates_mode", Value::Text(mode)) => self.counts_messages = Some(mode != "none"),
            ("disable_stats", Value::Boolean(disabled)) => self.disabled = disabled,
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, _: &str) -> Result<(), Failure> {
        Ok(())
    }
}

/// The uptimes that `/api/nodes` reports, in milliseconds, by node.
#[derive(Debug, Default)]
pub(super) struct Uptimes {
    nodes: Vec<(String, u64)>,
    name: Option<String>,
    uptime: Option<u64>,
}

impl Visitor for Uptimes {
    fn value(&mut self, path: &str, value: Value<'_>) -> Result<(), Failure> {
        match (path, value) {
            ("[].name", Value::Text(name)) => self.name = Some(name.to_owned()),
            ("[].uptime", uptime) => self.uptime = uptime.count(),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, path: &str) -> Result<(), Failure> {
        if path == "[]"
            && let (Some(name), Some(uptime)) = (self.name.take(), self.uptime.take())
            && self.nodes.len() < MOST_NODES
        {
            self.nodes.push((name, uptime));
        }
        Ok(())
    }
}

/// What is known of a broker's statistics.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    pub overview: Overview,
    overview_due: Option<Instant>,
    uptimes_due: Option<Instant>,
    nodes: HashMap<String, Node>,
    interval: Option<Duration>,
}

#[derive(Debug)]
struct Node {
    uptime: u64,
    steps: u32,
    shortest: u64,
}

impl Statistics {
    /// Whether `/api/overview` should be asked.
    pub(super) fn wants_overview(&self, now: Instant) -> bool {
        self.overview_due.is_none_or(|due| due <= now)
    }

    /// Whether `/api/nodes` should be asked.
    pub(super) fn wants_uptimes(&self, now: Instant) -> bool {
        self.uptimes_due.is_none_or(|due| due <= now)
    }

    /// Takes the answer, or that there was none.
    pub(super) fn take_overview(&mut self, answer: Option<Overview>, now: Instant) {
        self.overview_due = Some(now + SETTINGS_PERIOD);
        // Its earlier answer holds if it does not answer now.
        self.overview = answer.unwrap_or(self.overview);
    }

    /// The same of the uptimes. Only users with the tag monitoring can read them.
    pub(super) fn take_uptimes(&mut self, answer: Option<Uptimes>, now: Instant) {
        let Some(Uptimes { nodes, .. }) = answer else {
            self.uptimes_due = Some(now + SETTINGS_PERIOD);
            return;
        };
        if nodes.iter().any(|(name, uptime)| self.nodes.get(name).is_some_and(|node| *uptime < node.uptime)) {
            // A node was restarted, perhaps for another interval.
            self.nodes.clear();
            self.interval = None;
        }
        for (name, uptime) in nodes {
            let node = self.nodes.entry(name).or_insert(Node { uptime, steps: 0, shortest: u64::MAX });
            if let Some(step) = uptime.checked_sub(node.uptime).filter(|step| *step > 0) {
                node.shortest = node.shortest.min(step);
                node.steps = node.steps.saturating_add(1);
                node.uptime = uptime;
            }
        }
        if self.interval.is_none()
            && !self.nodes.is_empty()
            && self.nodes.values().all(|node| node.steps >= FEWEST_STEPS)
        {
            // Each node renews the numbers of its own queues.
            let longest = self.nodes.values().map(|node| Duration::from_millis(node.shortest)).max();
            self.interval = longest.map(|interval| interval.min(LONGEST_INTERVAL));
        }
        self.uptimes_due = Some(if self.interval.is_some() { now + SETTINGS_PERIOD } else { now });
    }

    /// Time between two numbers of a queue. Two readings that are less apart can be of the same number. Absent: not
    /// known.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::rabbitmq::json::Document;

    fn read<V: Visitor + Default>(json: &str) -> V {
        let (mut document, mut visitor) = (Document::new(), V::default());
        document.feed(json.as_bytes(), &mut visitor).unwrap();
        document.finish(&mut visitor).unwrap();
        visitor
    }

    #[test]
    fn the_overview_reports_whether_messages_are_counted() {
        for (json, counts_messages, disabled) in [
            (r#"{"rates_mode":"basic","disable_stats":false}"#, Some(true), false),
            (r#"{"rates_mode":"detailed"}"#, Some(true), false),
            (r#"{"rates_mode":"none","disable_stats":true}"#, Some(false), true),
            (r#"{"object_totals":{"rates_mode":"none"}}"#, None, false),
        ] {
            assert_eq!(read::<Overview>(json), Overview { counts_messages, disabled }, "{json}");
        }
    }

    /// Asks every `period` seconds a node that renews its numbers every `interval`: the interval found, and after how
    /// many seconds.
    fn learned(period: u64, interval: u64, seconds: u64) -> Option<(u64, u64)> {
        let (mut statistics, now) = (Statistics::default(), Instant::now());
        for second in (0..seconds).step_by(usize::try_from(period).unwrap()) {
            let uptime = (1_000_003 + second) / interval * interval * 1000;
            let answer =
                format!(r#"[{{"name":"rabbit@a","uptime":{uptime}}},{{"name":"rabbit@b","running":false}}]"#);
            statistics.take_uptimes(Some(read(&answer)), now + Duration::from_secs(second));
            if let Some(interval) = statistics.interval() {
                return Some((interval.as_secs(), second));
            }
        }
        None
    }

    #[test]
    fn the_interval_is_the_shortest_step_of_an_uptime() {
        assert_eq!(learned(5, 5, 100).map(|it| it.0), Some(5));
        assert_eq!(learned(5, 60, 400).map(|it| it.0), Some(60));
        assert_eq!(learned(1, 5, 100).map(|it| it.0), Some(5));
        assert_eq!(learned(7, 30, 400).map(|it| it.0), Some(30));
        assert_eq!(learned(5, 60, 120), None, "two steps are too few");
    }

    #[test]
    fn a_restarted_node_is_measured_again() {
        let (mut statistics, now) = (Statistics::default(), Instant::now());
        let mut observe = |uptimes: &[u64]| {
            for uptime in uptimes {
                let answer = format!(r#"[{{"name":"rabbit@a","uptime":{uptime}}}]"#);
                statistics.take_uptimes(Some(read(&answer)), now);
            }
            statistics.interval()
        };
        assert_eq!(observe(&[100_000, 105_000, 110_000, 115_000]), Some(Duration::from_secs(5)));
        assert_eq!(observe(&[1000]), None);
        assert_eq!(observe(&[21_000, 41_000, 61_000]), Some(Duration::from_secs(20)));
    }

    #[test]
    fn questions_are_repeated_rarely_whether_they_are_answered_or_not() {
        let (mut statistics, now) = (Statistics::default(), Instant::now());
        assert!(statistics.wants_overview(now) && statistics.wants_uptimes(now));
        let overview = Overview { counts_messages: Some(false), disabled: false };
        for answer in [Some(overview), None] {
            statistics.take_overview(answer, now);
            statistics.take_uptimes(None, now);
            assert_eq!(statistics.overview, overview);
            let soon = now + SETTINGS_PERIOD / 2;
            assert!(!statistics.wants_overview(soon) && !statistics.wants_uptimes(soon));
            let later = now + SETTINGS_PERIOD;
            assert!(statistics.wants_overview(later) && statistics.wants_uptimes(later));
        }
    }
}
