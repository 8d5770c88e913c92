//! Leader election by a Lease, and the fence that keeps a leader that fell asleep from writing.
//!
//! The algorithm is client-go's: a candidate takes the lease when its holder has not renewed it for the lease's
//! duration, measured by the candidate's own monotonic clock since it first saw that renewal, so that clocks of
//! different machines need not agree. Every write compares and swaps the `resourceVersion`.
//! Libraries for this exist; they do not tell when the last renewal was begun, which the fence needs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep};

/// Pause between two looks at the lease, for holder and candidates alike.
const RETRY: Duration = Duration::from_secs(2);

/// Who takes part in which election.
#[derive(Clone, Debug)]
pub struct Election {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// This process, unique among the candidates.
    pub identity: String,
    /// How long a lease holds without being renewed, at least 5 s.
    pub duration: Duration,
}

/// Tells whether this process may write. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<Mutex<Option<Instant>>>);

/// This process does not hold the lease (any more).
#[derive(Debug, thiserror::Error)]
#[error("the lease is not held, so nothing is written")]
pub struct NotLeader;

impl Leadership {
    /// A process alone, which always leads.
    #[must_use]
    pub fn undisputed() -> Self {
        Self(Arc::new(Mutex::new(Some(Instant::now() + Duration::from_hours(24 * 365 * 30)))))
    }

    fn none() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }

    /// Passes while the lease is held by the monotonic clock, which goes on while the process is stopped.
    ///
    /// # Errors
    /// The lease has expired or was never held: whatever is being done must not be written.
    pub fn check(&self) -> Result<(), NotLeader> {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.filter(|until| Instant::now() < *until).map(|_| ()).ok_or(NotLeader)
    }

    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// A lease that is held. [`Held::keep`] must run for it to stay held.
#[derive(Debug)]
pub struct Held {
    election: Election,
    leases: Api<Lease>,
    lease: Lease,
    renewed: Instant,
    leadership: Leadership,
}

/// Waits until the lease is this process's.
pub async fn acquire(client: Client, election: Election) -> Held {
    let leases: Api<Lease> = Api::namespaced(client, &election.namespace);
    let mut seen: Option<(Option<String>, Instant)> = None;
    loop {
        match attempt(&leases, &election, &mut seen).await {
            Ok(Some((lease, renewed))) => {
                let leadership = Leadership::none();
                leadership.set(Some(renewed + margin(election.duration)));
                return Held { election, leases, lease, renewed, leadership };
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, lease = election.name, "cannot read or take the lease, trying again")
            }
        }
        sleep(RETRY).await;
    }
}

/// Takes the lease if it is free, released or expired. `seen` is the resource version last seen and when.
async fn attempt(
    leases: &Api<Lease>,
    election: &Election,
    seen: &mut Option<(Option<String>, Instant)>,
) -> Result<Option<(Lease, Instant)>, kube::Error> {
    let began = Instant::now();
    let Some(lease) = leases.get_opt(&election.name).await? else {
        let fresh = Lease {
            metadata: ObjectMeta { name: Some(election.name.clone()), ..ObjectMeta::default() },
            spec: None,
        };
        return swallow_conflict(leases.create(&PostParams::default(), &claim(fresh, election)).await, began);
    };
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    let version = lease.metadata.resource_version.clone();
    let since = match seen {
        Some((known, since)) if *known == version => *since,
        _ => seen.insert((version, began)).1,
    };
    // What the holder itself said counts, should its configuration differ from ours.
    let said =
        lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).and_then(|s| u64::try_from(s).ok());
    let duration = said.map_or(election.duration, Duration::from_secs);
    let free = holder.is_empty() || holder == election.identity || began.duration_since(since) >= duration;
    if !free {
        return Ok(None);
    }
    swallow_conflict(
        leases.replace(&election.name, &PostParams::default(), &claim(lease, election)).await,
        began,
    )
}

