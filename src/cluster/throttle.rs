//! Obeys the API server's `Retry-After`: what it sheds (429, 503) is not asked for again before the time that it names.
//!
//! kube's own retry keeps a call open while it waits, which is longer than a decision holds: a scale that is written 7 s
//! later is written on an old reading. So a call fails at once, with the time from which on it may be repeated, and a
//! write is decided anew then. The pause holds for one API group, since the server behind one group (such as an aggregated
//! API) may be overloaded alone. The lease has a client of its own without this.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{Method, Request, Response, StatusCode};
use tokio::time::{Instant, timeout};
use tower::{BoxError, Layer, Service};

/// Longest pause that is obeyed, whatever the server names: longer ones are a mistake.
const LONGEST: Duration = Duration::from_secs(300);
/// Longest wait for the head of an answer to a read. The API server itself gives up after 60 s; a watch is answered at
/// once, and lists have at most 500 objects.
const HEAD: Duration = Duration::from_secs(30);

/// The API server sheds load: nothing is to be sent before `until`.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the API server is overloaded and asks to wait (Retry-After)")]
pub struct Throttled {
    /// From then on a call may be repeated.
    pub until: Instant,
}

/// When a call that failed may be repeated, if the API server named a time.
#[must_use]
pub fn retry_at(error: &kube::Error) -> Option<Instant> {
    let kube::Error::Service(error) = error else { return None };
    error.downcast_ref::<Throttled>().map(|throttled| throttled.until)
}

/// The layer around a client. Its pauses are shared by all clones of the client.
#[derive(Clone, Debug, Default)]
pub struct Throttle(Pauses);

#[derive(Clone, Debug, Default)]
struct Pauses(Arc<Mutex<HashMap<String, Instant>>>);

impl Pauses {
    fn until(&self, group: &str) -> Option<Instant> {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        pauses.retain(|_, until| *until > now);
        pauses.get(group).copied()
    }

    /// Notes a pause, and returns when it ends: a shorter one does not cut a longer one.
    fn begin(&self, group: String, pause: Duration) -> Instant {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + pause.min(LONGEST);
        let known = pauses.entry(group).or_insert(until);
        *known = (*known).max(until);
        *known
    }
}

impl<S> Layer<S> for Throttle {
    type Service = Throttling<S>;

    fn layer(&self, inner: S) -> Throttling<S> {
        Throttling { inner, pauses: self.0.clone() }
    }
}

/// A client that obeys.
#[derive(Clone, Debug)]
pub struct Throttling<S> {
    inner: S,
    pauses: Pauses,
}

impl<S, I, O> Service<Request<I>> for Throttling<S>
where
    S: Service<Request<I>, Response = Response<O>, Error = BoxError>,
    S::Future: Send + 'static,
    O: Send + 'static,
{
    type Response = Response<O>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<O>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<I>) -> Self::Future {
        let group = group(request.uri().path());
        if let Some(until) = self.pauses.until(&group) {
            return Box::pin(std::future::ready(Err(Throttled { until }.into())));
        }
        let is_read = request.method() == Method::GET;
        let (call, pauses) = (self.inner.call(request), self.pauses.clone());
        Box::pin(async move {
            // Whoever writes has a shorter deadline.
            let answer =
                if is_read { timeout(HEAD, call).await.map_err(|_| NoAnswer)?? } else { call.await? };
            match pause(&answer) {
                Some(pause) => Err(Throttled { until: pauses.begin(group, pause) }.into()),
                None => Ok(answer),
            }
        })
    }
}

/// The API server does not answer a read.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer within {} s", HEAD.as_secs())]
struct NoAnswer;

/// The group of a path, such as `apps` of `/apis/apps/v1/…`; empty for the core group and everything else.
fn group(path: &str) -> String {
    let group = path.strip_prefix("/apis/").and_then(|rest| rest.split('/').next());
    group.unwrap_or_default().to_owned()
}

/// How long to wait after this answer, if it sheds load. Its time is given in seconds by the API server.
fn pause<O>(answer: &Response<O>) -> Option<Duration> {
    let sheds = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&answer.status());
    let seconds = answer.headers().get(RETRY_AFTER).filter(|_| sheds)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::autoscaling::v1::Scale;
    use k8s_openapi::api::core::v1::Secret;
    use kube::api::PostParams;
    use kube::client::Body;
    use kube::{Api, Client};

    use super::*;

    /// A client of a server that sheds load so many times, and how often the server was asked.
    fn client(sheds: usize) -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let server = tower::service_fn(move |_: Request<Body>| {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            let answer = if number < sheds {
                Response::builder().status(429).header("Retry-After", "7").body(Body::empty())
            } else {
                Response::builder().body(Body::from(b"{\"metadata\":{}}".to_vec()))
            };
            std::future::ready(Ok::<_, BoxError>(answer.unwrap()))
        });
        (Client::new(Throttle::default().layer(server), "shop"), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_was_shed_is_not_sent_again_before_retry_after() {
        let (client, asked) = client(2);
        let deployments: Api<Deployment> = Api::namespaced(client, "shop");
        let write = async || {
            let scale = deployments.replace_scale("orders", &PostParams::default(), &Scale::default()).await;
            scale.map_err(|error| retry_at(&error).expect("a time").duration_since(Instant::now()))
        };
        let began = Instant::now();
        while let Err(left) = write().await {
            // At each poll, until then.
            assert!(left <= Duration::from_secs(7), "{left:?}");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        assert!(began.elapsed() >= Duration::from_secs(14), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn other_api_groups_go_on() {
        let (client, asked) = client(1);
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), "shop");
        assert!(deployments.get("orders").await.is_err());
        Api::<Secret>::namespaced(client, "shop").get("orders").await.unwrap();
        assert!(deployments.get("orders").await.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 2, "what was shed is not asked for again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_is_not_answered_ends() {
        let server =
            tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, BoxError>>());
        let client = Client::new(Throttle::default().layer(server), "shop");
        let began = Instant::now();
        assert!(Api::<Deployment>::all(client).get("orders").await.is_err());
        assert_eq!(began.elapsed(), HEAD);
    }
}
