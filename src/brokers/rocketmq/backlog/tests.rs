//! Tables of readings. The traps are those of RocketMQ's answers, by their numbers.

use std::time::Duration;

use super::*;
use crate::brokers::rocketmq::ask::Members;

const TOPIC: &str = "orders";
const GROUP: &str = "workers";
const RETRIES: &str = "%RETRY%workers";

/// What the brokers of a cluster answer.
struct Scene {
    facts: Facts,
    interest: RocketMqInterest,
    memory: Memory,
    start: Now,
    seconds: u64,
}

impl Scene {
    /// Brokers a and b, with two queues each, in which nothing is stored, and no consumer.
    fn new() -> Self {
        let facts = Facts { routes: HashMap::new(), brokers: HashMap::new(), budget: Budget::default() };
        let interest = RocketMqInterest {
            topic: TOPIC.into(),
            group: GROUP.into(),
            consume_type: Some(ConsumeType::Pull),
            pop_invisible: None,
            brokers: None,
        };
        let start = Now { clock: "2026-11-29T12:00:00Z".parse().unwrap(), instant: Instant::now() };
        let mut scene = Self { facts, interest, memory: Memory::default(), start, seconds: 0 };
        scene.route(TOPIC, Some(&["a", "b"]));
        for topic in topics_of(&scene.interest).into_iter().skip(1) {
            scene.facts.routes.insert(topic, Ok(None));
        }
        for broker in ["a", "b"] {
            (0..2).for_each(|id| scene.queue(TOPIC, broker, id, 0, Commit::At(0), 0));
            scene.members(broker, &[]);
        }
        scene
    }

    fn declared(mut self, consume_type: Option<ConsumeType>) -> Self {
        self.interest.consume_type = consume_type;
        for topic in topics_of(&self.interest).into_iter().skip(1) {
            self.facts.routes.entry(topic).or_insert(Ok(None));
        }
        self
    }

    /// Two queues on each of these brokers. Absent: the name server knows no such topic.
    fn route(&mut self, topic: &str, brokers: Option<&[&str]>) {
        let part = |broker: &&str| Part {
            broker: (*broker).to_owned(),
            master: Some(format!("{broker}:10911")),
            queues: 2,
            readable: true,
        };
        let parts = brokers.map(|brokers| brokers.iter().map(part).collect());
        self.facts.routes.insert(topic.into(), Ok(parts));
    }

    fn broker(&mut self, broker: &str) -> &mut Found {
        let found =
            self.facts.brokers.entry(format!("{broker}:10911")).or_insert_with(|| Ok(Found::default()));
        found.as_mut().unwrap()
    }

    fn queue(&mut self, topic: &str, broker: &str, id: u32, start: i64, commit: Commit, end: i64) {
        let found = self.broker(broker);
        let queue: (Arc<str>, u32) = (topic.into(), id);
        found.topics.insert(topic.into(), Ok(()));
        found.starts.insert(queue.clone(), Ok(start));
        found.ends.insert(queue.clone(), Ok(end));
        found.commits.insert((GROUP.into(), queue), Ok(commit));
    }

    fn members(&mut self, broker: &str, clients: &[&str]) {
        let members = Members::new(clients.iter().copied(), false);
        self.broker(broker).members.insert(GROUP.into(), Ok(members));
    }

    fn fails(&mut self, broker: &str) {
        let problem = Problem::new(SourceReason::BrokerUnreachable, "cannot be reached");
        self.facts.brokers.insert(format!("{broker}:10911"), Err(problem));
    }

    fn read(&mut self) -> Reading {
        let passed = Duration::from_secs(self.seconds);
        let clock = self.start.clock + SignedDuration::try_from(passed).unwrap();
        let now = Now { clock, instant: self.start.instant + passed };
        reading(&self.interest, &mut self.memory, &self.facts, now)
    }

    fn known(&mut self) -> Backlog {
        match self.read() {
            Reading::Known(backlog) => backlog,
            other => panic!("{other:?}"),
        }
    }

    fn at_least(&mut self) -> (u64, Problem) {
        match self.read() {
            Reading::AtLeast(backlog, problem) => (backlog.messages, problem),
            other => panic!("{other:?}"),
        }
    }

