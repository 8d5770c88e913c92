//! librdkafka's settings for a cluster, and how its messages reach our log.

use std::fs;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;

use crate::api::source::SaslMechanism;
use crate::drain::distribution::{KafkaConnection, SaslFiles, TlsFiles};

/// A file of the distribution cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {file}: {source}")]
pub struct Unreadable {
    file: String,
    source: std::io::Error,
}

/// The settings of a connection, for a consumer or a producer.
///
/// # Errors
/// The file of a user or a password cannot be read.
pub fn settings(connection: &KafkaConnection) -> Result<ClientConfig, Unreadable> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", connection.bootstrap_servers.join(","));
    config.set("client.id", "queuescaler-drain");
    config.set_log_level(RDKafkaLogLevel::Warning);
    // An outage is waited for, but a broker that is back is found soon.
    config.set("reconnect.backoff.max.ms", "2000");
    config.set("socket.keepalive.enable", "true");
    let protocol = match (&connection.tls, &connection.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(tls) = &connection.tls {
        set_tls(&mut config, tls);
    }
    if let Some(sasl) = &connection.sasl {
        set_sasl(&mut config, sasl)?;
    }
    Ok(config)
}

fn set_tls(config: &mut ClientConfig, tls: &TlsFiles) {
    // OpenSSL is compiled in and has no folder of its own: "probe" finds the roots of the image.
    config.set("ssl.ca.location", tls.ca.as_deref().unwrap_or("probe"));
    if let Some(client) = &tls.client {
        config.set("ssl.certificate.location", &client.certificate);
        config.set("ssl.key.location", &client.key);
    }
    if tls.insecure_skip_verify {
        config.set("enable.ssl.certificate.verification", "false");
        config.set("ssl.endpoint.identification.algorithm", "none");
    }
}

fn set_sasl(config: &mut ClientConfig, sasl: &SaslFiles) -> Result<(), Unreadable> {
    let mechanism = match sasl.mechanism {
        SaslMechanism::Plain => "PLAIN",
        SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
        SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        // The plan refuses it.
        SaslMechanism::OAuthBearer => "OAUTHBEARER",
    };
    config.set("sasl.mechanism", mechanism);
    let username = match (&sasl.username, &sasl.username_file) {
        (Some(name), _) => name.clone(),
        (None, Some(file)) => line(file)?,
        (None, None) => String::new(),
    };
    config.set("sasl.username", username);
    // librdkafka keeps it in memory; the settings hide it from debug output.
    config.set("sasl.password", line(&sasl.password_file)?);
    Ok(())
}

/// The text of a file without the end of the line that editors add.
fn line(file: &str) -> Result<String, Unreadable> {
    let text = fs::read_to_string(file).map_err(|source| Unreadable { file: file.to_owned(), source })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Writes librdkafka's messages to the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Log;

impl ClientContext for Log {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    // Every error is logged too, with its reason.
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl rdkafka::consumer::ConsumerContext for Log {}

/// One message of librdkafka.
pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(facility, "{message}"),
        RDKafkaLogLevel::Warning => tracing::warn!(facility, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, "{message}"),
        RDKafkaLogLevel::Debug => tracing::debug!(facility, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::distribution::ClientFiles;

    fn plain() -> KafkaConnection {
        let servers = vec!["a:9092".to_owned(), "b:9092".to_owned()];
        KafkaConnection { bootstrap_servers: servers, tls: None, sasl: None }
    }

    fn password(text: &str) -> (tempfile::NamedTempFile, SaslFiles) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let sasl = SaslFiles {
            mechanism: SaslMechanism::ScramSha512,
            username: Some("orders".to_owned()),
            username_file: None,
            password_file: file.path().to_str().unwrap().to_owned(),
        };
        (file, sasl)
    }

    #[test]
    fn tls_and_sasl_choose_the_protocol() {
        let (_file, sasl) = password("secret\n");
        let protocol = |tls: bool, with_sasl: bool| {
            let connection = KafkaConnection {
                tls: tls.then(TlsFiles::default),
                sasl: with_sasl.then(|| sasl.clone()),
                ..plain()
            };
            settings(&connection).unwrap().get("security.protocol").unwrap().to_owned()
        };
        assert_eq!(protocol(false, false), "plaintext");
        assert_eq!(protocol(true, false), "ssl");
        assert_eq!(protocol(false, true), "sasl_plaintext");
        assert_eq!(protocol(true, true), "sasl_ssl");
    }

    #[test]
    fn librdkafka_accepts_the_settings() {
        let (_file, sasl) = password("secret\r\n");
        let client = ClientFiles { certificate: "tls.crt".to_owned(), key: "tls.key".to_owned() };
        let tls = TlsFiles { ca: None, client: Some(client), insecure_skip_verify: true };
        let config = settings(&KafkaConnection { tls: Some(tls), sasl: Some(sasl), ..plain() }).unwrap();
        config.create_native_config().unwrap();
        assert_eq!(config.get("bootstrap.servers"), Some("a:9092,b:9092"));
        assert_eq!(config.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!(config.get("sasl.password"), Some("secret"));
        assert_eq!(config.get("ssl.ca.location"), Some("probe"));
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let (_file, sasl) = password("");
        let sasl = SaslFiles { password_file: "/nowhere/password".to_owned(), ..sasl };
        let error = settings(&KafkaConnection { sasl: Some(sasl), ..plain() }).unwrap_err();
        assert!(error.to_string().starts_with("cannot read /nowhere/password: "), "{error}");
    }
}
