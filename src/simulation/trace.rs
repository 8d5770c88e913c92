//! Traces: what arrived, as text with a line for each interval.
//!
//! Columns, named by the first line, in any order:
//! - `timestamp`: when the interval begins, as `2026-11-21 14:05:00`, with `T` and a zone (`Z`, `+01:00`), or in seconds
//!   since 1970. Without a zone it is UTC.
//! - `value`: messages that arrived in it, 0 or more.
//! - `quality` (optional): `Known`, `AtLeast` or `Unknown`, as the reading at its end was. The simulated broker cannot be
//!   read where it was `Unknown`.
//! - `backlog`, `replicas` (optional): what was found then. A record has them for people; a simulation makes its own.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

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

struct Row {
    line: usize,
    at: Timestamp,
    value: f64,
    unknown: bool,
}

/// Reads a trace.
///
/// # Errors
/// The first line that cannot be used.
pub fn parse(text: &str, gaps: Gaps) -> Result<Trace, BadLine> {
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
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
    names: Vec<String>,
}

impl Columns {
    fn read(line: usize, header: &str) -> Result<Self, BadLine> {
        // A byte order mark is what some spreadsheets begin a file with.
        let names: Vec<String> =
            header.trim_start_matches('\u{feff}').split(',').map(|name| name.trim().to_owned()).collect();
        if let Some(unknown) = names.iter().find(|name| !COLUMNS.contains(&name.as_str())) {
            let known = COLUMNS.join(", ");
            return bad(
                line,
                format!("unknown column {unknown:?}; remove it, or rename it to one of {known}"),
            );
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
        Ok(Self { names })
    }

    fn row(&self, line: usize, text: &str) -> Result<Row, BadLine> {
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        if fields.len() != self.names.len() {
            let (has, wants) = (fields.len(), self.names.len());
            return bad(line, format!("has {has} fields, the first line names {wants} columns"));
        }
        let field = |name| {
            let named = self.names.iter().zip(&fields).find(|(column, _)| *column == name);
            named.map(|(_, field)| *field)
        };
        let unknown = match field("quality") {
            None | Some("Known" | "AtLeast") => false,
            Some("Unknown") => true,
            Some(other) => {
                return bad(line, format!("quality {other:?} is none of Known, AtLeast, Unknown"));
            }
        };
        let at = timestamp(line, field("timestamp").unwrap_or_default())?;
        let value = match field("value").unwrap_or_default() {
            // What arrived while the broker could not be read is in the next reading.
            "" if unknown => 0.0,
            given => value(line, given)?,
        };
        Ok(Row { line, at, value, unknown })
    }
}

fn timestamp(line: usize, text: &str) -> Result<Timestamp, BadLine> {
    let seconds = || text.parse::<i64>().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let zoned = || text.parse::<Timestamp>().ok();
    let civil = || Some(text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp());
    match seconds().or_else(zoned).or_else(civil) {
        Some(at) => Ok(at),
        None => bad(
            line,
            format!(
                "{text:?} is no time; write it as 2026-11-21 14:05:00, 2026-11-21T14:05:00Z or in seconds"
            ),
        ),
    }
}

fn value(line: usize, text: &str) -> Result<f64, BadLine> {
    match text.parse::<f64>() {
        Ok(value) if value < 0.0 => {
            bad(line, format!("value {text} is negative; it is a number of messages, 0 or more"))
        }
        Ok(value) if value.is_finite() => Ok(value),
        _ => bad(line, format!("value {text:?} is no number; it is a number of messages, 0 or more")),
    }
}

/// Checks that time goes on, and returns the usual interval in seconds.
fn check_order(rows: &[Row], header: usize) -> Result<i64, BadLine> {
    let mut intervals = Vec::new();
    for pair in rows.windows(2) {
        let [before, row] = pair else { continue };
        let seconds = row.at.as_second() - before.at.as_second();
        if seconds < 0 {
            let problem = format!(
                "{} is before {} on line {}; sort the lines by timestamp",
                row.at, before.at, before.line
            );
            return bad(row.line, problem);
        }
        if seconds == 0 {
            let problem = format!(
                "{} is there already on line {}; keep one line for each interval of a second or more",
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
    let mut load = Load::default();
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
                 add them, or say what happened: --gaps zero (nothing arrived) or --gaps hold (as before)"
            );
            return bad(line, problem);
        }
        let end = if is_gap { from + usual } else { until };
        let rate = row.value / f64::from(end - from);
        load.steps.push((from, rate));
        if is_gap && gaps == Gaps::Zero {
            load.steps.push((end, 0.0));
        }
        load.seconds = until;
        if row.unknown {
            match unknown.last_mut().filter(|fault| fault.until == from) {
                Some(fault) => fault.until = end,
                None => unknown.push(Fault { from, until: end, kind: FaultKind::MetricLoss }),
            }
        }
    }
    Ok(Trace { begin: first.at, load, unknown })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text, Gaps::Refuse).unwrap_err().to_string()
    }

    #[test]
    fn intervals_become_rates() {
        let text =
            "timestamp,value\n2026-01-01 00:00:00,600\n2026-01-01 00:05:00,0.0\n2026-01-01 00:10:00,30\n";
        let trace = parse(text, Gaps::Refuse).unwrap();
        assert_eq!(trace.begin, "2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(trace.load, Load { steps: vec![(0, 2.0), (300, 0.0), (600, 0.1)], seconds: 900 });
    }

    #[test]
    fn times_may_have_a_zone_or_be_seconds_and_columns_any_order() {
        let of = |text| parse(text, Gaps::Refuse).unwrap();
        let zoned = of("value,timestamp\r\n5,2026-01-01T01:00:00+01:00\r\n5,2026-01-01T00:00:05Z\r\n");
        let seconds = of("\u{feff}timestamp, value\n1767225600, 5\n1767225605, 5\n\n");
        assert_eq!(zoned, seconds);
    }

    #[test]
    fn a_recorded_trace_replays_the_time_in_which_nothing_could_be_read() {
        let text = "timestamp,value,backlog,quality,replicas\n\
                    0,5,10,Known,1\n5,,,Unknown,1\n10,,,Unknown,1\n16,40,50,Known,1\n21,5,10,AtLeast,2\n";
        let trace = parse(text, Gaps::Refuse).unwrap();
        assert_eq!(trace.unknown, [Fault { from: 5, until: 16, kind: FaultKind::MetricLoss }]);
        assert_eq!(trace.load.steps.len(), 5, "11 s are no gap where 5 are usual");
    }

    #[test]
    fn gaps_are_refused_unless_it_is_said_what_happened_in_them() {
        let text = "timestamp,value\n0,60\n60,60\n120,60\n600,60\n660,60\n";
        assert_eq!(
            error(text),
            "5: 7 min are missing before this line, where a line comes every 60 s; add them, or say what happened: \
             --gaps zero (nothing arrived) or --gaps hold (as before)"
        );
        let steps = |gaps| parse(text, gaps).unwrap().load.steps;
        assert_eq!(steps(Gaps::Hold), [(0, 1.0), (60, 1.0), (120, 1.0), (600, 1.0), (660, 1.0)]);
        assert_eq!(steps(Gaps::Zero), [(0, 1.0), (60, 1.0), (120, 1.0), (180, 0.0), (600, 1.0), (660, 1.0)]);
    }

    #[test]
    fn each_mistake_has_its_line_and_its_way_out() {
        let cases = [
            ("", "1: the file is empty; the first line names the columns, such as timestamp,value"),
            (
                "time,value\n",
                "1: unknown column \"time\"; remove it, or rename it to one of timestamp, value, quality, backlog, \
                 replicas",
            ),
            ("timestamp\n", "1: no column value; the first line must name timestamp and value"),
            ("timestamp,value,value\n", "1: the column value is there twice; remove one"),
            (
                "timestamp,value\n0,1\n",
                "1: fewer than two intervals; a trace needs at least two lines below the first",
            ),
            ("timestamp,value\n0,1,2\n", "2: has 3 fields, the first line names 2 columns"),
            (
                "timestamp,value\n0,1\n60,-3\n",
                "3: value -3 is negative; it is a number of messages, 0 or more",
            ),
            (
                "timestamp,value\n0,many\n",
                "2: value \"many\" is no number; it is a number of messages, 0 or more",
            ),
            (
                "timestamp,value\n0,NaN\n",
                "2: value \"NaN\" is no number; it is a number of messages, 0 or more",
            ),
            (
                "timestamp,value\nyesterday,1\n",
                "2: \"yesterday\" is no time; write it as 2026-11-21 14:05:00, 2026-11-21T14:05:00Z or in seconds",
            ),
            (
                "timestamp,value\n60,1\n\n0,1\n",
                "4: 1970-01-01T00:00:00Z is before 1970-01-01T00:01:00Z on line 2; sort the lines by timestamp",
            ),
            (
                "timestamp,value\n60,1\n60,1\n",
                "3: 1970-01-01T00:01:00Z is there already on line 2; keep one line for each interval of a second or \
                 more",
            ),
            ("timestamp,value,quality\n0,1,Good\n", "2: quality \"Good\" is none of Known, AtLeast, Unknown"),
        ];
        for (text, expected) in cases {
            assert_eq!(error(text), expected, "{text:?}");
        }
    }
}
