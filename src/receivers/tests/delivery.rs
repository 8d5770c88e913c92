//! From a reconcile to a server of this process, and back as an acknowledgement.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::brokers::Wake;
use crate::cluster::events::Events;
use crate::cluster::lease::Leadership;
use crate::cluster::own_deployment::OwnDeployment;
use crate::receivers::command::{self, FileArgs};
use crate::receivers::notifier::{Acknowledgement, Notifier};
use crate::telemetry::metrics::Metrics;

/// The operator's side, and the servers that are notified.
struct World {
    notifier: Notifier,
    metrics: Arc<Metrics>,
    wake: Wake,
    woken: mpsc::UnboundedReceiver<()>,
    folder: Folder,
    server: MockServer,
}

impl World {
    /// `receivers` with the address of the server for `URL`.
    async fn new(receivers: &str, leadership: Leadership) -> Self {
        Self::owned_by(receivers, leadership, None).await
    }

    /// The same, whose own Deployment is known.
    async fn owned_by(receivers: &str, leadership: Leadership, own: Option<OwnDeployment>) -> Self {
        let server = MockServer::start().await;
        let folder = Folder::new(&receivers.replace("URL", &server.uri()));
        let metrics = Metrics::new();
        let file =
            FileArgs { receivers_file: Some(folder.path().join("receivers.yaml")), receiver_secrets: None };
        let notifier = Notifier::start(file, loopback(), leadership, Arc::clone(&metrics), own);
        let (wake, woken) = mpsc::unbounded_channel();
        let wake: Wake = Arc::new(move || wake.send(()).unwrap());
        Self { notifier, metrics, wake, woken, folder, server }
    }

    /// The same with a server that accepts everything.
    async fn accepting(receivers: &str) -> Self {
        let world = Self::new(receivers, Leadership::undisputed()).await;
        Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&world.server).await;
        world
    }

    fn key(notice: &Notice) -> (String, String) {
        (notice.key.namespace.clone(), notice.key.object.clone())
    }

    /// What a reconcile does that finds this.
    fn update(&self, notice: &Notice) {
        self.notifier.update(&Self::key(notice), vec![notice.clone()], &self.wake);
    }

    /// Waits until something was reported of the object.
    async fn acknowledged(&mut self, notice: &Notice) -> Vec<Acknowledgement> {
        timeout(Duration::from_secs(20), self.woken.recv()).await.expect("it is reported").unwrap();
        self.notifier.acknowledged(&Self::key(notice))
    }

    /// The bodies that the server got, in their order.
    async fn bodies(&self) -> Vec<Value> {
        let requests = self.server.received_requests().await.unwrap();
        requests.iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
    }

    async fn statuses(&self) -> Vec<String> {
        self.bodies().await.iter().map(|body| body["status"].as_str().unwrap().to_owned()).collect()
    }
}

fn by(receiver: &str, reported: NoticeState) -> Vec<Acknowledgement> {
    vec![Acknowledgement { alert: "backlog".into(), receiver: receiver.into(), reported }]
}

fn told(notice: &Notice, receiver: &str) -> Notice {
    Notice { notified: vec![receiver.into()], ..notice.clone() }
}

const ONE: &str = "receivers: [{name: all, default: true, webhook: {url: 'URL'}}]";

#[tokio::test]
async fn an_alert_is_delivered_once_and_then_its_end() {
    let mut world = World::accepting(ONE).await;
    let firing = notice("orders");
    world.update(&firing);
    assert_eq!(world.acknowledged(&firing).await, by("all", NoticeState::Firing));
    for _ in 0..10 {
        world.update(&told(&firing, "all"));
    }
    let over = told(&resolved(&firing), "all");
    world.update(&over);
    assert_eq!(world.acknowledged(&over).await, by("all", NoticeState::Resolved));
    assert_eq!(world.statuses().await, ["firing", "resolved"]);
}

#[tokio::test]
async fn a_new_leader_repeats_nothing_and_reports_the_end() {
    let mut world = World::accepting(ONE).await;
    let firing = Notice { since: Timestamp::now(), ..told(&notice("orders"), "all") };
    world.update(&firing);
    let over = told(&resolved(&firing), "all");
    world.update(&over);
    assert_eq!(world.acknowledged(&over).await, by("all", NoticeState::Resolved));
    assert_eq!(world.statuses().await, ["resolved"]);
}

#[tokio::test]
async fn a_receiver_that_fails_gets_the_alert_once_when_it_is_back() {
    let mut world = World::new(ONE, Leadership::undisputed()).await;
    let failing = Mock::given(any()).respond_with(ResponseTemplate::new(500)).up_to_n_times(1);
    failing.with_priority(1).mount(&world.server).await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&world.server).await;
    let firing = notice("orders");
    world.update(&firing);
    assert_eq!(world.acknowledged(&firing).await, by("all", NoticeState::Firing));
    assert_eq!(world.statuses().await, ["firing", "firing"], "the first one was not accepted");
    let metrics = world.metrics.exposition().unwrap();
    for result in ["delivered", "failed"] {
        let line = format!("queuescaler_notifications_total{{receiver=\"all\",result=\"{result}\"}} 1\n");
        assert!(metrics.contains(&line), "{line} is missing in\n{metrics}");
    }
}

