//! Leader election by a Lease, and the fence that keeps a leader that fell asleep from writing.
//!
//! The algorithm is client-go's: a candidate takes the lease when its holder has not renewed it for the lease's
//! duration, measured by the candidate's own monotonic clock since it first saw that renewal, so that clocks of
//! different machines need not agree. Every write compares and swaps the `resourceVersion`.
//! Libraries for this exist; they do not expose when the last renewal was begun, which the fence needs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep};

use super::deadline::{DEADLINE, by, soon};

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

/// Whether this process may write, and under which name. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Leadership {
    until: Arc<Mutex<Option<Instant>>>,
    field_manager: Arc<str>,
}

/// What the field managers of all installations of the operator begin with.
const FIELD_MANAGER: &str = "queuescaler:";
/// Longest name of a field manager that the API server takes, in bytes.
const FIELD_MANAGER_LIMIT: usize = 128;

/// This process does not hold the lease (any more).
#[derive(Debug, thiserror::Error)]
#[error("the lease is not held, so nothing is written")]
pub struct NotLeader;

impl Leadership {
    /// A process alone, which always leads.
    #[must_use]
    pub fn undisputed() -> Self {
        let leadership = Self::none("alone/queuescaler");
        leadership.set(Some(Instant::now() + Duration::from_hours(24 * 365 * 30)));
        leadership
    }

    /// A process that does not lead.
    #[cfg(test)]
    pub(crate) fn lost() -> Self {
        Self::none("lost/queuescaler")
    }

    /// `lease`: its namespace and name.
    fn none(lease: &str) -> Self {
        let mut name = format!("{FIELD_MANAGER}{lease}");
        name.truncate(FIELD_MANAGER_LIMIT);
        Self { until: Arc::default(), field_manager: name.into() }
    }

    /// The name under which replicas are written: the same for all processes of one installation, another one for another
    /// installation.
    #[must_use]
    pub fn field_manager(&self) -> &str {
        &self.field_manager
    }

    /// The lease of another installation of the operator, if this field manager is one.
    #[must_use]
    pub fn other_installation<'m>(&self, field_manager: &'m str) -> Option<&'m str> {
        let lease = field_manager.strip_prefix(FIELD_MANAGER)?;
        (*field_manager != *self.field_manager).then_some(lease)
    }

    /// Passes while the lease is held by the monotonic clock, which goes on while the process is stopped.
    ///
    /// # Errors
    /// The lease has expired or was never held: whatever is being done must not be written.
    pub fn check(&self) -> Result<(), NotLeader> {
        self.until().map(|_| ())
    }

    /// Writes something, if the lease holds, with an answer before it expires and within 5 s.
    ///
    /// # Errors
    /// The lease has expired or was never held; within, those of the call.
    pub(super) async fn write<T>(
        &self,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<Result<T, kube::Error>, NotLeader> {
        let until = self.until()?;
        Ok(by(until.min(Instant::now() + DEADLINE), call).await)
    }

    fn until(&self) -> Result<Instant, NotLeader> {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.filter(|until| Instant::now() < *until).ok_or(NotLeader)
    }

    fn set(&self, until: Option<Instant>) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// A lease that is held. [`Held::keep`] must run for it to stay held.
#[derive(Debug)]
pub struct Held {
    election: Election,
    leases: Api<Lease>,
    lease: Lease,
    leadership: Leadership,
}

/// What a renewal came to.
enum Renewal {
    Renewed,
    /// The API server did not answer, or not as it should.
    Failed(kube::Error),
    /// Somebody else has the lease, or nobody.
    Lost,
}

/// What an attempt to take the lease came to.
enum Attempt {
    Taken(Box<Lease>, Instant),
    /// Another process holds it for this long, unless it renews.
    Held(Duration),
    /// Another candidate was faster.
    Lost,
}

/// Waits until the lease is this process's.
pub async fn acquire(client: Client, election: Election) -> Held {
    let leases: Api<Lease> = Api::namespaced(client, &election.namespace);
    let mut seen: Option<(Option<String>, Instant)> = None;
    loop {
        let pause = match attempt(&leases, &election, &mut seen).await {
            Ok(Attempt::Taken(lease, renewed)) => {
                let leadership = Leadership::none(&format!("{}/{}", election.namespace, election.name));
                leadership.set(Some(renewed + margin(election.duration)));
                return Held { election, leases, lease: *lease, leadership };
            }
            Ok(Attempt::Held(left)) => RETRY.min(left),
            Ok(Attempt::Lost) => RETRY,
            Err(error) => {
                tracing::warn!(%error, lease = election.name, "cannot read or take the lease, trying again");
                RETRY
            }
        };
        sleep(pause).await;
    }
}

/// Takes the lease if it is free, released or expired. `seen` is the resource version last seen, and when its answer
/// arrived.
async fn attempt(
    leases: &Api<Lease>,
    election: &Election,
    seen: &mut Option<(Option<String>, Instant)>,
) -> Result<Attempt, kube::Error> {
    let Some(lease) = soon(leases.get_opt(&election.name)).await? else {
        let fresh = Lease {
            metadata: ObjectMeta { name: Some(election.name.clone()), ..ObjectMeta::default() },
            spec: None,
        };
        let claimed = claim(fresh, election);
        let began = Instant::now();
        return swallow_conflict(soon(leases.create(&PostParams::default(), &claimed)).await, began);
    };
    let holder = holder(&lease).unwrap_or_default();
    let version = lease.metadata.resource_version.clone();
    // From the answer on: the holder may have renewed while the request was under way. Counted from before it, a slow
    // answer would let a candidate take a lease whose holder still writes.
    let answered = Instant::now();
    let since = match seen {
        Some((known, since)) if *known == version => *since,
        _ => seen.insert((version, answered)).1,
    };
    // The duration in the lease counts, should the holder's configuration differ from ours.
    let held_for =
        lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).and_then(|s| u64::try_from(s).ok());
    let left = held_for
        .map_or(election.duration, Duration::from_secs)
        .saturating_sub(answered.duration_since(since));
    if !holder.is_empty() && holder != election.identity && !left.is_zero() {
        return Ok(Attempt::Held(left));
    }
    let claimed = claim(lease, election);
    // The lease holds from before the claim was sent, not from its answer.
    let began = Instant::now();
    swallow_conflict(soon(leases.replace(&election.name, &PostParams::default(), &claimed)).await, began)
}

