//! The clients of the API server: for watches and lists, for short calls, and for the lease.

use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

use super::throttle::Throttle;

/// A connection that carries calls and answers nothing for so long is asked for a sign of life,
const PING_AFTER: Duration = Duration::from_secs(5);
/// and given up if there is none for so long. A call has a deadline of 5 s.
const PING_ANSWER: Duration = Duration::from_secs(5);

/// The process's clients.
pub struct Clients {
    /// For watches and lists. It obeys `Retry-After` and repeats nothing by itself.
    pub main: Client,
    /// For calls that are answered at once: changes of replicas, statuses, events. They share one connection (HTTP/2), so
    /// that a fleet that scales at one poll opens no connection for each object: a hundred handshakes took longer than
    /// the changes. No watches, since a connection carries a limited number of calls (250 by the API server's default).
    /// It obeys `Retry-After` together with `main`.
    pub short: Client,
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
    let throttle = Throttle::default();
    let lease = Client::try_from(config.clone())?;
    let short = multiplexed(&config, &throttle)?;
    let main = ClientBuilder::try_from(config)?.with_layer(&throttle).build();
    Ok(Clients { main, short, lease })
}

/// A client as kube makes it (`kube_client::client::builder`), which speaks HTTP/2 if the server does.
fn multiplexed(config: &Config, throttle: &Throttle) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let tls = HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    let name = config.tls_server_name.as_ref().and_then(|name| name.clone().try_into().ok());
    let tls = match name {
        Some(name) => tls.with_server_name_resolver(FixedServerNameResolver::new(name)),
        None => tls,
    };
    let connector = tls.enable_all_versions().wrap_connector(tcp);
    let client: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(PING_AFTER)
        .http2_keep_alive_timeout(PING_ANSWER)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).with_layer(throttle).build())
}
