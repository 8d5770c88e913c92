//! Secrets, read one by one by name in the namespace of the object that names them.
//!
//! The operator has the right to get, not to list or watch, so that it cannot collect what nobody pointed it to.
//! Contents end in `secrecy` types; errors name the Secret and the key, never a value.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use secrecy::SecretString;

use crate::api::SecretKeyRef;
use crate::brokers::access::{ClientCertificate, Credentials, KafkaAccess, RabbitMqAccess, SaslAccess, TlsAccess};
use crate::brokers::{Problem, SourceReason};
use crate::plan::{CredentialsRef, KafkaSource, RabbitMqSource, TlsRef};

/// Longest credential that is taken, in bytes: SASL frames and URLs are not made for more.
const CREDENTIAL_LIMIT: usize = 8 * 1024;

/// The Secrets of one namespace.
#[derive(Clone)]
pub struct Secrets {
    namespace: String,
    api: Api<Secret>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "secrets of {}", self.namespace)
    }
}

impl Secrets {
    /// The Secrets of a namespace.
    #[must_use]
    pub fn of(client: Client, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), api: Api::namespaced(client, namespace) }
    }

    /// How to reach a Kafka cluster, with its Secrets read.
    ///
    /// # Errors
    /// A Secret or a key is missing or unusable, or the API server does not answer.
    pub async fn kafka(&self, source: &KafkaSource) -> Result<KafkaAccess, Problem> {
        let sasl = match &source.sasl {
            None => None,
            Some(sasl) => Some(SaslAccess {
                mechanism: sasl.mechanism,
                credentials: self.credentials(&sasl.credentials, sasl.username.as_deref()).await?,
            }),
        };
        Ok(KafkaAccess { bootstrap: source.bootstrap.clone(), tls: self.tls(source.tls.as_ref()).await?, sasl })
    }

    /// How to reach a RabbitMQ broker, with its Secrets read.
    ///
    /// # Errors
    /// As [`Secrets::kafka`].
    pub async fn rabbitmq(&self, source: &RabbitMqSource) -> Result<RabbitMqAccess, Problem> {
        let credentials = match &source.credentials {
            Some(reference) => self.credentials(reference, None).await?,
            // What every RabbitMQ begins with; it may be used from the broker's own machine only.
            None => Credentials { username: "guest".into(), password: SecretString::from("guest") },
        };
        Ok(RabbitMqAccess {
            host: source.host.clone(),
            amqp_port: source.amqp_port,
            management_url: source.management_url.clone(),
            credentials,
            tls: self.tls(source.tls.as_ref()).await?,
        })
    }

    async fn credentials(&self, reference: &CredentialsRef, username: Option<&str>) -> Result<Credentials, Problem> {
        let secret = self.read(&reference.name).await?;
        let username = match username {
            Some(username) => username.to_owned(),
            None => self.text(&secret, &reference.name, &reference.username_key)?,
        };
        let password = self.text(&secret, &reference.name, &reference.password_key)?;
        Ok(Credentials { username, password: SecretString::from(password) })
    }

    async fn tls(&self, reference: Option<&TlsRef>) -> Result<Option<TlsAccess>, Problem> {
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
                let key_pem = SecretString::from(self.text_of_any_length(&secret, &reference.name, "tls.key")?);
                Some(ClientCertificate { chain_pem, key_pem })
            }
            None => None,
        };
        Ok(Some(TlsAccess { ca_pem, client, insecure_skip_verify: reference.insecure_skip_verify }))
    }

    async fn read(&self, name: &str) -> Result<Secret, Problem> {
        match self.api.get(name).await {
            Ok(secret) => Ok(secret),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Err(self.unavailable(name, "does not exist; create it or correct the reference"))
            }
            Err(kube::Error::Api(status)) if status.code == 403 => {
                Err(self.unavailable(name, "may not be read by the operator; grant its service account get on secrets"))
            }
            Err(error) => {
                tracing::debug!(%error, namespace = self.namespace, secret = name, "cannot read a secret");
                Err(self.unavailable(name, "cannot be read now, because the API server does not answer"))
            }
        }
    }

    fn text(&self, secret: &Secret, name: &str, key: &str) -> Result<String, Problem> {
        let text = self.text_of_any_length(secret, name, key)?;
        if text.len() > CREDENTIAL_LIMIT {
            return Err(self.unavailable(name, &format!("has more than {CREDENTIAL_LIMIT} bytes under key {key}")));
        }
        Ok(text)
    }

    fn text_of_any_length(&self, secret: &Secret, name: &str, key: &str) -> Result<String, Problem> {
        let bytes = self.bytes(secret, name, key)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.unavailable(name, &format!("has no text under key {key}")))
    }

    fn bytes<'s>(&self, secret: &'s Secret, name: &str, key: &str) -> Result<&'s [u8], Problem> {
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        value
            .map(|bytes| bytes.0.as_slice())
            .filter(|bytes| !bytes.is_empty())
            .ok_or_else(|| self.unavailable(name, &format!("has no key {key}")))
    }

    fn unavailable(&self, name: &str, what: &str) -> Problem {
        Problem::new(SourceReason::CredentialsUnavailable, format!("secret {}/{name} {what}", self.namespace))
    }
}
