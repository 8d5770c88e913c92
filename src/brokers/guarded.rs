//! HTTP to addresses of users: names are resolved through the address policy, so that what was checked is what is
//! connected to.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::Instant;

use super::Problem;
use super::address::AddressPolicy;

/// Time for the look-up of a name, where the request's own deadline is later.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

/// Resolves names through the policy.
pub(crate) struct Guarded(pub(crate) AddressPolicy);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            // Port 0: reqwest puts the URL's in its place.
            let found = policy.resolve(name.as_str(), 0, Instant::now() + LOOKUP_LIMIT).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// For plain http: a configuration that trusts nobody, so that TLS is not set up by chance.
pub(crate) fn no_tls() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

/// What the policy found wrong with the address, if that is why a request failed.
pub(crate) fn address_problem(error: &reqwest::Error) -> Option<&Problem> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(problem) = error.downcast_ref::<Problem>() {
            return Some(problem);
        }
        cause = error.source();
    }
    None
}

/// How long a `Retry-After` header asks to wait: seconds, or a date (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(header).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        assert_eq!(retry_after("30", now), Some(seconds(30)));
        assert_eq!(retry_after("Sat, 28 Nov 2026 12:00:07 GMT", now), Some(seconds(7)));
        assert_eq!(retry_after("Sat, 28 Nov 2026 11:00:00 GMT", now), Some(seconds(0)));
        for nonsense in ["", "-1", "soon", "1.5"] {
            assert_eq!(retry_after(nonsense, now), None, "{nonsense}");
        }
    }
}