    fn unknown(&mut self) -> Problem {
        match self.read() {
            Reading::Unknown(problem) => problem,
            other => panic!("{other:?}"),
        }
    }
}

const NEVER: Commit = Commit::Never { begins_at: None };

#[test]
fn queues_of_all_brokers_are_summed_and_cap_the_consumers() {
    let mut scene = Scene::new();
    assert_eq!(scene.known().messages, 0);
    scene.queue(TOPIC, "a", 0, 0, Commit::At(10), 30);
    scene.queue(TOPIC, "b", 1, 0, Commit::At(5), 10);
    // Each consumer is connected to both brokers.
    scene.members("a", &["one", "two"]);
    scene.members("b", &["two", "one"]);
    let backlog = scene.known();
    assert_eq!((backlog.messages, backlog.members, backlog.partitions()), (25, Some(2), Some(4)));
    assert_eq!((backlog.arrived, backlog.processed()), (Some(40), Some(15)));
}

#[test]
fn messages_that_wait_to_be_retried_count_and_do_not_raise_the_cap() {
    let mut scene = Scene::new();
    scene.route(RETRIES, Some(&["a"]));
    scene.queue(RETRIES, "a", 0, 0, NEVER, 5);
    scene.queue(RETRIES, "a", 1, 0, Commit::At(1), 2);
    let backlog = scene.known();
    assert_eq!((backlog.messages, backlog.partitions()), (6, Some(4)));
}

#[test]
fn a_retry_topic_that_is_deleted_is_empty_and_one_of_a_dead_broker_is_not() {
    let mut scene = Scene::new();
    scene.route(RETRIES, Some(&["a", "b"]));
    for (broker, id) in [("a", 0), ("a", 1), ("b", 0), ("b", 1)] {
        scene.queue(RETRIES, broker, id, 0, Commit::At(0), 1);
    }
    assert_eq!(scene.known().messages, 4);
    scene.route(RETRIES, Some(&["a"]));
    assert_eq!(scene.known().messages, 2);
    scene.route(RETRIES, None);
    assert_eq!(scene.known().messages, 0);
    scene.route(RETRIES, Some(&["a", "b"]));
    scene.known();
    scene.route(RETRIES, Some(&["a"]));
    scene.route(TOPIC, Some(&["a"]));
    assert_eq!(scene.at_least().0, 2);
}

#[test]
fn trap_2_offsets_of_a_topic_that_a_broker_does_not_have_count_for_nothing() {
    let mut scene = Scene::new();
    let problem = Problem::new(SourceReason::TopicNotFound, "broker b has no topic orders");
    scene.broker("b").topics.insert(TOPIC.into(), Err(problem));
    assert_eq!(scene.unknown().reason, SourceReason::TopicNotFound);
    scene.queue(TOPIC, "a", 0, 0, Commit::At(0), 7);
    assert_eq!(scene.at_least().0, 7);
}

#[test]
fn trap_4_popped_messages_may_be_in_progress() {
    let mut scene = Scene::new().declared(Some(ConsumeType::Pop));
    scene.queue(TOPIC, "a", 0, 0, Commit::At(200), 200);
    scene.members("a", &["one"]);
    let (messages, problem) = scene.at_least();
    assert_eq!((messages, problem.reason), (0, SourceReason::PartialObservation));
    // The consumer is killed; until its invisible time is over nothing shows its messages.
    scene.members("a", &[]);
    scene.seconds = 74;
    assert_eq!(scene.at_least().0, 0);
    scene.seconds = 75;
    let retries = "%RETRY%workers_orders";
    scene.route(retries, Some(&["a"]));
    scene.queue(retries, "a", 0, 0, NEVER, 62);
    scene.queue(retries, "a", 1, 0, NEVER, 0);
    let backlog = scene.known();
    assert_eq!((backlog.messages, backlog.useful_consumers()), (62, None));
    assert!(backlog.shared().is_some());
}

