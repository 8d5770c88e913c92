//! Which changes of state and step are legal. Anything else is a fault of the program, and nothing is done. Pure.
//!
//! ```text
//! state  Planned ─► Running ─► Succeeded           step  Planned ► Locking ► Quiescing ► Snapshotting ► Provisioning
//!           │        │ ▲ │                                 ► Copying ► Verifying ► Draining ► Restoring ► Retaining
//!           │   Paused ◄┘ Halted                           ► Finished
//!           ▼        ▼   ▼                         while aborting: what has copied nothing goes to Restoring,
//!        Aborted ◄── Aborting                      what may have copied to Draining
//! ```

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::api::{DrainState, DrainStep};

/// A change that is not in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a drain cannot go from {from:?} to {to:?}")]
pub struct Illegal {
    /// Where it was.
    pub from: (DrainState, DrainStep),
    /// Where it was to go.
    pub to: (DrainState, DrainStep),
}

/// The states that follow each other, besides a state and itself.
const STATES: [(DrainState, DrainState); 11] = [
    (DrainState::Planned, DrainState::Running),
    (DrainState::Planned, DrainState::Aborted),
    (DrainState::Running, DrainState::Paused),
    (DrainState::Running, DrainState::Aborting),
    (DrainState::Running, DrainState::Halted),
    (DrainState::Running, DrainState::Succeeded),
    (DrainState::Paused, DrainState::Running),
    (DrainState::Paused, DrainState::Aborting),
    (DrainState::Halted, DrainState::Paused),
    (DrainState::Halted, DrainState::Aborting),
    (DrainState::Aborting, DrainState::Aborted),
];

/// Steps that follow each other while aborting, besides a step and itself.
const ABORTING: [(DrainStep, DrainStep); 11] = [
    (DrainStep::Planned, DrainStep::Finished),
    (DrainStep::Locking, DrainStep::Restoring),
    (DrainStep::Quiescing, DrainStep::Restoring),
    (DrainStep::Snapshotting, DrainStep::Restoring),
    (DrainStep::Provisioning, DrainStep::Restoring),
    (DrainStep::Copying, DrainStep::Draining),
    (DrainStep::Verifying, DrainStep::Draining),
    (DrainStep::Draining, DrainStep::Restoring),
    (DrainStep::Restoring, DrainStep::Retaining),
    (DrainStep::Restoring, DrainStep::Finished),
    (DrainStep::Retaining, DrainStep::Finished),
];

/// Whether a change is legal.
///
/// # Errors
/// It is not.
pub fn check(from: (DrainState, DrainStep), to: (DrainState, DrainStep)) -> Result<(), Illegal> {
    let states = from.0 == to.0 || STATES.contains(&(from.0, to.0));
    let is_aborting = matches!(to.0, DrainState::Aborting | DrainState::Aborted);
    let steps = from.1 == to.1
        || if is_aborting { ABORTING.contains(&(from.1, to.1)) } else { follows(from.1, to.1) };
    // Only a run moves, and its end is a step of its own.
    let moves = from.1 == to.1
        || matches!((from.0, to.0), (DrainState::Planned, DrainState::Running | DrainState::Aborted))
        || matches!(from.0, DrainState::Running | DrainState::Aborting)
            && !matches!(to.0, DrainState::Paused | DrainState::Halted);
    let ends = matches!(to.0, DrainState::Succeeded | DrainState::Aborted) == (to.1 == DrainStep::Finished);
    let begins = (to.0 == DrainState::Planned) == (to.1 == DrainStep::Planned);
    if states && steps && moves && ends && begins { Ok(()) } else { Err(Illegal { from, to }) }
}

/// Whether a step comes right after another.
fn follows(from: DrainStep, to: DrainStep) -> bool {
    DrainStep::ALL.windows(2).any(|pair| *pair == [from, to])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_through_all_steps_in_their_order() {
        use DrainState::{Planned, Running, Succeeded};
        let state = |step| match step {
            DrainStep::Planned => Planned,
            DrainStep::Finished => Succeeded,
            _ => Running,
        };
        for pair in DrainStep::ALL.windows(2) {
            let [from, to] = [pair[0], pair[1]].map(|step| (state(step), step));
            assert_eq!(check(from, to), Ok(()), "{from:?} {to:?}");
            if to.1 != DrainStep::Locking {
                assert!(check(to, from).is_err(), "back from {to:?} to {from:?}");
            }
        }
    }

    #[test]
    fn what_was_copied_is_consumed_before_a_run_ends() {
        use DrainState::{Aborted, Aborting, Running, Succeeded};
        for step in [DrainStep::Copying, DrainStep::Verifying] {
            assert!(check((Running, step), (Aborting, DrainStep::Restoring)).is_err());
            assert!(check((Aborting, step), (Aborting, DrainStep::Restoring)).is_err());
            assert!(check((Aborting, step), (Aborted, DrainStep::Finished)).is_err());
            assert!(check((Aborting, step), (Aborting, DrainStep::Draining)).is_ok());
        }
        assert!(check((Running, DrainStep::Copying), (Running, DrainStep::Draining)).is_err(), "unproven");
        assert!(check((Running, DrainStep::Copying), (Succeeded, DrainStep::Finished)).is_err());
    }

    #[test]
    fn a_halted_or_paused_run_stays_in_its_step() {
        use DrainState::{Aborting, Halted, Paused, Running};
        for step in DrainStep::ALL
            .into_iter()
            .filter(|step| !matches!(step, DrainStep::Planned | DrainStep::Finished))
        {
            assert_eq!(check((Running, step), (Halted, step)), Ok(()));
            assert_eq!(check((Halted, step), (Aborting, step)), Ok(()));
            assert_eq!(check((Paused, step), (Running, step)), Ok(()));
            assert!(check((Halted, step), (Running, step)).is_err(), "a person resumes by way of Paused");
            for to in DrainStep::ALL.into_iter().filter(|to| *to != step) {
                assert!(check((Halted, step), (Halted, to)).is_err());
                assert!(check((Running, step), (Halted, to)).is_err());
                assert!(check((Paused, step), (Paused, to)).is_err());
            }
        }
    }

    #[test]
    fn a_finished_run_is_finished() {
        use DrainState::{Aborted, Succeeded};
        for end in [Aborted, Succeeded] {
            for state in [DrainState::Planned, DrainState::Running, DrainState::Aborting, DrainState::Halted]
            {
                for step in DrainStep::ALL {
                    assert!(check((end, DrainStep::Finished), (state, step)).is_err());
                }
            }
        }
    }
}
