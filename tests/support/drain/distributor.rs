//! `queuescaler distribute` as a process.

use std::fs::{self, File};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use queuescaler::drain::distribution::{Distribution, Outcome, VARIABLE};
use tempfile::TempDir;

/// A distributor that runs. Killed when dropped.
pub struct Distributor {
    child: Child,
    folder: TempDir,
    ended: bool,
}

impl Distributor {
    /// Starts `program`, which is `queuescaler`.
    pub fn start(program: &str, distribution: &Distribution, ordinal: u32) -> Self {
        let json = serde_json::to_string(distribution).unwrap();
        let ordinal = ordinal.to_string();
        Self::start_with(program, &[(VARIABLE, &json), ("JOB_COMPLETION_INDEX", &ordinal)])
    }

    /// The same with these variables.
    pub fn start_with(program: &str, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(program);
        command
            .args(["distribute", "--log", "queuescaler=debug,info", "--outcome"])
            .arg(folder.path().join("outcome"));
        command.envs(variables.iter().copied());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { child, folder, ended: false }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Kills it, as a machine that loses power does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.ended = true;
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        let ended = self.child.try_wait().unwrap().is_some();
        self.ended |= ended;
        ended
    }

    /// Waits until its log has these words.
    #[track_caller]
    pub fn await_log(&mut self, words: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.log().contains(words) {
            assert!(!self.has_ended() && Instant::now() < deadline, "no {words:?} in:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, time: Duration) -> (ExitStatus, Outcome) {
        let deadline = Instant::now() + time;
        while !self.has_ended() {
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        let status = self.child.wait().unwrap();
        let outcome = fs::read(self.folder.path().join("outcome"));
        let outcome = outcome.unwrap_or_else(|_| panic!("it has no outcome:\n{}", self.log()));
        (status, serde_json::from_slice(&outcome).unwrap())
    }

    /// Waits for its end with success.
    #[track_caller]
    pub fn success(&mut self) -> Outcome {
        let (status, outcome) = self.wait(Duration::from_secs(90));
        assert!(status.success(), "{outcome:?}\n{}", self.log());
        outcome
    }

    /// Waits for its end without success. Returns the error.
    #[track_caller]
    pub fn failure(&mut self) -> String {
        let (status, outcome) = self.wait(Duration::from_secs(90));
        assert!(!status.success(), "{outcome:?}\n{}", self.log());
        outcome.error.unwrap()
    }
}

impl Drop for Distributor {
    fn drop(&mut self) {
        if !self.ended {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}