#[test]
fn how_messages_are_consumed_is_found_and_kept() {
    let mut scene = Scene::new().declared(None);
    let subscription = || (Arc::from(GROUP), Arc::from(TOPIC));
    assert!(scene.at_least().1.message.contains("set consumeType"));
    scene.members("a", &["one"]);
    let denied = Problem::new(SourceReason::AuthorizationFailed, "no right Sub");
    scene.broker("a").modes.insert(subscription(), Err(denied));
    assert!(scene.at_least().1.message.contains("no right Sub"));
    scene.broker("a").modes.insert(subscription(), Ok(ConsumeType::Pull));
    assert_eq!(scene.known().partitions(), Some(4));
    scene.broker("a").modes.clear();
    scene.members("a", &[]);
    scene.known();
    scene.members("a", &["one"]);
    scene.broker("a").modes.insert(subscription(), Ok(ConsumeType::Pop));
    assert_eq!(scene.at_least().0, 0);
}

#[test]
fn without_a_consumer_for_a_minute_nothing_is_in_progress() {
    let mut scene = Scene::new().declared(None);
    assert_eq!(scene.at_least().0, 0);
    scene.seconds = 75;
    assert_eq!(scene.known().messages, 0);
}

#[test]
fn trap_5_a_broker_that_leaves_the_route_is_missing() {
    let mut scene = Scene::new();
    scene.queue(TOPIC, "a", 0, 0, Commit::At(0), 80);
    scene.queue(TOPIC, "b", 0, 0, Commit::At(0), 80);
    assert_eq!(scene.known().messages, 160);
    scene.route(TOPIC, Some(&["a"]));
    let (messages, problem) = scene.at_least();
    assert_eq!((messages, problem.reason), (80, SourceReason::PartialObservation));
    assert!(problem.message.contains("broker b is not in the route"), "{problem}");
    scene.queue(TOPIC, "a", 0, 0, Commit::At(80), 80);
    scene.unknown();
    // The only one that is left: as a topic that never existed.
    scene.route(TOPIC, None);
    assert_eq!(scene.unknown().reason, SourceReason::PartialObservation);
    scene.route(TOPIC, Some(&["a", "b"]));
    assert_eq!(scene.known().messages, 80);
}

#[test]
fn trap_5_declared_brokers_are_expected_from_the_first_reading_on() {
    let mut scene = Scene::new();
    scene.route(TOPIC, Some(&["a"]));
    assert_eq!(scene.known().messages, 0);
    scene.interest.brokers = Some(vec!["a".into(), "b".into()]);
    assert!(scene.unknown().message.contains("or correct brokers"));
    scene.route(TOPIC, Some(&["a", "b"]));
    scene.known();
    // A broker that was removed for good is no longer declared.
    scene.interest.brokers = Some(vec!["a".into()]);
    scene.route(TOPIC, Some(&["a"]));
    scene.known();
}

#[test]
fn a_topic_that_was_never_seen_does_not_exist() {
    let mut scene = Scene::new();
    scene.route(TOPIC, None);
    let problem = scene.unknown();
    assert_eq!(problem.reason, SourceReason::TopicNotFound);
    assert!(problem.message.contains("or all brokers that have it are down"), "{problem}");
}

#[test]
fn a_broker_that_does_not_answer_is_missing() {
    let mut scene = Scene::new();
    scene.queue(TOPIC, "a", 1, 0, Commit::At(3), 9);
    scene.fails("b");
    let (messages, problem) = scene.at_least();
    assert_eq!((messages, problem.reason), (6, SourceReason::BrokerUnreachable));
    scene.queue(TOPIC, "a", 1, 0, Commit::At(9), 9);
    assert_eq!(scene.unknown().reason, SourceReason::BrokerUnreachable);
}

#[test]
fn a_broker_without_a_master_or_without_the_right_to_read_is_missing() {
    for (change, words) in [
        ((|part: &mut Part| part.master = None) as fn(&mut Part), "no master"),
        ((|part: &mut Part| part.readable = false) as fn(&mut Part), "updateTopicPerm"),
    ] {
        let mut scene = Scene::new();
        let route = scene.facts.routes.get_mut(TOPIC).unwrap().as_mut().unwrap().as_mut().unwrap();
        change(&mut route[1]);
        assert!(scene.unknown().message.contains(words));
    }
}

