//! A way to a server on which a test counts connections and sees how each begins.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes connections on to a server until it is dropped.
pub struct Relay {
    address: SocketAddr,
    first_bytes: watch::Receiver<Vec<u8>>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// A relay to the first of these `host:port`.
    pub async fn to(servers: &str) -> Self {
        let server = servers.split(',').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, first_bytes) = watch::channel(Vec::new());
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(pass_on(client, server.clone(), seen.clone()));
            }
        });
        Self { address, first_bytes, accepting }
    }

    /// Where it listens, as `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The first byte of each connection on which a client sent anything.
    pub fn first_bytes(&self) -> Vec<u8> {
        self.first_bytes.borrow().clone()
    }

    /// Connections so far on which a client sent anything.
    pub fn connections(&self) -> usize {
        self.first_bytes.borrow().len()
    }

    /// Waits until there were so many connections.
    pub async fn until_connections(&mut self, count: usize) {
        let enough = self.first_bytes.wait_for(|seen| seen.len() >= count);
        let waited = tokio::time::timeout(Duration::from_secs(60), enough).await;
        assert!(waited.is_ok(), "there were never {count} connections");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass_on(mut client: TcpStream, server: String, seen: watch::Sender<Vec<u8>>) {
    let Ok(first) = client.read_u8().await else { return };
    seen.send_modify(|seen| seen.push(first));
    let Ok(mut server) = TcpStream::connect(&server).await else { return };
    if server.write_u8(first).await.is_ok() {
        // Either side may end it at any time.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}
