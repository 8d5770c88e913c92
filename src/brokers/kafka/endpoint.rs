//! Host and port of a broker. Pure.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::brokers::observation::quote;

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    host: Arc<str>,
    port: u16,
}

impl Endpoint {
    /// An endpoint.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Host name or address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(address: &str) -> Result<Self, String> {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        match port.parse() {
            Ok(port) if !host.is_empty() => Ok(Self::new(host, port)),
            _ => Err(format!("bootstrap server \"{}\" is not host:port", quote(address))),
        }
    }
}

/// A broker chooses the host that it advertises, so it is shown like its other words.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", quote(&self.host), self.port)
    }
}
