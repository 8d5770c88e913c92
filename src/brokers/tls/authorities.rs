//! Verifies a server's certificate with given authorities that have not expired themselves.
//!
//! A server's certificate that is itself among the given ones is accepted for what it is, as long as its name and its
//! dates fit: `openssl req -x509` makes self-signed certificates with CA:TRUE, which path validation refuses for a
//! server, although whoever named exactly this certificate trusts it.
//!
//! A trust anchor's own dates are not part of path validation (RFC 5280, section 6.1), so rustls accepts a chain up to
//! an authority that expired years ago. Who names an authority in a Secret expects its expiry to count.

use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Verifies against given authorities, as long as they are valid.
#[derive(Debug)]
pub(super) struct GivenAuthorities {
    authorities: Vec<(CertificateDer<'static>, Option<i64>)>,
    all: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl GivenAuthorities {
    /// A verifier for these authorities; the error is in plain words.
    pub(super) fn new(
        certificates: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let all = verifier(certificates.iter(), &provider)?;
        let authorities = certificates.into_iter().map(|one| (validity(&one), one));
        let authorities = authorities.map(|(dates, one)| (one, dates.map(|(_, last)| last)));
        Ok(Self { authorities: authorities.collect(), all, provider })
    }
}

fn verifier<'a>(
    certificates: impl Iterator<Item = &'a CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).map_err(|error| error.to_string())?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| error.to_string())
}

impl ServerCertVerifier for GivenAuthorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if self.authorities.iter().any(|(given, _)| given == end_entity) {
            return verify_given(end_entity, server_name, seconds);
        }
        let verified =
            self.all.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        let is_current = |expiry: &Option<i64>| expiry.is_none_or(|expiry| seconds <= expiry);
        if self.authorities.iter().all(|(_, expiry)| is_current(expiry)) {
            return Ok(verified);
        }
        // Some authority has expired: it must have been another one that vouched.
        let current = self.authorities.iter().filter(|(_, expiry)| is_current(expiry)).map(|(one, _)| one);
        let expired = Error::InvalidCertificate(CertificateError::Expired);
        verifier(current, &self.provider)
            .map_err(|_| expired.clone())?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|_| expired)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.all.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.all.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.all.supported_verify_schemes()
    }
}

/// Verifies a server's certificate that is itself trusted. Its key is verified with the signature of the handshake.
fn verify_given(
    certificate: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
    now: i64,
) -> Result<ServerCertVerified, Error> {
    verify_server_name(&ParsedCertificate::try_from(certificate)?, server_name)?;
    match validity(certificate) {
        None => Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
        Some((first, _)) if now < first => Err(Error::InvalidCertificate(CertificateError::NotValidYet)),
        Some((_, last)) if now > last => Err(Error::InvalidCertificate(CertificateError::Expired)),
        Some(_) => Ok(ServerCertVerified::assertion()),
    }
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// From when until when a certificate is valid, in seconds since 1970. Absent: it cannot be read; an authority does not
/// count as expired then.
fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_, after_version)) = element(fields, VERSION) {
        fields = after_version;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, fields) = element(fields, tag)?;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (not_before, rest) = time(validity)?;
    time(rest).map(|(not_after, _)| (not_before, not_after))
}

fn time(der: &[u8]) -> Option<(i64, &[u8])> {
    let (digits, century, rest) = match der.first()? {
        &UTC_TIME => {
            let (digits, rest) = element(der, UTC_TIME)?;
            // RFC 5280, section 4.1.2.5.1: from 50 on it is the last century.
            (digits, if digits.first()? >= &b'5' { "19" } else { "20" }, rest)
        }
        _ => {
            let (digits, rest) = element(der, GENERALIZED_TIME)?;
            (digits, "", rest)
        }
    };
    let written = format!("{century}{}", std::str::from_utf8(digits).ok()?);
    let moment = DateTime::strptime("%Y%m%d%H%M%SZ", &written).ok()?;
    Some((moment.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second(), rest))
}

/// The content of the element that the bytes begin with, if it has this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    if first == tag { rest.split_at_checked(length) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn certificate(last_year: i32) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::new(vec!["kafka".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(1980, 1, 1);
        params.not_after = rcgen::date_time_ymd(last_year, 3, 4);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn the_dates_of_a_certificate_are_read_in_both_notations() {
        for (year, seconds) in [(1999, 920_505_600), (2031, 1_930_348_800), (2070, 3_161_116_800)] {
            assert_eq!(validity(&certificate(year)), Some((315_532_800, seconds)), "{year}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(start in 0..300_usize, bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut der = certificate(2031).to_vec();
            for (place, byte) in der.iter_mut().skip(start).zip(&bytes) {
                *place = *byte;
            }
            validity(&der);
            validity(&bytes);
        }
    }
}
