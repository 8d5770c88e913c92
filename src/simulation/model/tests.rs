//! The world counts its messages correctly and follows its settings.

use super::*;

fn settings() -> Settings {
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
        pod_start: PodStart::Fixed(20),
        retention_seconds: None,
        replicas: 4,
        max_replicas: 12,
    }
}

fn rabbitmq() -> Settings {
    Settings {
        queue: Queue::Shared { prefetch: 10, statistics_seconds: 5, single_active: false },
        ..settings()
    }
}

fn steady(rate: f64, seconds: u32) -> Load {
    Load { steps: vec![(0, rate)], seconds }
}

fn run(world: &mut World, seconds: u32) {
    (0..seconds).for_each(|_| world.advance());
}

fn processed(world: &World) -> u64 {
    world.partitions().iter().map(Partition::processed).sum()
}

#[test]
fn what_arrived_is_processed_waits_or_is_lost_whatever_happens() {
    let load = steady(60.0, 3000);
    let faults = [
        Fault { from: 100, until: 400, kind: FaultKind::Outage },
        Fault { from: 500, until: 501, kind: FaultKind::NodeLoss { share: 0.5 } },
        Fault { from: 700, until: 1100, kind: FaultKind::Poison },
        Fault { from: 1200, until: 1500, kind: FaultKind::Saturation { limit: 20.0 } },
        Fault { from: 1600, until: 1900, kind: FaultKind::HotKey { share: 0.7 } },
    ];
    for protocol in [Protocol::Eager, Protocol::Cooperative] {
        let kafka = Queue::Partitioned { partitions: 7, protocol, commit_seconds: 5, rebalance_seconds: 4 };
        for queue in [kafka, rabbitmq().queue] {
            let settings =
                Settings { queue, retention_seconds: Some(120), pod_start: PodStart::Usual, ..settings() };
            let mut world = World::new(&settings, &load, &faults, 3);
            for second in 0..3000_i32 {
                world.advance();
                if second % 97 == 0 {
                    world.scale(second % 13);
                }
                let accounted = processed(&world) + world.backlog() + world.lost();
                assert_eq!(world.arrived(), accounted, "at second {second}");
                assert_eq!(world.delays().total(), processed(&world), "at second {second}");
            }
            assert!(world.lost() > 0 && processed(&world) > 50_000, "the run was not what it should test");
        }
    }
}

#[test]
fn a_backlog_goes_at_the_rate_of_the_replicas() {
    // 1000 messages of 500 ms on 10 replicas take 50 s.
    let load = Load { steps: vec![(0, 1000.0), (1, 0.0)], seconds: 100 };
    let settings = Settings {
        service_seconds: 0.5,
        service_variation: 0.0,
        arrivals: ArrivalKind::Even,
        replicas: 10,
        ..rabbitmq()
    };
    let mut world = World::new(&settings, &load, &[], 1);
    run(&mut world, 49);
    assert_eq!(world.backlog(), 20);
    run(&mut world, 1);
    assert_eq!(world.backlog(), 0);
}

#[test]
fn the_committed_offset_is_a_staircase() {
    let load = steady(10.0, 300);
    let settings = Settings { replicas: 1, ..settings() };
    let mut world = World::new(&settings, &load, &[], 1);
    let mut changes = Vec::new();
    let mut last = 0;
    for second in 0..300 {
        world.advance();
        let committed: u64 = world.partitions().iter().map(Partition::committed).sum();
        if committed != last {
            changes.push(second);
        }
        last = committed;
    }
    assert!(changes.len() > 50);
    assert!(changes.windows(2).all(|pair| pair[1] - pair[0] == 5), "{changes:?}");
}

#[test]
fn a_new_pod_works_only_after_its_start_and_the_rebalance() {
    let load = steady(200.0, 200);
    let settings = Settings { service_variation: 0.0, arrivals: ArrivalKind::Even, ..settings() };
    let mut world = World::new(&settings, &load, &[], 1);
    run(&mut world, 50);
    world.scale(12);
    let mut rates = Vec::new();
    let mut before = processed(&world);
    for _ in 0..40 {
        world.advance();
        rates.push(processed(&world) - before);
        before = processed(&world);
    }
    assert_eq!(rates[..20], [40; 20], "4 replicas do 40 a second until the new ones are ready");
    assert_eq!(rates[25..], [120; 15], "12 replicas do 120");
}

