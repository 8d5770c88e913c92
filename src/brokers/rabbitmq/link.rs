//! One AMQP connection: addresses checked, TLS by our own settings, everything within a deadline.
//!
//! lapin drives a connection in a thread of its own that waits on the socket. So the socket is made here, and cut
//! here: a server that stops talking in the middle of a handshake must not keep the thread and the socket for ever.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::types::MAX_SHORT_STRING_LENGTH;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use rustls::ClientConfig;
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::Failure;
use crate::brokers::access::Credentials;
use crate::brokers::address::AddressPolicy;
use crate::brokers::observation::quote;
use crate::brokers::{Problem, SourceReason, tls};

/// Largest frame, in bytes. lapin keeps room for 32 of them in each direction, and no answer here comes near one;
/// RabbitMQ 4.1 and later accept no less.
const FRAME_MAX: u32 = 8192;

/// Time for the broker to confirm that a connection ends.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Where and as whom to connect.
pub(super) struct Endpoint {
    pub host: String,
    pub port: u16,
    pub credentials: Credentials,
    /// Present: TLS.
    pub tls: Option<Arc<ClientConfig>>,
    pub addresses: AddressPolicy,
}

/// An open connection to one virtual host.
pub(super) struct Link {
    connection: Option<(Connection, Socket)>,
}

impl Link {
    /// Whether the connection still stands, as far as this side knows.
    pub(super) fn is_up(&self) -> bool {
        self.connection.as_ref().is_some_and(|(connection, _)| connection.status().connected())
    }

    /// Whether the broker has an alarm, so that it takes nothing from connections that publish.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.as_ref().is_some_and(|(connection, _)| connection.status().blocked())
    }

    /// A new channel. It is closed when it is dropped.
    pub(super) async fn channel(&self) -> lapin::Result<Channel> {
        match &self.connection {
            Some((connection, _)) => connection.create_channel().await,
            None => Err(io::Error::from(io::ErrorKind::NotConnected).into()),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let Some((connection, socket)) = self.connection.take() else { return };
        // Without a runtime nothing can be awaited, and the socket is closed at once.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = timeout(CLOSE_LIMIT, connection.close(200, "done".into())).await;
                drop(socket);
            });
        }
    }
}

