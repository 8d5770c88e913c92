//! The client's side of SCRAM (RFC 5802, RFC 7677) without channel binding. Pure; the nonce is given.
//!
//! Kafka takes user and password as they are (its `ScramFormatter` does not apply SASLprep), so this does too.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretString};

/// Most iterations that a server is allowed to ask for. Kafka itself allows 16,384; a hostile server asks for years of
/// work.
const MOST_ITERATIONS: u32 = 100_000;

/// The hash function of the mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

/// Why the exchange ends. The words contain nothing of the password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScramError {
    #[error("the broker's SCRAM message is malformed")]
    Malformed,
    #[error("the broker asks for {0} SCRAM iterations; the operator does at most {MOST_ITERATIONS}")]
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

    /// What the server's first message asks to be derived from the password.
    pub(super) fn challenge(&self, server_first: &str) -> Result<Challenge, ScramError> {
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
        Ok(Challenge { hash: self.hash, salt, rounds })
    }

    /// The final message, which proves that we know the password, and what the server must prove in return. `salted` is
    /// what [`Challenge::derive`] gave.
    pub(super) fn last(&self, server_first: &str, salted: &hmac::Key) -> (String, Expected) {
        let nonce =
            server_first.split(',').next().and_then(|part| part.strip_prefix("r=")).unwrap_or_default();
        let client_key = hmac::sign(salted, b"Client Key");
        let stored_key = digest::digest(self.hash.digest(), client_key.as_ref());
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.first_bare);
        let signature = hmac::sign(&hmac::Key::new(self.hash.hmac(), stored_key.as_ref()), signed.as_bytes());
        let proof: Vec<u8> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, mask)| key ^ mask).collect();
        let server_key = hmac::sign(salted, b"Server Key");
        let server_signature =
            hmac::sign(&hmac::Key::new(self.hash.hmac(), server_key.as_ref()), signed.as_bytes());
        (format!("{without_proof},p={}", BASE64.encode(proof)), Expected { server_signature })
    }
}

/// What a server wants to be derived from the password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    hash: Hash,
    salt: Vec<u8>,
    rounds: NonZeroU32,
}

impl Challenge {
    /// The key that is derived from the password (PBKDF2). Takes up to some 100 ms of a processor.
    pub(super) fn derive(&self, password: &SecretString) -> hmac::Key {
        let algorithm = match self.hash {
            Hash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Hash::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut salted = vec![0; self.hash.digest().output_len()];
        pbkdf2::derive(algorithm, self.rounds, &self.salt, password.expose_secret().as_bytes(), &mut salted);
        hmac::Key::new(self.hash.hmac(), &salted)
    }
}

impl Hash {
    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
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

    fn exchange() -> Scram {
        Scram::new(Hash::Sha256, "user", "rOprNGfwEbeRWgbNEkqO".to_owned())
    }

    fn last(scram: &Scram) -> (String, Expected) {
        let salted = scram.challenge(SERVER_FIRST).ok().unwrap().derive(&"pencil".into());
        scram.last(SERVER_FIRST, &salted)
    }

    #[test]
    fn the_example_of_rfc_7677_is_reproduced() {
        let scram = exchange();
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (last, expected) = last(&scram);
        let proof = "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(last, format!("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,{proof}"));
        assert_eq!(expected.verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_detected() {
        let (_, expected) = last(&exchange());
        let forged = "v=AAriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(expected.verify(forged), Err(ScramError::ServerSignature));
        assert_eq!(expected.verify("e=other-error"), Err(ScramError::Refused("other-error".to_owned())));
        assert_eq!(expected.verify(""), Err(ScramError::Malformed));
    }

    #[test]
    fn scram_iterations_that_a_server_can_ask_for_are_limited() {
        let scram = exchange();
        let error = |message: &str| scram.challenge(message).err().unwrap();
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
