//! Access tokens for SASL OAUTHBEARER (RFC 7628), from an OAuth 2.0 server by the client's credentials (RFC 6749,
//! section 4.4).
//!
//! The address of the server is user input, as that of a management API is: no redirect is followed, no proxy used, and
//! every connection is to an address that the policy permits.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::brokers::access::Credentials;
use crate::brokers::address::AddressPolicy;
use crate::brokers::endpoint::{Endpoint, body_of};
use crate::brokers::kafka::access::OAuthAccess;
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};

/// Time for an answer of the token server, which is part of that of a poll.
const ANSWER: Duration = Duration::from_secs(3);
/// For so long a failure is that of all brokers of the cluster.
const FAILED: Duration = Duration::from_secs(2);
/// Most bytes of an answer: tokens with many claims have some KiB.
const LARGEST: usize = 64 << 10;
/// A token is renewed after this part of its life.
const LIFE: f64 = 0.8;

/// The token of a session, and when to get the next one.
#[derive(Debug, Default)]
pub struct Tokens(Mutex<Option<Known>>);

#[derive(Debug)]
enum Known {
    /// A token, until then.
    Token(SecretString, Instant),
    /// There was none, at that time.
    Failed(Problem, Instant),
}

impl Tokens {
    /// The token, from the server if it is due.
    ///
    /// # Errors
    /// The server refuses the client, or gives none.
    pub(super) async fn get(
        &self,
        oauth: &OAuthAccess,
        credentials: &Credentials,
        addresses: &AddressPolicy,
    ) -> Result<SecretString, Problem> {
        let mut known = self.0.lock().await;
        match &*known {
            Some(Known::Token(token, until)) if Instant::now() < *until => return Ok(token.clone()),
            Some(Known::Failed(problem, at)) if at.elapsed() < FAILED => return Err(problem.clone()),
            _ => {}
        }
        let asked = Asked::new(oauth, credentials, addresses)?;
        let answer = timeout(ANSWER, asked.ask()).await;
        let answer = answer.unwrap_or_else(|_| {
            let seconds = ANSWER.as_secs();
            Err(asked.unavailable(&format!("does not answer within {seconds} s")))
        });
        match answer {
            Ok((token, life)) => {
                let until = Instant::now() + life.mul_f64(LIFE);
                *known = Some(Known::Token(token.clone(), until));
                Ok(token)
            }
            Err(problem) => {
                *known = Some(Known::Failed(problem.clone(), Instant::now()));
                Err(problem)
            }
        }
    }

    /// Forgets the token: a broker has refused it.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

/// What a client sends to a broker first: `key=value` pairs, each ended by a byte 1, with a header that names no user.
pub(super) fn first_message(token: &SecretString, oauth: &OAuthAccess) -> String {
    let extensions = oauth.extensions.iter().map(|(name, value)| format!("{name}={value}\u{1}"));
    format!("n,,\u{1}auth=Bearer {}\u{1}{}\u{1}", token.expose_secret(), extensions.collect::<String>())
}

/// A request for a token.
struct Asked<'a> {
    oauth: &'a OAuthAccess,
    credentials: &'a Credentials,
    endpoint: Endpoint,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    expires_in: Option<f64>,
}

#[derive(Default, Deserialize)]
struct Refused {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

impl<'a> Asked<'a> {
    fn new(
        oauth: &'a OAuthAccess,
        credentials: &'a Credentials,
        addresses: &AddressPolicy,
    ) -> Result<Self, Problem> {
        let unusable = |error: &dyn std::error::Error| {
            let message = format!("sasl.oauth.tokenUrl cannot be used: {}", quote(&error.to_string()));
            Problem::new(SourceReason::TokenUnavailable, message)
        };
        // A token is asked for once in minutes: no connection is kept for it.
        let endpoint = Endpoint::new(&oauth.token_url, oauth.tls.as_ref(), addresses.clone(), 0, unusable)?;
        Ok(Self { oauth, credentials, endpoint })
    }

