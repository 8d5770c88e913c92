//! The answer of a Prometheus to `query_range`, read as a trace. Its numbers are messages per second.

use jiff::Timestamp;
use serde::Deserialize;

use super::{Amount, BadLine, Row, bad};

#[derive(Deserialize)]
struct Answer {
    status: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    values: Vec<(f64, String)>,
}

/// The points of the only series.
pub(super) fn rows(text: &str) -> Result<Vec<Row>, BadLine> {
    let answer: Answer = match serde_json::from_str(text) {
        Ok(answer) => answer,
        Err(error) if error.is_data() => {
            let problem = format!("the answer of a Prometheus to query_range is expected: {error}");
            return bad(error.line(), problem);
        }
        Err(error) => return bad(error.line(), format!("is not valid JSON: {error}")),
    };
    let Some(data) = answer.data.filter(|_| answer.status == "success") else {
        return bad(1, "the query failed (see its status); run it again and save the response");
    };
    let [series] = data.result.as_slice() else {
        let number = data.result.len();
        return bad(1, format!("has {number} series; ask for one, such as with sum(…)"));
    };
    series.values.iter().enumerate().map(|(index, (at, rate))| row(index + 1, *at, rate)).collect()
}

fn row(point: usize, at: f64, rate: &str) -> Result<Row, BadLine> {
    #[allow(clippy::cast_possible_truncation)] // Saturates, and is then no time.
    let Ok(at) = Timestamp::from_second(at.round() as i64) else {
        return bad(1, format!("point {point}: {at} is no time"));
    };
    match rate.parse::<f64>() {
        Ok(rate) if rate < 0.0 => bad(1, format!("point {point}: rate {rate} is negative")),
        Ok(rate) if rate.is_finite() => {
            Ok(Row { line: point, at, amount: Amount::PerSecond(rate), unknown: false })
        }
        _ => bad(1, format!("point {point}: rate {rate:?} is no number; leave such points out of the query")),
    }
}

/// A mistake that has the number of a point for that of a line: points have no lines of their own.
pub(super) fn about_point(mistake: BadLine, rows: &[Row]) -> BadLine {
    let BadLine { line: point, problem } = mistake;
    let at = rows.iter().find(|row| row.line == point).map(|row| row.at);
    let point = at.map_or_else(|| "the first".to_owned(), |at| format!("point {point} ({at})"));
    BadLine { line: 1, problem: problem.replace("this line", &point) }
}
