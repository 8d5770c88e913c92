//! An error with its causes as one line of text.

/// The error and its causes, outermost first. Some libraries repeat the cause in their own text, so a cause that the text
/// already ends with is left out.
pub fn line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| {
        if text.is_empty() {
            cause
        } else if text.ends_with(&cause) {
            text
        } else {
            format!("{text}: {cause}")
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn causes_follow_outermost_first() {
        let error = anyhow::Error::new(io::Error::other("refused")).context("cannot connect");
        assert_eq!(line(&error), "cannot connect: refused");
    }

    #[test]
    fn a_repeated_cause_is_left_out() {
        let inner = anyhow::Error::new(io::Error::other("refused"));
        let error = inner.context("I/O error: refused").context("cannot connect");
        assert_eq!(line(&error), "cannot connect: I/O error: refused");
    }
}
