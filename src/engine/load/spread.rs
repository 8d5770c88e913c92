//! How partitions of unequal load spread over replicas: the fullest replica decides when a backlog is gone.

use super::partitions::{aligned, ceil_div};

/// How a group assigns its partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) enum Assignor {
    /// Neighbouring partitions of each topic go to one member, and the first members get what is left over.
    Range,
    /// One by one: exact for round robin. A sticky assignor only promises even counts; this is one of them.
    #[default]
    OneByOne,
}

/// Whether a count of replicas is enough for the fullest of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::engine) enum Spread {
    /// It is, or uneven load is not why it is not.
    Enough,
    /// So many are, because the fullest of fewer would have too much.
    Raise(i32),
    /// One partition is more than a replica can do, so that no count is enough.
    Hot {
        /// Its topic, by position.
        topic: usize,
        /// Its number.
        partition: usize,
        /// Its part of all load, from 0 to 1.
        share: f64,
        /// The most replicas that are of any use beside it.
        useful: i32,
    },
}

/// Load above this part of what even partitions would give the fullest replica is a skew.
const SKEWED: f64 = 1.1;

/// Looks at the loads by topic and partition, in messages per second, and raises `replicas` to at most `most` until
/// the fullest can do its part.
pub(in crate::engine) fn judge(
    loads: &[Vec<f64>],
    assignor: Assignor,
    replicas: i32,
    most: i32,
    per_replica: f64,
) -> Spread {
    let total: f64 = loads.iter().flatten().sum();
    let Some((topic, partition, hottest)) = hottest(loads).filter(|_| total > 0.0 && per_replica > 0.0)
    else {
        return Spread::Enough;
    };
    if hottest > per_replica {
        let useful = useful(loads, assignor, most, per_replica);
        return Spread::Hot { topic, partition, share: hottest / total, useful };
    }
    let enough = |replicas: i32| assign(loads, assignor, replicas).all(|held| held.load <= per_replica);
    let partitions = loads.iter().map(Vec::len).sum::<usize>();
    let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
    // That 7 replicas of 12 partitions do as little as 6 is not the fault of any partition.
    let even = total * f64::from(ceil_div(partitions, replicas.max(1))) / f64::from(partitions);
    if replicas < 1 || enough(replicas) || fullest(loads, assignor, replicas) <= SKEWED * even {
        return Spread::Enough;
    }
    // Only counts that change the fullest replica's number of partitions are worth a check.
    let candidates =
        (replicas + 1..=most.min(partitions)).filter(|count| aligned(*count, partitions) == *count);
    candidates.into_iter().find(|count| enough(*count)).map_or(Spread::Enough, Spread::Raise)
}

/// The fewest of at most `most` replicas of which each can do its part, or has little more than one partition that is
/// too much for any. More of them would clear no partition sooner. Without a rate, by 0, each loaded partition counts
/// as too much.
pub(in crate::engine) fn useful(loads: &[Vec<f64>], assignor: Assignor, most: i32, per_replica: f64) -> i32 {
    let suffices = |replicas: &i32| {
        let enough = |held: Held| held.load <= per_replica.max(held.hottest * SKEWED);
        assign(loads, assignor, *replicas).all(enough)
    };
    (1..most).find(suffices).unwrap_or(most)
}

/// The partition with the most load, by topic and number.
pub(in crate::engine) fn hottest(loads: &[Vec<f64>]) -> Option<(usize, usize, f64)> {
    let all = loads.iter().enumerate().flat_map(|(topic, partitions)| {
        partitions.iter().enumerate().map(move |(partition, load)| (topic, partition, *load))
    });
    all.max_by(|left, right| left.2.total_cmp(&right.2))
}

/// Load of the fullest replica.
fn fullest(loads: &[Vec<f64>], assignor: Assignor, replicas: i32) -> f64 {
    assign(loads, assignor, replicas).map(|held| held.load).fold(0.0, f64::max)
}

/// What one replica gets.
#[derive(Clone, Copy, Default)]
struct Held {
    load: f64,
    /// Of one of its partitions.
    hottest: f64,
}

