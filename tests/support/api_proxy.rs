//! A way to the real API server for one operator, which tests can break without harm to anybody else.
//!
//! The operator speaks plain HTTP to a port of this machine; what arrives is passed on over TLS, with the operator's
//! own token, and what it writes is recorded. The line can be cut or fall silent, and writes of replicas can be
//! disturbed. It runs in a runtime of its own, because tests block their thread while they wait for a log line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::bench::Bench;

/// The state of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Everything is passed on.
    Up,
    /// Connections are closed, and new ones at once.
    Cut,
    /// Connections stay, and nothing comes through.
    Silent,
}

/// What happens to writes of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Somebody changes the target right before each of so many writes arrives: the API server itself refuses them.
    Conflicts(usize),
    /// So many are answered with 429 and `Retry-After`: [`RETRY_AFTER`], and do not arrive.
    Shed(usize),
}

/// When a write is held, whose writer never gets an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It does not arrive.
    Before,
    /// It arrives.
    After,
}

/// Says of a write by its method, address and body whether it is held.
type Which = Box<dyn FnMut(&Method, &Uri, &Value) -> Option<Hold> + Send>;

/// Seconds that the proxy asks to wait when it sheds load.
pub const RETRY_AFTER: u64 = 7;

/// A write that the API server has answered.
#[derive(Clone, Debug)]
pub struct Write {
    pub method: Method,
    pub path: String,
    pub body: Value,
    pub status: u16,
    /// When it arrived.
    pub at: Instant,
}

impl Write {
    fn is_lease(&self) -> bool {
        is_lease(&self.path)
    }

    /// The workload and the replicas, if replicas were accepted.
    pub fn scaled(&self) -> Option<(&str, i64)> {
        let name = self.path.strip_suffix("/scale")?.rsplit('/').next()?;
        (self.status == 200).then_some((name, self.body["spec"]["replicas"].as_i64()?))
    }
}

fn is_scale(method: &Method, path: &str) -> bool {
    method == Method::PUT && path.ends_with("/scale")
}

fn is_lease(path: &str) -> bool {
    path.contains("/leases")
}

/// How long something may take to be asked for or written before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// How late what is late comes: after everything else that happens at a start.
const LATE: Duration = Duration::from_secs(2);

struct Shared {
    /// Without credentials: those of the operator are passed on.
    upstream: Client,
    administrator: Client,
    line: watch::Sender<Line>,
    fault: Mutex<Fault>,
    hold: Mutex<Option<Which>>,
    held: watch::Sender<usize>,
    /// The end of the path of what is read late.
    late: Mutex<Option<&'static str>>,
    /// The end of the path of what is listed, and whose changes are not told.
    unwatched: Mutex<Option<&'static str>>,
    /// The ends of the paths whose lists are not answered, and how many were asked for.
    silent_lists: Mutex<Vec<&'static str>>,
    lists: watch::Sender<usize>,
    /// The ends of the paths whose next watch has expired (410).
    expired: watch::Sender<Vec<&'static str>>,
    /// Connections that are open.
    connections: watch::Sender<usize>,
    /// How long each write of a status takes in addition.
    slow_status: Mutex<Duration>,
    /// Writes but the lease that were passed on and are not recorded yet.
    under_way: watch::Sender<usize>,
    writes: watch::Sender<Vec<Write>>,
}

/// A write counts as under way until it is recorded, or until its connection is gone.
struct UnderWay(Arc<Shared>);

