//! Opens a connection to a server of a protocol of its own: address policy, TCP, TLS.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::address::AddressPolicy;
use super::observation::quote;
use super::{Problem, SourceReason, tls};

/// Anything that bytes go through.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Where to connect to.
pub(super) struct Server<'a> {
    /// What it is, for messages, as in `broker`.
    pub(super) what: &'static str,
    /// Host name or address. A broker can choose the one that it advertises.
    pub(super) host: &'a str,
    /// TCP port.
    pub(super) port: u16,
}

impl fmt::Display for Server<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:{}", self.what, quote(self.host), self.port)
    }
}

/// Connects. `deadline` bounds the look-up of the name and the attempts at its addresses, and not the TLS handshake.
pub(super) async fn dial(
    server: &Server<'_>,
    addresses: &AddressPolicy,
    tls: Option<&Arc<ClientConfig>>,
    deadline: Instant,
) -> Result<Box<dyn Stream>, Problem> {
    let tcp = connect(server, addresses, deadline).await?;
    let Some(config) = tls else { return Ok(Box::new(tcp)) };
    let name = tls::server_name(server.host)?;
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await;
    Ok(Box::new(handshake.map_err(|error| {
        let named = format!("{}:{}", quote(server.host), server.port);
        tls::handshake_problem(&named, &error).unwrap_or_else(|| {
            let message = format!("{server} broke off the TLS handshake: {}", words(&error));
            Problem::new(SourceReason::TLSHandshakeFailed, message)
        })
    })?))
}

/// Tries the addresses one after the other, each with an equal share of the time that is left.
async fn connect(
    server: &Server<'_>,
    policy: &AddressPolicy,
    deadline: Instant,
) -> Result<TcpStream, Problem> {
    let addresses = policy.resolve(server.host, server.port, deadline).await?;
    let mut last = String::from("it has no address");
    for (index, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = Instant::now() + deadline.saturating_duration_since(Instant::now()) / left;
        match timeout_at(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Requests are written in one piece and answered at once: waiting to fill packets only delays them.
                stream.set_nodelay(true).ok();
                return Ok(stream);
            }
            Ok(Err(error)) => last = words(&error),
            Err(_) => last = "no answer to the attempt to connect".to_owned(),
        }
    }
    Err(Problem::new(SourceReason::BrokerUnreachable, format!("{server} cannot be reached: {last}")))
}

/// An error of the operating system in plain words.
pub(super) fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "closed by the broker".to_owned(),
        _ => error.to_string().to_lowercase(),
    }
}
