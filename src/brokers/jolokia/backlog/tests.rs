use super::*;

fn place(name: &str) -> QueuePlace {
    QueuePlace { name: name.into(), address: name.into(), multicast: false }
}

fn interest(names: &[&str]) -> JolokiaInterest {
    JolokiaInterest { queues: names.iter().map(|name| place(name)).collect(), missing_is_empty: false }
}

fn counts(messages: u64, arrived: u64, processed: u64) -> Counts {
    Counts {
        messages,
        arrived: Some(arrived),
        processed: Some(processed),
        consumers: Some(2),
        ..Counts::default()
    }
}

/// A broker that has run for so many seconds, with these queues.
fn broker(uptime: u64, queues: &[(&str, Finding)]) -> Result<Seen, Problem> {
    let queues = queues.iter().map(|(name, finding)| (place(name), finding.clone())).collect();
    Ok(Seen { uptime: Some(Duration::from_secs(uptime)), queues: Some(queues) })
}

fn with(messages: u64) -> Finding {
    Finding::Counted(counts(messages, messages, 0))
}

fn silent() -> Result<Seen, Problem> {
    Err(Problem::new(SourceReason::BrokerUnreachable, "mq-1 does not answer"))
}

fn backup() -> Result<Seen, Problem> {
    Ok(Seen { uptime: None, queues: None })
}

/// The first reading.
fn first(interest: &JolokiaInterest, brokers: &[Result<Seen, Problem>]) -> Reading {
    reading(interest, &mut Memory::default(), brokers, (Instant::now(), Timestamp::UNIX_EPOCH))
}

fn known(reading: &Reading) -> u64 {
    match reading {
        Reading::Known(backlog) => backlog.messages,
        other => panic!("{other:?}"),
    }
}

fn reason(reading: &Reading) -> SourceReason {
    reading.problem().unwrap().reason
}

#[test]
fn queues_and_brokers_add_up() {
    let interest = interest(&["a", "b"]);
    let brokers =
        [broker(9, &[("a", with(3)), ("b", with(4))]), broker(9, &[("a", with(5)), ("b", with(0))])];
    let reading = first(&interest, &brokers);
    assert_eq!(known(&reading), 12);
    assert_eq!(reading.backlog().unwrap().members, Some(8));
}

#[test]
fn a_queue_that_one_broker_lacks_is_empty_there() {
    let brokers = [broker(9, &[("a", with(3))]), broker(9, &[("a", Finding::Missing)])];
    assert_eq!(known(&first(&interest(&["a"]), &brokers)), 3);
}

#[test]
fn a_silent_broker_is_at_least_and_never_zero() {
    let some = first(&interest(&["a"]), &[broker(9, &[("a", with(3))]), silent()]);
    assert!(matches!(&some, Reading::AtLeast(backlog, _) if backlog.messages == 3), "{some:?}");
    assert_eq!(reason(&some), SourceReason::BrokerUnreachable);
    for missing_is_empty in [false, true] {
        let interest = JolokiaInterest { missing_is_empty, ..interest(&["a"]) };
        for rest in [with(0), Finding::Missing] {
            let none = first(&interest, &[broker(9, &[("a", rest)]), silent()]);
            assert!(matches!(none, Reading::Unknown(_)), "{none:?}");
            assert_eq!(reason(&none), SourceReason::BrokerUnreachable);
        }
    }
}

#[test]
fn a_missing_queue_is_unknown_unless_it_counts_as_empty() {
    let missing = [broker(9, &[("a", Finding::Missing)])];
    let reading = first(&interest(&["a"]), &missing);
    assert!(matches!(reading, Reading::Unknown(_)), "{reading:?}");
    assert_eq!(reason(&reading), SourceReason::QueueNotFound);
    assert!(reading.problem().unwrap().message.contains("missingQueueIsEmpty"));
    let declared = JolokiaInterest { missing_is_empty: true, ..interest(&["a"]) };
    assert_eq!(known(&first(&declared, &missing)), 0);
}

#[test]
fn one_missing_among_several_is_a_named_gap() {
    let brokers = [broker(9, &[("a", with(3)), ("b", Finding::Missing)])];
    let reading = first(&interest(&["a", "b"]), &brokers);
    assert!(matches!(&reading, Reading::AtLeast(backlog, _) if backlog.messages == 3), "{reading:?}");
    assert!(reading.problem().unwrap().message.contains("queue b;"), "{reading:?}");
}

#[test]
fn a_backup_adds_nothing_and_alone_it_is_unknown() {
    assert_eq!(known(&first(&interest(&["a"]), &[backup(), broker(9, &[("a", with(0))])])), 0);
    let declared = JolokiaInterest { missing_is_empty: true, ..interest(&["a"]) };
    for brokers in [vec![backup()], vec![backup(), backup()]] {
        let reading = first(&declared, &brokers);
        assert!(matches!(reading, Reading::Unknown(_)), "{reading:?}");
        assert_eq!(reason(&reading), SourceReason::BrokerNotActive);
    }
    assert_eq!(reason(&first(&declared, &[backup(), silent()])), SourceReason::BrokerUnreachable);
}

#[test]
fn a_queue_without_numbers_is_no_empty_queue() {
    let unusable = Finding::Unusable(Problem::new(SourceReason::AuthorizationFailed, "not allowed"));
    let alone = first(&interest(&["a"]), &[broker(9, &[("a", unusable.clone())])]);
    assert!(matches!(alone, Reading::Unknown(_)), "{alone:?}");
    let beside = first(&interest(&["a", "b"]), &[broker(9, &[("a", unusable), ("b", with(2))])]);
    assert!(matches!(beside, Reading::AtLeast(..)), "{beside:?}");
    assert_eq!(reason(&beside), SourceReason::AuthorizationFailed);
}