impl UnderWay {
    fn begin(shared: &Arc<Shared>) -> Self {
        shared.under_way.send_modify(|count| *count += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.send_modify(|count| *count -= 1);
    }
}

/// The way. It ends with this value.
pub struct ApiProxy {
    /// For the operator.
    pub kubeconfig: PathBuf,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl ApiProxy {
    /// Opens a way to the API server for an operator with the rights of the bench's.
    pub fn start(bench: &Bench, name: &str) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let direct = Kubeconfig::read_from(&bench.kubeconfig).unwrap();
        let start = async move {
            let mut config = configuration(direct.clone()).await;
            config.auth_info = Default::default();
            config.default_retry = false;
            let administrator = configuration(Kubeconfig::read().unwrap()).await;
            let shared = Arc::new(Shared {
                upstream: Client::try_from(config).unwrap(),
                administrator: Client::try_from(administrator).unwrap(),
                line: watch::Sender::new(Line::Up),
                fault: Mutex::new(Fault::None),
                hold: Mutex::default(),
                held: watch::Sender::new(0),
                late: Mutex::default(),
                unwatched: Mutex::default(),
                silent_lists: Mutex::default(),
                lists: watch::Sender::new(0),
                expired: watch::Sender::default(),
                connections: watch::Sender::default(),
                slow_status: Mutex::default(),
                under_way: watch::Sender::default(),
                writes: watch::Sender::default(),
            });
            let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let outer = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = outer.local_addr().unwrap();
            tokio::spawn(carry_all(outer, inner.local_addr().unwrap(), Arc::clone(&shared)));
            let service = axum::Router::new().fallback(pass_on).with_state(Arc::clone(&shared));
            tokio::spawn(async move { axum::serve(inner, service).await.unwrap() });
            (direct, address, shared)
        };
        let (mut direct, address, shared) =
            std::thread::scope(|scope| scope.spawn(|| runtime.block_on(start)).join().unwrap());
        for cluster in direct.clusters.iter_mut().filter_map(|cluster| cluster.cluster.as_mut()) {
            cluster.server = Some(format!("http://{address}"));
            (cluster.certificate_authority, cluster.certificate_authority_data) = (None, None);
        }
        let kubeconfig = bench.kubeconfig.with_file_name(format!("kubeconfig-{name}"));
        write(&kubeconfig, &direct);
        Self { kubeconfig, shared, runtime: Some(runtime) }
    }

    /// Changes the state of the line.
    pub fn line(&self, line: Line) {
        self.shared.line.send_replace(line);
    }

