//! The policy `steps`: the first rule that matches adds or removes replicas, at most once per period.
//!
//! A rule moves from where the target is, so what the windows of `behavior` compare is not the next count but where
//! the rule leads: up to the ceiling, or down to nothing. With the default window a rule to remove has to match for
//! 300 s before the first step, and then steps once per period; comparing next counts would wait for each step anew.
//! A rule that adds never removes: replicas above the partitions stay until a rule removes them.

use std::time::Duration;

use super::{Proposal, Situation, Wait};
use crate::engine::decision::{Reason, count};
use crate::engine::limit::behavior;
use crate::engine::units::elapsed;
use crate::plan::{Step, StepRule, Threshold};

pub(in crate::engine) fn propose(situation: &Situation, period: Duration, rules: &[StepRule]) -> Proposal {
    let Situation { plan, current, .. } = situation;
    let current = *current;
    let messages = situation.messages();
    let stay = |message: String| Proposal {
        wanted: current,
        trend: current,
        waits: None,
        limit: None,
        more: Reason::StepRule,
        fewer: Reason::StepRule,
        message,
    };
    let Some((number, rule)) = (1..).zip(rules).find(|(_, rule)| matches(rule.when, messages)) else {
        return stay(format!("{} match no rule", count(messages, "message")));
    };

    let are = if messages == 1 { "is" } else { "are" };
    let (comparison, threshold) = match rule.when {
        Threshold::Above(threshold) => ("above", threshold),
        Threshold::Below(threshold) => ("below", threshold),
    };
    let (verb, size) = match rule.step {
        Step::Add(size) => ("adds", size),
        Step::Remove(size) => ("removes", size),
    };
    let mut message = format!(
        "{} {are} {comparison} {threshold}: rule {number} {verb} {}",
        count(messages, "message"),
        count(size, "replica"),
    );

    let (ceiling, by, clause) = situation.ceiling();
    let (stepped, wanted, trend) = match rule.step {
        Step::Add(size) => {
            let stepped = current.saturating_add(size);
            (stepped, stepped.min(ceiling).max(current), ceiling.max(current))
        }
        Step::Remove(size) => {
            let stepped = current.saturating_sub(size).max(0);
            (stepped, stepped, 0)
        }
    };
    let ratio = |replicas: i32| u128::try_from(replicas).unwrap_or_default();
    if stepped != current
        && current > 0
        && behavior::tolerates(&plan.behavior, ratio(stepped), ratio(current))
    {
        return stay(format!("{message}; within the tolerance {current} will do"));
    }
    let cut = wanted < stepped;
    if cut {
        message.push_str(&format!("; {clause}"));
    }
    let waits = waits(situation, period);
    Proposal { wanted, trend, waits, limit: cut.then_some(by), ..stay(message) }
}

fn matches(when: Threshold, messages: u64) -> bool {
    match when {
        Threshold::Above(threshold) => messages > threshold,
        Threshold::Below(threshold) => messages < threshold,
    }
}

/// A period has to pass after the last write, whatever its reason, and a reading to be begun: a period shorter than
/// the polls must not step twice on the same backlog.
fn waits(situation: &Situation, period: Duration) -> Option<Wait> {
    let last = situation.history.last_scale()?;
    let wait = |clause| Some(Wait { clause, reason: Reason::StepRule });
    if elapsed(last, situation.now) < period {
        let due =
            last.saturating_add(period).map_or_else(|_| "later".to_owned(), |due| format!("at {due:.0}"));
        return wait(format!("the next step is due {due}"));
    }
    if situation.taken_at <= last {
        return wait("the next step needs a newer reading".to_owned());
    }
    None
}
