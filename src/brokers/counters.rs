//! Adds up the counters of several queues so that the sum goes on when queues come and go. Pure.

/// A counter that grows by what the counters of the queues grew. Of each queue: its counter at the last poll that
/// counted it, and now. `restarted`: a broker counts from another start, which its counters need not show.
///
/// A queue that has just been added brings its history, which did not arrive now. A counter that fell belongs to a
/// queue or a broker that began anew: so does the sum, visibly, because what arrived in between is not known.
pub(super) fn go_on(
    total: Option<u64>,
    counters: impl Iterator<Item = (Option<u64>, Option<u64>)> + Clone,
    restarted: bool,
) -> Option<u64> {
    if counters.clone().next().is_none() {
        // No queue was counted, which is no sum of 0.
        return total;
    }
    let now = counters.clone().try_fold(0_u64, |sum, (_, now)| Some(sum.wrapping_add(now?)))?;
    let Some(total) = total else { return Some(now) };
    let grown = counters.clone().try_fold(0_u64, |sum, (before, now)| {
        let grown = before.zip(now).map_or(Some(0), |(before, now)| now.checked_sub(before));
        grown.map(|grown| sum.wrapping_add(grown))
    });
    Some(match grown.filter(|_| !restarted) {
        Some(grown) => total.wrapping_add(grown),
        None if now < total => now,
        None => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_visible_although_no_counter_fell() {
        let counters = [(Some(10), Some(96))];
        assert_eq!(go_on(Some(10), counters.into_iter(), false), Some(96));
        assert_eq!(go_on(Some(10), counters.into_iter(), true), Some(0));
        assert_eq!(go_on(Some(500), counters.into_iter(), true), Some(96));
    }
}