#[test]
fn a_cooperative_rebalance_stops_only_what_moves() {
    let load = steady(1000.0, 200);
    let idle_seconds = |protocol| {
        let queue = Queue::Partitioned { partitions: 12, protocol, commit_seconds: 5, rebalance_seconds: 4 };
        let settings = Settings { queue, ..settings() };
        let mut world = World::new(&settings, &load, &[], 1);
        run(&mut world, 50);
        world.scale(6);
        let mut idle = 0;
        for _ in 0..60 {
            let before = processed(&world);
            world.advance();
            idle += u32::from(processed(&world) == before);
        }
        idle
    };
    assert_eq!((idle_seconds(Protocol::Eager), idle_seconds(Protocol::Cooperative)), (4, 0));
}

#[test]
fn dead_pods_are_missed_after_their_session_and_replaced_much_later() {
    let load = steady(20.0, 600);
    let faults = [Fault { from: 60, until: 61, kind: FaultKind::NodeLoss { share: 0.5 } }];
    let settings = settings();
    let mut world = World::new(&settings, &load, &faults, 1);
    run(&mut world, 70);
    assert_eq!((world.ready(), world.members(), world.replicas()), (2, 4, 4));
    run(&mut world, 40);
    assert_eq!((world.ready(), world.members()), (2, 2));
    run(&mut world, 340);
    assert_eq!((world.ready(), world.members()), (4, 4));
}

#[test]
fn a_rolling_update_keeps_the_number_of_pods() {
    let load = steady(20.0, 600);
    let faults = [Fault { from: 60, until: 61, kind: FaultKind::Rollout }];
    for pod_start in [PodStart::Fixed(20), PodStart::Usual] {
        for replicas in [1, 4, 10] {
            let settings = Settings { replicas, pod_start, ..settings() };
            let mut world = World::new(&settings, &load, &faults, 1);
            run(&mut world, 60);
            assert_eq!((world.template(), world.is_rolling_out()), (0, false));
            let count = usize::try_from(replicas).unwrap();
            let mut seconds = 0;
            run(&mut world, 1);
            assert_eq!((world.template(), world.is_rolling_out()), (1, true));
            while world.is_rolling_out() {
                assert!(world.ready() >= count - count / 4, "{} of {count} are ready", world.ready());
                assert!(world.pods() <= count + count.div_ceil(4), "{} of {count}", world.pods());
                run(&mut world, 1);
                seconds += 1;
            }
            assert!(seconds >= 10, "{count} pods in {seconds} s");
            assert_eq!((world.pods(), world.replicas()), (count, replicas));
        }
    }
}

#[test]
fn replicas_can_change_during_a_rolling_update() {
    let load = steady(20.0, 600);
    let faults = [Fault { from: 60, until: 61, kind: FaultKind::Rollout }];
    for replicas in [2, 0, 12] {
        let settings = settings();
        let mut world = World::new(&settings, &load, &faults, 1);
        run(&mut world, 70);
        assert!(world.is_rolling_out());
        world.scale(replicas);
        run(&mut world, 120);
        assert!(!world.is_rolling_out());
        assert_eq!((world.pods(), world.ready()), (usize::try_from(replicas).unwrap(), world.pods()));
    }
}

#[test]
fn a_single_active_consumer_works_alone_and_another_takes_its_place() {
    let queue = Queue::Shared { prefetch: 10, statistics_seconds: 5, single_active: true };
    let settings = Settings { queue, service_variation: 0.0, arrivals: ArrivalKind::Even, ..settings() };
    let load = steady(100.0, 200);
    let faults = [Fault { from: 100, until: 101, kind: FaultKind::NodeLoss { share: 0.25 } }];
    let mut world = World::new(&settings, &load, &faults, 1);
    run(&mut world, 100);
    assert_eq!(processed(&world), 1000, "one of 4 does 10 a second");
    run(&mut world, 100);
    assert_eq!(processed(&world), 2000, "the next one went on at once");
    assert_eq!(settings.most(), 1);
}

#[test]
fn consumers_of_a_saturated_database_do_no_more_than_it_serves() {
    let load = steady(200.0, 200);
    let faults = [Fault { from: 0, until: 200, kind: FaultKind::Saturation { limit: 50.0 } }];
    let settings = Settings { replicas: 12, ..settings() };
    let mut world = World::new(&settings, &load, &faults, 1);
    run(&mut world, 200);
    let done = processed(&world);
    assert!((9_500..=10_100).contains(&done), "{done} in 200 s");
}

#[test]
fn the_same_seed_gives_the_same_arrivals() {
    let (settings, load) = (settings(), steady(50.0, 1000));
    let arrivals = |seed, replicas| {
        let mut world = World::new(&settings, &load, &[], seed);
        run(&mut world, 200);
        world.scale(replicas);
        run(&mut world, 800);
        (world.arrived(), world.delays().clone())
    };
    assert_eq!(arrivals(1, 4), arrivals(1, 4));
    assert_ne!(arrivals(1, 4).0, arrivals(2, 4).0);
    assert_eq!(arrivals(1, 4).0, arrivals(1, 8).0);
}