/// A second handle of a connection's socket, which ends the connection when it is dropped.
struct Socket(std::net::TcpStream);

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Endpoint {
    /// `host:port`, for messages.
    pub(super) fn server(&self) -> String {
        format!("{}:{}", quote(&self.host), self.port)
    }

    /// The server's own message, without the password and escaped.
    pub(super) fn quoted(&self, message: &str) -> String {
        quote(&self.credentials.blot(message))
    }

    /// Connects to a virtual host.
    pub(super) async fn open(&self, vhost: &str, deadline: Instant) -> Result<Link, Failure> {
        if vhost.len() > MAX_SHORT_STRING_LENGTH {
            let message = format!("virtual host {} is longer than a name can be", quote(vhost));
            return Err(Failure::Vhost(Problem::new(SourceReason::VhostNotFound, message)));
        }
        timeout_at(deadline, self.connect(vhost, deadline)).await.unwrap_or_else(|_| {
            let message = format!("AMQP at {} did not answer in time", self.server());
            Err(Failure::Unreachable(Problem::new(SourceReason::Timeout, message)))
        })
    }

    async fn connect(&self, vhost: &str, deadline: Instant) -> Result<Link, Failure> {
        let addresses =
            self.addresses.resolve(&self.host, self.port, deadline).await.map_err(|problem| match problem
                .reason
            {
                SourceReason::AddressDenied => Failure::Refused(problem),
                _ => Failure::Unreachable(problem),
            })?;
        let unreachable = |error: io::Error| {
            Failure::Unreachable(tls::handshake_problem(&self.server(), &error).unwrap_or_else(|| {
                let words = quote(&error.to_string());
                let message = format!("AMQP at {} cannot be reached: {words}", self.server());
                Problem::new(SourceReason::BrokerUnreachable, message)
            }))
        };
        let runtime = lapin::runtime::default_runtime().map_err(|error| self.explain(&error))?;
        let mut plain = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
        for address in addresses {
            plain = AsyncTcpStream::connect(&runtime, address).await;
            if plain.is_ok() {
                break;
            }
        }
        let plain = plain.map_err(unreachable)?;
        let socket = match &plain {
            AsyncTcpStream::Plain(stream) => stream.get_ref().as_fd().try_clone_to_owned(),
            _ => Err(io::Error::from(io::ErrorKind::Unsupported)),
        };
        let socket = Socket(socket.map_err(unreachable)?.into());
        let stream = match &self.tls {
            None => plain,
            Some(config) => {
                let host = self.host.trim_start_matches('[').trim_end_matches(']');
                let connector = RustlsConnector::from(Arc::clone(config));
                plain.into_rustls(&connector, host).await.map_err(unreachable)?
            }
        };
        // lapin asks for the stream once; it must not make another one itself.
        let stream = Mutex::new(Some(stream));
        let take = async move |_, _| {
            let taken = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            taken.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected).into())
        };
        let properties = ConnectionProperties::default().with_connection_name("queuescaler".into());
        let connection = Connection::connector(self.uri(vhost), runtime, take, properties)
            .await
            .map_err(|error| self.explain(&error))?;
        Ok(Link { connection: Some((connection, socket)) })
    }

    fn uri(&self, vhost: &str) -> AMQPUri {
        AMQPUri {
            scheme: if self.tls.is_some() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: self.credentials.username.clone(),
                    password: self.credentials.password.expose_secret().to_owned(),
                },
                host: self.host.clone(),
                port: self.port,
            },
            vhost: vhost.to_owned(),
            query: AMQPQueryString { frame_max: Some(FRAME_MAX), ..AMQPQueryString::default() },
        }
    }

    /// Why the broker does not open the connection.
    fn explain(&self, error: &lapin::Error) -> Failure {
        let server = self.server();
        let user = quote(&self.credentials.username);
        match error.kind() {
            ErrorKind::ProtocolError(reply) => {
                let words = self.quoted(reply.get_message().as_str());
                let (failure, reason, message): (fn(Problem) -> Failure, _, _) = match reply.get_id() {
                    403 => (
                        Failure::Refused,
                        SourceReason::AuthenticationFailed,
                        format!(
                            "AMQP at {server} refuses user {user}; correct the Secret: {words}{}",
                            self.credentials.line_break_hint()
                        ),
                    ),
                    530 if words.contains("not found") => (
                        Failure::Vhost,
                        SourceReason::VhostNotFound,
                        format!("no such virtual host: {words}"),
                    ),
                    530 if words.contains("refused for user") => (
                        Failure::Vhost,
                        SourceReason::AuthorizationFailed,
                        format!("user {user} has no permission in the virtual host: {words}"),
                    ),
                    _ => (
                        Failure::Unreachable,
                        SourceReason::BrokerUnreachable,
                        format!("AMQP at {server} ends the connection: {words}"),
                    ),
                };
                failure(Problem::new(reason, message))
            }
            ErrorKind::ParsingError(_) | ErrorKind::InvalidProtocolVersion(_) => {
                let message = format!("{server} does not speak AMQP 0.9.1; correct host and amqpPort");
                Failure::Unreachable(Problem::new(SourceReason::ResponseInvalid, message))
            }
            kind => {
                // With TLS 1.3 a client learns only here that its certificate is refused.
                let by_tls = match kind {
                    ErrorKind::IOError(io) => tls::handshake_problem(&server, io),
                    _ => None,
                };
                Failure::Unreachable(by_tls.unwrap_or_else(|| {
                    let words = self.quoted(&error.to_string());
                    let message = format!("AMQP at {server} does not answer as it should: {words}");
                    Problem::new(SourceReason::BrokerUnreachable, message)
                }))
            }
        }
    }
}