#[test]
fn trap_6_a_queue_without_a_commit_is_not_empty() {
    let mut scene = Scene::new();
    scene.queue(TOPIC, "a", 0, 4, NEVER, 30);
    let problem = scene.unknown();
    assert_eq!(problem.reason, SourceReason::StatsUnavailable);
    assert!(
        problem.message.contains("committed no offset in queue 0 of topic orders on broker a"),
        "{problem}"
    );
    scene.queue(TOPIC, "b", 0, 0, Commit::At(2), 9);
    assert_eq!(scene.at_least().0, 7);
}

#[test]
fn trap_7_a_group_that_was_never_seen_begins_at_the_first_message() {
    let mut scene = Scene::new();
    scene.queue(TOPIC, "a", 0, 0, Commit::Never { begins_at: Some(0) }, 30);
    assert_eq!(scene.known().messages, 30);
}

#[test]
fn commits_that_are_gone_or_beyond_the_end_are_named() {
    let mut scene = Scene::new();
    scene.queue(TOPIC, "a", 0, 4, Commit::At(9), 30);
    assert_eq!(scene.known().messages, 21);
    scene.queue(TOPIC, "a", 0, 4, NEVER, 30);
    assert_eq!(scene.unknown().reason, SourceReason::OffsetsVanished);
    scene.queue(TOPIC, "a", 0, 0, Commit::At(9), 3);
    assert_eq!(scene.unknown().reason, SourceReason::OffsetAheadOfLog);
}

#[test]
fn messages_that_were_deleted_before_they_were_consumed_are_noted() {
    let mut scene = Scene::new();
    scene.queue(TOPIC, "a", 0, 40, Commit::At(25), 60);
    let backlog = scene.known();
    assert_eq!((backlog.messages, backlog.notes), (20, vec![Note::BacklogExpired { messages: 15 }]));
}

#[test]
fn trap_8_broadcasting_is_refused_with_the_way_out() {
    let mut scene = Scene::new();
    let members = Members::new(["one"].into_iter(), true);
    scene.broker("a").members.insert(GROUP.into(), Ok(members));
    scene.members("b", &[]);
    let problem = scene.unknown();
    assert_eq!(problem.reason, SourceReason::BroadcastingNotSupported);
    assert!(problem.message.contains("CLUSTERING"), "{problem}");
    // Nobody is connected, and nothing was ever committed.
    scene.members("a", &[]);
    assert_eq!(scene.unknown().reason, SourceReason::BroadcastingNotSupported);
    scene.members("a", &["two"]);
    scene.known();
}

#[test]
fn the_age_of_the_next_message_is_that_of_a_committed_offset() {
    let mut scene = Scene::new();
    for (broker, id, commit) in [("a", 0, Commit::At(3)), ("a", 1, Commit::Never { begins_at: Some(0) })] {
        scene.queue(TOPIC, broker, id, 0, commit, 9);
    }
    let ages = HashMap::from([(0, 90_000), (1, 1_795_978_603_687)]);
    scene.broker("a").ages.insert((GROUP.into(), TOPIC.into()), ages);
    let dated = scene.known().dated;
    assert_eq!(dated.len(), 1);
    assert_eq!((dated[0].partition, dated[0].offset, dated[0].certain), (0, 3, true));
    assert_eq!(dated[0].written.to_string(), "2026-11-29T11:58:30Z");
    scene.interest.consume_type = Some(ConsumeType::Pop);
    scene = scene.declared(Some(ConsumeType::Pop));
    let Reading::AtLeast(backlog, _) = scene.read() else { panic!() };
    assert_eq!(
        (backlog.dated[0].written.to_string(), backlog.dated[0].certain),
        ("2026-11-29T11:58:30Z".into(), false)
    );
}

#[test]
fn members_are_unknown_only_if_no_broker_reports_them() {
    let mut scene = Scene::new();
    let denied = || Err(Problem::new(SourceReason::AuthorizationFailed, "denied"));
    scene.broker("a").members.insert(GROUP.into(), denied());
    scene.members("b", &["one"]);
    assert_eq!(scene.known().members, Some(1));
    scene.broker("b").members.insert(GROUP.into(), denied());
    assert_eq!(scene.known().members, None);
}

#[test]
fn more_queues_than_the_budget_are_refused() {
    let mut scene = Scene::new();
    scene.facts.budget.partitions = 3;
    assert_eq!(scene.unknown().reason, SourceReason::BudgetExceeded);
}
