//! ActiveMQ Classic and Artemis brokers of a test's own, and a STOMP client of a few lines to fill their queues.
//! <https://stomp.github.io/stomp-specification-1.2.html>

#![allow(dead_code)] // Not every test needs all of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use queuescaler::brokers::access::Credentials;
use queuescaler::brokers::address::AddressPolicy;
use queuescaler::brokers::jolokia::access::JolokiaAccess;
use queuescaler::brokers::jolokia::{Flavor, JolokiaReader, Memory};
use queuescaler::brokers::names::Names;
use queuescaler::brokers::reader::{Reader, Watched};
use queuescaler::brokers::{Problem, Reading};
use queuescaler::plan::{JolokiaInterest, QueuePlace};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::skip::skipped;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker that the test may break. Taken down when dropped.
pub struct Broker {
    pub flavor: Flavor,
    pub url: String,
    pub name: String,
    stomp: String,
    user: String,
    password: String,
    testbed: String,
}

impl Broker {
    /// A fresh broker of this name from the test bed. None: there is no test bed, and the test has reported it.
    pub async fn own(flavor: Flavor, name: &str) -> Option<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let Ok(testbed) = std::env::var("QS_TESTBED") else {
            skipped("QS_TESTBED names no test bed to start a broker with");
            return None;
        };
        run(&testbed, &[kind(flavor), "down", name]).await;
        run(&testbed, &[kind(flavor), "up", name]).await;
        let printed = run(&testbed, &[kind(flavor), "env", name]).await;
        let variables: HashMap<&str, &str> =
            printed.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('=')).collect();
        let prefix = format!("QS_{}", kind(flavor).to_uppercase());
        let variable = |name: &str| variables[format!("{prefix}_{name}").as_str()].to_owned();
        Some(Self {
            flavor,
            url: variable("JOLOKIA_URL"),
            name: variable("BROKER"),
            stomp: variable("STOMP"),
            user: variable("USER"),
            password: variable("PASSWORD"),
            testbed,
        })
    }

    /// Runs `testbed KIND VERB` on it, such as `kill`.
    pub async fn fault(&self, verb: &str) {
        run(&self.testbed, &[kind(self.flavor), verb, &self.name]).await;
    }

    pub fn access(&self) -> JolokiaAccess {
        JolokiaAccess {
            flavor: self.flavor,
            urls: vec![self.url.clone()],
            broker_name: None,
            origin: None,
            credentials: Some(Credentials {
                username: self.user.clone(),
                password: self.password.clone().into(),
            }),
            tls: None,
        }
    }

    /// User and password.
    pub fn credentials(&self) -> (&str, &str) {
        (&self.user, &self.password)
    }

    pub fn reader(&self) -> JolokiaReader {
        reader(self.access())
    }

    pub async fn connect(&self) -> Stomp {
        self.connect_with("").await
    }

    pub async fn connect_with(&self, headers: &str) -> Stomp {
        let stream = TcpStream::connect(&self.stomp).await.unwrap();
        let mut stomp = Stomp { stream, received: Vec::new(), artemis: self.flavor == Flavor::Artemis };
        let (user, password) = (&self.user, &self.password);
        let headers = format!("accept-version:1.2\nhost:x\nlogin:{user}\npasscode:{password}\n{headers}");
        stomp.frame("CONNECT", &headers, "").await;
        stomp.expect("CONNECTED").await;
        stomp
    }

    /// Sends so many messages, and awaits that the broker has the last of them.
    pub async fn send(&self, queue: &str, count: usize, headers: &str) {
        let mut stomp = self.connect().await;
        for number in 1..=count {
            let receipt = if number == count { "receipt:last\n" } else { "" };
            let kind = if stomp.artemis { "destination-type:ANYCAST\n" } else { "" };
            let headers = format!("{}persistent:true\n{kind}{receipt}{headers}", stomp.queue(queue));
            stomp.frame("SEND", &headers, "x").await;
        }
        stomp.expect("RECEIPT").await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let arguments = [kind(self.flavor), "down", &self.name];
        let _ = std::process::Command::new(&self.testbed).args(arguments).output();
    }
}

