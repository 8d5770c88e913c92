//! An error as one line for a person.

/// The error and its causes, from the outside in. Some libraries repeat the cause in their own text, so a cause that
/// was said already is left out.
pub fn line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| {
        if said.is_empty() {
            cause
        } else if said.ends_with(&cause) {
            said
        } else {
            format!("{said}: {cause}")
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn causes_follow_from_the_outside_in() {
        let error = anyhow::Error::new(io::Error::other("refused")).context("cannot connect");
        assert_eq!(line(&error), "cannot connect: refused");
    }

    #[test]
    fn a_cause_that_was_said_already_is_left_out() {
        let inner = anyhow::Error::new(io::Error::other("refused"));
        let error = inner.context("I/O error: refused").context("cannot connect");
        assert_eq!(line(&error), "cannot connect: I/O error: refused");
    }
}
