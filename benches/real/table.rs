//! The table of results, and how a sample of times is summed up.

use std::time::Duration;

use super::machine;

/// Rows, printed as Markdown.
#[derive(Default)]
pub struct Table {
    parts: Vec<String>,
    rows: Vec<[String; 4]>,
}

impl Table {
    /// Names something that took part, with its version.
    pub fn part(&mut self, name_and_version: &str) {
        self.parts.push(name_and_version.to_owned());
    }

    /// Adds a row; it is shown at once too, because the whole takes a while. The load average is that of this moment.
    pub fn row(&mut self, what: impl Into<String>, measured: impl Into<String>, goal: &str) {
        let row = [what.into(), measured.into(), goal.to_owned(), machine::load()];
        println!("{}: {} (goal: {}; load {})", row[0], row[1], row[2], row[3]);
        self.rows.push(row);
    }

    /// Prints the machine and all rows.
    pub fn print(&self, machine: &str) {
        println!("\n{machine}\n{}\n", self.parts.join(", "));
        println!("| what | measured | goal | load |\n|---|---|---|---|");
        for row in &self.rows {
            println!("| {} |", row.join(" | "));
        }
    }
}

/// The time that this share of the sample does not exceed.
pub fn quantile(sample: &mut [Duration], share: f64) -> Duration {
    assert!(!sample.is_empty(), "nothing was measured");
    sample.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let rank = (sample.len() as f64 * share).ceil() as usize;
    sample[rank.clamp(1, sample.len()) - 1]
}

/// In milliseconds, for people.
pub fn milliseconds(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}

/// In seconds, for people.
pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
