//! Secrets, read one by one by name in the namespace of the object that names them.
//!
//! The operator has the right to get, not to list or watch, so that it cannot collect what nobody pointed it to.
//! Contents end in `secrecy` types; errors name the Secret and the key, never a value.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use tokio::time::Instant;

use crate::api::SecretKeyRef;
use crate::brokers::access::{ClientCertificate, Credentials, SecretReader, TlsAccess};
use crate::brokers::{Problem, SourceReason};
use crate::plan::{CredentialsRef, TlsRef};

/// Longest credential that is taken, in bytes: SASL frames and URLs are not made for more.
const CREDENTIAL_LIMIT: usize = 8 * 1024;

/// Longest wait for the API server.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a Secret that was read is taken as current. Objects that share one read it together.
const FRESH: Duration = Duration::from_secs(10);

/// The data of a Secret.
type Data = HashMap<String, SecretSlice<u8>>;

/// Secrets by namespace and name, with the time of their reading.
type Read = HashMap<(String, String), (Instant, Arc<Data>)>;

/// All Secrets that were read lately.
#[derive(Clone)]
pub struct SecretCache {
    client: Client,
    read: Arc<Mutex<Read>>,
}

impl std::fmt::Debug for SecretCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("secrets")
    }
}

impl SecretCache {
    /// Nothing read yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, read: Arc::default() }
    }

    /// The Secrets of a namespace.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Secrets {
        Secrets { namespace: namespace.to_owned(), cache: self.clone() }
    }

    fn cached(&self, key: &(String, String)) -> Option<Arc<Data>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.retain(|_, (at, _)| at.elapsed() < FRESH);
        read.get(key).map(|(_, data)| Arc::clone(data))
    }
}

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
                let chain_pem = self.bytes(&secret, &reference.name, "tls.crt")?.to_vec();
                let key_pem =
                    SecretString::from(self.text_of_any_length(&secret, &reference.name, "tls.key")?);
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
        if let Some(data) = self.cache.cached(&key) {
            return Ok(data);
        }
        let api: Api<Secret> = Api::namespaced(self.cache.client.clone(), &self.namespace);
        let secret = match tokio::time::timeout(DEADLINE, api.get(name)).await {
            Ok(Ok(secret)) => secret,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
                return Err(self.unusable(name, "does not exist; create it or correct the reference"));
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                let what = "may not be read by the operator; grant its service account get on secrets";
                return Err(self.unusable(name, what));
            }
            Ok(Err(_)) | Err(_) => {
                let message = format!(
                    "secret {}/{name} cannot be read: the API server does not answer",
                    self.namespace
                );
                return Err(SecretError::ApiServer(Problem::new(
                    SourceReason::CredentialsUnavailable,
                    message,
                )));
            }
        };
        let data = secret.data.unwrap_or_default().into_iter();
        let data: Arc<Data> = Arc::new(data.map(|(key, value)| (key, SecretSlice::from(value.0))).collect());
        let mut read = self.cache.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.insert(key, (Instant::now(), Arc::clone(&data)));
        Ok(data)
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