/// Losing a race for the lease is the ordinary course of an election.
fn swallow_conflict(written: Result<Lease, kube::Error>, began: Instant) -> Result<Attempt, kube::Error> {
    match written {
        Ok(lease) => Ok(Attempt::Taken(Box::new(lease), began)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Attempt::Lost),
        Err(error) => Err(error),
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
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

    /// Renews the lease until it is lost to somebody else. Dropping the future keeps the lease, for [`Held::release`].
    ///
    /// While it cannot be renewed, [`Leadership::check`] fails from its expiry on. It is tried again all the same: as
    /// each claim compares and swaps the version that was last ours, success proves that nobody has led in between.
    pub async fn keep(&mut self) {
        loop {
            sleep(RETRY).await;
            let held = self.leadership.check().is_ok();
            match self.renew().await {
                Renewal::Renewed if held => {}
                Renewal::Renewed => tracing::info!(lease = self.election.name, "leading again"),
                Renewal::Failed(error) => {
                    tracing::warn!(%error, lease = self.election.name, held, "cannot renew the lease, trying again");
                }
                Renewal::Lost => {
                    tracing::error!(lease = self.election.name, "another process may hold the lease");
                    self.leadership.set(None);
                    return;
                }
            }
        }
    }

    async fn renew(&mut self) -> Renewal {
        match self.claim_again().await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Ok(()) => return Renewal::Renewed,
            Err(error) => return Renewal::Failed(error),
        }
        // A person may have edited the lease, or an earlier renewal got through without its answer.
        match by(self.patience(), self.leases.get_opt(&self.election.name)).await {
            Ok(Some(lease)) if holder(&lease) == Some(&self.election.identity) => self.lease = lease,
            Ok(_) => return Renewal::Lost,
            Err(error) => return Renewal::Failed(error),
        }
        match self.claim_again().await {
            Ok(()) => Renewal::Renewed,
            Err(error) => Renewal::Failed(error),
        }
    }

    async fn claim_again(&mut self) -> Result<(), kube::Error> {
        let began = Instant::now();
        let claimed = claim(self.lease.clone(), &self.election);
        let params = PostParams::default();
        self.lease = by(self.patience(), self.leases.replace(&self.election.name, &params, &claimed)).await?;
        self.leadership.set(Some(began + margin(self.election.duration)));
        Ok(())
    }

    /// Until when one call may take, so that a connection that hangs leaves time for another.
    fn patience(&self) -> Instant {
        Instant::now() + (self.election.duration / 4).min(DEADLINE)
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
        let params = PostParams::default();
        if let Err(error) = soon(self.leases.replace(&self.election.name, &params, &self.lease)).await {
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

    // The holder renews while the candidate's request is under way, so that the lease holds for its whole duration from
    // the answer on.
    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_does_not_shorten_the_holders_lease() {
        let lease = claim(Lease::default(), &election("holder"));
        let service = tower::service_fn(move |_: http::Request<kube::client::Body>| {
            let body = serde_json::to_vec(&lease).unwrap();
            async move {
                tokio::time::sleep(Duration::from_secs(4)).await;
                Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::from(body)))
            }
        });
        let leases: Api<Lease> = Api::namespaced(Client::new(service, "default"), "system");
        let mut seen = None;
        let attempt = attempt(&leases, &election("candidate"), &mut seen).await.unwrap();
        assert!(matches!(attempt, Attempt::Held(left) if left == Duration::from_secs(15)));
    }

    #[test]
    fn another_installation_is_known_by_its_lease() {
        let leadership = Leadership::none("system/queuescaler");
        assert_eq!(leadership.other_installation("queuescaler:system/queuescaler"), None);
        assert_eq!(
            leadership.other_installation("queuescaler:team-a/queuescaler"),
            Some("team-a/queuescaler")
        );
        assert_eq!(leadership.other_installation("kubectl"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn leadership_ends_by_the_clock_alone() {
        let leadership = Leadership::none("system/queuescaler");
        assert!(leadership.check().is_err());
        leadership.set(Some(Instant::now() + Duration::from_secs(12)));
        assert!(leadership.check().is_ok());
        tokio::time::advance(Duration::from_secs(12)).await;
        assert!(leadership.check().is_err());
    }
}
