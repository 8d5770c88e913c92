//! Authenticates a fresh connection with SASL: PLAIN, SCRAM and OAUTHBEARER. No secret leaves this module but towards the broker.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use bytes::Bytes;
use kafka_protocol::messages::{
    ApiKey, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::connection::{Call, Connection, Settings};
use super::oauth;
use super::scram::{Challenge, Hash, Scram};
use super::wire::{Fields, Malformed};
use crate::api::SaslMechanism;
use crate::brokers::access::Credentials;
use crate::brokers::kafka::access::SaslAccess;
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason};

const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
const ILLEGAL_SASL_STATE: i16 = 34;

/// Authenticates, and returns how long the broker lets the session live where it limits that.
pub(super) async fn authenticate(
    connection: &mut Connection,
    access: &SaslAccess,
    settings: &Settings,
) -> Result<Option<Duration>, Problem> {
    handshake(connection, access.mechanism, settings).await?;
    let credentials = &access.credentials;
    let last = match access.mechanism {
        SaslMechanism::Plain => plain(connection, credentials, settings).await?,
        SaslMechanism::ScramSha256 => scram(connection, credentials, Hash::Sha256, settings).await?,
        SaslMechanism::ScramSha512 => scram(connection, credentials, Hash::Sha512, settings).await?,
        SaslMechanism::OAuthBearer => bearer(connection, access, settings).await?,
    };
    Ok(u64::try_from(last.lifetime_ms).ok().filter(|lifetime| *lifetime > 0).map(Duration::from_millis))
}

async fn handshake(
    connection: &mut Connection,
    mechanism: SaslMechanism,
    settings: &Settings,
) -> Result<(), Problem> {
    let name = match mechanism {
        SaslMechanism::Plain => "PLAIN",
        SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
        SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        SaslMechanism::OAuthBearer => "OAUTHBEARER",
    };
    let answer = one(connection, Handshake { name }, settings).await?;
    let peer = connection.peer();
    match answer.error {
        0 => Ok(()),
        UNSUPPORTED_SASL_MECHANISM => {
            let offered = quote(&answer.mechanisms.join(", "));
            Err(refused(format!("broker {peer} does not take {name}, but {offered}; change sasl.mechanism")))
        }
        ILLEGAL_SASL_STATE => Err(refused(format!(
            "broker {peer} wants no SASL on this port; remove sasl or use its SASL port"
        ))),
        other => Err(refused(format!("broker {peer} refused to begin SASL with error {other}"))),
    }
}

async fn plain(
    connection: &mut Connection,
    credentials: &Credentials,
    settings: &Settings,
) -> Result<Outcome, Problem> {
    let message = format!("\0{}\0{}", credentials.username, credentials.password.expose_secret());
    exchange(connection, credentials, message, settings).await
}

async fn scram(
    connection: &mut Connection,
    credentials: &Credentials,
    hash: Hash,
    settings: &Settings,
) -> Result<Outcome, Problem> {
    let peer = connection.peer().clone();
    let failed = |error| {
        let words = credentials.blot(&format!("SCRAM with broker {peer} failed: {error}"));
        refused(format!("{words}{}", credentials.line_break_hint()))
    };
    let text = |outcome: &Outcome| String::from_utf8_lossy(&outcome.message).into_owned();

    let exchange_of = Scram::new(hash, &credentials.username, nonce()?);
    let first = text(&exchange(connection, credentials, exchange_of.first(), settings).await?);
    let challenge = exchange_of.challenge(&first).map_err(failed)?;
    let salted = settings.scram_keys.derive(challenge, &credentials.password).await?;
    let (message, expected) = exchange_of.last(&first, &salted);
    let last = exchange(connection, credentials, message, settings).await?;
    expected.verify(&text(&last)).map_err(failed)?;
    Ok(last)
}

async fn bearer(
    connection: &mut Connection,
    access: &SaslAccess,
    settings: &Settings,
) -> Result<Outcome, Problem> {
    let Some(oauth) = &access.oauth else {
        return Err(refused("OAuthBearer needs sasl.oauth".to_owned()));
    };
    let peer = connection.peer().clone();
    let token = settings.tokens.get(oauth, &access.credentials, &settings.addresses).await?;
    let message = oauth::first_message(&token, oauth);
    let first = one(connection, Authenticate { message: message.into_bytes().into() }, settings).await?;
    if first.error == 0 && first.message.is_empty() {
        return Ok(first);
    }
    // A refusal is an answer with its reason, and the error comes after one more message (RFC 7628, section 3.2.3).
    settings.tokens.forget().await;
    let reason = match first.error {
        0 => String::from_utf8_lossy(&first.message).into_owned(),
        _ => first.error_message,
    };
    let words = quote(&Credentials { username: String::new(), password: token }.blot(&reason));
    Err(refused(format!(
        "broker {peer} refused the token of {}: {words}; correct scope, audience or extensions of sasl.oauth, or the \
         broker's settings of OAUTHBEARER",
        oauth.token_url
    )))
}

