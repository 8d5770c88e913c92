//! What every broker's access is made of: credentials and certificates, with every Secret already read.
//!
//! Types only. A password or key is a [`SecretString`], so that it cannot end in a log by accident.

use secrecy::{ExposeSecret, SecretString};

use crate::plan::{CredentialsRef, TlsRef, TokenRef};

/// User and password.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password.
    pub password: SecretString,
}

impl Credentials {
    /// For the message of a refusal: names a line break at the end of the user or the password, which
    /// `echo password | kubectl create secret …` leaves there. Empty when there is none.
    #[must_use]
    pub fn line_break_hint(&self) -> &'static str {
        let broken = |text: &str| text.ends_with(['\n', '\r']);
        match (broken(&self.username), broken(self.password.expose_secret())) {
            (false, false) => "",
            (true, false) => "; the user in the Secret ends with a line break, remove it",
            (_, true) => "; the password in the Secret ends with a line break, remove it",
        }
    }

    /// Words of a server without the password, which it could repeat.
    #[must_use]
    pub fn blot(&self, words: &str) -> String {
        match self.password.expose_secret() {
            "" => words.to_owned(),
            password => words.replace(password, "***"),
        }
    }
}

/// How TLS is verified and what the client shows.
#[derive(Clone, Debug, Default)]
pub struct TlsAccess {
    /// Certificates (PEM) of the authorities to trust. Absent: those that the system trusts.
    pub ca_pem: Option<Vec<u8>>,
    /// The client's certificate chain and key (PEM).
    pub client: Option<ClientCertificate>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
}

/// A client certificate.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// Chain, PEM.
    pub chain_pem: Vec<u8>,
    /// Private key, PEM.
    pub key_pem: SecretString,
}

/// Identifies a broker cluster together with the credentials: equal keys may share connections. A digest, so that it
/// can be kept and compared without keeping a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccessKey([u8; 32]);

/// Reads the Secrets of one namespace for those who name them.
pub trait SecretReader: Sync {
    /// Why a Secret cannot be had.
    type Error: Send;

    /// User and password; the user of the Secret where `username` is absent.
    ///
    /// # Errors
    /// A Secret or a key is missing or unusable, or the API server does not answer.
    fn credentials(
        &self,
        reference: &CredentialsRef,
        username: Option<&str>,
    ) -> impl Future<Output = Result<Credentials, Self::Error>> + Send;

    /// A token, which is sent as it is.
    ///
    /// # Errors
    /// As [`SecretReader::credentials`].
    fn token(&self, reference: &TokenRef) -> impl Future<Output = Result<SecretString, Self::Error>> + Send;

    /// The certificates that TLS needs; absent without a reference.
    ///
    /// # Errors
    /// As [`SecretReader::credentials`].
    fn tls(
        &self,
        reference: Option<&TlsRef>,
    ) -> impl Future<Output = Result<Option<TlsAccess>, Self::Error>> + Send;
}

/// Makes an [`AccessKey`]. Every part goes in with its length, so that no two lists of parts look alike.
pub struct Digest(aws_lc_rs::digest::Context);

impl Digest {
    pub(super) fn new(kind: &str) -> Self {
        let mut digest = Self(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256));
        digest.text(kind);
        digest
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&bytes.len().to_be_bytes());
        self.0.update(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn present(&mut self, present: bool) {
        self.0.update(&[u8::from(present)]);
    }

    pub(super) fn credentials(&mut self, credentials: &Credentials) {
        self.text(&credentials.username);
        self.text(credentials.password.expose_secret());
    }

    pub(super) fn tls(&mut self, tls: Option<&TlsAccess>) {
        self.present(tls.is_some());
        let Some(tls) = tls else { return };
        self.present(tls.insecure_skip_verify);
        self.present(tls.ca_pem.is_some());
        self.bytes(tls.ca_pem.as_deref().unwrap_or_default());
        self.present(tls.client.is_some());
        if let Some(client) = &tls.client {
            self.bytes(&client.chain_pem);
            self.text(client.key_pem.expose_secret());
        }
    }

    pub(super) fn finish(self) -> AccessKey {
        let mut key = [0; 32];
        key.iter_mut().zip(self.0.finish().as_ref()).for_each(|(to, from)| *to = *from);
        AccessKey(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_repeats_the_password_is_not_quoted_with_it() {
        let credentials =
            |password: &str| Credentials { username: "orders".into(), password: password.into() };
        assert_eq!(credentials("hunter2").blot("no user hunter2, hunter2!"), "no user ***, ***!");
        assert_eq!(credentials("").blot("refused"), "refused");
    }

    #[test]
    fn a_line_break_at_the_end_of_a_credential_is_named() {
        let hint = |username: &str, password: &str| {
            Credentials { username: username.into(), password: password.into() }.line_break_hint()
        };
        assert_eq!(hint("orders", "hun\nter2"), "");
        assert!(hint("orders", "hunter2\n").contains("password"));
        assert!(hint("orders\r\n", "hunter2").contains("user"));
    }
}
