//! RabbitMQ: options of the connection, for the consumer and the producer.

pub mod consume;
pub mod produce;

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPAuthority, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Connect, ConnectionProperties};

/// Address of the broker and credentials.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// Broker to connect to
    #[arg(long, env = "AMQP_HOST")]
    host: String,

    /// AMQP port; 5672 unless given, with TLS 5671
    #[arg(long, env = "AMQP_PORT")]
    port: Option<u16>,

    /// Virtual host
    #[arg(long, env = "AMQP_VHOST", default_value = "/")]
    vhost: String,

    /// Authenticate as this user
    #[arg(long, env = "AMQP_USERNAME", default_value = "guest", value_name = "NAME")]
    username: String,

    /// The user's password; better given by the environment, because other processes can see options
    #[arg(
        long,
        env = "AMQP_PASSWORD",
        hide_env_values = true,
        default_value = "guest",
        hide_default_value = true
    )]
    password: String,

    /// Connect with TLS and trust the authorities of this PEM file besides the system's
    #[arg(long, env = "AMQP_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Connection {
    fn uri(&self) -> AMQPUri {
        let scheme = if self.ca_file.is_some() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP };
        AMQPUri {
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo { username: self.username.clone(), password: self.password.clone() },
                host: self.host.clone(),
                port: self.port.unwrap_or_else(|| scheme.default_port()),
            },
            scheme,
            vhost: self.vhost.clone(),
            ..AMQPUri::default()
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// The file of authorities cannot be read, or the broker cannot be reached or refuses the credentials.
    async fn open(&self) -> anyhow::Result<lapin::Connection> {
        let uri = self.uri();
        let address = format!("{}:{}", uri.authority.host, uri.authority.port);
        let cert_chain = self
            .ca_file
            .as_ref()
            .map(|file| fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display())))
            .transpose()?;
        let tls = OwnedTLSConfig { identity: None, cert_chain };
        let properties =
            ConnectionProperties::default().with_connection_name("queuescaler-example-worker".into());
        uri.connect_with_config(properties, tls, lapin::runtime::default_runtime()?)
            .await
            .with_context(|| format!("cannot connect to {address}"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    fn connection(port: Option<u16>, ca_file: Option<&str>) -> Connection {
        Connection {
            host: "rabbitmq".into(),
            port,
            vhost: "shop/orders".into(),
            username: "guest".into(),
            password: "p@ss/word".into(),
            ca_file: ca_file.map(PathBuf::from),
        }
    }

    #[test]
    fn a_ca_file_enables_tls_and_its_port() {
        let address = |port, ca_file| {
            let uri = connection(port, ca_file).uri();
            (uri.scheme, uri.authority.port)
        };
        assert_eq!(address(None, None), (AMQPScheme::AMQP, 5672));
        assert_eq!(address(None, Some("ca.crt")), (AMQPScheme::AMQPS, 5671));
        assert_eq!(address(Some(35671), Some("ca.crt")), (AMQPScheme::AMQPS, 35671));
    }

    #[tokio::test]
    async fn with_a_ca_file_nothing_is_sent_unencrypted() {
        const TLS_HANDSHAKE: u8 = 0x16;
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let mut connection =
            connection(Some(port), Some(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/authority.crt")));
        connection.host = "127.0.0.1".into();
        let first_byte = async {
            let (mut socket, _) = server.accept().await.unwrap();
            socket.read_u8().await.unwrap()
        };
        tokio::select! {
            byte = first_byte => assert_eq!(byte, TLS_HANDSHAKE),
            outcome = connection.open() => panic!("ended before anything was sent: {outcome:?}"),
        }
    }

    #[tokio::test]
    async fn an_unreadable_ca_file_is_named() {
        let error = connection(None, Some("/nowhere/ca.crt")).open().await.unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nowhere/ca.crt");
    }
}
