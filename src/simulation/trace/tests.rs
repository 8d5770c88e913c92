//! Which forms a trace can have, and how others are refused.

use super::*;

fn error(text: &str) -> String {
    parse(text, Gaps::Refuse).unwrap_err().to_string()
}

#[test]
fn intervals_become_rates() {
    let text = "timestamp,value\n2026-01-01 00:00:00,600\n2026-01-01 00:05:00,0.0\n2026-01-01 00:10:00,30\n";
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
fn unambiguous_csv_of_other_programs_is_read() {
    let of = |text| parse(text, Gaps::Refuse).unwrap();
    let plain = of("timestamp,value\n2026-01-01 00:00:00,5\n2026-01-01 00:00:05,1800.5\n");
    for text in [
        "\"timestamp\",\"value\"\n\"2026-01-01 00:00:00\",\"5\"\n\"2026-01-01 00:00:05\",\"1800.5\"\n",
        "Timestamp;Value\r\n2026-01-01T00:00:00.000Z;5\r\n2026-01-01T00:00:05.000Z;1800.5\r\n",
        "timestamp\tvalue\r2026-01-01 00:00:00\t5\r2026-01-01 00:00:05\t1800.5",
        "\u{feff}value,timestamp\n5,1767225600000\n1800.5,1767225605000\n",
        "value,timestamp\n5,1767225600.000\n1800.5,1767225605.000\n",
    ] {
        assert_eq!(of(text), plain, "{text:?}");
    }
}

#[test]
fn parts_of_a_second_shift_no_interval() {
    let text = "timestamp,value\n0.9,10\n5.1,10\n10.8,10\n15.2,10\n";
    let trace = parse(text, Gaps::Refuse).unwrap();
    assert_eq!(trace.load.steps.iter().map(|(from, _)| *from).collect::<Vec<_>>(), [0, 5, 10, 15]);
    assert_eq!(
        error("timestamp,value\n0.2,1\n0.7,1\n"),
        "3: 1970-01-01T00:00:00.7Z is within a second of 1970-01-01T00:00:00.2Z on line 2; keep one line for each \
         interval of a second or more"
    );
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
fn unseen_arrivals_are_as_many_as_before() {
    let text = "timestamp,value,quality\n\
                0,,Unknown\n5,,Unknown\n10,5,Known\n15,,Unknown\n20,40,Known\n25,,Unknown\n30,0,Known\n";
    let trace = parse(text, Gaps::Refuse).unwrap();
    let rates: Vec<f64> = trace.load.steps.iter().map(|(_, rate)| *rate).collect();
    assert_eq!(rates, [1.0, 1.0, 1.0, 1.0, 8.0, 8.0, 0.0]);
    let gap = "timestamp,value,quality\n0,,Unknown\n5,,Unknown\n25,10,Known\n30,10,Known\n";
    let steps = parse(gap, Gaps::Zero).unwrap().load.steps;
    assert_eq!(steps, [(0, 2.0), (5, 2.0), (10, 0.0), (25, 2.0), (30, 2.0)], "--gaps fills the gap");
}

#[test]
fn gaps_are_refused_unless_it_is_said_what_happened_in_them() {
    let text = "timestamp,value\n0,60\n60,60\n120,60\n600,60\n660,60\n";
    assert_eq!(
        error(text),
        "5: 7 min are missing before this line, where a line comes every 60 s; add them, or choose how to fill the gap: \
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
        (
            "timestamp,value\n0,1,800\n",
            "2: has 3 fields, the first line names 2 columns; write numbers without separators of thousands",
        ),
        ("timestamp,value\n0\n", "2: has 1 fields, the first line names 2 columns"),
        (
            "timestamp;value\n0;1,8\n",
            "2: value \"1,8\" is no number; write it like 1800 or 1800.5, as a comma means either",
        ),
        (
            "2026-01-01 00:00:00,1\n",
            "1: is no line of names; begin the file with one, such as timestamp,value",
        ),
        ("timestamp,value\n0,1\n60,-3\n", "3: value -3 is negative; it is a number of messages, 0 or more"),
        (
            "timestamp,value\n0,many\n",
            "2: value \"many\" is no number; it is a number of messages, 0 or more",
        ),
        ("timestamp,value\n0,NaN\n", "2: value \"NaN\" is no number; it is a number of messages, 0 or more"),
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
        (
            "timestamp,value,quality\n0,,Unknown\n5,,Unknown\n",
            "2: no line has a value; at least one must have the number of messages that arrived",
        ),
        ("timestamp,value,quality\n0,1,Good\n", "2: quality \"Good\" is none of Known, AtLeast, Unknown"),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected, "{text:?}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_what_a_prometheus_answers() {
    assert_eq!(parse(&format!("\u{feff}{PROMETHEUS}"), Gaps::Refuse), parse(PROMETHEUS, Gaps::Refuse));
}

const PROMETHEUS: &str = r#"{
  "status": "success",
  "data": {"resultType": "matrix", "result": [
    {"metric": {"name": "orders"}, "values": [[0, "2"], [60, "4.5"], [120, "0"]]}
  ]}
}"#;

#[test]
fn the_answer_of_a_prometheus_is_a_trace_of_rates() {
    let trace = parse(PROMETHEUS, Gaps::Refuse).unwrap();
    assert_eq!(trace.load, Load { steps: vec![(0, 2.0), (60, 4.5), (120, 0.0)], seconds: 180 });
    let gap = PROMETHEUS.replace("[120, \"0\"]", "[120, \"0\"], [600, \"1\"]");
    assert!(
        error(&gap).contains("7 min are missing before point 4 (1970-01-01T00:10:00Z)"),
        "{}",
        error(&gap)
    );
    assert_eq!(parse(&gap, Gaps::Zero).unwrap().load.steps[3], (180, 0.0));
}

#[test]
fn an_answer_that_is_no_trace_is_refused_with_the_way_out() {
    let other = "{\"metric\": {\"name\": \"bills\"}, \"values\": [[0, \"1\"]]}, {\"metric\"";
    let cases = [
        (PROMETHEUS.replace("values", "value"), "the answer of a Prometheus to query_range is expected"),
        (PROMETHEUS.replace("success", "error"), "the query failed"),
        (PROMETHEUS.replace("{\"metric\"", other), "has 2 series; ask for one, such as with sum(…)"),
        (PROMETHEUS.replace("\"4.5\"", "\"-1\""), "point 2: rate -1 is negative"),
        (PROMETHEUS.replace("\"4.5\"", "\"NaN\""), "point 2: rate \"NaN\" is no number"),
        ("{".to_owned(), "1: is not valid JSON"),
    ];
    for (text, expected) in cases {
        assert!(error(&text).contains(expected), "{}", error(&text));
    }
}
