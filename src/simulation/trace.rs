//! Traces: what arrived, as text with a line for each interval, or as a Prometheus answers.
//!
//! Columns, named by the first line, in any order, separated by `,`, `;` or tabs, in quotes or not:
//! - `timestamp`: when the interval begins, as `2026-11-21 14:05:00`, with `T` and a zone (`Z`, `+01:00`), or in seconds,
//!   milliseconds, microseconds or nanoseconds since 1970. Without a zone it is UTC.
//! - `value`: messages that arrived in it, 0 or more.
//! - `quality` (optional): `Known`, `AtLeast` or `Unknown`, as the reading at its end was. The simulated broker cannot be
//!   read where it was `Unknown`; without a value the messages go on to arrive as before.
//! - `backlog`, `replicas` (optional): what was found then. A record has them for people; a simulation makes its own.
//!
//! Text that begins with `{` is the answer of a Prometheus to `query_range`, of a query that gives one series of messages
//! per second.

mod fields;
mod prometheus;

use jiff::Timestamp;

use fields::Separator;

use super::model::{Fault, FaultKind, Load};

/// Columns that a trace may have.
const COLUMNS: [&str; 5] = ["timestamp", "value", "quality", "backlog", "replicas"];

/// A trace that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// When it begins.
    pub begin: Timestamp,
    /// What arrives.
    pub load: Load,
    /// Times at which the backlog could not be read.
    pub unknown: Vec<Fault>,
}

/// What to do where intervals are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gaps {
    /// That is an error.
    #[default]
    Refuse,
    /// Nothing arrived.
    Zero,
    /// As much as in the interval before.
    Hold,
}

/// A line that cannot be used, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {problem}")]
pub struct BadLine {
    /// Number of the line, from 1 on.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub problem: String,
}

fn bad<T>(line: usize, problem: impl Into<String>) -> Result<T, BadLine> {
    Err(BadLine { line, problem: problem.into() })
}

/// One interval.
struct Row {
    /// Number of its line, or of its point.
    line: usize,
    at: Timestamp,
    amount: Amount,
    unknown: bool,
}

/// What arrived in it.
#[derive(Clone, Copy)]
enum Amount {
    Messages(f64),
    PerSecond(f64),
    /// Nobody could see it.
    Unseen,
}

/// Reads a trace.
///
/// # Errors
/// The first line that cannot be used.
pub fn parse(text: &str, gaps: Gaps) -> Result<Trace, BadLine> {
    // A byte order mark is what some spreadsheets begin a file with.
    let text = text.trim_start_matches('\u{feff}');
    if text.trim_start().starts_with('{') {
        let rows = prometheus::rows(text)?;
        let trace = check_order(&rows, 1).and_then(|interval| assemble(&rows, interval, gaps));
        return trace.map_err(|bad| prometheus::about_point(bad, &rows));
    }
    let mut lines = (1..).zip(fields::lines(text)).filter(|(_, line)| !line.trim().is_empty());
    let Some((number, header)) = lines.next() else {
        return bad(1, "the file is empty; the first line names the columns, such as timestamp,value");
    };
    let columns = Columns::read(number, header)?;
    let rows = lines.map(|(number, line)| columns.row(number, line)).collect::<Result<Vec<_>, _>>()?;
    let interval = check_order(&rows, number)?;
    assemble(&rows, interval, gaps)
}

/// Where each column is.
struct Columns {
    separator: Separator,
    names: Vec<String>,
}

impl Columns {
    fn read(line: usize, header: &str) -> Result<Self, BadLine> {
        let separator = Separator::of(header);
        let names = separator.fields(line, header)?;
        let names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        if let Some(unknown) = names.iter().find(|name| !COLUMNS.contains(&name.as_str())) {
            let known = COLUMNS.join(", ");
            // Nobody calls a column by a time.
            let problem = match names.iter().any(|name| fields::time(name).is_some()) {
                true => "is no line of names; begin the file with one, such as timestamp,value".to_owned(),
                false => format!("unknown column {unknown:?}; remove it, or rename it to one of {known}"),
            };
            return bad(line, problem);
        }
        for wanted in ["timestamp", "value"] {
            match names.iter().filter(|name| *name == wanted).count() {
                0 => {
                    return bad(
                        line,
                        format!("no column {wanted}; the first line must name timestamp and value"),
                    );
                }
                1 => {}
                _ => return bad(line, format!("the column {wanted} is there twice; remove one")),
            }
        }
        Ok(Self { separator, names })
    }

    fn row(&self, line: usize, text: &str) -> Result<Row, BadLine> {
        let fields = self.separator.fields(line, text)?;
        if fields.len() != self.names.len() {
            let (has, wants) = (fields.len(), self.names.len());
            // 1,800 is the usual reason for too many.
            let hint = if has > wants { "; write numbers without separators of thousands" } else { "" };
            return bad(line, format!("has {has} fields, the first line names {wants} columns{hint}"));
        }
        let field = |name| {
            let named = self.names.iter().zip(&fields).find(|(column, _)| *column == name);
            named.map(|(_, field)| field.as_ref())
        };
        let unknown = match field("quality") {
            None | Some("Known" | "AtLeast") => false,
            Some("Unknown") => true,
            Some(other) => {
                return bad(line, format!("quality {other:?} is none of Known, AtLeast, Unknown"));
            }
        };
        let at = timestamp(line, field("timestamp").unwrap_or_default())?;
        let amount = match field("value").unwrap_or_default() {
            "" if unknown => Amount::Unseen,
            given => Amount::Messages(value(line, given)?),
        };
        Ok(Row { line, at, amount, unknown })
    }
}

