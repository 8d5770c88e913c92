//! Which addresses the operator connects to, and the only place where a broker's name is looked up.
//!
//! Names and addresses come from users and from brokers (advertised listeners), so they can point anywhere. What is
//! returned here is connected to as it is: nobody looks the name up a second time, so a DNS answer that changes in
//! between gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::names::{Names, literal};
use super::{Problem, SourceReason, observation::quote};

/// Addresses of cloud metadata services and host agents that lie outside of the link-local ranges.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), // Alibaba Cloud
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),   // Azure's host agent
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),     // Oracle Cloud
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), // AWS
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)), // Google Cloud
];

/// Names that one session looks up at once, so that a zone that never answers costs no more than that.
const LOOKUPS_AT_ONCE: usize = 4;

/// Which addresses are connected to, and who is asked for them.
#[derive(Clone, Debug)]
pub struct AddressPolicy {
    allowed: Vec<IpNet>,
    api_server: Vec<IpAddr>,
    names: Names,
    slots: Arc<Semaphore>,
}

impl Default for AddressPolicy {
    fn default() -> Self {
        Self::new(Vec::new(), Vec::new(), Names::of_system())
    }
}

impl AddressPolicy {
    /// A policy.
    ///
    /// `allowed` are the ranges of `--allow-addresses`; `api_server` the addresses of the API server, which are refused
    /// like loopback unless they are in `allowed`; `names` looks up host names.
    #[must_use]
    pub fn new(allowed: Vec<IpNet>, api_server: Vec<IpAddr>, names: Names) -> Self {
        let api_server = api_server.into_iter().map(|address| address.to_canonical()).collect();
        Self { allowed, api_server, names, slots: Arc::new(Semaphore::new(LOOKUPS_AT_ONCE)) }
    }

    /// The same policy for one session, whose look-ups wait for each other and not for those of other sessions.
    #[must_use]
    pub fn for_session(&self) -> Self {
        Self { slots: Arc::new(Semaphore::new(LOOKUPS_AT_ONCE)), ..self.clone() }
    }

    /// Looks up a host name or address and returns what may be connected to, in the resolver's order, at least one.
    ///
    /// # Errors
    /// [`SourceReason::DNSFailure`] when the name does not resolve before the deadline,
    /// [`SourceReason::AddressDenied`] when all its addresses are refused.
    pub async fn resolve(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<Vec<SocketAddr>, Problem> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let failure = |words: &str| {
            let message = format!("host {} cannot be resolved: {}", quote(host), quote(words));
            Problem::new(SourceReason::DNSFailure, message)
        };
        let found = match literal(bare) {
            Some(address) => vec![address],
            None => {
                let look_up = async {
                    let _slot = self.slots.acquire().await;
                    self.names.look_up(bare).await
                };
                timeout_at(deadline, look_up)
                    .await
                    .map_err(|_| failure("the name server did not answer in time"))?
                    .map_err(|words| failure(&words))?
            }
        };
        self.permitted(host, found.into_iter().map(|address| SocketAddr::new(address, port)))
    }

    fn permitted(
        &self,
        host: &str,
        found: impl Iterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, Problem> {
        let mut permitted = Vec::new();
        let mut refused = None;
        for address in found {
            let ip = address.ip().to_canonical();
            match self.check(ip) {
                Ok(()) => permitted.push(SocketAddr::new(ip, address.port())),
                Err(why) => refused = Some(denied(host, ip, why)),
            }
        }
        match (permitted.is_empty(), refused) {
            (false, _) => Ok(permitted),
            (true, Some(problem)) => Err(problem),
            (true, None) => {
                let message = format!("host {} resolves to no address", quote(host));
                Err(Problem::new(SourceReason::DNSFailure, message))
            }
        }
    }

    /// Whether the address may be connected to; the error says what it is.
    fn check(&self, address: IpAddr) -> Result<(), &'static str> {
        let seen = [Some(address), embedded(address)];
        for ip in seen.into_iter().flatten() {
            if let Some(why) = never(ip) {
                return Err(why);
            }
            let allowed = || self.allowed.iter().any(|range| range.contains(&ip));
            if ip.is_loopback() && !allowed() {
                return Err("a loopback address");
            }
            if self.api_server.contains(&ip) && !allowed() {
                return Err("the API server");
            }
        }
        Ok(())
    }
}