pub fn reader(access: JolokiaAccess) -> JolokiaReader {
    let everything = vec!["0.0.0.0/0".parse().unwrap()];
    JolokiaReader::new(access, &AddressPolicy::new(everything, vec![], Names::of_system()))
}

fn kind(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::ActiveMq => "activemq",
        Flavor::Artemis => "artemis",
    }
}

async fn run(testbed: &str, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new(testbed);
    command.args(arguments);
    // In a thread of its own, so that what watches meanwhile goes on.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "testbed {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// A connection of a producer or a consumer.
pub struct Stomp {
    stream: TcpStream,
    received: Vec<u8>,
    artemis: bool,
}

impl Stomp {
    /// The destination of a message or of a consumer.
    fn queue(&self, name: &str) -> String {
        let name = name.replace('\\', "\\\\").replace(':', "\\c");
        match self.artemis {
            true => format!("destination:{name}\n"),
            false => format!("destination:/queue/{name}\n"),
        }
    }

    pub async fn frame(&mut self, command: &str, headers: &str, body: &str) {
        let frame = format!("{command}\n{headers}\n{body}\0");
        self.stream.write_all(frame.as_bytes()).await.unwrap();
    }

    /// The next frame, which must be this one.
    pub async fn expect(&mut self, command: &str) -> String {
        let frame = tokio::time::timeout(PATIENCE, self.next()).await.unwrap();
        assert!(frame.starts_with(command), "{frame}");
        frame
    }

    async fn next(&mut self) -> String {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == 0) {
                let frame: Vec<u8> = self.received.drain(..=end).collect();
                return String::from_utf8_lossy(&frame).trim().to_owned();
            }
            let read = self.stream.read_buf(&mut self.received).await.unwrap();
            assert!(read > 0, "the broker closed the connection");
        }
    }

    /// Receives so many messages and acknowledges none of them.
    pub async fn hold(&mut self, queue: &str, count: usize) -> Vec<String> {
        self.hold_with(queue, count, "").await
    }

    pub async fn hold_with(&mut self, queue: &str, count: usize, headers: &str) -> Vec<String> {
        let destination = self.queue(queue);
        // Artemis counts bytes, so that it gets all messages.
        let ahead = match self.artemis {
            true => "subscription-type:ANYCAST\nconsumer-window-size:-1\n".to_owned(),
            false => format!("activemq.prefetchSize:{count}\n"),
        };
        let headers = format!("id:1\nack:client-individual\n{ahead}{headers}{destination}");
        self.frame("SUBSCRIBE", &headers, "").await;
        let mut held = Vec::new();
        for _ in 0..count {
            let message = self.expect("MESSAGE").await;
            let ack = message.lines().find_map(|line| line.strip_prefix("ack:"));
            held.push(ack.unwrap().to_owned());
        }
        held
    }

    pub async fn acknowledge(&mut self, messages: &[String]) {
        for ack in messages {
            self.frame("ACK", &format!("id:{ack}\nreceipt:a\n"), "").await;
            while !self.next().await.starts_with("RECEIPT") {}
        }
    }
}

pub type Queues = Watched<JolokiaInterest, Memory>;

pub fn queues(names: &[&str]) -> Queues {
    let place = |name: &&str| QueuePlace { name: (*name).into(), address: (*name).into(), multicast: false };
    watched(names.iter().map(place).collect(), false)
}

pub fn watched(queues: Vec<QueuePlace>, missing_is_empty: bool) -> Queues {
    let interest = Arc::new(JolokiaInterest { queues, missing_is_empty });
    Watched { interest, memory: Memory::default() }
}

pub async fn read(reader: &mut JolokiaReader, watched: &mut Queues) -> Result<Reading, Problem> {
    let deadline = Instant::now() + Duration::from_secs(5);
    Ok(reader.read(&mut [watched], deadline).await?.remove(0))
}

/// Reads until the reading is as wanted, which it becomes without another request.
pub async fn read_until(
    reader: &mut JolokiaReader,
    watched: &mut Queues,
    wanted: impl Fn(&Result<Reading, Problem>) -> bool,
) -> Result<Reading, Problem> {
    let end = Instant::now() + PATIENCE;
    loop {
        let reading = read(reader, watched).await;
        if wanted(&reading) {
            return reading;
        }
        assert!(Instant::now() < end, "still {reading:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
