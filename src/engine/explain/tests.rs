use super::*;
use crate::brokers::observation::SourceReason;
use crate::plan::{Step, Threshold};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// 49,814 messages, and replicas of 100 a second.
fn drain() -> Drain {
    Drain {
        messages: 49_814,
        counted: 49_814,
        to_clear: Some(49_814.0),
        arrivals: 0.0,
        headroom_percent: 30,
        rate: 100.0,
        basis: RateBasis::Learned,
        samples: 9,
        needed: 5.9,
        busy: None,
        replicas: 6,
        time: TimeLeft::Target { left: seconds(120), target: seconds(120) },
        dead_time: seconds(35),
    }
}

fn says(need: Need) -> String {
    Explanation::from(need).to_string()
}

#[test]
fn a_drain_has_one_formula_from_left_to_right() {
    let cases = [
        (
            drain(),
            "backlog 49,814; service rate 6,000/min per replica (measured); 6 replicas clear it in 83 s (target 120 s, \
             35 s until added replicas work)",
        ),
        (
            Drain { arrivals: 20.0, basis: RateBasis::Hint, ..drain() },
            "backlog 49,814; 1,200/min arrive on average; service rate 6,000/min per replica (from the specification); 6 replicas \
             clear it in 86 s (target 120 s, 35 s until added replicas work)",
        ),
        (
            Drain {
                counted: 9814,
                to_clear: Some(12_000.0),
                replicas: 1,
                time: TimeLeft::Target { left: seconds(60), target: seconds(120) },
                ..drain()
            },
            "backlog 49,814, of which 9,814 count (12,000 when added replicas work); service rate 6,000/min per replica \
             (measured); 1 replica clears it in 120 s (60 s left of target 120 s, 35 s until added replicas work)",
        ),
        (
            Drain {
                arrivals: 700.0,
                time: TimeLeft::Age { left: seconds(40), most: seconds(60) },
                ..drain()
            },
            "backlog 49,814; 42,000/min arrive on average; service rate 6,000/min per replica (measured); 6 replicas cannot clear it \
             (40 s left of maxAgeSeconds 60, 35 s until added replicas work)",
        ),
        (
            Drain { messages: 0, counted: 0, to_clear: None, arrivals: 200.0, needed: 2.6, ..drain() },
            "backlog is empty; 12,000/min arrive on average; service rate 6,000/min per replica (measured); 2.6 replicas keep up with \
             30 % headroom",
        ),
        (
            Drain {
                messages: 0,
                counted: 0,
                to_clear: None,
                arrivals: 400.0,
                needed: 6.0,
                busy: Some(4.0),
                ..drain()
            },
            "backlog is empty; 24,000/min arrive on average; service rate 6,000/min per replica (measured); 4.0 replicas are busy, 6.0 \
             keep waits short (4.0 + √4.0)",
        ),
        (Drain { messages: 0, counted: 0, to_clear: None, ..drain() }, "backlog is empty"),
    ];
    for (drain, sentence) in cases {
        assert_eq!(says(Need::Drain(drain)), sentence);
    }
}

#[test]
fn a_probe_says_what_it_tries() {
    let probe = |tries, replicas| says(Need::Probe(Probe { messages: 5000, tries, replicas }));
    let cases = [
        (
            Tried::PerReplica(1000),
            "backlog 5,000 / 1,000 per replica = 5 replicas; service rate not known yet",
        ),
        (Tried::Fewer, "backlog 5,000; service rate not known yet; 5 replicas are tried"),
        (
            Tried::Twice(seconds(300)),
            "backlog 5,000; service rate not known yet; not gone after 300 s; 5 replicas are tried",
        ),
        (
            Tried::Measured { rate: 5.0, samples: 2 },
            "backlog 5,000; service rate 300/min per replica (first 2 measurements); 5 replicas are needed",
        ),
        (Tried::Nothing, "backlog 5,000; nothing arrives"),
    ];
    for (tries, sentence) in cases {
        assert_eq!(probe(tries, 5), sentence);
    }
}

#[test]
fn steps_name_the_rule_that_matched() {
    let rule = StepRule { when: Threshold::Below(100), step: Step::Remove(1) };
    let one = says(Need::Rule { messages: 7, rule: Some((2, rule)) });
    assert_eq!(one, "backlog 7 is below 100; rule 2 removes 1 replica");
    assert_eq!(says(Need::Rule { messages: 500, rule: None }), "backlog 500 matches no rule");
}

#[test]
fn a_sentence_has_at_most_two_clauses_the_last_ones() {
    let clauses = vec![
        Clause::WholePartitions { partitions: 12, replicas: 6 },
        Clause::Cap { limit: Limit::MaxReplicas, replicas: 5 },
        Clause::Held(Held::Rollout),
    ];
    let need = Need::PerReplica { messages: 5400, per_replica: 1000, replicas: 6 };
    let explanation = Explanation { clauses, ..need.into() };
    assert_eq!(
        explanation.to_string(),
        "backlog 5,400 / 1,000 per replica = 6 replicas; maxReplicas is 5; no replicas are removed during a rollout"
    );
}

#[test]
fn the_cap_of_single_active_consumers_is_not_called_the_maximum() {
    let sentence = |replicas| {
        let need = Need::PerReplica { messages: 345_000, per_replica: 1000, replicas: 345 };
        let clauses = vec![Clause::Cap { limit: Limit::Consumers, replicas }];
        Explanation { clauses, ..need.into() }.to_string()
    };
    assert!(
        sentence(1)
            .ends_with("; the queue has a single active consumer; no more than 1 replica gets messages")
    );
    assert!(
        sentence(4)
            .ends_with("; 4 queues have a single active consumer each; no more than 4 replicas get messages")
    );
}

#[test]
fn an_unknown_backlog_says_why_and_what_the_operator_does() {
    let problem = Problem::new(SourceReason::Timeout, "kafka:9092 did not answer in 5 s");
    let why = Unread::Problem(problem);
    assert_eq!(
        says(Need::Unknown { why: why.clone(), replicas: 5 }),
        "the backlog is unknown (Timeout: kafka:9092 did not answer in 5 s); replicas stay at 5"
    );
    assert_eq!(
        says(Need::Fallback { why, failed_polls: 3, replicas: 8 }),
        "the backlog is unknown (Timeout: kafka:9092 did not answer in 5 s); after 3 failed polls the fallback is at least \
         8 replicas"
    );
}