    /// A token and how long it lives.
    async fn ask(&self) -> Result<(SecretString, Duration), Problem> {
        self.endpoint.check_literal(Instant::now() + ANSWER).await?;
        let Credentials { username, password } = self.credentials;
        let request = self
            .endpoint
            .client()
            .post(self.endpoint.base().clone())
            .basic_auth(username, Some(password.expose_secret()))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(self.form());
        let mut response = request.send().await.map_err(|error| self.broken(&error))?;
        let status = response.status();
        let body = body_of(&mut response, LARGEST, &AtomicUsize::new(0)).await;
        let body = body
            .map_err(|error| self.broken(&error))?
            .ok_or_else(|| self.unavailable("answers with more than 64 KiB, which no token has"))?;
        if status == StatusCode::OK { self.granted(&body) } else { Err(self.refused(status, &body)) }
    }

    fn form(&self) -> String {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        let fields = [("scope", &self.oauth.scope), ("audience", &self.oauth.audience)];
        for (name, value) in fields {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        form.finish()
    }

    fn granted(&self, body: &[u8]) -> Result<(SecretString, Duration), Problem> {
        let granted: Granted =
            serde_json::from_slice(body).map_err(|_| self.unavailable("answers without an access_token"))?;
        let token = SecretString::from(granted.access_token);
        // The characters of a bearer token (RFC 6750, section 2.1): anything else could add to the message.
        let is_sound = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
        };
        if token.expose_secret().is_empty() || !token.expose_secret().bytes().all(is_sound) {
            return Err(self.unavailable("answers with an access_token that is none"));
        }
        // Without a time it serves once.
        let life = granted.expires_in.filter(|seconds| seconds.is_finite()).unwrap_or(0.0);
        Ok((token, Duration::from_secs_f64(life.clamp(0.0, 86_400.0))))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Problem {
        let refused: Refused = serde_json::from_slice(body).unwrap_or_default();
        let words = [refused.error, refused.error_description];
        let words = words.iter().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>().join(": ");
        let words = quote(&self.credentials.blot(&words));
        let status_code = status.as_u16();
        match status {
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let hint = self.credentials.line_break_hint();
                let message = format!(
                    "the token server {} refused the client in sasl.credentialsSecretRef with {status_code}: {words}{hint}",
                    self.endpoint.server()
                );
                Problem::new(SourceReason::AuthenticationFailed, message)
            }
            _ if status.is_redirection() => self.unavailable(&format!(
                "answers with the redirect {status_code}, which is not followed; correct sasl.oauth.tokenUrl"
            )),
            _ => self.unavailable(&format!("answers with {status_code}: {words}")),
        }
    }

    fn broken(&self, error: &reqwest::Error) -> Problem {
        self.endpoint.problem(error, |words| self.unavailable(&format!("does not answer: {words}")))
    }

    fn unavailable(&self, what: &str) -> Problem {
        let message = format!("no token for Kafka: {} of sasl.oauth.tokenUrl {what}", self.endpoint.server());
        Problem::new(SourceReason::TokenUnavailable, message)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use wiremock::matchers::{body_string, header, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::brokers::names::Names;

    async fn server(answers: Vec<ResponseTemplate>) -> MockServer {
        let server = MockServer::start().await;
        for answer in answers {
            Mock::given(method("POST"))
                .and(path("/token"))
                .respond_with(answer)
                .up_to_n_times(1)
                .mount(&server)
                .await;
        }
        server
    }

    fn access(server: &MockServer) -> OAuthAccess {
        OAuthAccess {
            token_url: format!("{}/token", server.uri()),
            scope: None,
            audience: None,
            extensions: BTreeMap::new(),
            tls: None,
        }
    }

    fn credentials() -> Credentials {
        Credentials { username: "scaler".into(), password: "the-secret".into() }
    }

    fn loopback() -> AddressPolicy {
        AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], Vec::new(), Names::of_system())
    }

    fn token(token: &str, seconds: i64) -> ResponseTemplate {
        let body = serde_json::json!({"access_token": token, "expires_in": seconds, "token_type": "Bearer"});
        ResponseTemplate::new(200).set_body_json(body)
    }

    async fn get(tokens: &Tokens, server: &MockServer) -> Result<String, Problem> {
        let token = tokens.get(&access(server), &credentials(), &loopback()).await?;
        Ok(token.expose_secret().to_owned())
    }

