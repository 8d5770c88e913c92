//! Servers that are no Kafka, or no honest one.

use super::*;

/// A server that sends these bytes over and over, whatever it is sent, to as many as connect.
pub async fn babbler(bytes: &'static [u8], endless: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while stream.write_all(bytes).await.is_ok() && endless {}
                // Held open until the client goes: what is judged is what was sent, not the end.
                let mut sink = [0; 1024];
                while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
            });
        }
    });
    address
}

/// A server that reports the versions of a broker, and answers all else with a frame of zeros of this length.
pub async fn zeros(length: u32) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let state = Arc::clone(&FakeKafka::start(0).await.state);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let state = Arc::clone(&state);
            tokio::spawn(async move {
                while let Ok(size) = stream.read_u32().await {
                    let mut frame = vec![0; usize::try_from(size).unwrap()];
                    stream.read_exact(&mut frame).await?;
                    if frame[..2] == (ApiKey::ApiVersions as i16).to_be_bytes() {
                        let answer = state.lock().unwrap().answer(0, frame.into());
                        stream.write_all(&answer.unwrap()).await?;
                        continue;
                    }
                    stream.write_u32(length).await?;
                    stream.write_i32((&frame[4..]).get_i32()).await?;
                    tokio::io::copy(&mut tokio::io::repeat(0).take((length - 4).into()), &mut stream).await?;
                }
                io::Result::Ok(())
            });
        }
    });
    address
}
