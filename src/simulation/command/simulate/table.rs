//! A run as text for people. Pure.

use std::fmt::Write;

use super::compare::Comparison;
use super::report::Report;

/// Changes of replicas that are listed.
const ROWS: usize = 40;

pub(super) fn render(report: &Report) -> String {
    let (subject, run, sums) = (&report.queue_scaler, &report.run, &report.metrics);
    let mut text = format!(
        "{} ({}, {} to {} replicas) on {}\n{} from {}, a reading every {} s, seed {}; \
         {} messages/s in the mean, {} at the peak\n\n",
        subject.name,
        subject.policy,
        subject.min_replicas,
        subject.max_replicas,
        run.load,
        duration(run.seconds),
        run.begin,
        subject.poll_period_seconds,
        run.seed,
        run.mean_messages_per_second,
        run.peak_messages_per_second,
    );
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<10}  {value}\n"));
    line(
        "messages",
        format!(
            "{} arrived, {} processed, {} waiting, {} lost",
            sums.messages_arrived, sums.messages_processed, sums.messages_waiting, sums.messages_lost
        ),
    );
    line("late", format!("{} % waited for more than {} s", sums.late_percent, run.late_after_seconds));
    line(
        "age",
        format!(
            "{} s for 50 %, {} s for 99 %, {} s at most",
            sums.age_seconds_p50, sums.age_seconds_p99, sums.age_seconds_max
        ),
    );
    line("pod hours", sums.pod_hours.to_string());
    line(
        "scaling",
        format!(
            "{} changes, {} reversals within 10 min, {} to zero with work left, {} climbs in vain ({} to the maximum)",
            sums.actions, sums.reversals, sums.wrong_zeros, sums.vain_climbs, sums.climbs_to_max
        ),
    );
    if let Some(seconds) = sums.recovery_seconds {
        line("recovery", format!("{seconds} s from the end of the outage until the backlog was gone"));
    }
    if let Some(steps) = report.steps() {
        line("steps up", format!("{steps} after a rise of the load that stays"));
    }
    if let Some(comparison) = &report.comparison {
        text.push_str(&compared(comparison));
    }
    text.push_str(&changes(report));
    text
}

/// The comparison, in columns as wide as what stands in them.
fn compared(comparison: &Comparison) -> String {
    let (names, rows) = comparison.cells();
    let header: Vec<String> = names.iter().map(|name| name.to_uppercase()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&header).chain(&rows).collect();
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::from("\n");
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    let _ = writeln!(text, "{}", comparison.summary());
    text
}

fn changes(report: &Report) -> String {
    let changes: Vec<_> = report.decisions.iter().filter(|step| step.from != step.to).collect();
    if changes.is_empty() {
        return "\nthe replicas never changed\n".into();
    }
    let mut text = format!("\n{:<15} {:>9}  {:<20} WHY\n", "TIME (UTC)", "REPLICAS", "REASON");
    for step in changes.iter().take(ROWS) {
        let replicas = format!("{} → {}", step.from, step.to);
        let time = step.time.strftime("%m-%d %H:%M:%S").to_string();
        let _ = writeln!(text, "{time:<15} {replicas:>9}  {:<20} {}", step.reason, step.message);
    }
    if changes.len() > ROWS {
        let _ = writeln!(text, "and {} more: --output json has them all", changes.len() - ROWS);
    }
    text
}

/// A time for people, such as `1 h 30 min`.
pub(super) fn duration(seconds: u32) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds % 60, "s")];
    let shown = parts.iter().filter(|(number, _)| *number > 0);
    shown.map(|(number, unit)| format!("{number} {unit}")).collect::<Vec<_>>().join(" ")
}
