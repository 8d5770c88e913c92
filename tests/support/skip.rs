//! What becomes of a test that finds no real part to run on.

/// Says why the test is skipped. Where `QS_REQUIRE_REAL_PARTS` is set and not empty, the test fails instead, so that a
/// run that is to prove something cannot pass by skipping.
#[track_caller]
pub fn skipped(why: &str) {
    let required = std::env::var_os("QS_REQUIRE_REAL_PARTS").is_some_and(|value| !value.is_empty());
    assert!(!required, "{why}, and QS_REQUIRE_REAL_PARTS lets no test be skipped");
    println!("skipped: {why}");
}
