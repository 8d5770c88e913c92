//! Where a broker may redirect a request to. Pure.
//!
//! The request has the user's token. So a redirect stays with the hosts that the user named: the host of one of the URLs, or
//! a name below it, with the same scheme and port. The pods of a headless Service have names below that of the Service, and
//! whoever owns a name owns those below it.

use percent_encoding::percent_decode_str;
use reqwest::Url;

/// The end of names of Services and pods without and with the domain of the cluster, which brokers may add.
const SERVICE: (&str, &str) = (".svc", ".svc.cluster.local");

/// Where a redirect leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// To a host that the user named with the URL of this index, or one below it.
    Allowed(Url, usize),
    /// To another host.
    Foreign,
    /// To nowhere, or to another path.
    Invalid,
}

/// Where `location` leads in answer to a request for `path` at `from`.
pub(super) fn destination(from: &Url, location: &str, path: &str, named: &[&Url]) -> Destination {
    let Ok(to) = from.join(location) else { return Destination::Invalid };
    // Servers escape more or fewer characters than the request did.
    let plain = |path: &str| percent_decode_str(path).collect::<Vec<u8>>();
    if location.is_empty() || !plain(to.path()).ends_with(&plain(path)) {
        return Destination::Invalid;
    }
    if !to.username().is_empty() || to.password().is_some() {
        return Destination::Foreign;
    }
    let index = named.iter().position(|named| {
        named.scheme() == to.scheme()
            && named.port_or_known_default() == to.port_or_known_default()
            && is_within(&to, named)
    });
    index.map_or(Destination::Foreign, |index| Destination::Allowed(to, index))
}

fn is_within(to: &Url, named: &Url) -> bool {
    // An address is no domain, and nothing is below it.
    let (Some(host), Some(above)) = (to.domain(), named.domain()) else {
        return to.host().is_some() && to.host() == named.host();
    };
    let bare = |host: &str| {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        host.strip_suffix(SERVICE.1).map(|name| format!("{name}{}", SERVICE.0)).unwrap_or(host)
    };
    let (host, above) = (bare(host), bare(above));
    host == above || host.strip_suffix(&above).is_some_and(|below| below.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/admin/v2/persistent/t/n/a/stats";

    fn lead(location: &str, named: &[&str]) -> Destination {
        let named: Vec<Url> = named.iter().map(|url| Url::parse(url).unwrap()).collect();
        let from = Url::parse(&format!("{}{PATH}?x=1", named[0].as_str().trim_end_matches('/'))).unwrap();
        destination(&from, location, PATH, &named.iter().collect::<Vec<_>>())
    }

    fn is_allowed(host: &str, named: &[&str]) -> bool {
        matches!(lead(&format!("{host}{PATH}?authoritative=true"), named), Destination::Allowed(..))
    }

    #[test]
    fn the_owner_below_a_named_host_is_asked() {
        let service = ["http://pulsar-broker.pulsar.svc:8080"];
        for host in [
            "http://pulsar-broker.pulsar.svc:8080",
            "http://pulsar-broker-0.pulsar-broker.pulsar.svc:8080",
            "http://pulsar-broker-0.pulsar-broker.pulsar.svc.cluster.local:8080",
            "http://PULSAR-BROKER-0.pulsar-broker.pulsar.svc.cluster.local.:8080",
        ] {
            assert!(is_allowed(host, &service), "{host}");
        }
        assert!(is_allowed("http://10.0.0.2:8080", &["http://10.0.0.1:8080", "http://10.0.0.2:8080"]));
        assert!(is_allowed("https://b", &["https://a", "https://b:443"]));
        let relative = lead(&format!("{PATH}?authoritative=true"), &service);
        assert!(matches!(relative, Destination::Allowed(..)), "{relative:?}");
    }

    #[test]
    fn every_other_host_scheme_and_port_is_foreign() {
        let named = ["https://pulsar.example:8443", "https://10.0.0.1:8443"];
        for host in [
            "http://pulsar.example:8443",
            "https://pulsar.example",
            "https://pulsar.example:8080",
            "https://evilpulsar.example:8443",
            "https://pulsar.example.evil:8443",
            "https://example:8443",
            "https://1.10.0.0.1:8443",
            "https://10.0.0.2:8443",
            "https://[::1]:8443",
            "https://user:password@pulsar.example:8443",
            "https://pulsar.example.cluster.local.evil:8443",
        ] {
            assert!(!is_allowed(host, &named), "{host}");
        }
    }

    #[test]
    fn a_name_that_is_escaped_otherwise_is_the_same() {
        let from = Url::parse("http://a:8080").unwrap();
        let to = destination(&from, "/admin/a%2Bb%3a+/stats", "/admin/a%2Bb%3A%2B/stats", &[&from]);
        assert!(matches!(to, Destination::Allowed(..)), "{to:?}");
    }

    #[test]
    fn a_redirect_to_another_path_is_not_followed() {
        let named = ["http://a:8080"];
        for location in
            ["", "/login", "http://a:8080/", "http://", "http://a:8080/admin/v2/persistent/t/n/b/stats"]
        {
            assert_eq!(lead(location, &named), Destination::Invalid, "{location}");
        }
    }
}
