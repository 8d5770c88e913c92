//! Runs of the engine on the model.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::autoscaler::{Autoscaler, Engine, Recommendation};
use super::model::{ArrivalKind, Load, PodStart, Protocol, Queue, Settings, World};
use super::observer::Observer;
use super::run::{Outcome, Script, play};
use super::scenario::Scenario;
use crate::api::QueueScaler;
use crate::brokers::observation::Observation;
use crate::engine::Target;
use crate::plan::{Bounds, DrainTime, Policy, ScalingPlan, validate};

/// Through the real validation, as every plan.
pub(super) fn plan() -> ScalingPlan {
    let object = json!({
        "apiVersion": "queuescaler.io/v1alpha1",
        "kind": "QueueScaler",
        "metadata": {"name": "orders"},
        "spec": {
            "scaleTargetRef": {"name": "orders"},
            "maxReplicas": 12,
            "source": {"kafka": {"bootstrapServers": ["kafka:9092"], "consumerGroup": "orders", "topics": ["orders"]}},
            "policy": {"backlogPerReplica": {"messages": 300}},
            "behavior": {"scaleDown": {"policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}},
        },
    });
    let object: QueueScaler = serde_json::from_value(object).unwrap();
    validate(&object, "shop").unwrap().scaling
}

/// What a plan has by default.
fn default_policy() -> Policy {
    Policy::DrainTime(DrainTime {
        target: Duration::from_secs(300),
        max_age: None,
        hint: None,
        headroom_percent: 30,
    })
}

pub(super) fn settings() -> Settings {
    Settings {
        queue: Queue::Partitioned {
            partitions: 12,
            protocol: Protocol::Cooperative,
            commit_seconds: 5,
            rebalance_seconds: 3,
        },
        key_skew: 0.0,
        arrivals: ArrivalKind::Poisson,
        service_seconds: 0.1,
        service_variation: 0.5,
        pod_start: PodStart::Usual,
        retention_seconds: None,
        replicas: 1,
        max_replicas: 12,
    }
}

/// When a script begins, in seconds since 1970.
const BEGIN: i64 = 1_800_000_000;

pub(super) fn script(name: &str, load: Load) -> Script {
    let begin = Timestamp::from_second(BEGIN).unwrap();
    Script { name: name.into(), begin, load, faults: vec![] }
}

fn run(scenario: Scenario, settings: &Settings, seed: u64) -> Outcome {
    let (load, faults) = scenario.script(120.0);
    let script = Script { faults, ..script(scenario.name(), load) };
    let plan = plan();
    play(&script, settings, &mut Engine::new(&plan), seed, 60, true, |_| ())
}

#[test]
fn every_scenario_runs_and_keeps_its_books() {
    let rabbitmq = Settings {
        queue: Queue::Shared { prefetch: 10, statistics_seconds: 5, single_active: false },
        ..settings()
    };
    for scenario in Scenario::ALL {
        for settings in [settings(), rabbitmq.clone()] {
            let outcome = run(scenario, &settings, 1);
            let metrics = &outcome.metrics;
            assert!(metrics.arrived > 10_000, "{}", scenario.name());
            assert_eq!(metrics.arrived, metrics.processed + metrics.backlog + metrics.lost);
            assert!(metrics.actions > 0 && metrics.pod_hours > 0.0, "{}: {metrics:?}", scenario.name());
            assert_eq!(metrics.wrong_zeros, 0, "{}", scenario.name());
            assert!(!outcome.samples.is_empty() && !outcome.decisions.is_empty());
        }
    }
}

#[test]
fn a_seed_makes_a_run_and_another_one_another() {
    assert_eq!(run(Scenario::Step, &settings(), 5), run(Scenario::Step, &settings(), 5));
    assert_ne!(run(Scenario::Step, &settings(), 5).metrics, run(Scenario::Step, &settings(), 6).metrics);
}

#[test]
fn an_unreadable_broker_scales_nothing_and_is_told_as_unknown() {
    let outcome = run(Scenario::MetricLoss, &settings(), 1);
    let lost = 1800..2400;
    // A poll at second 1800 observes the second before it.
    let during: Vec<_> =
        outcome.samples.iter().filter(|sample| lost.contains(&(sample.second - 1))).collect();
    assert_eq!(during.len(), 120);
    assert!(during.iter().all(|sample| sample.observed.is_none() && sample.replicas == during[0].replicas));
    assert!(outcome.decisions.iter().any(|change| change.recommendation.reason == "SourceUnknown"));
}

#[test]
fn the_observed_backlog_follows_the_commits() {
    let load = Load { steps: vec![(0, 30.0)], seconds: 600 };
    // Polls every second see the steps of commits every 5 s.
    let plan =
        ScalingPlan { poll_period: Duration::from_secs(1), bounds: Bounds { min: 6, max: 6 }, ..plan() };
    let settings = Settings { replicas: 6, ..settings() };
    let outcome = play(&script("even", load), &settings, &mut Engine::new(&plan), 1, 60, true, |_| ());
    let settled = &outcome.samples[60..];
    let mean = |of: fn(&super::run::Sample) -> u64| {
        settled.iter().map(of).sum::<u64>() / u64::try_from(settled.len()).unwrap()
    };
    let observed = mean(|sample| sample.observed.unwrap());
    // 30 a second wait for their commit for 2.5 s in the mean.
    assert!((50..=100).contains(&observed), "{observed} observed");
    assert!(mean(|sample| sample.backlog) < 10);
}

#[test]
fn of_consumers_of_which_one_is_active_only_that_one_holds_messages() {
    let load = Load { steps: vec![(0, 500.0)], seconds: 60 };
    for (single_active, held) in [(false, 50), (true, 10)] {
        let queue = Queue::Shared { prefetch: 10, statistics_seconds: 5, single_active };
        let settings = Settings { queue, replicas: 5, ..settings() };
        let mut world = World::new(&settings, &load, &[], 1);
        (0..60).for_each(|_| world.advance());
        let observation = Observer::new().poll(&world, &settings, Timestamp::UNIX_EPOCH);
        let backlog = observation.reading.backlog().unwrap();
        assert_eq!((backlog.in_flight(), backlog.members), (held, Some(5)));
    }
}

#[test]
fn recovery_lasts_from_the_end_of_the_outage_to_no_backlog() {
    let outcome = run(Scenario::Outage, &settings(), 1);
    let recovery = outcome.metrics.recovery_seconds.unwrap();
    // 36 a second for 600 s are 21,600. 12 replicas do 84 a second besides what arrives, and 6 of them are not added, and
    // do not start, before something is processed again.
    assert!((300..=600).contains(&recovery), "{recovery}");
}

/// Changes nothing.
#[derive(Default)]
struct Witness(Vec<Target>);

impl Autoscaler for Witness {
    fn period(&self) -> u32 {
        5
    }

    fn recommend(&mut self, target: Target, _: &Observation, _: Timestamp) -> Recommendation {
        self.0.push(target);
        Recommendation { replicas: target.replicas, ..Recommendation::default() }
    }
}

#[test]
fn an_autoscaler_is_told_of_a_rolling_update_and_of_the_new_template() {
    let (load, faults) = Scenario::Rollout.script(120.0);
    let script = Script { faults, ..script("rollout", load) };
    let (settings, mut witness) = (Settings { replicas: 8, ..settings() }, Witness::default());
    play(&script, &settings, &mut witness, 1, 60, false, |_| ());
    // Readings every 5 s; the update begins at second 2520.
    let seen: Vec<_> = witness.0.iter().map(|target| (target.template, target.rolling_out)).collect();
    assert!(seen[..504].iter().all(|seen| *seen == (Some(0), false)));
    assert_eq!((seen[504], seen[1439]), ((Some(1), true), (Some(1), false)));
}

/// An engine, and the seconds at which a rolling update went on.
struct Updated<'p>(Engine<'p>, Vec<i64>);

impl Autoscaler for Updated<'_> {
    fn period(&self) -> u32 {
        self.0.period()
    }

    fn recommend(&mut self, target: Target, observation: &Observation, now: Timestamp) -> Recommendation {
        self.1.extend(target.rolling_out.then(|| now.as_second() - BEGIN));
        self.0.recommend(target, observation, now)
    }
}