#[tokio::test]
async fn the_counters_of_a_receiver_begin_at_zero() {
    let world = World::new(ONE, Leadership::undisputed()).await;
    let zero = |result: &str| {
        let line = format!("queuescaler_notifications_total{{receiver=\"all\",result=\"{result}\"}} 0\n");
        world.metrics.exposition().unwrap().contains(&line)
    };
    let applied = async {
        while !(zero("delivered") && zero("failed") && zero("dropped")) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), applied).await.expect("the counters are there");
}

#[tokio::test]
async fn who_does_not_lead_delivers_nothing() {
    let world = World::new(ONE, Leadership::lost()).await;
    world.update(&notice("orders"));
    let waiting = async {
        while !world.metrics.exposition().unwrap().contains("notifications_waiting{receiver=\"all\"} 1\n") {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), waiting).await.expect("it waits");
    assert!(world.bodies().await.is_empty());
}

#[tokio::test]
async fn alerts_reach_named_receivers_that_allow_their_namespace() {
    let receivers = "receivers:
      - {name: all, default: true, webhook: {url: 'URL'}}
      - {name: team, namespaces: [shop], webhook: {url: 'URL'}}
      - {name: other, namespaces: [billing], default: true, webhook: {url: 'URL'}}
      - {name: severe, default: true, minSeverity: Critical, webhook: {url: 'URL'}}";
    let mut world = World::accepting(receivers).await;
    let names = vec!["team".to_owned(), "other".to_owned(), "nobody".to_owned()];
    let named = Notice { receivers: names.clone(), severity: Severity::Warning, ..notice("named") };
    world.update(&named);
    assert_eq!(world.acknowledged(&named).await, by("team", NoticeState::Firing));
    assert_eq!(world.notifier.unreachable("shop", names.iter()), ["nobody", "other"]);
    let unnamed = Notice { severity: Severity::Warning, ..notice("unnamed") };
    world.update(&unnamed);
    assert_eq!(world.acknowledged(&unnamed).await, by("all", NoticeState::Firing));
    assert_eq!(world.bodies().await.len(), 2);
}

#[tokio::test]
async fn a_changed_secret_is_used_at_once_and_shown_nowhere() {
    let receivers =
        "receivers: [{name: all, default: true, webhook: {urlSecretRef: {name: hook, key: url}}}]";
    let mut world = World::accepting(receivers).await;
    let uri = world.server.uri();
    world.folder.secret("hook", "url", &format!("{uri}/first-token\n"));
    let firing = notice("orders");
    world.update(&firing);
    world.acknowledged(&firing).await;
    world.folder.secret("hook", "url", &format!("{uri}/second-token\n"));
    let over = told(&resolved(&firing), "all");
    world.update(&over);
    world.acknowledged(&over).await;
    let requests = world.server.received_requests().await.unwrap();
    let paths: Vec<_> = requests.iter().map(|request| request.url.path().to_owned()).collect();
    assert_eq!(paths, ["/first-token", "/second-token"]);
    assert!(!world.metrics.exposition().unwrap().contains("token"));
}

#[tokio::test]
async fn the_end_of_a_deleted_object_is_reported() {
    let mut world = World::accepting(ONE).await;
    let firing = notice("orders");
    world.update(&firing);
    world.acknowledged(&firing).await;
    world.notifier.forget(&World::key(&firing));
    let both = async {
        while world.bodies().await.len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), both).await.expect("its end is reported");
    let bodies = world.bodies().await;
    assert_eq!(bodies[1]["status"], "resolved");
    assert_eq!(bodies[1]["alerts"][0]["message"], "the QueueScaler was deleted");
}

#[tokio::test]
async fn a_receiver_without_reports_of_ends_acknowledges_them() {
    let receivers = "receivers: [{name: all, default: true, sendResolved: false, webhook: {url: 'URL'}}]";
    let mut world = World::accepting(receivers).await;
    let firing = notice("orders");
    world.update(&firing);
    world.acknowledged(&firing).await;
    let over = told(&resolved(&firing), "all");
    world.update(&over);
    assert_eq!(world.acknowledged(&over).await, by("all", NoticeState::Resolved));
    assert_eq!(world.statuses().await, ["firing"]);
}