/// What each replica gets, worked out one after the other: often the first one says enough.
fn assign(loads: &[Vec<f64>], assignor: Assignor, replicas: i32) -> impl Iterator<Item = Held> {
    let count = usize::try_from(replicas).unwrap_or_default().max(1);
    (0..count).map(move |replica| {
        let (mut held, mut assigned) = (Held::default(), 0);
        for partitions in loads {
            let (first, step, number) = match assignor {
                Assignor::OneByOne => ((replica + count - assigned % count) % count, count, partitions.len()),
                Assignor::Range => {
                    let (each, over) = (partitions.len() / count, partitions.len() % count);
                    (replica * each + replica.min(over), 1, each + usize::from(replica < over))
                }
            };
            for load in partitions.iter().skip(first).step_by(step).take(number) {
                held.load += load;
                held.hottest = held.hottest.max(*load);
            }
            assigned += partitions.len();
        }
        held
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn partitions_are_dealt_as_the_assignors_of_kafka_do() {
        let topics = [vec![1.0, 2.0, 4.0], vec![8.0, 16.0, 32.0]];
        // Range, 2 members: {0, 1} and {2} of each topic. One by one: 1 + 4 + 16 and 2 + 8 + 32.
        assert_eq!(fullest(&topics, Assignor::Range, 2), 36.0);
        assert_eq!(fullest(&topics, Assignor::OneByOne, 2), 42.0);
        assert_eq!(
            fullest(&topics, Assignor::Range, 4),
            36.0,
            "range uses no more than the largest topic has"
        );
        assert_eq!(fullest(&topics, Assignor::OneByOne, 6), 32.0);
    }

    #[test]
    fn an_even_load_raises_nothing() {
        let even = [vec![10.0; 12]];
        assert_eq!(judge(&even, Assignor::OneByOne, 6, 12, 20.0), Spread::Enough);
        // 7 replicas hold 2 partitions in the fullest, as 6 do: a matter of whole partitions.
        assert_eq!(judge(&even, Assignor::OneByOne, 7, 12, 18.0), Spread::Enough);
    }

    #[test]
    fn a_skew_raises_replicas_until_the_fullest_can_do_its_part() {
        // Together 24 for replicas of 10; but 3 of them would give one 9 + 5 = 14.
        let skewed = [vec![9.0, 2.0, 2.0, 5.0, 3.0, 3.0]];
        assert_eq!(judge(&skewed, Assignor::OneByOne, 3, 6, 10.0), Spread::Raise(6));
        assert_eq!(judge(&skewed, Assignor::OneByOne, 3, 5, 10.0), Spread::Enough, "5 hold what 3 hold");
        // Range puts 9 and 2, 2 and 5, 3 and 3 together: 11.
        assert_eq!(judge(&skewed, Assignor::Range, 3, 6, 11.0), Spread::Enough);
    }

    #[test]
    fn a_partition_that_is_more_than_a_replica_can_do_is_named() {
        let hot = [vec![1.0, 1.0], vec![1.0, 17.0]];
        let spread = judge(&hot, Assignor::OneByOne, 2, 4, 10.0);
        assert_eq!(spread, Spread::Hot { topic: 1, partition: 1, share: 0.85, useful: 2 });
    }

    #[test]
    fn beside_a_hot_partition_only_what_helps_the_others_is_of_use() {
        let useful =
            |loads: &[f64], per_replica| super::useful(&[loads.to_vec()], Assignor::OneByOne, 6, per_replica);
        assert_eq!(useful(&[60.0, 0.0, 0.0, 0.0, 0.0, 0.0], 10.0), 1);
        // 3 give it 5 more, a twelfth, and two others each 10; 2 would give it 10 more.
        assert_eq!(useful(&[60.0, 5.0, 5.0, 5.0, 5.0, 5.0], 10.0), 3);
        // Two partitions together would be too much for a replica that could do one.
        assert_eq!(useful(&[60.0, 8.0, 8.0, 8.0, 8.0, 8.0], 10.0), 6);
        assert_eq!(
            useful(&[60.0; 6], 10.0),
            6,
            "all are hot: partitions are the bound, and none is to blame"
        );
        assert_eq!(useful(&[60.0, 50.0, 0.0, 0.0, 0.0, 0.0], 0.0), 2);
    }

    proptest! {
        #[test]
        fn every_partition_is_dealt_to_somebody(
            topics in prop::collection::vec(prop::collection::vec(0.0..100.0_f64, 1..20), 1..4),
            replicas in 1..40_i32,
            range in any::<bool>(),
        ) {
            let assignor = if range { Assignor::Range } else { Assignor::OneByOne };
            let total: f64 = topics.iter().flatten().sum();
            let full = fullest(&topics, assignor, replicas);
            let assigned: f64 = assign(&topics, assignor, replicas).map(|held| held.load).sum();
            prop_assert!((assigned - total).abs() < 1e-6, "nothing is left out, nor assigned twice");
            prop_assert!(full * f64::from(replicas) >= total - 1e-6);
            prop_assert!(full <= total + 1e-6);
            prop_assert!((fullest(&topics, assignor, 1) - total).abs() < 1e-6);
        }

        #[test]
        fn a_raise_is_enough_and_no_larger_than_allowed(
            topics in prop::collection::vec(prop::collection::vec(0.0..100.0_f64, 1..20), 1..4),
            replicas in 1..20_i32,
            per_replica in 1.0..300.0_f64,
        ) {
            if let Spread::Raise(count) = judge(&topics, Assignor::OneByOne, replicas, 30, per_replica) {
                prop_assert!(count > replicas && count <= 30);
                prop_assert!(fullest(&topics, Assignor::OneByOne, count) <= per_replica);
            }
        }
    }
}