/// Readings of one queue on one broker, of each: seconds since the first, uptime, and counters. The counters of the last.
fn counters(readings: &[(u64, u64, u64, u64)]) -> (Option<u64>, Option<u64>) {
    let (interest, mut memory, begin) = (interest(&["a"]), Memory::default(), Instant::now());
    let mut last = (None, None);
    for (second, uptime, arrived, processed) in readings {
        let brokers = [broker(*uptime, &[("a", Finding::Counted(counts(7, *arrived, *processed)))])];
        let at = begin + Duration::from_secs(*second);
        let reading = reading(&interest, &mut memory, &brokers, (at, Timestamp::UNIX_EPOCH));
        let backlog = reading.backlog().unwrap();
        last = (backlog.arrived, backlog.processed());
    }
    last
}

#[test]
fn counters_are_those_of_the_broker_while_it_runs() {
    assert_eq!(counters(&[(0, 100, 50, 43), (5, 105, 60, 50)]), (Some(60), Some(50)));
}

#[test]
fn after_a_restart_counters_begin_anew_also_where_none_fell() {
    // Artemis begins with the messages that it loaded.
    let (arrived, processed) = counters(&[(0, 100, 50, 43), (5, 2, 96, 43)]);
    assert!(arrived < Some(50) && processed < Some(43), "{arrived:?} {processed:?}");
    let (arrived, _) = counters(&[(0, 10, 50, 43), (60, 20, 60, 43)]);
    assert!(arrived < Some(50), "the uptime rose, though not as much as the time: {arrived:?}");
    assert_eq!(
        counters(&[(0, 100, 50, 43), (5, 103, 60, 50)]).0,
        Some(60),
        "a delayed request is no restart"
    );
}

#[test]
fn what_a_queue_counts_after_it_was_missing_has_arrived_since() {
    let declared = JolokiaInterest { missing_is_empty: true, ..interest(&["a"]) };
    let (mut memory, begin) = (Memory::default(), Instant::now());
    let mut arrived = Vec::new();
    let found = |arrived, processed| Finding::Counted(counts(arrived - processed, arrived, processed));
    for (second, finding) in [(0, found(50, 50)), (5, Finding::Missing), (10, found(60, 0))] {
        let at = begin + Duration::from_secs(second);
        let brokers = [broker(100 + second, &[("a", finding)])];
        let reading = reading(&declared, &mut memory, &brokers, (at, Timestamp::UNIX_EPOCH));
        arrived.push(reading.backlog().unwrap().arrived);
    }
    assert_eq!(arrived, [Some(50), Some(50), Some(110)]);
}

#[test]
fn replicas_are_capped_where_every_queue_is() {
    let cap = |caps: &[Option<u32>]| {
        let brokers: Vec<_> = caps
            .iter()
            .map(|at_most| {
                broker(9, &[("a", Finding::Counted(Counts { at_most: *at_most, ..counts(1, 1, 0) }))])
            })
            .collect();
        first(&interest(&["a"]), &brokers).backlog().unwrap().useful_consumers()
    };
    assert_eq!(cap(&[Some(1)]), Some(1));
    assert_eq!(cap(&[Some(1), Some(3)]), Some(4));
    assert_eq!(cap(&[Some(1), None]), None);
    let declared = JolokiaInterest { missing_is_empty: true, ..interest(&["a"]) };
    let none = first(&declared, &[broker(9, &[("a", Finding::Missing)])]);
    assert_eq!(none.backlog().unwrap().useful_consumers(), None);
}

#[test]
fn the_oldest_message_is_dated_in_whole_seconds() {
    let dated = |queues: &[Counts]| {
        let brokers: Vec<_> =
            queues.iter().map(|counts| broker(9, &[("a", Finding::Counted(*counts))])).collect();
        let time = Timestamp::from_millisecond(1_000_000_700).unwrap();
        let reading = reading(&interest(&["a"]), &mut Memory::default(), &brokers, (Instant::now(), time));
        reading.backlog().unwrap().dated.first().map(|it| (it.written.as_millisecond(), it.certain))
    };
    let aged = |millis| Counts { age: Some(Duration::from_millis(millis)), ..counts(5, 5, 0) };
    assert_eq!(dated(&[aged(30_218)]), Some((999_970_000, true)));
    assert_eq!(dated(&[aged(1000), aged(30_218)]), Some((999_970_000, true)));
    assert_eq!(dated(&[aged(1000), counts(0, 0, 0)]), Some((999_999_000, true)));
    assert_eq!(dated(&[aged(1000), counts(1, 1, 0)]), Some((999_999_000, false)));
    assert_eq!(dated(&[Counts { in_flight: 1, ..aged(1000) }]), Some((999_999_000, false)));
    assert_eq!(dated(&[counts(5, 5, 0)]), None);
}

#[test]
fn messages_that_consumers_hold_are_noted() {
    let held = |messages, in_flight| {
        let queue = Finding::Counted(Counts { in_flight, ..counts(messages, messages, 0) });
        first(&interest(&["a"]), &[broker(9, &[("a", queue)])]).backlog().unwrap().notes.clone()
    };
    assert_eq!(held(400, 400), [Note::HeldByConsumers { messages: 400, consumers: 2 }]);
    assert_eq!(held(401, 400), []);
    assert_eq!(held(4, 4), []);
}
