//! An AMQP 0-9-1 server that knows passive declares and nothing else: every queue has so many ready messages.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes that a client sends first, and what ends a frame.
const GREETING: usize = 8;
const FRAME_END: u8 = 0xCE;

/// Methods by class and number.
type Method = (u16, u16);

/// Serves one connection until it ends.
pub async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, ready: u32) {
    let mut greeting = [0; GREETING];
    if stream.read_exact(&mut greeting).await.is_err() {
        return;
    }
    // Version 0.9, no properties, and one mechanism and language.
    let start = [&[0, 9][..], &long_string(""), &long_string("PLAIN"), &long_string("en_US")].concat();
    let mut answer = Some((0, (10, 10), start));
    loop {
        if let Some((channel, method, arguments)) = answer.take()
            && stream.write_all(&frame(channel, method, &arguments)).await.is_err()
        {
            return;
        }
        let Some((channel, payload)) = receive(&mut stream).await else { return };
        let Some((head, arguments)) = payload.split_at_checked(4) else { continue };
        answer = answer_to((word(head, 0), word(head, 2)), arguments, ready)
            .map(|(method, arguments)| (channel, method, arguments));
    }
}

fn answer_to((class, number): Method, arguments: &[u8], ready: u32) -> Option<(Method, Vec<u8>)> {
    let arguments = match (class, number) {
        // Start-Ok is answered by Tune: channels, bytes of a frame, no heartbeats.
        (10, 11) => return Some(((10, 30), [&[7, 255][..], &131_072_u32.to_be_bytes(), &[0, 0]].concat())),
        (10, 40) => vec![0],
        (20, 10) => vec![0; 4],
        (10, 50) | (20, 40) => Vec::new(),
        (50, 10) => {
            // After a reserved number comes the queue's name with its length.
            let name = &arguments[2..][..=usize::from(arguments[2])];
            [name, &ready.to_be_bytes(), &[0; 4]].concat()
        }
        _ => return None,
    };
    Some(((class, number + 1), arguments))
}

/// Channel and payload of the next frame with a method.
async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u16, Vec<u8>)> {
    loop {
        let mut head = [0; 7];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut payload = vec![0; usize::try_from(length).ok()? + 1];
        stream.read_exact(&mut payload).await.ok()?;
        payload.pop();
        if head[0] == 1 {
            return Some((word(&head, 1), payload));
        }
    }
}

fn frame(channel: u16, (class, number): Method, arguments: &[u8]) -> Vec<u8> {
    let payload = [&class.to_be_bytes(), &number.to_be_bytes(), arguments].concat();
    let length = u32::try_from(payload.len()).unwrap();
    [&[1], &channel.to_be_bytes()[..], &length.to_be_bytes(), &payload, &[FRAME_END]].concat()
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// A text, or an empty table, with its length.
fn long_string(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}
