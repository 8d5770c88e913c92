//! Whole partitions: a partition is read by one consumer of a group, so only some replica counts make a difference.

/// The smallest count whose fullest replica has as few partitions as with `replicas` of them.
///
/// 7 replicas on 12 partitions leave one with 2 partitions, as 6 do: 6. Replicas above `partitions` would get none:
/// `partitions`. Counts of 0 or less, and a topic without partitions, are returned as they are.
#[must_use]
pub fn aligned(replicas: i32, partitions: i32) -> i32 {
    if replicas <= 0 || partitions <= 0 {
        return replicas;
    }
    let fullest = ceil_div(partitions, replicas);
    ceil_div(partitions, fullest)
}

/// Of positive numbers.
fn ceil_div(number: i32, by: i32) -> i32 {
    (number - 1) / by + 1
}

#[cfg(test)]
mod tests {
    use super::aligned;

    #[test]
    fn the_aligned_count_is_sufficient_and_minimal_for_up_to_512_partitions() {
        for partitions in 1..=512 {
            for replicas in 1..=600 {
                // Dealing partitions out one by one is how every balanced assignor ends.
                let fullest = |replicas: i32| (partitions + replicas - 1) / replicas;
                let smallest = (1..=replicas).find(|fewer| fullest(*fewer) == fullest(replicas));
                assert_eq!(
                    Some(aligned(replicas, partitions)),
                    smallest,
                    "{replicas} replicas on {partitions} partitions"
                );
            }
        }
    }

    #[test]
    fn examples_can_be_checked_by_hand() {
        let cases = [(7, 12, 6), (6, 12, 6), (5, 12, 4), (11, 12, 6), (12, 12, 12), (13, 12, 12), (2, 3, 2)];
        for (replicas, partitions, expected) in cases {
            assert_eq!(aligned(replicas, partitions), expected, "{replicas} of {partitions}");
        }
        assert_eq!(aligned(0, 12), 0);
        assert_eq!(aligned(i32::MAX, 12), 12);
        assert_eq!(aligned(5, 0), 5);
        assert_eq!(aligned(5, i32::MAX), 5);
    }
}
