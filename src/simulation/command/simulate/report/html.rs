//! The report as one page: no script, no font and no picture from anywhere else. Pure.

use std::fmt::Write;

use super::chart::{Chart, Line, escape};
use super::{Point, Report, Step, Trouble, to_decimals};
use crate::simulation::command::simulate::compare::Comparison;
use crate::simulation::command::simulate::table::duration;
use crate::simulation::observer::after;

/// Rows of the table of decisions.
const ROWS: usize = 400;
/// Most changes that are marked in the chart.
const MARKS: usize = 150;
/// Most of what goes wrong that is named.
const NAMED: usize = 6;

pub(super) fn page(report: &Report) -> String {
    let title = format!("{} on {}", escape(&report.queue_scaler.name), escape(&report.run.load));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{}</style>\n</head>\n<body>\n<h1>{title}</h1>\n",
        include_str!("style.css")
    );
    page.push_str(&introduction(report));
    page.push_str(&sums(report));
    page.push_str(&report.comparison.as_ref().map(compared).unwrap_or_default());
    page.push_str(&charts(report));
    page.push_str(&decisions(report));
    page.push_str("</body>\n</html>\n");
    page
}

fn introduction(report: &Report) -> String {
    let (subject, run, world) = (&report.queue_scaler, &report.run, &report.world);
    let partitions = world.partitions.map(|number| format!(", {number} partitions")).unwrap_or_default();
    format!(
        "<p>Policy {}, {} to {} replicas, a reading every {} s. {}{partitions}; a replica needs {} s for a message; \
         {} messages/s in the mean, {} at the peak. {} from {} on, seed {}.</p>\n",
        escape(&subject.policy),
        subject.min_replicas,
        subject.max_replicas,
        subject.poll_period_seconds,
        world.broker,
        world.service_seconds,
        to_decimals(run.mean_messages_per_second, 1),
        to_decimals(run.peak_messages_per_second, 1),
        duration(run.seconds),
        run.begin,
        run.seed
    )
}

fn sums(report: &Report) -> String {
    let sums = &report.metrics;
    let mut tiles = vec![
        (
            format!("later than {} s", report.run.late_after_seconds),
            format!("{} %", to_decimals(sums.late_percent, 2)),
        ),
        ("age, 50 %".into(), format!("{} s", sums.age_seconds_p50)),
        ("age, 99 %".into(), format!("{} s", sums.age_seconds_p99)),
        ("age, highest".into(), format!("{} s", sums.age_seconds_max)),
        ("pod hours".into(), to_decimals(sums.pod_hours, 1).to_string()),
        ("changes of replicas".into(), sums.actions.to_string()),
        ("reversals in 10 min".into(), sums.reversals.to_string()),
        ("to zero with work left".into(), sums.wrong_zeros.to_string()),
        ("climbs in vain".into(), sums.vain_climbs.to_string()),
        ("messages".into(), grouped(sums.messages_arrived)),
        ("waiting at the end".into(), grouped(sums.messages_waiting)),
    ];
    if sums.messages_lost > 0 {
        tiles.push(("lost to retention".into(), grouped(sums.messages_lost)));
    }
    if let Some(seconds) = sums.recovery_seconds {
        tiles.push(("caught up after outage".into(), format!("{seconds} s")));
    }
    if let Some(steps) = report.steps() {
        tiles.push(("steps after a rise".into(), steps));
    }
    let tile = |(name, value): &(String, String)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n");
    format!("<dl>\n{}</dl>\n", tiles.iter().map(tile).collect::<String>())
}

/// With a space, at which no line breaks, between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn compared(comparison: &Comparison) -> String {
    let (names, rows) = comparison.cells();
    let head: String = names.iter().map(|name| format!("<th>{name}</th>")).collect();
    let mut table = format!("<h2>Compared with others</h2>\n<div class=\"wide\"><table>\n<tr>{head}</tr>\n");
    for row in rows {
        let cells: String =
            row.iter().map(|cell| format!("<td class=\"nowrap\">{}</td>", escape(cell))).collect();
        let _ = writeln!(table, "<tr>{cells}</tr>");
    }
    let _ = writeln!(
        table,
        "</table></div>\n<p>{}. The charts below show this QueueScaler with the first seed.</p>",
        escape(&comparison.summary())
    );
    table
}

