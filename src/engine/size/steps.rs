//! The policy `steps`: the first rule that matches adds or removes replicas, at most once per period.
//!
//! A rule moves from where the target is, so what the windows of `behavior` compare is not the next count but where
//! the rule leads: up to the ceiling, or down to nothing. With the default window a rule to remove has to match for
//! 300 s before the first step, and then steps once per period; comparing next counts would wait for each step anew.
//! A rule that adds never removes: replicas above the partitions stay until a rule removes them.

use std::time::Duration;

use super::{Pause, Proposal, SizingInputs};
use crate::engine::explain::{Clause, Need};
use crate::engine::reason::Reason;
use crate::plan::{Step, StepRule, Threshold};

pub(in crate::engine) fn propose(inputs: &SizingInputs, period: Duration, rules: &[StepRule]) -> Proposal {
    let SizingInputs { plan, current, .. } = inputs;
    let current = *current;
    let messages = inputs.messages();
    let rule = (1..).zip(rules).find(|(_, rule)| matches(rule.when, messages));
    let rule = rule.map(|(number, rule)| (number, *rule));
    let stay = Proposal {
        wanted: current,
        trend: current,
        pause: Pause::None,
        limit: None,
        more: Reason::StepRule,
        fewer: Reason::StepRule,
        need: Need::Rule { messages, rule },
        clauses: Vec::new(),
    };
    let Some((_, StepRule { step, .. })) = rule else { return stay };

    let (cap, by) = inputs.cap();
    let (stepped, wanted, trend) = match step {
        Step::Add(size) => {
            let stepped = current.saturating_add(size);
            (stepped, stepped.min(cap).max(current), cap.max(current))
        }
        Step::Remove(size) => {
            let stepped = current.saturating_sub(size).max(0);
            (stepped, stepped, 0)
        }
    };
    let ratio = |replicas: i32| u128::try_from(replicas).unwrap_or_default();
    if stepped != current && current > 0 && plan.behavior.tolerates(ratio(stepped), ratio(current)) {
        return Proposal { clauses: vec![Clause::Tolerated { replicas: current }], ..stay };
    }
    let cut = (wanted < stepped).then_some(by);
    let clauses = cut.map(|_| inputs.cap_clause()).into_iter().collect();
    Proposal { wanted, trend, pause: Pause::Period(period), limit: cut, clauses, ..stay }
}

fn matches(when: Threshold, messages: u64) -> bool {
    match when {
        Threshold::Above(threshold) => messages > threshold,
        Threshold::Below(threshold) => messages < threshold,
    }
}
