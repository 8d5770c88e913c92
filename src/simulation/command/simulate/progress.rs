//! A progress bar on a terminal, for what takes longer than a second.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How long a run may take without a word.
const SILENT: Duration = Duration::from_secs(1);

/// Shows how far it is, in simulated seconds.
pub(super) struct Progress {
    began: Instant,
    length: u64,
    done: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new(length: u64) -> Self {
        Self { began: Instant::now(), length, done: 0, bar: None }
    }

    /// So much more is done.
    pub(super) fn advance(&mut self, more: u32) {
        self.done += u64::from(more);
        if self.bar.is_none() && self.began.elapsed() > SILENT && stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:40} {percent} % {eta} left");
            let bar = ProgressBar::new(self.length);
            self.bar = Some(style.map(|style| bar.clone().with_style(style)).unwrap_or(bar));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
