//! The operator as a process of this machine, with the rights that the chart gives it and no others.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The operator's image, as `tests/images` names it.
const IMAGE: &str = "docker.io/library/queuescaler:demo";

/// A running `queuescaler run`. Killed when dropped.
pub struct Operator {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    lines: mpsc::Receiver<String>,
    /// Reads what it logs.
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Operator {
    /// Benchmarks measure another build than the one made along with them.
    pub fn program() -> std::ffi::OsString {
        std::env::var_os("QS_OPERATOR").unwrap_or_else(|| env!("CARGO_BIN_EXE_queuescaler").into())
    }

    /// Starts the operator with this kubeconfig and these further arguments.
    pub fn start(kubeconfig: &std::path::Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(Self::program())
            .arg("run")
            .args(["--http-address", "127.0.0.1:0", "--log-format", "json"])
            // The brokers of the test bed are where the API server is, on this machine. An argument counts more than this.
            .env("QUEUESCALER_ALLOW_ADDRESSES", "127.0.0.0/8,10.0.0.0/8")
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            // What copies in drains is the program of the image that tests/images makes.
            .env(
                "QUEUESCALER_DRAIN_IMAGE",
                std::env::var("QS_DRAIN_IMAGE").unwrap_or_else(|_| IMAGE.to_owned()),
            )
            .env("QUEUESCALER_DRAIN_IMAGE_PULL_POLICY", "Never")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (sender, lines) = mpsc::channel();
        let (kept, stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line.clone());
                let _ = sender.send(line);
            }
        });
        Self { child, log, lines, reader: Some(reader) }
    }

    /// Waits for a log line that contains the words, and returns it.
    pub fn wait_for_log(&self, words: &str) -> String {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(words) => return line,
                Ok(_) => {}
                Err(_) => panic!("the operator never logged {words:?}:\n{}", self.log()),
            }
        }
    }

    /// Waits until the log has so many lines of this kind: what a metric or a status tells is logged a moment later.
    pub async fn until_logged(&self, what: &str, count: usize, is_it: impl Fn(&str) -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let log = self.log();
            if log.lines().filter(|line| is_it(line)).count() >= count {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "not {count} lines {what} in:\n{log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sockets that the process has open.
    pub fn sockets(&self) -> usize {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap();
        let is_socket = |path: std::path::PathBuf| {
            std::fs::read_link(path).is_ok_and(|link| link.to_string_lossy().starts_with("socket:"))
        };
        descriptors.filter(|descriptor| is_socket(descriptor.as_ref().unwrap().path())).count()
    }

    /// Fails unless the process still runs and nothing in it has panicked.
    pub fn assert_well(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "the operator ended:\n{}", self.log());
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }

    /// Whether the process has not ended.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The values of all series of `/metrics` that begin with these words, added up.
    pub async fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let values = text.lines().filter(|line| line.starts_with(series));
        values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        self.get("/metrics").await.1
    }

    /// Waits until `/readyz` is this status, and returns what it says.
    pub async fn until_ready(&self, status: u16) -> String {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let (found, text) = self.get("/readyz").await;
            if found == status {
                return text;
            }
            assert!(std::time::Instant::now() < deadline, "/readyz is {found} and not {status}: {text}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Where its own pages are, as `host:port`.
    pub fn address(&self) -> String {
        let log = self.log();
        let serving = log.lines().find(|line| line.contains("serving /livez")).unwrap();
        let serving: serde_json::Value = serde_json::from_str(serving).unwrap();
        let address = serving["fields"]["address"].as_str().or(serving["address"].as_str());
        address.unwrap().to_owned()
    }

    /// Bytes of memory that the process has.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Status and body of one of the operator's own pages.
    async fn get(&self, page: &str) -> (u16, String) {
        let address = self.address();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(format!("http://{address}{page}")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Waits until these series add up to so much or more.
    pub async fn until_at_least(&self, series: &str, wanted: f64) {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let found = self.metric(series).await;
            if found >= wanted {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{series} is {found} and not {wanted} or more");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until these series add up to so much. Metrics tell nobody when they change, so that they are asked for.
    pub async fn until_metric(&self, series: &str, wanted: f64) {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let found = self.metric(series).await;
            if found == wanted {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{series} is {found} and not {wanted}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends a signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap();
        assert!(status.success(), "cannot signal the operator");
    }

    /// Waits for the process to end and returns its exit code, `None` for a signal.
    pub fn wait(&mut self, deadline: Duration) -> Option<i32> {
        let until = std::time::Instant::now() + deadline;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // Its last words have been read as well.
                if let Some(reader) = self.reader.take() {
                    reader.join().unwrap();
                }
                return status.code();
            }
            assert!(std::time::Instant::now() < until, "the operator did not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- log of the operator\n{}", self.log());
        }
    }
}