/// Losing a race for the lease is the ordinary course of an election.
fn swallow_conflict(
    written: Result<Lease, kube::Error>,
    began: Instant,
) -> Result<Option<(Lease, Instant)>, kube::Error> {
    match written {
        Ok(lease) => Ok(Some((lease, began))),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

/// The lease as this process would hold it from now on.
fn claim(mut lease: Lease, election: &Election) -> Lease {
    let before = lease.spec.take().unwrap_or_default();
    let taken_over = before.holder_identity.as_deref() != Some(&election.identity);
    let now = Some(MicroTime(Timestamp::now()));
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(election.identity.clone()),
        lease_duration_seconds: i32::try_from(election.duration.as_secs()).ok(),
        acquire_time: if taken_over { now.clone() } else { before.acquire_time },
        renew_time: now,
        lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(taken_over)),
        ..LeaseSpec::default()
    });
    lease
}

/// How long after a renewal was begun its holder may write: a little less than candidates wait.
fn margin(duration: Duration) -> Duration {
    duration.mul_f64(0.8)
}

impl Held {
    /// The fence for everything that is written.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Renews the lease until it is lost. Dropping the future keeps the lease, for [`Held::release`].
    pub async fn keep(&mut self) {
        loop {
            sleep(RETRY).await;
            if self.leadership.check().is_err() {
                tracing::error!(lease = self.election.name, "the lease expired before it could be renewed");
                return;
            }
            let began = Instant::now();
            let claimed = claim(self.lease.clone(), &self.election);
            let expires = self.renewed + margin(self.election.duration);
            let params = PostParams::default();
            let renewal = self.leases.replace(&self.election.name, &params, &claimed);
            match tokio::time::timeout_at(expires, renewal).await {
                Ok(Ok(lease)) => {
                    self.lease = lease;
                    self.renewed = began;
                    self.leadership.set(Some(began + margin(self.election.duration)));
                }
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                    if !self.still_ours().await {
                        tracing::error!(lease = self.election.name, "another process holds the lease");
                        self.leadership.set(None);
                        return;
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, lease = self.election.name, "cannot renew the lease")
                }
                Err(_) => tracing::warn!(lease = self.election.name, "renewing the lease took too long"),
            }
        }
    }

    /// After a conflict: a person may have edited the lease, or an earlier renewal got through without its answer.
    async fn still_ours(&mut self) -> bool {
        match self.leases.get(&self.election.name).await {
            Ok(lease) => {
                let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
                let ours = holder == Some(&self.election.identity);
                self.lease = lease;
                ours
            }
            // Whoever holds it, the deadline by our own clock decides.
            Err(_) => true,
        }
    }

    /// Gives the lease back, so that a standby need not wait for it to expire.
    pub async fn release(mut self) {
        if self.leadership.check().is_err() {
            return;
        }
        self.leadership.set(None);
        if let Some(spec) = &mut self.lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        if let Err(error) =
            self.leases.replace(&self.election.name, &PostParams::default(), &self.lease).await
        {
            tracing::warn!(%error, lease = self.election.name, "cannot release the lease, it will expire");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn election(identity: &str) -> Election {
        Election {
            namespace: "system".into(),
            name: "queuescaler".into(),
            identity: identity.into(),
            duration: Duration::from_secs(15),
        }
    }

    #[test]
    fn a_claim_by_the_holder_keeps_acquire_time_and_transitions() {
        let first = claim(Lease::default(), &election("a"));
        let renewed = claim(first.clone(), &election("a")).spec.unwrap();
        let first = first.spec.unwrap();
        assert_eq!(renewed.acquire_time, first.acquire_time);
        assert_eq!(renewed.lease_transitions, Some(1));
    }

    #[test]
    fn a_claim_by_another_counts_a_transition() {
        let taken = claim(claim(Lease::default(), &election("a")), &election("b")).spec.unwrap();
        assert_eq!(taken.holder_identity.as_deref(), Some("b"));
        assert_eq!(taken.lease_transitions, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn leadership_ends_by_the_clock_alone() {
        let leadership = Leadership::none();
        assert!(leadership.check().is_err());
        leadership.set(Some(Instant::now() + Duration::from_secs(12)));
        assert!(leadership.check().is_ok());
        tokio::time::advance(Duration::from_secs(12)).await;
        assert!(leadership.check().is_err());
    }
}
