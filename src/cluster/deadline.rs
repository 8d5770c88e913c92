//! A deadline for calls to the API server: the client itself waits for an answer as long as the connection stands, and
//! tries again by itself when the server is busy, so that a call could take minutes.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// Longest wait for the API server.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// The answer, if it comes within [`DEADLINE`].
pub(super) async fn soon<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    by(Instant::now() + DEADLINE, call).await
}

/// The answer, if it comes in time.
pub(super) async fn by<T>(
    deadline: Instant,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    timeout_at(deadline, call)
        .await
        .unwrap_or_else(|_| Err(kube::Error::Service("the API server did not answer in time".into())))
}