fn charts(report: &Report) -> String {
    let line = |class, stepped, filled, value: fn(&Point) -> Option<f64>| Line {
        class,
        stepped,
        filled,
        points: report.samples.iter().map(|point| (point.second, value(point))).collect(),
    };
    let bands: Vec<_> = report
        .run
        .faults
        .iter()
        .map(|trouble| (trouble.from_second, trouble.until_second, trouble.what))
        .collect();
    let chart = |description, height, lines, level, marks| {
        let (begin, seconds, bands) = (report.run.begin, report.run.seconds, bands.clone());
        Chart { begin, seconds, height, description, lines, bands, whole: false, level, marks }
    };
    let arrivals = chart(
        "messages per second over time",
        130.0,
        vec![line("blue", false, true, |point| Some(point.messages_per_second))],
        None,
        vec![],
    );
    let backlog = chart(
        "backlog over time",
        170.0,
        vec![
            line("orange", false, false, |point| point.observed.map(number)),
            line("blue", false, true, |point| Some(number(point.backlog))),
        ],
        None,
        vec![],
    );
    let late_after = report.run.late_after_seconds;
    let age = chart(
        "age of the oldest message over time",
        150.0,
        vec![line("blue", false, true, |point| Some(f64::from(point.oldest_age_seconds)))],
        Some(f64::from(late_after)),
        vec![],
    );
    let replicas = chart(
        "replicas over time",
        190.0,
        vec![
            line("green", true, true, |point| Some(f64::from(point.ready))),
            line("orange", true, false, |point| Some(f64::from(point.desired))),
            line("blue", true, false, |point| Some(f64::from(point.replicas))),
        ],
        None,
        marks(report),
    );
    let replicas = Chart { whole: true, ..replicas };
    let late = match age.level() {
        Some(_) => format!("<span class=\"key red\"></span>late after {late_after} s"),
        None => format!(" (late after {late_after} s, far above)"),
    };
    format!(
        "{}{}<h2>Arrivals, messages per second</h2>\n{}\n\
         <h2>Backlog, messages<span class=\"key blue\"></span>not processed\
         <span class=\"key orange\"></span>as it was read, where that differs</h2>\n{}\n\
         <h2>Age of the oldest message, seconds{late}</h2>\n{}\n\
         <h2>Replicas<span class=\"key blue\"></span>asked for<span class=\"key orange\"></span>wanted, where that \
         differs<span class=\"key green\"></span>ready</h2>\n{}\n",
        troubles(report),
        thinned(report),
        arrivals.svg(),
        backlog.svg(),
        age.svg(),
        replicas.svg()
    )
}

/// What goes wrong, and when: bands have no room for it.
fn troubles(report: &Report) -> String {
    let clock = |second| after(report.run.begin, second).strftime("%m-%d %H:%M").to_string();
    let trouble = |trouble: &Trouble| {
        let (from, seconds) = (clock(trouble.from_second), trouble.until_second - trouble.from_second);
        match seconds {
            // It happens, and does not last.
            0..=1 => format!("{} at {from}", trouble.what),
            _ => format!("{} from {from} on for {}", trouble.what, duration(seconds)),
        }
    };
    let named: Vec<String> = report.run.faults.iter().take(NAMED).map(trouble).collect();
    let more = match report.run.faults.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", and {more} times more"),
    };
    if named.is_empty() {
        return String::new();
    }
    format!("<p><span class=\"key wrong\"></span>{}{more}</p>\n", escape(&named.join(", ")))
}

/// What a point of a long run stands for.
fn thinned(report: &Report) -> String {
    let seconds = report.samples.first().map_or(0, |point| point.second);
    if u64::from(seconds) <= report.queue_scaler.poll_period_seconds {
        return String::new();
    }
    let time = duration(seconds);
    format!(
        "<p>Each point is the highest of {time}, and of arrivals the mean; a line may hide a shorter dip.</p>\n"
    )
}

#[allow(clippy::cast_precision_loss)] // A chart has less.
fn number(number: u64) -> f64 {
    number as f64
}

/// The changes, unless they are so many that their marks would hide the line.
fn marks(report: &Report) -> Vec<(u32, f64, String)> {
    let changes: Vec<&Step> = report.decisions.iter().filter(|step| step.from != step.to).collect();
    if changes.len() > MARKS { Vec::new() } else { changes.into_iter().map(mark).collect() }
}

fn mark(step: &Step) -> (u32, f64, String) {
    let what = format!("{} → {}: {}: {}", step.from, step.to, step.reason, step.message);
    (step.second, f64::from(step.to), what)
}

fn decisions(report: &Report) -> String {
    let mut table = String::from(
        "<h2>Decisions, where replicas or the reason changed</h2>\n<div class=\"wide\"><table>\n\
         <tr><th>time (UTC)</th><th>replicas</th><th>wanted</th><th>reason</th><th>why</th></tr>\n",
    );
    for step in report.decisions.iter().take(ROWS) {
        let replicas = match step.from == step.to {
            true => step.to.to_string(),
            false => format!("<b>{} → {}</b>", step.from, step.to),
        };
        let time = step.time.strftime("%m-%d %H:%M:%S");
        let (reason, message) = (escape(&step.reason), escape(&step.message));
        let _ = writeln!(
            table,
            "<tr><td class=\"nowrap\">{time}</td><td class=\"nowrap\">{replicas}</td><td>{}</td><td>{reason}</td>\
             <td>{message}</td></tr>",
            step.desired
        );
    }
    table.push_str("</table></div>\n");
    if report.decisions.len() > ROWS {
        let more = report.decisions.len() - ROWS;
        let _ = writeln!(table, "<p>and {more} more: --output json has them all</p>");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_in_groups_of_three() {
        let cases = [(0, "0"), (999, "999"), (1000, "1 000"), (24_190_240, "24 190 240")];
        for (number, expected) in cases {
            assert_eq!(grouped(number).replace('\u{202f}', " "), expected);
        }
    }
}
