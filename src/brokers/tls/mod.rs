//! TLS to brokers: makes the client configuration of a session, and explains failed handshakes.
//!
//! No I/O but reading the system's certificates. The crypto provider is named here, so that nothing depends on which one
//! a process has installed.

mod authorities;

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, InvalidMessage, RootCertStore,
    SignatureScheme,
};
use secrecy::ExposeSecret;

use self::authorities::GivenAuthorities;
use super::access::TlsAccess;
use super::observation::quote;
use super::{Problem, SourceReason};

/// The client configuration for the given access.
///
/// # Errors
/// [`SourceReason::CredentialsUnavailable`] when a certificate or key is not usable PEM, or the system trusts no
/// authority and none is given.
pub fn client_config(access: &TlsAccess) -> Result<Arc<ClientConfig>, Problem> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&format!("TLS cannot be set up: {error}")))?;
    let builder = if access.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny { provider }))
    } else {
        match &access.ca_pem {
            None => builder.with_root_certificates(system_roots()?),
            Some(pem) => {
                let given = GivenAuthorities::new(certificates(pem, "the certificate authority")?, provider)
                    .map_err(|words| {
                        unusable(&format!("the certificate authority cannot be used: {}", quote(&words)))
                    })?;
                builder.dangerous().with_custom_certificate_verifier(Arc::new(given))
            }
        }
    };
    let config = match &access.client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let chain = certificates(&client.chain_pem, "the client certificate")?;
            let key = PrivateKeyDer::from_pem_slice(client.key_pem.expose_secret().as_bytes())
                .map_err(|_| unusable("the client's private key is not a private key in PEM form"))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                unusable(&format!("the client certificate and its key cannot be used: {error}"))
            })?
        }
    };
    Ok(Arc::new(config))
}

/// The name that the server's certificate must carry.
///
/// # Errors
/// [`SourceReason::TLSHandshakeFailed`] when the host is neither a DNS name nor an address.
pub fn server_name(host: &str) -> Result<ServerName<'static>, Problem> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|_| {
        let message = format!("host {} cannot stand in a certificate", quote(host));
        Problem::new(SourceReason::TLSHandshakeFailed, message)
    })
}

/// What a failed handshake means, when the error came from TLS: the server's certificate, the client's, or no TLS at all.
///
/// `server` is shown as it is. TLS 1.3 reports to a client that its certificate is refused only with the first read, so
/// this is worth asking for any error of a TLS stream. The error of TLS is found however often it is wrapped.
#[must_use]
pub fn handshake_problem(server: &str, error: &(dyn std::error::Error + 'static)) -> Option<Problem> {
    let inner = innermost_tls_error(error)?;
    Some(Problem::new(
        SourceReason::TLSHandshakeFailed,
        format!("TLS with {server} failed: {}", explain(inner)),
    ))
}

/// HTTP clients wrap an [`io::Error`] in errors of their own and in further `io::Error`s. An `io::Error` passes over the
/// error that it holds when it is asked for its source, so that this one has to be asked for by itself.
fn innermost_tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

fn explain(error: &Error) -> String {
    let words = match error {
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the server's certificate, or that of its authority, has expired"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the server's certificate is not valid yet",
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "hostname mismatch, the server's certificate is for other names",
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "the server's certificate is untrusted, its authority is not among those in caSecretRef or of the system"
        }
        Error::InvalidCertificate(CertificateError::Revoked) => "the server's certificate is revoked",
        Error::InvalidCertificate(CertificateError::Other(other)) if is_ca_as_end_entity(other) => {
            "the server's certificate is untrusted: it is that of an authority (CA:TRUE), which no authority can vouch \
             for; put exactly this certificate into caSecretRef, or give the server one with CA:FALSE"
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server does not speak TLS on this port; remove tls or use its TLS port"
        }
        Error::AlertReceived(alert) => {
            return format!("the server refused with {alert:?}; it may want another client certificate");
        }
        other => return quote(&other.to_string()),
    };
    words.to_owned()
}

fn is_ca_as_end_entity(error: &rustls::OtherError) -> bool {
    error.0.to_string().contains("CaUsedAsEndEntity")
}

fn system_roots() -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(unusable(
            "the system trusts no certificate authority; name the broker's with tls.caSecretRef",
        ));
    }
    Ok(roots)
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(unusable(&format!("{what} is not a certificate in PEM form"))),
    }
}

fn unusable(message: &str) -> Problem {
    Problem::new(SourceReason::CredentialsUnavailable, message)
}

/// Verifies no certificate, only that the server owns the key of the one it shows.
#[derive(Debug)]
struct AcceptAny {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(error: Error) -> Problem {
        let error = io::Error::new(io::ErrorKind::InvalidData, error);
        handshake_problem("kafka:9093", &error).unwrap()
    }

    #[test]
    fn k19_a_refused_certificate_is_named_by_its_fault() {
        for (error, word) in [
            (CertificateError::Expired, "expired"),
            (CertificateError::NotValidForName, "hostname"),
            (CertificateError::UnknownIssuer, "untrusted"),
        ] {
            let problem = problem(Error::InvalidCertificate(error));
            assert_eq!(problem.reason, SourceReason::TLSHandshakeFailed);
            assert!(problem.message.contains(word), "{}", problem.message);
            assert!(problem.message.contains("kafka:9093"), "{}", problem.message);
        }
    }

    #[test]
    fn a_tls_error_is_found_however_often_it_is_wrapped() {
        let mut error = io::Error::other(Error::InvalidCertificate(CertificateError::Expired));
        for _ in 0..3 {
            error = io::Error::other(error);
            let problem = handshake_problem("rabbitmq:15671", &error).unwrap();
            assert!(problem.message.contains("expired"), "{problem}");
        }
        assert_eq!(handshake_problem("rabbitmq:15671", &io::Error::other("closed")), None);
    }

    #[test]
    fn an_error_of_the_network_is_no_handshake_problem() {
        assert_eq!(handshake_problem("kafka:9093", &io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }

    #[test]
    fn pem_that_is_none_is_refused_without_its_content() {
        let access = TlsAccess { ca_pem: Some(b"hunter2".to_vec()), ..TlsAccess::default() };
        let problem = client_config(&access).unwrap_err();
        assert_eq!(problem.reason, SourceReason::CredentialsUnavailable);
        assert!(!problem.message.contains("hunter2"));
    }

    #[test]
    fn skipping_verification_needs_no_authority() {
        let access = TlsAccess { insecure_skip_verify: true, ..TlsAccess::default() };
        assert!(client_config(&access).is_ok());
    }
}
