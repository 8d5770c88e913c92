//! From references to Secrets, in the namespace of the object that names them, to the credentials that they hold.
//!
//! Contents end in `secrecy` types; errors name the Secret and the key, never a value.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

pub use super::secret_cache::SecretCache;
use super::secret_cache::{Data, REFUSED, Unreadable};
use crate::api::SecretKeyRef;
use crate::brokers::access::{ClientCertificate, Credentials, SecretReader, TlsAccess};
use crate::brokers::{Problem, SourceReason};
use crate::plan::{CredentialsRef, TlsRef, TokenRef};

/// Longest credential that is taken, in bytes: SASL frames and URLs are not made for more.
const CREDENTIAL_LIMIT: usize = 8 * 1024;

/// Why credentials cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The Secret is not what is needed.
    #[error(transparent)]
    Unusable(Problem),
    /// The API server does not answer: what was read before may still be right.
    #[error(transparent)]
    ApiServer(Problem),
}

/// The Secrets of one namespace.
#[derive(Clone, Debug)]
pub struct Secrets {
    namespace: String,
    cache: SecretCache,
    /// No older than this.
    at_most: Duration,
}

impl SecretCache {
    /// The Secrets of a namespace.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Secrets {
        Secrets { namespace: namespace.to_owned(), cache: self.clone(), at_most: Duration::MAX }
    }
}

impl Secrets {
    /// The same while the credentials are refused: a correction is to be seen soon.
    #[must_use]
    pub fn refused(self) -> Self {
        Self { at_most: REFUSED, ..self }
    }
}

impl SecretReader for Secrets {
    type Error = SecretError;

    async fn credentials(
        &self,
        reference: &CredentialsRef,
        username: Option<&str>,
    ) -> Result<Credentials, SecretError> {
        let secret = self.read(&reference.name).await?;
        let username = match username {
            Some(username) => username.to_owned(),
            None => self.text(&secret, &reference.name, &reference.username_key)?,
        };
        let password = self.text(&secret, &reference.name, &reference.password_key)?;
        Ok(Credentials { username, password: SecretString::from(password) })
    }

    async fn token(&self, reference: &TokenRef) -> Result<SecretString, SecretError> {
        let secret = self.read(&reference.name).await?;
        Ok(SecretString::from(self.text(&secret, &reference.name, &reference.key)?))
    }

    async fn tls(&self, reference: Option<&TlsRef>) -> Result<Option<TlsAccess>, SecretError> {
        let Some(reference) = reference else { return Ok(None) };
        let ca_pem = match &reference.ca_secret_ref {
            Some(SecretKeyRef { name, key }) => {
                let secret = self.read(name).await?;
                Some(self.bytes(&secret, name, key)?.to_vec())
            }
            None => None,
        };
        let client = match &reference.client_certificate_secret_ref {
            Some(reference) => {
                let secret = self.read(&reference.name).await?;
                let chain_pem = self.bytes(&secret, &reference.name, &reference.certificate_key)?.to_vec();
                let key_pem = SecretString::from(self.text_of_any_length(
                    &secret,
                    &reference.name,
                    &reference.private_key_key,
                )?);
                Some(ClientCertificate { chain_pem, key_pem })
            }
            None => None,
        };
        Ok(Some(TlsAccess { ca_pem, client, insecure_skip_verify: reference.insecure_skip_verify }))
    }
}

impl Secrets {
    async fn read(&self, name: &str) -> Result<Arc<Data>, SecretError> {
        let key = (self.namespace.clone(), name.to_owned());
        self.cache.get(&key, self.at_most).await.map_err(|problem| match problem {
            Unreadable::Missing => self.unusable(name, "does not exist; create it or correct the reference"),
            Unreadable::Forbidden => {
                let what = "cannot be read by the operator; grant its service account get on secrets";
                self.unusable(name, what)
            }
            Unreadable::NoAnswer => {
                let message = format!(
                    "secret {}/{name} cannot be read: the API server does not answer",
                    self.namespace
                );
                SecretError::ApiServer(Problem::new(SourceReason::CredentialsUnavailable, message))
            }
        })
    }

    fn text(&self, secret: &Data, name: &str, key: &str) -> Result<String, SecretError> {
        let text = self.text_of_any_length(secret, name, key)?;
        if text.len() > CREDENTIAL_LIMIT {
            return Err(
                self.unusable(name, &format!("has more than {CREDENTIAL_LIMIT} bytes under key {key}"))
            );
        }
        Ok(text)
    }

    fn text_of_any_length(&self, secret: &Data, name: &str, key: &str) -> Result<String, SecretError> {
        let bytes = self.bytes(secret, name, key)?;
        String::from_utf8(bytes.to_vec())
            .map_err(|_| self.unusable(name, &format!("has no text under key {key}")))
    }

    fn bytes<'s>(&self, secret: &'s Data, name: &str, key: &str) -> Result<&'s [u8], SecretError> {
        secret
            .get(key)
            .map(ExposeSecret::expose_secret)
            .filter(|bytes: &&[u8]| !bytes.is_empty())
            .ok_or_else(|| self.unusable(name, &format!("has no key {key}")))
    }

    fn unusable(&self, name: &str, what: &str) -> SecretError {
        let message = format!("secret {}/{name} {what}", self.namespace);
        SecretError::Unusable(Problem::new(SourceReason::CredentialsUnavailable, message))
    }
}
