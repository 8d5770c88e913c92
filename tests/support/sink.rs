//! A server that is notified of alerts, keeps what it got, and answers as a test wants. It runs in a runtime of its own,
//! because tests block their thread while they wait for a log line.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a message may take to come before the test fails: longer than the pauses after some failures.
const PATIENCE: Duration = Duration::from_secs(120);
/// One part of an answer without end.
const PART: usize = 1 << 16;

/// How it answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// 200, and nothing else.
    Accept,
    /// This status with these headers and this body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// Never.
    Hang,
    /// 200 with a body that does not end.
    Endless,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self::Status(status, Vec::new(), String::new())
    }
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Got {
    pub at: Instant,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    /// Null where it is no JSON.
    pub body: Value,
    /// It was answered with 200.
    pub accepted: bool,
}

impl Got {
    /// `state namespace/name` of the first alert of a default body, without the namespace.
    pub fn what(&self) -> String {
        let alert = &self.body["alerts"][0];
        format!("{} {}", self.body["status"].as_str().unwrap(), alert["name"].as_str().unwrap())
    }
}

struct Shared {
    answer: Mutex<Answer>,
    got: watch::Sender<Vec<Got>>,
    /// Bytes of endless answers that were taken off.
    endless: AtomicUsize,
}

/// The server. It ends with this value.
pub struct Sink {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    serving: Mutex<Option<JoinHandle<()>>>,
    runtime: Option<Runtime>,
}

impl Sink {
    /// One that accepts everything.
    pub fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let got = watch::Sender::default();
        let shared =
            Arc::new(Shared { answer: Mutex::new(Answer::Accept), got, endless: AtomicUsize::default() });
        // Reached by any address of this machine.
        let (address, serving) = serve("0.0.0.0:0".parse().unwrap(), &shared, &runtime);
        Self { address, shared, serving: Mutex::new(Some(serving)), runtime: Some(runtime) }
    }

    /// The same that answers so.
    pub fn answering(answer: Answer) -> Self {
        let sink = Self::start();
        sink.answer(answer);
        sink
    }

    /// At loopback, which the operator of tests is allowed to reach.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.address.port())
    }

    /// Answers so from now on.
    pub fn answer(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    /// Stops listening: connections are refused.
    pub async fn down(&self) {
        let serving = self.serving.lock().unwrap().take().unwrap();
        serving.abort();
        assert!(serving.await.is_err(), "it listened until now");
    }

    /// Listens again, at the same port.
    pub fn up(&self) {
        let (_, serving) = serve(self.address, &self.shared, self.runtime.as_ref().unwrap());
        *self.serving.lock().unwrap() = Some(serving);
    }

    /// Everything that came so far.
    pub fn got(&self) -> Vec<Got> {
        self.shared.got.borrow().clone()
    }

    /// What came so far and was accepted, in short.
    pub fn accepted(&self) -> Vec<String> {
        self.got().iter().filter(|got| got.accepted).map(Got::what).collect()
    }

    /// Waits until so many requests came.
    pub async fn until(&self, count: usize) -> Vec<Got> {
        self.until_got(&format!("{count} messages"), |got| got.len() >= count).await
    }

    /// Waits until so many requests were accepted.
    pub async fn until_accepted(&self, count: usize) -> Vec<String> {
        let enough = |got: &Vec<Got>| got.iter().filter(|got| got.accepted).count() >= count;
        self.until_got(&format!("{count} accepted messages"), enough).await;
        self.accepted()
    }

    async fn until_got(&self, what: &str, enough: impl Fn(&Vec<Got>) -> bool) -> Vec<Got> {
        let mut got = self.shared.got.subscribe();
        let found = tokio::time::timeout(PATIENCE, got.wait_for(enough)).await;
        found.unwrap_or_else(|_| panic!("{what} never came, but {:#?}", self.got())).unwrap().clone()
    }

    /// Bytes of endless answers that were taken off.
    pub fn endless_bytes(&self) -> usize {
        self.shared.endless.load(Ordering::Relaxed)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn serve(address: SocketAddr, shared: &Arc<Shared>, runtime: &Runtime) -> (SocketAddr, JoinHandle<()>) {
    let bind = async move { TcpListener::bind(address).await.unwrap() };
    // In a thread that is in no runtime yet.
    let listener = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(bind)).join().unwrap());
    let address = listener.local_addr().unwrap();
    let service = Router::new().fallback(take).with_state(Arc::clone(shared));
    (address, runtime.spawn(async move { axum::serve(listener, service).await.unwrap() }))
}

async fn take(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 24).await.unwrap();
    let answer = shared.answer.lock().unwrap().clone();
    let got = Got {
        at: Instant::now(),
        target: parts.uri.to_string(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
        accepted: matches!(answer, Answer::Accept | Answer::Endless),
    };
    shared.got.send_modify(|all| all.push(got));
    match answer {
        Answer::Accept => Response::new(Body::empty()),
        Answer::Status(status, headers, body) => {
            let response = Response::builder().status(status);
            let add = |response: axum::http::response::Builder, (name, value): (&str, String)| {
                response.header(name, value)
            };
            headers.into_iter().fold(response, add).body(Body::from(body)).unwrap()
        }
        Answer::Hang => std::future::pending().await,
        Answer::Endless => {
            let part = move || {
                shared.endless.fetch_add(PART, Ordering::Relaxed);
                Ok::<_, Infallible>(vec![b'x'; PART])
            };
            Response::new(Body::from_stream(futures::stream::repeat_with(part)))
        }
    }
}
