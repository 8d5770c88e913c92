//! The signal to stop: SIGTERM, which Kubernetes sends to a pod, or SIGINT, which Ctrl-C sends.

use std::future::Future;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

/// Completes at the first SIGTERM or SIGINT. The handlers are installed when this function returns, so that a signal
/// during start-up is not lost. The first process of a container has no default handlers.
///
/// # Errors
/// The handlers cannot be installed.
pub fn requested() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
