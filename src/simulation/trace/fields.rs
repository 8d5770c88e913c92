//! What programs write into CSV files, as far as it means one thing only: separators, quotes, line ends, times. Pure.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{BadLine, bad};

/// Numbers of seconds since 1970 are below it for 3000 years; such of milliseconds are above it since 1973.
const MOST_SECONDS: i128 = 100_000_000_000;

/// The lines of a file, whatever they end with.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    // Only a file without any other line end can have those of old spreadsheets.
    let end = if text.contains('\n') { '\n' } else { '\r' };
    text.split(end)
}

/// What stands between two fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Separator(char);

impl Separator {
    /// The one that the first line has: names of columns have none of them.
    pub(super) fn of(header: &str) -> Self {
        Self([',', ';', '\t'].into_iter().find(|separator| header.contains(*separator)).unwrap_or(','))
    }

    /// The fields of a line, without quotes and the space around them.
    pub(super) fn fields(self, line: usize, text: &str) -> Result<Vec<Cow<'_, str>>, BadLine> {
        let mut fields = Vec::new();
        let mut rest = Some(text);
        while let Some(text) = rest {
            let (field, after) = match text.trim_start_matches([' ', '\r']).strip_prefix('"') {
                Some(quoted) => self.quoted(line, quoted)?,
                None => {
                    let (field, after) = split(text, self.0);
                    (Cow::Borrowed(field.trim()), after)
                }
            };
            fields.push(field);
            rest = after;
        }
        Ok(fields)
    }

    /// A field whose first quote is read, and what follows its separator.
    fn quoted(self, line: usize, text: &str) -> Result<(Cow<'_, str>, Option<&str>), BadLine> {
        let mut from = 0;
        while let Some(place) = text.get(from..).and_then(|rest| rest.find('"')).map(|place| from + place) {
            let after = text.get(place + 1..).unwrap_or_default();
            if after.starts_with('"') {
                from = place + 2;
                continue;
            }
            let (between, rest) = split(after, self.0);
            if !between.trim().is_empty() {
                return bad(
                    line,
                    format!("{between:?} follows a closing quote; put all of a field in quotes"),
                );
            }
            let field = text.get(..place).unwrap_or_default().trim();
            let field =
                if from == 0 { Cow::Borrowed(field) } else { Cow::Owned(field.replace("\"\"", "\"")) };
            return Ok((field, rest));
        }
        bad(line, "a quote is not closed; close it, or remove it")
    }
}

/// What is before the first separator, and after it if there is one.
fn split(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// A time as people and programs write it. Without a zone it is UTC.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let zoned = || text.parse::<Timestamp>().ok();
    let civil = || Some(text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp());
    since_1970(text).or_else(zoned).or_else(civil)
}

/// Seconds or milliseconds since 1970; their size distinguishes them. Parts of a second may follow.
fn since_1970(text: &str) -> Option<Timestamp> {
    let (whole, part) = text.split_once('.').map_or((text, None), |(whole, part)| (whole, Some(part)));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number(whole.strip_prefix('-').unwrap_or(whole)) || part.is_some_and(|part| !is_number(part)) {
        return None;
    }
    let number = i128::from(whole.parse::<i64>().ok()?);
    let mut unit = 1_000_000_000;
    while (number * unit).abs() >= MOST_SECONDS * 1_000_000_000 && unit > 1 {
        unit /= 1000;
    }
    let mut nanoseconds = number.checked_mul(unit)?;
    // More exactly than to the unit of the number, but no more exactly than to a nanosecond.
    let mut digit_unit = unit / 10;
    for digit in part.unwrap_or_default().bytes().map(|digit| i128::from(digit - b'0')) {
        nanoseconds += digit * digit_unit * if whole.starts_with('-') { -1 } else { 1 };
        digit_unit /= 10;
    }
    Timestamp::from_nanosecond(nanoseconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_may_be_in_quotes_with_anything_in_them() {
        let of = |separator, text| Separator(separator).fields(3, text).map_err(|bad| bad.to_string());
        assert_eq!(of(',', "a, b ,c").unwrap(), ["a", "b", "c"]);
        assert_eq!(of(',', "\"a\", \" b \" ,\"\",").unwrap(), ["a", "b", "", ""]);
        assert_eq!(of(';', "\"a;b\";\"call \"\"no\"\"\"\r").unwrap(), ["a;b", "call \"no\""]);
        assert_eq!(of(',', "\"a,b").unwrap_err(), "3: a quote is not closed; close it, or remove it");
        assert_eq!(
            of(',', "\"a\"b,c").unwrap_err(),
            "3: \"b\" follows a closing quote; put all of a field in quotes"
        );
    }

    #[test]
    fn a_time_since_1970_is_told_by_its_size() {
        let at = |text| time(text).map(|at| at.to_string());
        let expected = Some("2026-01-01T00:00:00Z".to_owned());
        for text in ["1767225600", "1767225600.0", "1767225600000", "1767225600000000", "1767225600000000000"]
        {
            assert_eq!(at(text), expected, "{text}");
        }
        assert_eq!(at("1767225600.25").unwrap(), "2026-01-01T00:00:00.25Z");
        assert_eq!(at("1767225600250").unwrap(), "2026-01-01T00:00:00.25Z");
        assert_eq!(at("-1.5").unwrap(), "1969-12-31T23:59:58.5Z");
        assert_eq!(at("2026-01-01 00:00:00.5").unwrap(), "2026-01-01T00:00:00.5Z");
        for text in ["", "-", ".", "1.", ".5", "1e9", "1.2.3", "99999999999999999999999999999999999999999"] {
            assert_eq!(at(text), None, "{text}");
        }
    }
}