#[tokio::test]
async fn a_receiver_that_no_longer_exists_has_nothing_to_report() {
    let mut world = World::accepting(ONE).await;
    // Until its file was read, nothing is known of receivers.
    let known = notice("known");
    world.update(&known);
    world.acknowledged(&known).await;
    let over = told(&resolved(&notice("orders")), "gone");
    world.update(&over);
    assert_eq!(world.notifier.acknowledged(&World::key(&over)), by("gone", NoticeState::Resolved));
}

#[tokio::test]
async fn each_alertmanager_gets_each_alert_and_one_answer_is_enough() {
    let receivers =
        "receivers: [{name: am, default: true, alertmanager: {urls: ['URL', 'URL/b', 'URL/down']}}]";
    let mut world = World::new(receivers, Leadership::undisputed()).await;
    let down = Mock::given(wiremock::matchers::path("/down/api/v2/alerts"));
    down.respond_with(ResponseTemplate::new(503)).with_priority(1).mount(&world.server).await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&world.server).await;
    let firing = notice("orders");
    world.update(&firing);
    assert_eq!(world.acknowledged(&firing).await, by("am", NoticeState::Firing));
    let requests = world.server.received_requests().await.unwrap();
    let mut paths: Vec<_> = requests.iter().map(|request| request.url.path().to_owned()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/api/v2/alerts", "/b/api/v2/alerts", "/down/api/v2/alerts"]);
}

#[tokio::test]
async fn a_signed_webhook_can_be_verified() {
    let receivers = "receivers: [{name: all, default: true, webhook: {url: 'URL', signingKeySecretRef: {name: hook, key: k}}}]";
    let mut world = World::accepting(receivers).await;
    world.folder.secret("hook", "k", "key");
    let firing = notice("orders");
    world.update(&firing);
    world.acknowledged(&firing).await;
    let requests = world.server.received_requests().await.unwrap();
    let header = |name: &str| requests[0].headers.get(name).unwrap().to_str().unwrap().to_owned();
    let mut signed = format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).into_bytes();
    signed.extend_from_slice(&requests[0].body);
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"key");
    let signature = header("webhook-signature");
    let signature = signature.strip_prefix("v1,").unwrap();
    let signature = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, signature).unwrap();
    aws_lc_rs::hmac::verify(&key, &signed, &signature).unwrap();
}

#[tokio::test]
async fn the_command_sends_a_test_alert_and_reports_what_is_wrong() {
    let world = World::accepting(ONE).await;
    let file = || FileArgs {
        receivers_file: Some(world.folder.path().join("receivers.yaml")),
        receiver_secrets: None,
    };
    let sent = command::test("all", file(), &loopback()).await.unwrap();
    assert_eq!(sent, "receiver all accepted the test alert\n");
    assert_eq!(world.bodies().await[0]["title"], "[Info] test/test: test of a receiver");
    let problem = command::test("none", file(), &loopback()).await.unwrap_err();
    assert_eq!(problem.0, "there is no receiver none; there are: all");
    let problem = command::test("all", file(), &AddressPolicy::default()).await.unwrap_err();
    assert!(
        problem.0.starts_with("receiver all: host 127.0.0.1 is 127.0.0.1, a loopback address"),
        "{problem}"
    );
    let none = FileArgs { receivers_file: None, receiver_secrets: None };
    let problem = command::test("all", none, &loopback()).await;
    assert!(problem.unwrap_err().0.contains("--receivers-file"));
}

#[test]
fn a_missing_secret_is_named() {
    let folder = Folder::new("receivers: [{name: r, slack: {urlSecretRef: {name: slack, key: url}}}]");
    let problem = folder.files().secrets(&folder.receiver().form).unwrap_err();
    assert!(problem.0.starts_with("key url of secret slack: "), "{problem}");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_used_when_it_is_corrected() {
    let mut world = World::accepting("receivers: [{name: all, default: true, webhok: {url: 'URL'}}]").await;
    let firing = told(&notice("orders"), "gone");
    world.update(&firing);
    let shows = |world: &World, valid: u8| {
        world.metrics.exposition().unwrap().contains(&format!("queuescaler_receivers_valid {valid}\n"))
    };
    let found = async {
        while !shows(&world, 0) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), found).await.expect("the mistake is found");
    let unknown = world.notifier.unreachable("shop", ["gone".to_owned()].iter());
    assert!(unknown.is_empty() && world.notifier.acknowledged(&World::key(&firing)).is_empty());
    let corrected = ONE.replace("URL", &world.server.uri());
    fs::write(world.folder.path().join("receivers.yaml"), corrected).unwrap();
    assert_eq!(world.acknowledged(&firing).await, by("all", NoticeState::Firing));
    assert!(shows(&world, 1));
}

