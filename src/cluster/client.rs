//! The clients of the API server: one for everything that waits when the server asks for it, and one for the lease.

use kube::client::ClientBuilder;
use kube::{Client, Config};

use super::throttle::Throttle;

/// The process's clients.
pub struct Clients {
    /// For everything but the lease. It obeys `Retry-After` and repeats nothing by itself.
    pub main: Client,
    /// For the lease, with connections of its own: a renewal must not wait behind other requests, nor for a pause that
    /// others were asked for.
    pub lease: Client,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clients")
    }
}

/// Makes the clients. Nothing is connected yet.
///
/// # Errors
/// The configuration cannot be used, as when its certificates cannot be read.
pub fn connect(mut config: Config) -> Result<Clients, kube::Error> {
    // Its retry would hold a call open for as long as the server asks to wait.
    config.default_retry = false;
    let lease = Client::try_from(config.clone())?;
    let main = ClientBuilder::try_from(config)?.with_layer(&Throttle::default()).build();
    Ok(Clients { main, lease })
}
