//! A real Alertmanager and a real Prometheus, each as a process of this machine. `tests/chart/prepare` brings them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::skip::skipped;

/// How long a state may take to come about before the test fails.
const PATIENCE: Duration = Duration::from_secs(90);
/// Neither reports changes, so that it is asked again and again.
const ASK: Duration = Duration::from_millis(200);

/// A running server with a folder of its own. Killed when dropped.
struct Server {
    child: Child,
    url: String,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts a program with a configuration, which is JSON and so YAML. None: it is not there, and the test has said so.
    fn start(program: &str, storage: &str, configuration: &Value, further: &[&str]) -> Option<Self> {
        let Some(path) = program_path(program) else {
            skipped(&format!("{program} is missing: run tests/chart/prepare"));
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("configuration.yml");
        std::fs::write(&file, configuration.to_string()).unwrap();
        let mut child = Command::new(path)
            .current_dir(folder.path())
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--{storage}={}", folder.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .args(further)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let url = listening(&mut child, program);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Some(Self { child, url, client, _folder: folder })
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let answer = self.client.get(format!("{}{path}", self.url)).query(query).send().await.unwrap();
        let status = answer.status();
        let answer: Value = answer.json().await.unwrap();
        assert!(status.is_success(), "{path} {query:?}: {status} {answer}");
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// On the `PATH`, or where `tests/chart/prepare` puts it.
fn program_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let target = Path::new(env!("CARGO_BIN_EXE_queuescaler")).parent().unwrap().parent().unwrap();
    let folders = std::env::split_paths(&path).chain([target.join("tools")]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Waits until the program says where it listens. Its log is read to its end, so that it never waits for a reader.
fn listening(child: &mut Child, program: &str) -> String {
    let log = BufReader::new(child.stderr.take().unwrap());
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(|line| _ = sender.send(line)));
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if line.contains("\"Listening on\"")
            && let Some((_, address)) = line.rsplit_once("address=")
        {
            return format!("http://{}", address.trim());
        }
        seen.push(line);
    }
    panic!("{program} does not listen:\n{}", seen.join("\n"))
}

/// An Alertmanager that passes each alert on at once.
pub struct Alertmanager(Server);

impl Alertmanager {
    /// Passes alerts on to this address.
    pub fn start(webhook: &str) -> Option<Self> {
        let configuration = json!({
            "route": {
                "receiver": "test", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s",
                "repeat_interval": "1h",
            },
            "receivers": [{"name": "test", "webhook_configs": [{"url": webhook, "send_resolved": true}]}],
        });
        // One alone is no cluster.
        let alone = ["--cluster.listen-address="];
        Server::start("prometheus-alertmanager", "storage.path", &configuration, &alone).map(Self)
    }

    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Alerts that it takes to be firing.
    pub async fn alerts(&self) -> Vec<Value> {
        self.0.get("/api/v2/alerts", &[]).await.as_array().unwrap().clone()
    }

    /// Waits until its alerts are as wanted. `what` names that for a failure.
    pub async fn until(&self, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let alerts = self.alerts().await;
            if wanted(&alerts) {
                return alerts;
            }
            assert!(Instant::now() < deadline, "Alertmanager never has {what}, but {alerts:#?}");
            tokio::time::sleep(ASK).await;
        }
    }
}

/// A Prometheus that scrapes one operator each second.
pub struct Prometheus(Server);

impl Prometheus {
    /// Scrapes this `host:port` as a pod of this namespace, and evaluates the rules of these files.
    pub fn start(target: &str, namespace: &str, rules: &[&str]) -> Option<Self> {
        let labels = json!({"namespace": namespace, "pod": "queuescaler-0"});
        let configuration = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": rules,
            "scrape_configs": [{
                "job_name": "queuescaler", "honor_labels": true,
                "static_configs": [{"targets": [target], "labels": labels}],
            }],
        });
        Server::start("prometheus", "storage.tsdb.path", &configuration, &[]).map(Self)
    }

    /// The series that a query returns now.
    pub async fn query(&self, query: &str) -> Vec<Value> {
        let answer = self.0.get("/api/v1/query", &[("query", query)]).await;
        answer["data"]["result"].as_array().unwrap().clone()
    }

    /// Waits until a query returns data.
    pub async fn until_data(&self, query: &str) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let series = self.query(query).await;
            if !series.is_empty() {
                return series;
            }
            assert!(Instant::now() < deadline, "no data: {query}");
            tokio::time::sleep(ASK).await;
        }
    }

    /// All rules that it has loaded, with their health.
    pub async fn rules(&self) -> Vec<Value> {
        let answer = self.0.get("/api/v1/rules", &[]).await;
        let groups = answer["data"]["groups"].as_array().unwrap();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }
}