fn denied(host: &str, address: IpAddr, why: &'static str) -> Problem {
    let way_out = if never(address).is_some() || embedded(address).is_some_and(|ip| never(ip).is_some()) {
        ""
    } else {
        "; an administrator can allow it with --allow-addresses"
    };
    let message =
        format!("host {} is {address}, {why}; the operator does not connect to it{way_out}", quote(host));
    Problem::new(SourceReason::AddressDenied, message)
}

/// What no administrator can allow.
fn never(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let nowhere = match address {
        IpAddr::V4(v4) => matches!(v4.octets(), [0, ..]) || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unspecified(),
    };
    if METADATA.contains(&address) {
        Some("a metadata service")
    } else if link_local {
        Some("a link-local address")
    } else if address.is_multicast() || nowhere {
        Some("not the address of a host")
    } else {
        None
    }
}

/// The IPv4 address that a translated IPv6 address leads to (IPv4-compatible, NAT64, 6to4).
fn embedded(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return None };
    let v4 = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None, // :: and ::1 are addresses of their own
        [0, 0, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn policy(allowed: &[&str]) -> AddressPolicy {
        let allowed = allowed.iter().map(|range| range.parse().unwrap()).collect();
        AddressPolicy::new(allowed, vec!["10.96.0.1".parse().unwrap()], Names::of_system())
    }

    async fn resolve(policy: &AddressPolicy, host: &str) -> Result<Vec<SocketAddr>, Problem> {
        policy.resolve(host, 9092, Instant::now() + Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn s3_refused_addresses_stay_refused_in_every_notation() {
        let refused = [
            ("169.254.169.254", "link-local"),
            ("::ffff:169.254.169.254", "link-local"),
            ("::169.254.169.254", "link-local"),
            ("64:ff9b::a9fe:a9fe", "link-local"),
            ("2002:a9fe:a9fe::1", "link-local"),
            ("2852039166", "link-local"),
            ("[fe80::1]", "link-local"),
            ("fd00:ec2::254", "metadata"),
            ("100.100.100.200", "metadata"),
            ("0.0.0.0", "not the address of a host"),
            ("::", "not the address of a host"),
            ("224.0.0.1", "not the address of a host"),
            ("ff02::1", "not the address of a host"),
            ("127.0.0.1", "loopback"),
            ("127.1", "loopback"),
            ("2130706433", "loopback"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("localhost", "loopback"),
            ("10.96.0.1", "API server"),
            ("::ffff:10.96.0.1", "API server"),
        ];
        for (host, why) in refused {
            let problem = resolve(&policy(&[]), host).await.unwrap_err();
            assert_eq!(problem.reason, SourceReason::AddressDenied, "{host}");
            assert!(problem.message.contains(why), "{host}: {}", problem.message);
        }
    }

    #[tokio::test]
    async fn ordinary_addresses_are_returned_in_their_plain_form() {
        for (host, address) in [
            ("10.1.2.3", "10.1.2.3:9092"),
            ("::ffff:10.1.2.3", "10.1.2.3:9092"),
            ("[2001:db8::7]", "[2001:db8::7]:9092"),
            ("192.168.0.9", "192.168.0.9:9092"),
        ] {
            assert_eq!(resolve(&policy(&[]), host).await.unwrap(), [address.parse().unwrap()], "{host}");
        }
    }

    #[tokio::test]
    async fn loopback_can_be_allowed_but_no_metadata_service() {
        let policy = policy(&["127.0.0.0/8", "10.96.0.0/16", "169.254.0.0/16", "0.0.0.0/0", "::/0"]);
        for host in ["127.0.0.1", "10.96.0.1", "::1"] {
            assert!(resolve(&policy, host).await.is_ok(), "{host}");
        }
        for host in ["169.254.169.254", "64:ff9b::a9fe:a9fe", "168.63.129.16"] {
            let problem = resolve(&policy, host).await.unwrap_err();
            assert_eq!(problem.reason, SourceReason::AddressDenied, "{host}");
            assert!(!problem.message.contains("--allow-addresses"), "{}", problem.message);
        }
    }

    #[test]
    fn a_name_with_refused_and_permitted_addresses_gives_the_permitted() {
        let found = ["127.0.0.1:9092", "10.0.0.5:9092"].map(|address| address.parse().unwrap());
        let permitted = policy(&[]).permitted("both.example", found.into_iter()).unwrap();
        assert_eq!(permitted, ["10.0.0.5:9092".parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_a_dns_failure() {
        let problem = resolve(&policy(&[]), "no-such-host.invalid").await.unwrap_err();
        assert_eq!(problem.reason, SourceReason::DNSFailure);
        assert!(problem.message.contains("no-such-host.invalid"), "{}", problem.message);
    }
}
