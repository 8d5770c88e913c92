//! Waits before a server of HTTP is asked again that asked for fewer requests (429, 503, `Retry-After`).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::StatusCode;
use tokio::time::Instant;

use crate::brokers::{Problem, SourceReason};

/// Longest wait that a server can ask for. A longer one is more likely a mistake.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);
/// First and longest wait after 429 without `Retry-After`.
const TOO_MANY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// First and longest wait after 503 without `Retry-After`: a proxy whose server restarts, most often.
const UNAVAILABLE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// The wait for one server.
#[derive(Debug, Default)]
pub(super) struct Pause(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    until: Option<(Instant, Problem)>,
    /// Refusals in a row, each after the wait for the one before.
    refusals: u32,
}

impl Pause {
    /// Why the server is not asked at `now`, if it is not.
    pub(super) fn problem(&self, now: Instant) -> Option<Problem> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.until.as_ref().filter(|(until, _)| now < *until).map(|(_, problem)| problem.clone())
    }

    /// The server answered something else.
    pub(super) fn answered(&self, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The answer to a request that was sent before the refusal does not lift it.
        if state.until.as_ref().is_none_or(|(until, _)| *until <= now) {
            *state = State::default();
        }
    }

    /// The server refused a request with 429 or 503. `subject` names it in the message, `retry_after` is how long it asks
    /// to wait.
    pub(super) fn refused(
        &self,
        subject: &str,
        status: StatusCode,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Problem {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = state.until.take().filter(|(until, _)| now < *until);
        if pending.is_none() {
            state.refusals = state.refusals.saturating_add(1);
        }
        let wait = wait(status, retry_after, state.refusals);
        let problem = problem(subject, status, retry_after);
        let new = (now + wait, problem.clone());
        // Of several requests that were refused together the longest wait counts.
        state.until = Some(pending.filter(|(until, _)| *until >= new.0).unwrap_or(new));
        problem
    }
}

fn wait(status: StatusCode, retry_after: Option<Duration>, refusals: u32) -> Duration {
    if let Some(asked) = retry_after {
        return asked.min(LONGEST_ASKED);
    }
    let (first, longest) = if status == StatusCode::TOO_MANY_REQUESTS { TOO_MANY } else { UNAVAILABLE };
    let doublings = refusals.saturating_sub(1).min(16);
    first.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(longest)
}

fn problem(subject: &str, status: StatusCode, retry_after: Option<Duration>) -> Problem {
    let (reason, way_out) = if status == StatusCode::TOO_MANY_REQUESTS {
        (SourceReason::TooManyRequests, "; raise pollPeriodSeconds or the server's request limit")
    } else {
        (SourceReason::ManagementUnavailable, "")
    };
    let waits = match retry_after {
        Some(asked) => format!("asks to wait {} s (Retry-After); the operator waits", asked.as_secs()),
        None => "does not name a time to wait; the operator waits longer after each refusal".to_owned(),
    };
    let status = status.as_u16();
    Problem::new(reason, format!("{subject} answers {status} and {waits}{way_out}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOO_MANY_REQUESTS: StatusCode = StatusCode::TOO_MANY_REQUESTS;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_server_is_not_asked_until_the_time_that_it_asked_for() {
        let (pause, now) = (Pause::default(), Instant::now());
        assert!(pause.problem(now).is_none());
        let problem = pause.refused("mq:15672", TOO_MANY_REQUESTS, Some(seconds(30)), now);
        assert!(problem.message.contains("30 s"), "{problem}");
        // A request that was sent earlier is answered, another is refused for a shorter time.
        pause.answered(now + seconds(1));
        pause.refused("mq:15672", TOO_MANY_REQUESTS, Some(seconds(2)), now + seconds(1));
        assert_eq!(pause.problem(now + seconds(29)), Some(problem));
        assert!(pause.problem(now + seconds(30)).is_none());
    }

    #[test]
    fn waits_that_the_server_does_not_name_grow_and_end_with_an_answer() {
        for (status, waits) in [
            (TOO_MANY_REQUESTS, [5, 10, 20, 40, 60, 60]),
            (StatusCode::SERVICE_UNAVAILABLE, [1, 2, 4, 8, 15, 15]),
        ] {
            let (pause, mut now) = (Pause::default(), Instant::now());
            for wait in waits {
                // Eight requests that are refused together are one refusal.
                for _ in 0..8 {
                    pause.refused("mq:15672", status, None, now);
                }
                assert!(pause.problem(now + seconds(wait) - Duration::from_millis(1)).is_some(), "{wait}");
                now += seconds(wait);
                assert!(pause.problem(now).is_none(), "{wait}");
            }
            pause.answered(now);
            pause.refused("mq:15672", status, None, now);
            assert!(pause.problem(now + seconds(waits[0])).is_none());
        }
    }

    #[test]
    fn no_server_stops_the_reading_for_more_than_an_hour() {
        let (pause, now) = (Pause::default(), Instant::now());
        pause.refused("mq:15672", TOO_MANY_REQUESTS, Some(seconds(u64::MAX)), now);
        assert!(pause.problem(now + LONGEST_ASKED).is_none());
    }
}
