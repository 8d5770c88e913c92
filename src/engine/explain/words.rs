//! Numbers as users read them: thousands apart, rates in a unit that shows them best, seconds without false digits.

/// `1,234,567`.
pub(crate) fn thousands(number: impl Into<i128>) -> String {
    let number = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0 {
        shown.push('-');
    }
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// `1 replica`, `2 replicas`.
pub(crate) fn count(number: impl Into<i128>, thing: &str) -> String {
    let number = number.into();
    if number == 1 { format!("1 {thing}") } else { format!("{} {thing}s", thousands(number)) }
}

/// `1 replica is`, `2 replicas are`.
pub(crate) fn count_is(number: impl Into<i128>, thing: &str) -> String {
    let number = number.into();
    format!("{} {}", count(number, thing), if number == 1 { "is" } else { "are" })
}

/// The verb that goes with a count: `1 replica clears`, `2 replicas clear`.
pub(in crate::engine) fn verb(number: impl Into<i128>, plural: &str) -> String {
    if number.into() == 1 { format!("{plural}s") } else { plural.to_owned() }
}

/// A count that was calculated, as a whole number.
#[allow(clippy::cast_possible_truncation)] // Saturates.
pub(in crate::engine) fn whole(number: f64) -> String {
    thousands(number.round() as i64)
}

/// A rate in the unit that shows it best.
pub(in crate::engine) fn rate(per_second: f64) -> String {
    let per_minute = per_second * 60.0;
    if per_minute >= 10.0 {
        format!("{}/min", three_digits(per_minute))
    } else if per_minute * 60.0 >= 10.0 {
        format!("{}/h", three_digits(per_minute * 60.0))
    } else {
        format!("{}/day", three_digits(per_minute * 1440.0))
    }
}

/// Seconds: whole ones, where a part of one makes no difference.
pub(in crate::engine) fn seconds(seconds: f64) -> String {
    if seconds < 20.0 { trimmed(format!("{seconds:.1}")) } else { whole(seconds) }
}

/// At least three digits, with which a result can be checked, and no more zeros than needed.
fn three_digits(number: f64) -> String {
    if number >= 100.0 {
        return whole(number);
    }
    let places = if number >= 10.0 { 1 } else { 2 };
    trimmed(format!("{number:.places$}"))
}

fn trimmed(number: String) -> String {
    match number.split_once('.') {
        Some(_) => number.trim_end_matches('0').trim_end_matches('.').to_owned(),
        None => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (49_814, "49,814"), (-1_234_567, "-1,234,567")];
        for (number, shown) in cases {
            assert_eq!(thousands(number), shown);
        }
        assert_eq!(thousands(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn rates_have_the_digits_that_a_check_needs() {
        let cases = [
            (100.0, "6,000/min"),
            (2.0, "120/min"),
            (0.2, "12/min"),
            (0.193, "11.6/min"),
            (1.0 / 600.0, "144/day"),
            (1.0 / 60.0, "60/h"),
            (1.0 / 86_400.0, "1/day"),
        ];
        for (per_second, shown) in cases {
            assert_eq!(rate(per_second), shown, "{per_second}");
        }
    }

    #[test]
    fn seconds_and_counts_are_short() {
        assert_eq!([seconds(5.0), seconds(1.25), seconds(264.6)], ["5", "1.2", "265"]);
        assert_eq!([count(1, "replica"), count(2000, "replica")], ["1 replica", "2,000 replicas"]);
        assert_eq!([count_is(1, "replica"), count_is(0, "replica")], ["1 replica is", "0 replicas are"]);
    }
}
