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

/// Replicas in whole partitions for a need that may be a fraction: the fullest replica gets no more partitions than
/// its part. When that would take more than half as many again, the need rounded up is all that is spent: it leaves
/// some replicas with twice the partitions of others, which is still no more than twice the time.
///
/// 5 replicas' worth on 12 partitions: 2 partitions each, 6. 7 replicas' worth: 12 would be one each, but that is
/// more than 10.5, so 7. Needs of 0 or less are 0; needs above `partitions` are `partitions`.
#[must_use]
pub fn whole(needed: f64, partitions: i32) -> i32 {
    if needed.is_nan() || needed <= 0.0 || partitions <= 0 {
        return rounded_up(needed);
    }
    let replicas = even(needed, partitions);
    if f64::from(replicas) > 1.5 * needed { rounded_up(needed).min(replicas) } else { replicas }
}

/// The smallest count whose fullest replica has no more partitions than its part of a positive need.
pub(super) fn even(needed: f64, partitions: i32) -> i32 {
    let each = rounded_down(f64::from(partitions) / needed).clamp(1, partitions.max(1));
    ceil_div(partitions, each)
}

/// At least 0; saturates.
pub(super) fn rounded_up(number: f64) -> i32 {
    // A need of 10.000000001 is an artefact of the arithmetic.
    rounded_down((number - 1e-9).ceil())
}

#[allow(clippy::cast_possible_truncation)] // Saturates, and NaN is 0.
fn rounded_down(number: f64) -> i32 {
    (number + 1e-9).max(0.0) as i32
}

/// Of positive numbers.
pub(super) fn ceil_div(number: i32, by: i32) -> i32 {
    (number - 1) / by + 1
}

#[cfg(test)]
mod tests {
    use super::{aligned, whole};

    /// The smallest count, at least `from`, whose fullest replica has no more than its part of the partitions.
    fn smallest_even(needed: f64, partitions: i32, from: i32) -> i32 {
        let part = f64::from(partitions) / needed + 1e-9;
        let is_even = |count: &i32| f64::from((partitions + count - 1) / count) <= part;
        (from..=partitions).find(is_even).unwrap_or(partitions)
    }

    #[test]
    fn whole_partitions_are_sufficient_and_no_more_than_the_rule_says_for_up_to_512_partitions() {
        for partitions in 1..=512 {
            let (mut before, mut even) = (0, 1);
            for tenths in 1..=partitions * 10 + 20 {
                let needed = f64::from(tenths) / 10.0;
                let count = whole(needed, partitions);
                even = smallest_even(needed, partitions, even);
                let case = format!("{needed} on {partitions} partitions: {count}, even are {even}");
                assert!(count >= before, "{case} after {before}");
                before = count;
                if f64::from(even) <= 1.5 * needed {
                    assert_eq!(count, even, "{case}");
                } else {
                    assert_eq!(count, even.min((tenths + 9) / 10), "{case}");
                }
                assert!(f64::from(count) >= needed.min(f64::from(partitions)), "{case}");
            }
        }
    }

    #[test]
    fn whole_partitions_can_be_checked_by_hand() {
        let cases =
            [(5.0, 6), (6.0, 6), (6.1, 7), (7.0, 7), (8.0, 12), (2.5, 3), (0.2, 1), (0.0, 0), (99.0, 12)];
        for (needed, expected) in cases {
            assert_eq!(whole(needed, 12), expected, "{needed}");
        }
        assert_eq!(whole(3.2, 0), 4);
        assert_eq!(whole(f64::INFINITY, 12), 12);
        assert_eq!(whole(f64::NAN, 12), 0);
    }

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
