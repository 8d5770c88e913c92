//! What an operator wrote to the API server, as the server's audit log has it (`QS_AUDIT_LOG`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::Value;

/// The part of the audit log from a moment on.
pub struct Audit {
    path: PathBuf,
    /// Stands at that moment. Held open, because the API server renames a log that became large and begins another.
    log: File,
    user: String,
}

impl Audit {
    /// From now on; `None` where there is no audit log. `namespace` is that of the operator.
    pub fn begin(namespace: &str) -> Option<Self> {
        let path = PathBuf::from(std::env::var_os("QS_AUDIT_LOG")?);
        let mut log = File::open(&path).unwrap();
        log.seek(SeekFrom::End(0)).unwrap();
        Some(Self { path, log, user: format!("system:serviceaccount:{namespace}:queuescaler") })
    }

    /// Writes of the operator since then, by what was written; its lease, which it must renew, is not among them.
    pub fn writes(self) -> BTreeMap<String, usize> {
        let newest = File::open(&self.path).unwrap();
        let inode = |file: &File| file.metadata().unwrap().ino();
        let renamed = inode(&newest) != inode(&self.log);
        let log = self.log.chain(newest.take(if renamed { u64::MAX } else { 0 }));
        let mut writes = BTreeMap::new();
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if !line.contains(&self.user) {
                continue;
            }
            // The last line may be half written.
            let Ok(entry) = serde_json::from_str::<Value>(&line) else { continue };
            let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            if text("/user/username") != self.user || text("/objectRef/resource") == "leases" {
                continue;
            }
            let what = format!(
                "{} {}/{}",
                text("/verb"),
                text("/objectRef/resource"),
                text("/objectRef/subresource")
            );
            *writes.entry(what).or_default() += 1;
        }
        writes
    }
}

/// In words.
pub fn in_words(writes: Option<&BTreeMap<String, usize>>) -> String {
    match writes {
        None => "API writes not known without QS_AUDIT_LOG".to_owned(),
        Some(writes) if writes.is_empty() => "0 API writes".to_owned(),
        Some(writes) => {
            let each: Vec<_> = writes.iter().map(|(what, count)| format!("{count} × {what}")).collect();
            format!("{} API writes ({})", writes.values().sum::<usize>(), each.join(", "))
        }
    }
}