#[tokio::test]
async fn receivers_that_are_replaced_repeat_nothing() {
    let mut world = World::accepting(ONE).await;
    let firing = Notice { since: Timestamp::now(), ..notice("orders") };
    world.update(&firing);
    world.acknowledged(&firing).await;
    world.update(&told(&firing, "all"));
    let two = "receivers: [{name: all, default: true, webhook: {url: 'URL/a'}}, {name: new, default: true, webhook: {url: 'URL/b'}}]";
    fs::write(world.folder.path().join("receivers.yaml"), two.replace("URL", &world.server.uri())).unwrap();
    assert_eq!(world.acknowledged(&firing).await, by("new", NoticeState::Firing));
    let requests = world.server.received_requests().await.unwrap();
    let paths: Vec<_> = requests.iter().map(|request| request.url.path().to_owned()).collect();
    assert_eq!(paths, ["/", "/b"]);
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_no_other_and_no_reconcile() {
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = hanging.local_addr().unwrap();
    let receivers = format!(
        "receivers: [{{name: hangs, default: true, webhook: {{url: 'http://{address}'}}}}, \
         {{name: all, default: true, webhook: {{url: 'URL'}}}}]"
    );
    let mut world = World::accepting(&receivers).await;
    let firing = notice("orders");
    world.update(&firing);
    let (_connection, _) = timeout(Duration::from_secs(20), hanging.accept()).await.unwrap().unwrap();
    assert_eq!(world.acknowledged(&firing).await, by("all", NoticeState::Firing));
    for n in 0..100 {
        world.update(&notice(&format!("orders-{n}")));
    }
    let reported = async {
        while world.server.received_requests().await.unwrap().len() < 101 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), reported).await.expect("the other gets all");
}

#[tokio::test]
async fn a_receiver_asks_for_a_pause_and_gets_it() {
    let mut world = World::new(ONE, Leadership::undisputed()).await;
    let busy = ResponseTemplate::new(429).insert_header("retry-after", "2");
    Mock::given(any()).respond_with(busy).up_to_n_times(1).with_priority(1).mount(&world.server).await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&world.server).await;
    let began = tokio::time::Instant::now();
    let firing = notice("orders");
    world.update(&firing);
    world.acknowledged(&firing).await;
    // The first pause without it is a second.
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(world.statuses().await.len(), 2);
}

/// An API server that has the Deployment `queuescaler`, and passes on the events that it gets.
fn api_server() -> (OwnDeployment, mpsc::UnboundedReceiver<Value>) {
    let (got, events) = mpsc::unbounded_channel();
    let service = tower::service_fn(move |request: ::http::Request<kube::client::Body>| {
        let got = got.clone();
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect_bytes().await.unwrap();
            let answer = if path == "/apis/apps/v1/namespaces/system/deployments/queuescaler" {
                let metadata = json!({"name": "queuescaler", "namespace": "system", "uid": "u1"});
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata})
            } else {
                assert_eq!(path, "/apis/events.k8s.io/v1/namespaces/system/events");
                let event: Value = serde_json::from_slice(&body).unwrap();
                got.send(event.clone()).unwrap();
                event
            };
            let answer = kube::client::Body::from(answer.to_string().into_bytes());
            Ok::<_, std::convert::Infallible>(::http::Response::new(answer))
        }
    });
    let client = kube::Client::new(service, "system");
    let events_of = Events::new(client.clone(), "test".into(), Leadership::undisputed());
    (OwnDeployment::new(client, events_of, "system".into(), "queuescaler".into()), events)
}

#[tokio::test]
async fn dropped_alerts_are_events_about_the_own_deployment() {
    let (own, mut events) = api_server();
    let world = World::owned_by(ONE, Leadership::undisputed(), Some(own)).await;
    // The receiver refuses for now, and each object has an alert.
    Mock::given(any()).respond_with(ResponseTemplate::new(500)).mount(&world.server).await;
    world.update(&notice("first"));
    let first = async {
        while world.server.received_requests().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), first).await.expect("the receivers are known");
    for number in 0..10_001 {
        world.update(&notice(&format!("orders-{number}")));
    }
    let event = timeout(Duration::from_secs(20), events.recv()).await.expect("an event").unwrap();
    let about = ["kind", "name", "namespace", "uid"].map(|field| event["regarding"][field].as_str().unwrap());
    assert_eq!(about, ["Deployment", "queuescaler", "system", "u1"]);
    assert_eq!((&event["reason"], &event["type"]), (&json!("NotificationsDropped"), &json!("Warning")));
    let mut dropped = note(&event);
    while dropped < 2 {
        let event = timeout(Duration::from_secs(20), events.recv()).await.expect("the rest").unwrap();
        dropped += note(&event);
    }
    assert_eq!(dropped, 2, "what was dropped is added up, and nothing twice");
}

/// How many alerts an event reports.
fn note(event: &Value) -> usize {
    let note = event["note"].as_str().unwrap();
    assert!(note.contains("receiver all"), "{note}");
    note.split(' ').next().unwrap().parse().unwrap()
}
