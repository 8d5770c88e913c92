//! The HTTP server of `/livez`, `/readyz` and `/metrics`, with a bounded number of connections.
//!
//! Alive: the runtime answers. Ready: the process has started, and while it leads, everything that it must watch is
//! watched. A standby is ready too, because a rollout must not wait for the lease.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::metrics::Metrics;

/// Connections at once. A new one ends the oldest: whoever holds connections open must not keep out the kubelet, whose
/// failed probes would end the process.
const CONNECTIONS: usize = 64;
/// Longest wait for the head of a request.
const HEAD: Duration = Duration::from_secs(5);
/// Longest time for one request and its answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How long answers under way may take to end.
const SHUTDOWN: Duration = Duration::from_secs(1);
/// Pause after a connection that could not be accepted, as without free descriptors the next attempt fails too.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// What a request can be answered with.
#[derive(Clone)]
pub struct Served {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/readyz`: why this process is not ready, `None` while it is.
    pub not_ready: Arc<dyn Fn() -> Option<String> + Send + Sync>,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Served")
    }
}

/// Takes the address, so that a mistake in it shows before anything else is done.
///
/// # Errors
/// The address is taken by another process, or is none of this machine's.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until `shutdown` resolves.
///
/// # Errors
/// The listener has no address.
pub async fn serve(
    listener: TcpListener,
    served: Served,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    tracing::info!(address = %listener.local_addr()?, "serving /livez, /readyz and /metrics");
    let router = routes(served);
    let mut connections = JoinSet::new();
    let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        by_age.retain(|connection| !connection.is_finished());
        if by_age.len() >= CONNECTIONS
            && let Some(oldest) = by_age.pop_front()
        {
            oldest.abort();
        }
        match accepted {
            Ok((stream, _)) => by_age.push_back(connections.spawn(answer(stream, router.clone()))),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for metrics or probes");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(SHUTDOWN, all).await;
    Ok(())
}

/// Answers one request. A connection that is kept would only count against the limit: scrapes and probes are rare.
async fn answer(stream: TcpStream, router: Router) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD).keep_alive(false);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Ok(Err(error)) = timeout(ANSWER, connection).await {
        tracing::debug!(%error, "a request for metrics or a probe ended early");
    }
}

fn routes(served: Served) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .route("/metrics", get(exposition))
        .with_state(served)
}

async fn readiness(State(served): State<Served>) -> impl IntoResponse {
    match (served.not_ready)() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn exposition(State(served): State<Served>) -> impl IntoResponse {
    let content_type = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    match served.metrics.exposition() {
        Ok(text) => (content_type, text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server with this reason for not being ready.
    async fn server(problem: Option<&str>) -> SocketAddr {
        let problem = problem.map(str::to_owned);
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = Served { metrics: Metrics::new(), not_ready: Arc::new(move || problem.clone()) };
        tokio::spawn(serve(listener, served, std::future::pending()));
        address
    }

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readiness_is_refused_with_its_reason() {
        assert!(ask(server(None).await, "/readyz").await.starts_with("HTTP/1.1 200"));
        let refused = ask(server(Some("cannot watch deployments.apps")).await, "/readyz").await;
        assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("deployments.apps"), "{refused}");
    }

    #[tokio::test]
    async fn connections_held_open_do_not_keep_probes_out_and_are_bounded() {
        let address = server(None).await;
        let mut held = Vec::new();
        for _ in 0..3 * CONNECTIONS {
            held.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        // The oldest one was ended.
        let mut byte = [0];
        assert!(matches!(held[0].read(&mut byte).await, Ok(0) | Err(_)));
    }
}