    /// Disturbs the writes of replicas from now on.
    pub fn fault(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    /// Lists of this resource and its watches come [`LATE`] from now on.
    pub fn late(&self, resource: &'static str) {
        *self.shared.late.lock().unwrap() = Some(resource);
    }

    /// Watches of this resource that begin from now on are not answered.
    pub fn unwatched(&self, resource: &'static str) {
        *self.shared.unwatched.lock().unwrap() = Some(resource);
    }

    /// Lists of these resources are not answered from now on; an empty list answers all again.
    pub fn silent_lists(&self, resources: &[&'static str]) {
        *self.shared.silent_lists.lock().unwrap() = resources.to_vec();
    }

    /// Waits until so many lists were asked for that are not answered.
    pub async fn lists_asked(&self, count: usize) {
        self.shared.lists.subscribe().wait_for(|lists| *lists >= count).await.unwrap();
    }

    /// Ends all watches, and answers the next one of each of these resources as expired (410), so that it is listed again.
    pub async fn expire(&self, resources: &[&'static str]) {
        self.shared.expired.send_replace(resources.to_vec());
        self.line(Line::Cut);
        // Each connection sees that the line was cut before it is up again.
        let ended = within(&self.shared.connections, PATIENCE, |open| *open == 0).await;
        ended.unwrap_or_else(|open| panic!("{open} connections do not end"));
        self.line(Line::Up);
        let asked = within(&self.shared.expired, PATIENCE, Vec::is_empty).await;
        asked.unwrap_or_else(|left| panic!("nobody watched {left:?} again"));
    }

    /// Each write of a status takes so much longer from now on.
    pub fn slow_status(&self, by: Duration) {
        *self.shared.slow_status.lock().unwrap() = by;
    }

    /// Asks from now on of each write but that of the lease whether it is held.
    pub fn hold(&self, which: impl FnMut(&Method, &Uri, &Value) -> Option<Hold> + Send + 'static) {
        *self.shared.hold.lock().unwrap() = Some(Box::new(which));
    }

    /// Holds all writes of replicas from now on.
    pub fn hold_scales(&self, hold: Hold) {
        self.hold(move |method, uri, _| is_scale(method, uri.path()).then_some(hold));
    }

    /// Waits until so many writes were held.
    pub async fn held(&self, count: usize) {
        self.shared.held.subscribe().wait_for(|held| *held >= count).await.unwrap();
    }

    /// Everything written so far but the lease. Waits for what is under way: its effect is seen at the API server before
    /// its answer is here.
    pub async fn writes(&self) -> Vec<Write> {
        let recorded = within(&self.shared.under_way, PATIENCE, |count| *count == 0).await;
        recorded.unwrap_or_else(|count| panic!("{count} writes get no answer"));
        self.shared.writes.borrow().iter().filter(|write| !write.is_lease()).cloned().collect()
    }

    /// Waits until a write is as wanted. `what` names that for a failure.
    pub async fn until_written(&self, what: &str, wanted: impl Fn(&Write) -> bool) {
        let found = within(&self.shared.writes, PATIENCE, |writes| writes.iter().any(&wanted)).await;
        found.unwrap_or_else(|writes| panic!("never written: {what}; but {writes:#?}"));
    }

    /// Waits for the next write but that of the lease, for so long at most.
    pub async fn written_within(&self, time: Duration) {
        let before = others(&self.shared.writes.borrow());
        let _ = within(&self.shared.writes, time, |writes| others(writes) > before).await;
    }

    /// How often the lease was written.
    pub fn renewals(&self) -> usize {
        self.shared.writes.borrow().iter().filter(|write| write.is_lease()).count()
    }

    /// Replicas that were accepted so far, in order.
    pub async fn scaled(&self) -> Vec<(String, i64)> {
        let writes = self.writes().await;
        writes.iter().filter_map(Write::scaled).map(|(name, replicas)| (name.to_owned(), replicas)).collect()
    }

    /// How many writes of replicas were answered with this status.
    pub async fn scale_answers(&self, status: u16) -> usize {
        self.writes()
            .await
            .iter()
            .filter(|write| write.path.ends_with("/scale") && write.status == status)
            .count()
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Writes but the lease.
fn others(writes: &[Write]) -> usize {
    writes.iter().filter(|write| !write.is_lease()).count()
}

/// Waits until a record is as wanted; else returns what it is at last.
async fn within<T: Clone>(
    record: &watch::Sender<T>,
    patience: Duration,
    wanted: impl FnMut(&T) -> bool,
) -> Result<(), T> {
    let mut record = record.subscribe();
    let found = tokio::time::timeout(patience, record.wait_for(wanted)).await.is_ok();
    if found { Ok(()) } else { Err(record.borrow().clone()) }
}

async fn configuration(kubeconfig: Kubeconfig) -> Config {
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()
}

fn write(path: &Path, kubeconfig: &Kubeconfig) {
    std::fs::write(path, serde_yaml::to_string(kubeconfig).unwrap()).unwrap();
}

async fn carry_all(outer: TcpListener, inner: SocketAddr, shared: Arc<Shared>) {
    while let Ok((client, _)) = outer.accept().await {
        shared.connections.send_modify(|open| *open += 1);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            carry(client, inner, shared.line.subscribe()).await;
            shared.connections.send_modify(|open| *open -= 1);
        });
    }
}

/// Carries one connection until an end closes it or the line is disturbed.
async fn carry(mut client: TcpStream, inner: SocketAddr, mut line: watch::Receiver<Line>) {
    let Ok(mut server) = TcpStream::connect(inner).await else { return };
    let disturbed = {
        let mut line = line.clone();
        async move { line.wait_for(|line| *line != Line::Up).await.is_ok() }
    };
    tokio::select! {
        biased; // Nothing of a new connection gets through a disturbed line.
        _ = disturbed => {}
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
    }
    // A silent line keeps both ends open; what was under way is lost when it ends.
    let _ = line.wait_for(|line| *line != Line::Silent).await;
}

async fn pass_on(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, 16 * 1024 * 1024).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let late = *shared.late.lock().unwrap();
    if method == Method::GET && late.is_some_and(|resource| path.ends_with(resource)) {
        tokio::time::sleep(LATE).await;
    }
    let unwatched = *shared.unwatched.lock().unwrap();
    let watches = parts.uri.query().is_some_and(|query| query.contains("watch=true"));
    if watches && unwatched.is_some_and(|resource| path.ends_with(resource)) {
        std::future::pending::<()>().await;
    }
    let lists = method == Method::GET && !watches;
    if lists && shared.silent_lists.lock().unwrap().iter().any(|resource| path.ends_with(resource)) {
        shared.lists.send_modify(|count| *count += 1);
        std::future::pending::<()>().await;
    }
    if watches && shared.takes_expired(&path) {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired",
            "message": "too old resource version", "code": 410,
        });
        return format!("{}\n", json!({"type": "ERROR", "object": status})).into_response();
    }
    if method == Method::PATCH && path.ends_with("/status") {
        let by = *shared.slow_status.lock().unwrap();
        tokio::time::sleep(by).await;
    }
    let at = Instant::now();
    let hold = shared.holds(&method, &parts.uri, &body);
    if hold == Some(Hold::Before) {
        shared.hold().await;
    }
    let fault = if is_scale(&method, &path) { shared.next_fault() } else { Fault::None };
    match fault {
        Fault::Conflicts(_) => shared.touch(&path).await,
        Fault::Shed(_) => {
            let body = serde_json::from_slice(&body).unwrap_or_default();
            shared.wrote(Write { method, path, body, status: 429, at });
            return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", RETRY_AFTER.to_string())])
                .into_response();
        }
        Fault::None => {}
    }
    let under_way = (method != Method::GET && !is_lease(&path)).then(|| UnderWay::begin(&shared));
    let request = axum::http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    let answer = match shared.upstream.send(request).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => {
            println!("passing on {method} {path}: {error}");
            return StatusCode::BAD_GATEWAY.into_response();
        }
    };
    if method != Method::GET {
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let status = answer.status().as_u16();
        shared.wrote(Write { method, path, body, status, at });
    }
    drop(under_way);
    if hold == Some(Hold::After) {
        shared.hold().await;
    }
    answer
}

