//! What a delay probe looks like, on every broker: headers by which consumers know it, and a small body.

/// Header that every probe has: its id.
pub(super) const ID: &str = "x-queuescaler-probe";
/// Header with the time of sending, RFC 3339.
pub(super) const SENT_AT: &str = "x-queuescaler-sent-at";
/// The body, for consumers that parse every message as JSON before they look at its headers.
pub(super) const BODY: &str = r#"{"queuescaler":"probe"}"#;
/// Random bytes of an id.
const ID_BYTES: usize = 8;

/// An id that no other probe has.
pub(super) fn new_id() -> String {
    let mut bytes = [0; ID_BYTES];
    // Without randomness the header is what matters.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        assert!(new_id() != new_id() && new_id().len() == 2 * ID_BYTES);
    }
}
