//! The client's side of SCRAM (RFC 5802, RFC 7677) without channel binding. Pure; the nonce is given.
//!
//! Kafka takes user and password as they are (its `ScramFormatter` does not apply SASLprep), so this does too.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretString};

/// Most iterations that a server may ask for. Kafka itself allows 16,384; a hostile server asks for years of work.
const MOST_ITERATIONS: u32 = 100_000;

/// The hash function of the mechanism.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

/// Why the exchange ends. The words contain nothing of the password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScramError {
    #[error("the broker's SCRAM message makes no sense")]
    Malformed,
    #[error("the broker asks for {0} SCRAM iterations, of which at most {MOST_ITERATIONS} are done")]
    Iterations(u32),
    #[error("the broker answers to another exchange")]
    Nonce,
    #[error("the broker refused: {0}")]
    Refused(String),
    #[error("the broker does not know the password either, it may be an impostor")]
    ServerSignature,
}

/// The exchange after the first message was written.
pub(super) struct Scram {
    hash: Hash,
    nonce: String,
    first_bare: String,
}

/// The exchange after the final message was written: what the server must prove.
pub(super) struct Expected {
    server_signature: hmac::Tag,
}

impl Scram {
    /// Begins with a nonce that was never used before, of printable characters without a comma.
    pub(super) fn new(hash: Hash, user: &str, nonce: String) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Self { hash, first_bare: format!("n={user},r={nonce}"), nonce }
    }

    /// The first message.
    pub(super) fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// The final message, which proves that we know the password, and what the server must prove in return.
    pub(super) fn last(
        &self,
        server_first: &str,
        password: &SecretString,
    ) -> Result<(String, Expected), ScramError> {
        let mut parts = server_first.split(',');
        let mut part = |name| parts.next().and_then(|part| part.strip_prefix(name));
        let nonce = part("r=").ok_or(ScramError::Malformed)?;
        let salt = part("s=").and_then(|salt| BASE64.decode(salt).ok()).ok_or(ScramError::Malformed)?;
        let iterations: u32 = part("i=").and_then(|count| count.parse().ok()).ok_or(ScramError::Malformed)?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Nonce);
        }
        let rounds = NonZeroU32::new(iterations)
            .filter(|rounds| rounds.get() <= MOST_ITERATIONS)
            .ok_or(ScramError::Iterations(iterations))?;

        let salted = self.salted(password, &salt, rounds);
        let client_key = hmac::sign(&salted, b"Client Key");
        let stored_key = digest::digest(self.digest(), client_key.as_ref());
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.first_bare);
        let signature = hmac::sign(&hmac::Key::new(self.hmac(), stored_key.as_ref()), signed.as_bytes());
        let proof: Vec<u8> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, mask)| key ^ mask).collect();
        let server_key = hmac::sign(&salted, b"Server Key");
        let server_signature =
            hmac::sign(&hmac::Key::new(self.hmac(), server_key.as_ref()), signed.as_bytes());
        Ok((format!("{without_proof},p={}", BASE64.encode(proof)), Expected { server_signature }))
    }

    fn salted(&self, password: &SecretString, salt: &[u8], rounds: NonZeroU32) -> hmac::Key {
        let algorithm = match self.hash {
            Hash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Hash::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut salted = vec![0; self.digest().output_len()];
        pbkdf2::derive(algorithm, rounds, salt, password.expose_secret().as_bytes(), &mut salted);
        hmac::Key::new(self.hmac(), &salted)
    }

    fn digest(&self) -> &'static digest::Algorithm {
        match self.hash {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha512 => &digest::SHA512,
        }
    }

    fn hmac(&self) -> hmac::Algorithm {
        match self.hash {
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

impl Expected {
    /// Checks the server's last message.
    pub(super) fn verify(&self, server_last: &str) -> Result<(), ScramError> {
        let first = server_last.split(',').next().unwrap_or_default();
        if let Some(error) = first.strip_prefix("e=") {
            return Err(ScramError::Refused(error.to_owned()));
        }
        let signature = first
            .strip_prefix("v=")
            .and_then(|signature| BASE64.decode(signature).ok())
            .ok_or(ScramError::Malformed)?;
        constant_time::verify_slices_are_equal(&signature, self.server_signature.as_ref())
            .map_err(|_| ScramError::ServerSignature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3.
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn exchange() -> (Scram, SecretString) {
        let scram = Scram::new(Hash::Sha256, "user", "rOprNGfwEbeRWgbNEkqO".to_owned());
        (scram, "pencil".into())
    }

    #[test]
    fn the_example_of_rfc_7677_is_reproduced() {
        let (scram, password) = exchange();
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (last, expected) = scram.last(SERVER_FIRST, &password).ok().unwrap();
        let proof = "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(last, format!("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,{proof}"));
        assert_eq!(expected.verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        let (scram, password) = exchange();
        let (_, expected) = scram.last(SERVER_FIRST, &password).ok().unwrap();
        let forged = "v=AAriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(expected.verify(forged), Err(ScramError::ServerSignature));
        assert_eq!(expected.verify("e=other-error"), Err(ScramError::Refused("other-error".to_owned())));
        assert_eq!(expected.verify(""), Err(ScramError::Malformed));
    }

    #[test]
    fn what_a_server_may_ask_for_is_limited() {
        let (scram, password) = exchange();
        let error = |message: &str| scram.last(message, &password).err().unwrap();
        assert_eq!(error("r=other,s=AA==,i=4096"), ScramError::Nonce);
        assert_eq!(error("r=rOprNGfwEbeRWgbNEkqO,s=AA==,i=4096"), ScramError::Nonce);
        assert_eq!(
            error("r=rOprNGfwEbeRWgbNEkqOx,s=AA==,i=4000000000"),
            ScramError::Iterations(4_000_000_000)
        );
        assert_eq!(error("r=rOprNGfwEbeRWgbNEkqOx,s=AA==,i=0"), ScramError::Iterations(0));
        for malformed in ["", "r=rOprNGfwEbeRWgbNEkqOx", "r=rOprNGfwEbeRWgbNEkqOx,s=!,i=1", "m=x,r=a,s=,i=1"]
        {
            assert_eq!(error(malformed), ScramError::Malformed, "{malformed}");
        }
    }

    #[test]
    fn a_user_name_with_separators_is_escaped() {
        let scram = Scram::new(Hash::Sha512, "a=b,c", "x".to_owned());
        assert_eq!(scram.first(), "n,,n=a=3Db=2Cc,r=x");
    }
}
