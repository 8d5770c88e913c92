//! Reads the administrator's file and the Secrets that are mounted beside it. Both are read afresh each time: the kubelet
//! replaces them when they change.

use std::io::Read;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::config::{SecretKey, Unusable};
use super::forms::{Form, Secrets};

/// Largest file of receivers, and largest Secret.
const LARGEST: u64 = 1 << 20;
const LARGEST_SECRET: u64 = 64 << 10;

/// Where the files are.
#[derive(Clone, Debug)]
pub(super) struct Files {
    file: PathBuf,
    secrets: PathBuf,
}

impl Files {
    /// The file of receivers, and the folder that has a folder for each Secret. Absent: `secrets` beside the file.
    pub(super) fn new(file: PathBuf, secrets: Option<PathBuf>) -> Self {
        let beside = || file.parent().unwrap_or(Path::new("")).join("secrets");
        let secrets = secrets.unwrap_or_else(beside);
        Self { file, secrets }
    }

    /// The text of the file of receivers.
    pub(super) fn text(&self) -> Result<String, Unusable> {
        let problem = |words: &str| Unusable(format!("the receivers file {}: {words}", self.file.display()));
        let bytes = read(&self.file, LARGEST).map_err(|error| problem(&error))?;
        String::from_utf8(bytes).map_err(|_| problem("is not text"))
    }

    /// The Secrets of a receiver.
    pub(super) fn secrets(&self, form: &Form) -> Result<Secrets, Unusable> {
        let mut secrets = Secrets::default();
        for key in form.secrets() {
            let value = self.secret(&key)?;
            secrets.insert(key, value);
        }
        Ok(secrets)
    }

    fn secret(&self, key: &SecretKey) -> Result<SecretString, Unusable> {
        let problem = |words: &str| Unusable(format!("key {} of secret {}: {words}", key.key, key.name));
        let path = self.secrets.join(&key.name).join(&key.key);
        let bytes = read(&path, LARGEST_SECRET).map_err(|error| problem(&error))?;
        String::from_utf8(bytes).map(SecretString::from).map_err(|_| problem("is not text"))
    }
}

fn read(path: &Path, largest: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(largest + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > largest {
        return Err(format!("is larger than {} KiB", largest >> 10));
    }
    Ok(bytes)
}