impl Shared {
    fn next_fault(&self) -> Fault {
        let mut fault = self.fault.lock().unwrap();
        let now = *fault;
        *fault = match now {
            Fault::Conflicts(left @ 2..) => Fault::Conflicts(left - 1),
            Fault::Shed(left @ 2..) => Fault::Shed(left - 1),
            Fault::Conflicts(_) | Fault::Shed(_) => Fault::None,
            other => other,
        };
        now
    }

    fn holds(&self, method: &Method, uri: &Uri, body: &[u8]) -> Option<Hold> {
        if method == Method::GET || is_lease(uri.path()) {
            return None;
        }
        let mut hold = self.hold.lock().unwrap();
        hold.as_mut()?(method, uri, &serde_json::from_slice(body).unwrap_or_default())
    }

    /// Whether the watch with this path is to be answered as expired, which happens once.
    fn takes_expired(&self, path: &str) -> bool {
        self.expired.send_if_modified(|expired| {
            let place = expired.iter().position(|resource| path.ends_with(resource));
            place.map(|place| expired.remove(place)).is_some()
        })
    }

    fn wrote(&self, write: Write) {
        self.writes.send_modify(|writes| writes.push(write));
    }

    /// Changes the Deployment of a scale without a change of its replicas.
    async fn touch(&self, path: &str) {
        let parts: Vec<_> = path.split('/').collect();
        let [.., namespace, "deployments", name, "scale"] = parts.as_slice() else { panic!("{path}") };
        let count = self.writes.borrow().len();
        let patch = json!({"metadata": {"annotations": {"test/touched": count.to_string()}}});
        let deployments: Api<Deployment> = Api::namespaced(self.administrator.clone(), namespace);
        deployments.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Never comes back.
    async fn hold(&self) {
        self.held.send_modify(|held| *held += 1);
        std::future::pending().await
    }
}