    #[tokio::test]
    async fn a_token_serves_for_most_of_its_life_and_no_longer() {
        let server = server(vec![token("first", 1000), token("second", 1000)]).await;
        let tokens = Tokens::default();
        assert_eq!(get(&tokens, &server).await.unwrap(), "first");
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(799)).await;
        assert_eq!(get(&tokens, &server).await.unwrap(), "first");
        tokio::time::advance(Duration::from_secs(2)).await;
        tokio::time::resume();
        assert_eq!(get(&tokens, &server).await.unwrap(), "second");
        assert_eq!(server.received_requests().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_token_that_a_broker_refused_is_asked_for_again() {
        let server = server(vec![token("first", 1000), token("second", 1000)]).await;
        let tokens = Tokens::default();
        assert_eq!(get(&tokens, &server).await.unwrap(), "first");
        tokens.forget().await;
        assert_eq!(get(&tokens, &server).await.unwrap(), "second");
    }

    #[tokio::test]
    async fn the_client_is_told_in_the_header_and_the_scope_in_the_form() {
        let server = MockServer::start().await;
        Mock::given(header("authorization", "Basic c2NhbGVyOnRoZS1zZWNyZXQ="))
            .and(body_string("grant_type=client_credentials&scope=a+b&audience=kafka%3A%2F%2Fprod"))
            .respond_with(token("t", 10))
            .expect(1)
            .mount(&server)
            .await;
        let oauth = OAuthAccess {
            scope: Some("a b".into()),
            audience: Some("kafka://prod".into()),
            ..access(&server)
        };
        Tokens::default().get(&oauth, &credentials(), &loopback()).await.unwrap();
    }

    #[tokio::test]
    async fn each_refusal_is_named_and_tells_no_secret() {
        let json = |status: u16, body: &str| ResponseTemplate::new(status).set_body_string(body);
        let unavailable = SourceReason::TokenUnavailable;
        let refused = SourceReason::AuthenticationFailed;
        for (answer, reason, words) in [
            (
                json(401, r#"{"error":"invalid_client","error_description":"not the-secret"}"#),
                refused,
                "with 401: invalid_client: not",
            ),
            (json(400, r#"{"error":"invalid_scope"}"#), refused, "with 400: invalid_scope"),
            (json(500, "<html>"), unavailable, "answers with 500"),
            (json(200, "{}"), unavailable, "without an access_token"),
            (json(200, "none"), unavailable, "without an access_token"),
            (json(200, "{\"access_token\":\"a\\u0001b\"}"), unavailable, "an access_token that is none"),
            (json(200, &"x".repeat(LARGEST + 1)), unavailable, "more than 64 KiB"),
            (
                ResponseTemplate::new(302).insert_header("location", "http://elsewhere/"),
                unavailable,
                "the redirect 302, which is not followed",
            ),
        ] {
            let server = server(vec![answer]).await;
            let tokens = Tokens::default();
            let problem = get(&tokens, &server).await.unwrap_err();
            assert_eq!(problem.reason, reason, "{problem}");
            assert!(problem.message.contains(words), "{problem}");
            assert!(!problem.message.contains("the-secret"), "{problem}");
            // The brokers of a cluster do not ask one by one.
            assert_eq!(get(&tokens, &server).await.unwrap_err(), problem);
            assert_eq!(server.received_requests().await.unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn an_address_that_is_not_permitted_is_not_asked() {
        let server = server(vec![token("t", 10)]).await;
        let oauth = access(&server);
        let problem =
            Tokens::default().get(&oauth, &credentials(), &AddressPolicy::default()).await.unwrap_err();
        assert_eq!(problem.reason, SourceReason::AddressDenied, "{problem}");
        assert!(server.received_requests().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_given_up_within_a_poll() {
        let server = server(vec![token("t", 10).set_delay(ANSWER * 3)]).await;
        let began = Instant::now();
        let problem = get(&Tokens::default(), &server).await.unwrap_err();
        assert!(problem.message.contains("does not answer within 3 s"), "{problem}");
        assert!(began.elapsed() < ANSWER * 2);
    }

    #[test]
    fn the_first_message_is_that_of_rfc_7628() {
        let extensions = BTreeMap::from([("logicalCluster".to_owned(), "lkc-1".to_owned())]);
        let oauth =
            OAuthAccess { token_url: String::new(), scope: None, audience: None, extensions, tls: None };
        let message = first_message(&"a.b.c".into(), &oauth);
        assert_eq!(message, "n,,\u{1}auth=Bearer a.b.c\u{1}logicalCluster=lkc-1\u{1}\u{1}");
    }
}
