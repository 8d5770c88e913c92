//! Requests to servers of this process: which addresses, which answers, and what is never shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::receivers::forms::{Refused, Request};
use crate::receivers::http::{Trust, send};

fn request(url: &str) -> Request {
    Request {
        url: url.into(),
        headers: vec![("authorization", SecretString::from("Bearer hidden-token"))],
        content_type: "application/json".into(),
        body: b"{}".to_vec(),
    }
}

/// A server that answers everything in this way.
async fn server(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

async fn count(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

#[tokio::test]
async fn s3_receivers_at_refused_addresses_are_not_connected_to() {
    let server = server(ResponseTemplate::new(200)).await;
    let port = server.address().port();
    let refused = [
        ("http://169.254.169.254/latest".to_owned(), "link-local"),
        ("http://[::ffff:169.254.169.254]/".to_owned(), "link-local"),
        ("http://2852039166/".to_owned(), "link-local"),
        ("http://[fd00:ec2::254]/".to_owned(), "metadata"),
        (format!("http://127.0.0.1:{port}/"), "loopback"),
        (format!("http://2130706433:{port}/"), "loopback"),
        (format!("http://[::ffff:127.0.0.1]:{port}/"), "loopback"),
        // After its look-up.
        (format!("http://localhost:{port}/"), "loopback"),
    ];
    for (url, words) in refused {
        let problem = send(&request(&url), &Trust::new(None), &AddressPolicy::default()).await.unwrap_err();
        assert!(
            matches!(&problem, Refused::Later(..)) && problem.to_string().contains(words),
            "{url}: {problem}"
        );
    }
    assert_eq!(count(&server).await, 0);
    send(&request(&server.uri()), &Trust::new(None), &loopback()).await.unwrap();
    assert_eq!(count(&server).await, 1, "an administrator can allow it");
}

/// A name server that answers with these addresses, one after the other, none of which may be kept (RFC 1035, section 4.1).
async fn name_server(addresses: &'static [[u8; 4]]) -> std::net::SocketAddr {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let own = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut addresses = addresses.iter();
        let mut packet = [0; 1500];
        while let Ok((_, from)) = socket.recv_from(&mut packet).await {
            let name = 12 + packet[12..].iter().position(|byte| *byte == 0).unwrap();
            let question = &packet[12..name + 5];
            let address = addresses.as_slice().first().filter(|_| question.ends_with(&[0, 1, 0, 1]));
            let head = [packet[0], packet[1], 0x81, 0x80, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0];
            let mut answer = [&head[..], question].concat();
            if let Some(address) = address {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                answer.extend(address);
                addresses.next();
            }
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    own
}

#[tokio::test]
async fn s3_a_name_is_looked_up_and_checked_at_each_attempt() {
    let server = server(ResponseTemplate::new(200)).await;
    let names = name_server(&[[127, 0, 0, 1], [169, 254, 169, 254], [127, 0, 0, 1]]).await;
    let allowed = vec!["127.0.0.0/8".parse().unwrap()];
    let addresses = AddressPolicy::new(allowed, Vec::new(), Names::with_servers(&[names]));
    let request = request(&format!("http://receiver.example:{}/", server.address().port()));
    send(&request, &Trust::new(None), &addresses).await.unwrap();
    let problem = send(&request, &Trust::new(None), &addresses).await.unwrap_err();
    assert!(problem.to_string().contains("link-local"), "{problem}");
    send(&request, &Trust::new(None), &addresses).await.unwrap();
    assert_eq!(count(&server).await, 2);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = server(ResponseTemplate::new(200)).await;
    for code in [301, 302, 307, 308] {
        let answer = ResponseTemplate::new(code).insert_header("location", target.uri().as_str());
        let redirecting = server(answer).await;
        let problem = send(&request(&redirecting.uri()), &Trust::new(None), &loopback()).await.unwrap_err();
        assert!(problem.to_string().contains("redirect"), "{code}: {problem}");
    }
    assert_eq!(count(&target).await, 0);
}

#[tokio::test]
async fn a_status_means_later_or_this_message() {
    let later = |pause: Option<u64>| (true, pause.map(Duration::from_secs));
    let table = [
        (500, None, later(None)),
        (503, Some("7"), later(Some(7))),
        (429, Some("7"), later(Some(7))),
        (429, Some("999999"), later(Some(3600))),
        (401, None, later(None)),
        (404, None, later(None)),
        (400, None, (false, None)),
        (413, None, (false, None)),
    ];
    for (code, pause, expected) in table {
        let mut answer = ResponseTemplate::new(code);
        if let Some(pause) = pause {
            answer = answer.insert_header("retry-after", pause);
        }
        let server = server(answer).await;
        let found = match send(&request(&server.uri()), &Trust::new(None), &loopback()).await.unwrap_err() {
            Refused::Later(_, pause) => (true, pause),
            Refused::Message(_) => (false, None),
        };
        assert_eq!(found, expected, "{code}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_read_in_part() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let endless = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n").await.unwrap();
        while let Ok(bytes) = stream.write(&[b'x'; 65_536]).await {
            counted.fetch_add(bytes, Ordering::Relaxed);
        }
    });
    let body = send(&request(&url), &Trust::new(None), &loopback()).await.unwrap();
    assert_eq!(body.len(), 64 << 10);
    endless.await.unwrap();
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 64 << 20, "{sent} bytes were taken");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let hanging = tokio::spawn(async move {
        let accepted = listener.accept().await;
        std::future::pending::<()>().await;
        drop(accepted);
    });
    let problem = send(&request(&url), &Trust::new(None), &loopback()).await.unwrap_err();
    assert_eq!(problem, Refused::Later("no answer within 10 s".into(), None));
    hanging.abort();
}

#[tokio::test]
async fn neither_address_nor_headers_are_in_an_error() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let failing = server(ResponseTemplate::new(404)).await;
    let urls = [
        format!("http://{closed}/hidden-path?token=hidden-query"),
        format!("{}/hidden-path?token=hidden-query", failing.uri()),
        "http://no-such-host.invalid/hidden-path".to_owned(),
        "http://user:hidden-password@:bad/".to_owned(),
        "ftp://example.com/hidden-path".to_owned(),
    ];
    for url in urls {
        let problem = send(&request(&url), &Trust::new(None), &loopback()).await.unwrap_err();
        for shown in [problem.to_string(), format!("{problem:?}")] {
            assert!(!shown.contains("hidden"), "{shown}");
        }
    }
    let mut broken = request(&failing.uri());
    broken.headers = vec![("authorization", SecretString::from("hidden\nheader"))];
    let problem = send(&broken, &Trust::new(None), &loopback()).await.unwrap_err();
    assert!(!problem.to_string().contains("hidden"), "{problem}");
    let body = b"hidden-key".to_vec();
    let shown = format!("{:?}", Request { body, ..request("http://a/hidden-path") });
    assert!(
        shown.contains("application/json") && !shown.contains("hidden") && !shown.contains("104"),
        "{shown}"
    );
}