#[test]
fn a_rolling_update_in_a_backlog_causes_no_back_and_forth() {
    let plan = ScalingPlan { policy: default_policy(), ..plan() };
    for seed in 1..=3 {
        let (load, faults) = Scenario::Rollout.script(120.0);
        let script = Script { faults, ..script("rollout", load) };
        let mut engine = Updated(Engine::new(&plan), Vec::new());
        let outcome = play(&script, &settings(), &mut engine, seed, 60, true, |_| ());
        let metrics = outcome.metrics;
        assert!(metrics.recovery_seconds.is_some(), "seed {seed}: the backlog was never gone");
        assert_eq!(metrics.wrong_zeros, 0, "seed {seed}");
        // From the end of the outage on, while there is a backlog.
        let late = outcome.samples.iter().filter(|sample| sample.second >= 2400);
        let replicas: Vec<_> = late.take_while(|sample| sample.backlog > 500).map(|it| it.replicas).collect();
        assert!(replicas.len() > 10 && replicas.is_sorted(), "seed {seed}: {replicas:?}");
        // All of the update, until the last pod is new, was within that.
        let updated = |second: u32| engine.1.contains(&i64::from(second));
        let during: Vec<_> = outcome.samples.iter().filter(|sample| updated(sample.second)).collect();
        assert!(during.first().is_some_and(|first| first.second == 2525), "seed {seed}: {during:?}");
        assert!(during.len() > 8 && during.iter().all(|it| it.backlog > 500), "seed {seed}: {during:?}");
    }
}

