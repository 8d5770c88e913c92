//! Looks up host names: asynchronously, with the system's configuration, and with a cache that honours the records' TTLs.
//!
//! `getaddrinfo` blocks a thread for as long as a name server is silent: some names in a zone that never answers occupy
//! the whole pool of such threads, so that nobody else's names are looked up, and the end of the process waits for them.
//! Here a look-up is a future, which ends when it is dropped.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::{TokioResolver, system_conf};

/// Answers that are kept. Each is some hundred bytes.
const CACHED: u64 = 4096;
/// Longest time that an address is kept, whatever its TTL: brokers move.
const LONGEST_TTL: Duration = Duration::from_secs(300);
/// Longest time that a name is taken not to exist: it may just have been created.
const LONGEST_ABSENCE: Duration = Duration::from_secs(10);

/// A resolver. Its copies share one cache.
#[derive(Clone)]
pub struct Names(Result<Arc<TokioResolver>, Arc<str>>);

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names")
    }
}

impl Names {
    /// As the system is configured: name servers, search domains and `ndots` of `/etc/resolv.conf`, and `/etc/hosts`
    /// before them. Both are read once.
    #[must_use]
    pub fn of_system() -> Self {
        let (config, options) = system_conf::read_system_conf().unwrap_or_else(|error| {
            tracing::warn!(%error, "the system's DNS configuration cannot be read, asking a name server of this host");
            // As the C library does (resolv.conf(5)).
            let here = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
            (ResolverConfig::from_name_servers(vec![here]), ResolverOpts::default())
        });
        Self::build(config, options)
    }

    /// With these name servers alone, besides `/etc/hosts`.
    #[must_use]
    pub fn with_servers(servers: &[SocketAddr]) -> Self {
        let server = |address: &SocketAddr| {
            let connection = |mut connection: ConnectionConfig| {
                connection.port = address.port();
                connection
            };
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(connection);
            NameServerConfig::new(address.ip(), true, connections.to_vec())
        };
        let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
        Self::build(config, ResolverOpts::default())
    }

    fn build(config: ResolverConfig, mut options: ResolverOpts) -> Self {
        options.cache_size = CACHED;
        options.positive_max_ttl = Some(LONGEST_TTL);
        options.negative_max_ttl = Some(LONGEST_ABSENCE);
        options.use_hosts_file = ResolveHosts::Always;
        // Where a name has both, the address that more clusters have a route for comes first; the other is tried next.
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // Over TCP many sessions share a connection.
        options.max_active_requests = 1024;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Self(builder.build().map(Arc::new).map_err(|error| error.to_string().into()))
    }

    /// The addresses of a host name, at least one.
    ///
    /// # Errors
    /// Why there are none, in words.
    pub async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let resolver = self.0.as_ref().map_err(ToString::to_string)?;
        let name = Name::from_str_relaxed(host).map_err(|_| "it is not a host name".to_owned())?;
        match resolver.lookup_ip(name).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) if error.is_nx_domain() => Err("the name does not exist".to_owned()),
            Err(error) if error.is_no_records_found() => Err("the name has no address".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The address that a host is when it is one, in any notation that `inet_aton` takes: `127.1`, `0x7f000001`,
/// `2130706433`.
#[must_use]
pub fn literal(host: &str) -> Option<IpAddr> {
    host.parse().ok().or_else(|| legacy_ipv4(host).map(IpAddr::V4))
}

fn legacy_ipv4(host: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u32> = host.split('.').map(number).collect::<Option<_>>()?;
    let (last, leading) = numbers.split_last()?;
    let free_bits = 8 * u32::try_from(4_usize.checked_sub(leading.len())?).ok()?;
    if free_bits == 0 || u64::from(*last) >= 1 << free_bits {
        return None;
    }
    let mut address = *last;
    for (number, shift) in leading.iter().zip([24, 16, 8]) {
        address |= u32::from(u8::try_from(*number).ok()?) << shift;
    }
    Some(Ipv4Addr::from(address))
}

fn number(part: &str) -> Option<u32> {
    let lower = part.to_ascii_lowercase();
    let (digits, radix) = match lower.strip_prefix("0x") {
        Some(hexadecimal) => (hexadecimal, 16),
        None if lower.len() > 1 && lower.starts_with('0') => (lower.as_str(), 8),
        None => (lower.as_str(), 10),
    };
    if digits.starts_with('+') { None } else { u32::from_str_radix(digits, radix).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_recognized_in_every_notation() {
        for (host, address) in [
            ("10.1.2.3", "10.1.2.3"),
            ("127.1", "127.0.0.1"),
            ("10.1.515", "10.1.2.3"),
            ("2130706433", "127.0.0.1"),
            ("0x7f.0.0.0x1", "127.0.0.1"),
            ("0177.0.0.01", "127.0.0.1"),
            ("2001:db8::7", "2001:db8::7"),
        ] {
            assert_eq!(literal(host), Some(address.parse().unwrap()), "{host}");
        }
        for name in ["kafka", "kafka-0.kafka.shop.svc", "1.2.3.4.5", "256.1.1.1", "1.2.3.256", "+1", "", "."]
        {
            assert_eq!(literal(name), None, "{name}");
        }
    }

    #[tokio::test]
    async fn the_hosts_file_is_read_before_any_name_server_is_asked() {
        // Nobody listens there.
        let names = Names::with_servers(&["127.0.0.1:1".parse().unwrap()]);
        let found = names.look_up("localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    }
}