fn nonce() -> Result<String, Problem> {
    let mut random = [0; 24];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| refused("the system gives no random numbers for SCRAM".to_owned()))?;
    Ok(BASE64.encode(random))
}

async fn exchange(
    connection: &mut Connection,
    credentials: &Credentials,
    message: String,
    settings: &Settings,
) -> Result<Outcome, Problem> {
    let outcome = one(connection, Authenticate { message: message.into_bytes().into() }, settings).await?;
    if outcome.error == 0 {
        return Ok(outcome);
    }
    let words = quote(&credentials.blot(&outcome.error_message));
    let hint = credentials.line_break_hint();
    let peer = connection.peer();
    Err(refused(format!("broker {peer} refused the credentials in sasl.credentialsSecretRef: {words}{hint}")))
}

/// The key that was derived last in a session. Brokers of one cluster ask for the same derivation, as they share the
/// user's entry, and it is the dearest part of a login: 100,000 rounds take some 100 ms.
#[derive(Debug, Default)]
pub struct ScramKeys(Arc<Mutex<Option<Derived>>>);

struct Derived {
    challenge: Challenge,
    key: hmac::Key,
}

impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("derived key")
    }
}

impl ScramKeys {
    /// Derives the key on a thread for blocking work, one at a time in a session: a hostile broker can neither stop the
    /// workers that serve all sessions nor occupy more than one thread.
    async fn derive(&self, challenge: Challenge, password: &SecretString) -> Result<hmac::Key, Problem> {
        let mut last = Arc::clone(&self.0).lock_owned().await;
        if let Some(derived) = last.as_ref().filter(|derived| derived.challenge == challenge) {
            return Ok(derived.key.clone());
        }
        let password = password.clone();
        // Whoever waits can be cancelled; the lock is held until the work is done.
        let work = tokio::task::spawn_blocking(move || {
            let key = challenge.derive(&password);
            *last = Some(Derived { challenge, key: key.clone() });
            key
        });
        work.await.map_err(|_| refused("the key for SCRAM could not be derived".to_owned()))
    }
}

async fn one<C: Call>(
    connection: &mut Connection,
    call: C,
    settings: &Settings,
) -> Result<C::Answer, Problem> {
    let mut answers = Vec::new();
    connection.call(&[call], settings, &mut answers).await.map_err(|error| error.problem)?;
    answers.into_iter().next().ok_or_else(|| refused("the broker gave no answer to SASL".to_owned()))
}

fn refused(message: String) -> Problem {
    Problem::new(SourceReason::AuthenticationFailed, message)
}

#[derive(Clone)]
struct Handshake {
    name: &'static str,
}

struct Mechanisms {
    error: i16,
    mechanisms: Vec<String>,
}

impl Call for Handshake {
    const KEY: i16 = ApiKey::SaslHandshake as i16;
    type Request = SaslHandshakeRequest;
    type Response = SaslHandshakeResponse;
    type Answer = Mechanisms;
    const VERSIONS: (i16, i16) = (1, 1);
    const THROTTLE_SINCE: Option<i16> = None;

    fn request(&self, _version: i16) -> SaslHandshakeRequest {
        SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(self.name))
    }

    fn limit(&self) -> usize {
        16 * 1024
    }

    fn answer(&self, mut fields: Fields<'_>, _version: i16) -> Result<Mechanisms, Malformed> {
        let error = fields.i16()?;
        let mut mechanisms = Vec::new();
        for _ in 0..fields.array()? {
            mechanisms.push(fields.string()?.to_owned());
        }
        Ok(Mechanisms { error, mechanisms })
    }
}

#[derive(Clone)]
struct Authenticate {
    message: Bytes,
}

struct Outcome {
    error: i16,
    error_message: String,
    message: Vec<u8>,
    lifetime_ms: i64,
}

impl Call for Authenticate {
    const KEY: i16 = ApiKey::SaslAuthenticate as i16;
    type Request = SaslAuthenticateRequest;
    type Response = SaslAuthenticateResponse;
    type Answer = Outcome;
    const VERSIONS: (i16, i16) = (0, 2);
    const THROTTLE_SINCE: Option<i16> = None;

    fn request(&self, _version: i16) -> SaslAuthenticateRequest {
        SaslAuthenticateRequest::default().with_auth_bytes(self.message.clone())
    }

    fn limit(&self) -> usize {
        16 * 1024
    }

    fn answer(&self, mut fields: Fields<'_>, version: i16) -> Result<Outcome, Malformed> {
        Ok(Outcome {
            error: fields.i16()?,
            error_message: fields.nullable_string()?.unwrap_or_default().to_owned(),
            message: fields.bytes()?.to_vec(),
            lifetime_ms: if version >= 1 { fields.i64()? } else { 0 },
        })
    }
}
