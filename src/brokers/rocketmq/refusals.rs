//! What an answer of RocketMQ means that is no success. Pure.

use super::wire::{Answer, status};
use crate::brokers::access::Credentials;
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};

/// The problem behind an answer. `server` is named in the message, `what` was asked for.
pub(super) fn refusal(
    server: &str,
    what: &str,
    answer: &Answer,
    credentials: Option<&Credentials>,
) -> Problem {
    let first = answer.remark.lines().next().unwrap_or_default();
    let words = match credentials {
        Some(credentials) => quote(&credentials.blot(first)),
        None => quote(first),
    };
    let words = if words.is_empty() { String::new() } else { format!(": {words}") };
    let (reason, message) = match answer.code {
        status::NO_PERMISSION => return not_permitted(server, what, &answer.remark, &words, credentials),
        status::TOPIC_NOT_EXIST => (
            SourceReason::TopicNotFound,
            format!("{server} has no {what}{words}; create it or correct topic"),
        ),
        status::SYSTEM_ERROR | status::SYSTEM_BUSY => {
            (SourceReason::StatsUnavailable, format!("{server} cannot answer now for {what}{words}"))
        }
        status::NOT_SUPPORTED => (
            SourceReason::StatsUnavailable,
            format!("{server} does not know a request for {what}{words}; RocketMQ 5 or later is needed"),
        ),
        code => {
            (SourceReason::ResponseInvalid, format!("{server} answers {code} to a request for {what}{words}"))
        }
    };
    Problem::new(reason, message)
}

/// Brokers answer 16 to requests without a signature, with a wrong one, and without rights alike. Only the words differ.
fn not_permitted(
    server: &str,
    what: &str,
    remark: &str,
    words: &str,
    credentials: Option<&Credentials>,
) -> Problem {
    let remark = remark.to_ascii_lowercase();
    let unknown_user = ["username cannot be null", "signature", "not found", "no acl config"];
    let (reason, message) = match credentials {
        None => (
            SourceReason::AuthenticationFailed,
            format!("{server} asks for signed requests{words}; set credentialsSecretRef"),
        ),
        Some(credentials) if unknown_user.iter().any(|it| remark.contains(it)) => (
            SourceReason::AuthenticationFailed,
            format!(
                "{server} refuses the access key or its signature{words}; correct the Secret{}",
                credentials.line_break_hint()
            ),
        ),
        Some(_) => (
            SourceReason::AuthorizationFailed,
            format!(
                "{server} does not let the user read {what}{words}; grant it: mqadmin createAcl -s User:<user> -r \
                 Topic:<topic>,Group:<group> -a Get,List -d Allow"
            ),
        ),
    };
    Problem::new(reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_distinguished_by_code_and_words() {
        let credentials = Credentials { username: "scaler".into(), password: "12345678".into() };
        let signed = Some(&credentials);
        for (code, remark, credentials, reason, words) in [
            (16, "username cannot be null", None, SourceReason::AuthenticationFailed, "credentialsSecretRef"),
            (16, "check signature failed.", signed, SourceReason::AuthenticationFailed, "correct the Secret"),
            (16, "User:x is not found", signed, SourceReason::AuthenticationFailed, "correct the Secret"),
            (
                16,
                "User:scaler has no permission to access Topic:a",
                signed,
                SourceReason::AuthorizationFailed,
                "-a Get,List",
            ),
            (17, "topic[a] not exist\ntrace", signed, SourceReason::TopicNotFound, "not exist; create it"),
            (1, "boom 12345678", signed, SourceReason::StatsUnavailable, "boom ***"),
            (3, "", signed, SourceReason::StatsUnavailable, "RocketMQ 5"),
            (207, "", signed, SourceReason::ResponseInvalid, "207"),
        ] {
            let answer = Answer { code, remark: remark.into(), ..Answer::default() };
            let problem = refusal("broker b:1", "topic a", &answer, credentials);
            assert_eq!(problem.reason, reason, "{problem}");
            assert!(problem.message.contains(words), "{problem}");
        }
    }
}