fn timestamp(line: usize, text: &str) -> Result<Timestamp, BadLine> {
    fields::time(text).ok_or_else(|| {
        let problem = format!(
            "{text:?} is no time; write it as 2026-11-21 14:05:00, 2026-11-21T14:05:00Z or in seconds"
        );
        BadLine { line, problem }
    })
}

fn value(line: usize, text: &str) -> Result<f64, BadLine> {
    match text.parse::<f64>() {
        Ok(value) if value < 0.0 => {
            bad(line, format!("value {text} is negative; it is a number of messages, 0 or more"))
        }
        Ok(value) if value.is_finite() => Ok(value),
        _ if text.contains(',') => bad(
            line,
            format!("value {text:?} is no number; write it like 1800 or 1800.5, as a comma means either"),
        ),
        _ => bad(line, format!("value {text:?} is no number; it is a number of messages, 0 or more")),
    }
}

/// Checks that time goes on, and returns the usual interval in seconds.
fn check_order(rows: &[Row], header: usize) -> Result<i64, BadLine> {
    let mut intervals = Vec::new();
    for pair in rows.windows(2) {
        let [before, row] = pair else { continue };
        let seconds = row.at.as_second() - before.at.as_second();
        if row.at < before.at {
            let problem = format!(
                "{} is before {} on line {}; sort the lines by timestamp",
                row.at, before.at, before.line
            );
            return bad(row.line, problem);
        }
        if seconds == 0 {
            let is = if row.at == before.at { "there already" } else { "within a second of" };
            let other = if row.at == before.at { String::new() } else { format!(" {}", before.at) };
            let problem = format!(
                "{} is {is}{other} on line {}; keep one line for each interval of a second or more",
                row.at, before.line
            );
            return bad(row.line, problem);
        }
        intervals.push(seconds);
    }
    intervals.sort_unstable();
    match intervals.get(intervals.len() / 2) {
        Some(median) => Ok(*median),
        None => bad(header, "fewer than two intervals; a trace needs at least two lines below the first"),
    }
}

fn assemble(rows: &[Row], interval: i64, gaps: Gaps) -> Result<Trace, BadLine> {
    let Some(first) = rows.first() else { return bad(1, "no intervals") };
    let since = |at: Timestamp| u32::try_from(at.as_second() - first.at.as_second()).unwrap_or(u32::MAX);
    let usual = u32::try_from(interval).unwrap_or(u32::MAX);
    let mut seconds = 0;
    // Without a rate: before the first that is known.
    let mut steps: Vec<(u32, Option<f64>)> = Vec::new();
    let (mut first_rate, mut last_rate) = (None, None);
    let mut unknown: Vec<Fault> = Vec::new();
    let nexts = rows.iter().skip(1).map(Some).chain([None]);
    for (row, next) in rows.iter().zip(nexts) {
        let from = since(row.at);
        let until = next.map_or(from.saturating_add(usual), |next| since(next.at));
        // Intervals of a record are not quite equal.
        let is_gap = f64::from(until - from) > 1.5 * f64::from(usual);
        if is_gap && gaps == Gaps::Refuse {
            let (line, minutes) =
                (next.map_or(row.line, |next| next.line), (until - from - usual).div_ceil(60));
            let problem = format!(
                "{minutes} min are missing before this line, where a line comes every {usual} s; \
                 add them, or choose how to fill the gap: --gaps zero (nothing arrived) or --gaps hold (as before)"
            );
            return bad(line, problem);
        }
        let end = if is_gap { from + usual } else { until };
        last_rate = match row.amount {
            Amount::Messages(messages) => Some(messages / f64::from(end - from)),
            Amount::PerSecond(rate) => Some(rate),
            Amount::Unseen => last_rate,
        };
        first_rate = first_rate.or(last_rate);
        steps.push((from, last_rate));
        if is_gap && gaps == Gaps::Zero {
            steps.push((end, Some(0.0)));
        }
        seconds = until;
        if row.unknown {
            match unknown.last_mut().filter(|fault| fault.until == from) {
                Some(fault) => fault.until = end,
                None => unknown.push(Fault { from, until: end, kind: FaultKind::MetricLoss }),
            }
        }
    }
    let Some(first_rate) = first_rate else {
        return bad(
            first.line,
            "no line has a value; at least one must have the number of messages that arrived",
        );
    };
    let steps = steps.into_iter().map(|(from, rate)| (from, rate.unwrap_or(first_rate))).collect();
    Ok(Trace { begin: first.at, load: Load { steps, seconds }, unknown })
}

#[cfg(test)]
mod tests;
