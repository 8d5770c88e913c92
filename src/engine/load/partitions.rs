//! Whole partitions: a partition is read by one consumer of a group, so only some replica counts make a difference.

/// The smallest count whose fullest replica has as few partitions as with `replicas` of them.
///
/// 7 replicas on 12 partitions leave one with 2 partitions, as 6 do: 6. Replicas above `partitions` would get none:
/// `partitions`. Counts of 0 or less, and a topic without partitions, are returned as they are.
pub(in crate::engine) fn aligned(replicas: i32, partitions: i32) -> i32 {
    if replicas <= 0 || partitions <= 0 {
        return replicas;
    }
    let fullest = ceil_div(partitions, replicas);
    ceil_div(partitions, fullest)
}

/// Replicas in whole partitions: `needed` in total, and so many that the fullest replica gets no more than a part of
/// what `fullest` replicas would share evenly. Both may be fractions, and `fullest` is the smaller of the two: how much
/// less decides how uneven replicas may be.
///
/// 5 replicas' worth on 12 partitions: 2 partitions each, 6. 6.5 replicas' worth, of which 6 must be there in each part:
/// 7, of which some have 2 partitions as with 6, and others 1. Needs of 0 or less are 0; needs above `partitions` are
/// `partitions`.
pub(in crate::engine) fn whole(needed: f64, fullest: f64, partitions: i32) -> i32 {
    let total = rounded_up(needed);
    if needed.is_nan() || needed <= 0.0 || partitions <= 0 {
        return total;
    }
    let even = if fullest > 0.0 { even(fullest, partitions) } else { 0 };
    total.max(even).min(partitions)
}

/// The same, unless that would take more than half as many again as are needed in total: then only these, although some
/// of them get twice the partitions of others.
///
/// 7 replicas' worth on 12 partitions: 12 would be one each, but that is more than 10.5, so 7.
pub(in crate::engine) fn thrifty(needed: f64, fullest: f64, partitions: i32) -> i32 {
    let count = whole(needed, fullest, partitions);
    if f64::from(count) > 1.5 * needed { rounded_up(needed).min(count) } else { count }
}

/// The smallest count whose fullest replica has no more partitions than its part of a positive need.
pub(in crate::engine) fn even(needed: f64, partitions: i32) -> i32 {
    let each = rounded_down(f64::from(partitions) / needed).clamp(1, partitions.max(1));
    ceil_div(partitions, each)
}

/// At least 0; saturates.
pub(in crate::engine) fn rounded_up(number: f64) -> i32 {
    // A need of 10.000000001 is an artefact of the arithmetic.
    rounded_down((number - 1e-9).ceil())
}

#[allow(clippy::cast_possible_truncation)] // Saturates, and NaN is 0.
fn rounded_down(number: f64) -> i32 {
    (number + 1e-9).max(0.0) as i32
}

/// Of positive numbers.
pub(in crate::engine) fn ceil_div(number: i32, by: i32) -> i32 {
    (number - 1) / by + 1
}

#[cfg(test)]
mod tests {
    use super::{aligned, thrifty, whole};

    #[test]
    fn whole_partitions_are_sufficient_and_minimal() {
        for partitions in 1..=512 {
            let (mut before, mut thrifty_before) = (0, 0);
            for tenths in 1..=partitions * 10 + 20 {
                let needed = f64::from(tenths) / 10.0;
                let fullest = needed / 1.15;
                let count = whole(needed, fullest, partitions);
                let case = format!("{needed} on {partitions} partitions: {count} after {before}");
                let most = f64::from(partitions) / fullest + 1e-9;
                let is_enough = |count: i32| {
                    f64::from(count) >= needed.min(f64::from(partitions))
                        && (f64::from((partitions + count - 1) / count) <= most || count == partitions)
                };
                assert!(is_enough(count) && (count == 1 || !is_enough(count - 1)), "{case}");
                assert!(count >= before, "{case}");
                before = count;

                let thrifty = thrifty(needed, fullest, partitions);
                let total = ((tenths + 9) / 10).min(partitions);
                let expected = if f64::from(count) > 1.5 * needed { total } else { count };
                assert_eq!(thrifty, expected, "{case}");
                assert!(thrifty >= thrifty_before, "{case}");
                thrifty_before = thrifty;
            }
        }
    }

    #[test]
    fn whole_partitions_can_be_checked_by_hand() {
        let cases =
            [(5.0, 5.0, 6), (6.5, 6.0, 7), (6.5, 6.1, 12), (2.5, 2.5, 3), (0.2, 0.2, 1), (99.0, 90.0, 12)];
        for (needed, fullest, expected) in cases {
            assert_eq!(whole(needed, fullest, 12), expected, "{needed} and {fullest}");
        }
        assert_eq!(thrifty(7.0, 7.0, 12), 7, "12 would be more than 10.5");
        assert_eq!(thrifty(8.0, 8.0, 12), 12);
        assert_eq!(whole(0.0, 0.0, 12), 0);
        assert_eq!(whole(3.2, 3.2, 0), 4);
        assert_eq!(whole(f64::INFINITY, f64::INFINITY, 12), 12);
        assert_eq!(whole(f64::NAN, f64::NAN, 12), 0);
    }

    #[test]
    fn the_aligned_count_is_sufficient_and_minimal() {
        for partitions in 1..=512 {
            for replicas in 1..=600 {
                // Partitions assigned one by one are what every balanced assignor arrives at.
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