#[test]
fn steps_are_counted_after_a_rise_that_stays() {
    let up = |scenario| run(scenario, &settings(), 1).metrics.steps_after_rise;
    let steps = up(Scenario::Step);
    assert!(steps.len() == 1 && (1..20).contains(&steps[0]), "{steps:?}");
    assert_eq!(up(Scenario::Outage), Vec::<u32>::new());
}

#[test]
fn a_modelled_reading_tells_owners_but_in_a_rebalance() {
    let load = Load { steps: vec![(0, 30.0)], seconds: 600 };
    for (protocol, assignor) in [(Protocol::Eager, "range"), (Protocol::Cooperative, "cooperative-sticky")] {
        let queue = Queue::Partitioned { partitions: 12, protocol, commit_seconds: 5, rebalance_seconds: 3 };
        let settings = Settings { queue, replicas: 5, pod_start: PodStart::Fixed(10), ..settings() };
        let mut world = World::new(&settings, &load, &[], 1);
        let mut observer = Observer::new();
        let mut read = |world: &mut World, seconds| {
            (0..seconds).for_each(|_| world.advance());
            observer.poll(world, &settings, Timestamp::UNIX_EPOCH).reading.backlog().cloned().unwrap()
        };
        let owners = |backlog: &crate::brokers::observation::Backlog| {
            let partitions = backlog.topics()[0].partitions.iter();
            partitions.map(|partition| partition.unwrap().owner).collect::<Vec<_>>()
        };
        let assignor_of = |backlog: &crate::brokers::observation::Backlog| {
            backlog.partitioned().unwrap().assignor.as_ref().map(ToString::to_string)
        };
        let assignor = Some(assignor.to_owned());
        let settled = read(&mut world, 60);
        let mut counts = [0; 5];
        owners(&settled).into_iter().for_each(|owner| counts[usize::from(owner.unwrap())] += 1);
        counts.sort_unstable();
        assert_eq!(counts, [2, 2, 2, 3, 3]);
        assert_eq!((assignor_of(&settled), settled.members), (assignor.clone(), Some(5)));
        world.scale(6);
        let dealing = read(&mut world, 12);
        assert!(dealing.rebalancing() && owners(&dealing).iter().all(Option::is_none));
        assert_eq!(assignor_of(&dealing), assignor, "the last one that was known");
    }
}
