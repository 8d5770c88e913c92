//! Connections of a distributor to a RabbitMQ broker.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Connection, ConnectionProperties, ErrorKind};

use crate::brokers::access::{ClientCertificate, TlsAccess};
use crate::brokers::tls;
use crate::drain::copy::Trouble;
use crate::drain::distribution::TlsFiles;
use crate::drain::distribution::queue::AmqpConnection;

/// Time for a connection to open.
const CONNECT: Duration = Duration::from_secs(20);
/// Seconds after which a broker that is silent counts as gone.
const HEARTBEAT: u16 = 20;
const REFUSED: u16 = 403;
const NOT_ALLOWED: u16 = 530;
/// Not found, precondition failed, frame error.
const FINAL: [u16; 3] = [404, 406, 501];

/// How a broker is reached, with the credentials of the files.
pub struct Access {
    uri: AMQPUri,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("host", &self.uri.authority.host).finish_non_exhaustive()
    }
}

impl Access {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub fn read(amqp: &AmqpConnection) -> Result<Self, Trouble> {
        let tls = amqp.tls.as_ref().map(tls_access).transpose()?;
        let config = tls.as_ref().map(tls::client_config).transpose().map_err(|error| fatal(&error))?;
        let uri = AMQPUri {
            scheme: if config.is_some() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: line(&amqp.username_file)?,
                    password: line(&amqp.password_file)?,
                },
                host: amqp.host.clone(),
                port: amqp.port,
            },
            vhost: amqp.vhost.clone(),
            query: AMQPQueryString { heartbeat: Some(HEARTBEAT), ..AMQPQueryString::default() },
        };
        Ok(Self { uri, tls: config })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// The broker is away (again), or refuses the user (fatal).
    pub async fn open(&self, purpose: &str) -> Result<Connection, Trouble> {
        match tokio::time::timeout(CONNECT, self.connect(purpose)).await {
            Ok(connected) => connected,
            Err(_) => Err(Trouble::Again("the broker does not answer".to_owned())),
        }
    }

    async fn connect(&self, purpose: &str) -> Result<Connection, Trouble> {
        let again = |error: std::io::Error| Trouble::Again(format!("cannot connect: {error}"));
        let host = self.uri.authority.host.trim_start_matches('[').trim_end_matches(']');
        let runtime = lapin::runtime::default_runtime().map_err(|error| fatal(&error))?;
        let addresses = tokio::net::lookup_host((host, self.uri.authority.port)).await.map_err(again)?;
        let mut plain = Err(std::io::Error::from(std::io::ErrorKind::AddrNotAvailable));
        for address in addresses {
            plain = AsyncTcpStream::connect(&runtime, address).await;
            if plain.is_ok() {
                break;
            }
        }
        let stream = match &self.tls {
            None => plain.map_err(again)?,
            Some(config) => {
                let connector = RustlsConnector::from(Arc::clone(config));
                plain.map_err(again)?.into_rustls(&connector, host).await.map_err(again)?
            }
        };
        // lapin asks for the stream once; it must not make another one itself.
        let stream = Mutex::new(Some(stream));
        let take = async move |_, _| {
            let taken = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            taken.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected).into())
        };
        let name = format!("queuescaler drain {purpose}");
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let opened = Connection::connector(self.uri.clone(), runtime, take, properties).await;
        opened.map_err(|error| of_error("cannot connect", &error))
    }
}

/// What an error means to a publisher. A copy that the broker cannot take, because it is too large or its exchange is gone,
/// is the same again: the batch before it would be doubled with each try.
pub fn of_publisher(what: &str, error: &lapin::Error) -> Trouble {
    match error.kind() {
        ErrorKind::ProtocolError(reply) if FINAL.contains(&reply.get_id()) => {
            Trouble::Fatal(format!("{what}: {}", reply.get_message()))
        }
        _ => of_error(what, error),
    }
}

/// What an error of the client means. The broker's words hold no password.
pub fn of_error(what: &str, error: &lapin::Error) -> Trouble {
    match error.kind() {
        ErrorKind::ProtocolError(reply) => {
            let message = format!("{what}: {}", reply.get_message());
            match reply.get_id() {
                REFUSED | NOT_ALLOWED => Trouble::Fatal(message),
                _ => Trouble::Again(message),
            }
        }
        _ => Trouble::Again(format!("{what}: {error}")),
    }
}

fn tls_access(files: &TlsFiles) -> Result<TlsAccess, Trouble> {
    let client = match &files.client {
        Some(client) => Some(ClientCertificate {
            chain_pem: bytes(&client.certificate)?,
            key_pem: String::from_utf8_lossy(&bytes(&client.key)?).into_owned().into(),
        }),
        None => None,
    };
    let ca_pem = files.ca.as_deref().map(bytes).transpose()?;
    Ok(TlsAccess { ca_pem, client, insecure_skip_verify: files.insecure_skip_verify })
}

fn bytes(file: &str) -> Result<Vec<u8>, Trouble> {
    fs::read(file).map_err(|error| Trouble::Fatal(format!("cannot read {file}: {error}")))
}

/// The text of a file without the end of the line that editors add.
fn line(file: &str) -> Result<String, Trouble> {
    let text = String::from_utf8_lossy(&bytes(file)?).into_owned();
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn fatal(error: &dyn std::fmt::Display) -> Trouble {
    Trouble::Fatal(error.to_string())
}
