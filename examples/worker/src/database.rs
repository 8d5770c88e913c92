//! A stand-in for a database that all consumers share and can saturate: a server that grants permits at a limited rate,
//! and its client, which takes one permit for each message.
//!
//! The client writes a byte to request a permit, and the server writes a byte to grant it. All clients wait in one queue,
//! so that more consumers wait longer and get no more permits. `kill -STOP` makes it a database that hangs.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::pace::{Pace, parse_rate};
use crate::progress::Progress;

/// How long to wait before the next attempt to connect.
const WAIT: Duration = Duration::from_secs(1);

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Address to listen on; with port 0 it is a free port, which the first line of output names
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:7000", value_name = "HOST:PORT")]
    listen: String,

    /// Permits per second for all clients together, 0 for no limit
    #[arg(long, env = "RATE", default_value = "0", value_parser = parse_rate)]
    rate: f64,
}

/// Grants permits until `stop`.
///
/// # Errors
/// It cannot listen on the address.
pub async fn run(args: &Args, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let server =
        TcpListener::bind(&args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    println!("listening on {}", server.local_addr()?);
    let line =
        Arc::new(Mutex::new(Line { pace: Pace::new(args.rate), progress: Progress::start("granted") }));
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            client = server.accept() => match client {
                // A client that disconnects is not an error.
                Ok((client, _)) => drop(tokio::spawn(serve(client, Arc::clone(&line)))),
                Err(error) => {
                    eprintln!("database: cannot accept a client: {error}");
                    sleep(WAIT).await;
                }
            },
        }
    }
    println!("{}", line.lock().await.progress.summary());
    Ok(())
}

/// The queue of waiting clients, first come, first served.
struct Line {
    pace: Pace,
    progress: Progress,
}

async fn serve(mut client: TcpStream, line: Arc<Mutex<Line>>) -> io::Result<()> {
    client.set_nodelay(true)?;
    loop {
        let request = client.read_u8().await?;
        {
            let mut line = line.lock().await;
            line.pace.next().await;
            line.progress.count();
        }
        client.write_u8(request).await?;
    }
}

/// A client of the server.
pub struct Database {
    address: String,
    connection: Option<TcpStream>,
}

impl Database {
    /// Connects when the first permit is taken.
    pub fn at(address: String) -> Self {
        Self { address, connection: None }
    }

    /// Waits for a permit, and reconnects while the server cannot be reached.
    pub async fn permit(&mut self) {
        while let Err(error) = self.try_permit().await {
            self.connection = None;
            eprintln!("database: {}: {error}; next attempt in {} s", self.address, WAIT.as_secs());
            sleep(WAIT).await;
        }
    }

    async fn try_permit(&mut self) -> io::Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let connection = TcpStream::connect(&self.address).await?;
                connection.set_nodelay(true)?;
                none.insert(connection)
            }
        };
        connection.write_u8(b'?').await?;
        connection.read_u8().await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// A server with this rate, and its address.
    async fn server(rate: f64) -> String {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let line = Line { pace: Pace::new(rate), progress: Progress::start("granted") };
        let line = Arc::new(Mutex::new(line));
        tokio::spawn(async move {
            loop {
                let (client, _) = server.accept().await.unwrap();
                tokio::spawn(serve(client, Arc::clone(&line)));
            }
        });
        address
    }

    async fn take(address: String, permits: u32) {
        let mut database = Database::at(address);
        for _ in 0..permits {
            database.permit().await;
        }
    }

    #[tokio::test]
    async fn all_clients_together_get_the_rate() {
        let address = server(100.0).await;
        let begun = Instant::now();
        let clients = (0..4).map(|_| take(address.clone(), 10));
        futures::future::join_all(clients).await;
        // The first of 40 comes after a hundredth of a second, too; up to ten may be caught up with.
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(290), "40 permits at 100/s took {took:?}");
    }

    #[tokio::test]
    async fn a_client_waits_for_a_server_that_is_away() {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = first.local_addr().unwrap();
        let mut database = Database::at(address.to_string());
        let away_and_back = async {
            drop(first.accept().await.unwrap());
            drop(first);
            let again = TcpListener::bind(address).await.unwrap();
            let (client, _) = again.accept().await.unwrap();
            let line = Line { pace: Pace::new(0.0), progress: Progress::start("granted") };
            serve(client, Arc::new(Mutex::new(line))).await
        };
        tokio::select! {
            () = database.permit() => {}
            served = away_and_back => panic!("the client went before its permit: {served:?}"),
        }
    }
}
