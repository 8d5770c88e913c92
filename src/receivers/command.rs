//! `queuescaler receivers test`: sends a test alert, as the operator would send one.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use jiff::Timestamp;

use super::config::{ReceiversFile, Unusable};
use super::delivery::send;
use super::files::Files;
use super::message::{Setting, sample_notice};
use crate::brokers::address::AddressPolicy;
use crate::cli::ranges;

const EXAMPLE: &str = "\
Example, in the operator's pod, which has the file and the Secrets:
  kubectl exec -n queuescaler-system deployment/queuescaler -- queuescaler receivers test oncall";

/// What is done with receivers
#[derive(Subcommand, Clone, Debug)]
pub enum ReceiversCommand {
    /// Send a test alert to a receiver
    #[command(after_help = EXAMPLE)]
    Test(TestArgs),
}

/// Where the receivers are.
#[derive(Args, Clone, Debug, Default)]
pub struct FileArgs {
    /// File with the receivers of alerts [default: none; nobody is notified]
    #[arg(long, env = "QUEUESCALER_RECEIVERS_FILE", value_name = "FILE")]
    pub receivers_file: Option<PathBuf>,
    /// Folder with a folder for each Secret that a receiver names [default: secrets, beside the file]
    #[arg(long, env = "QUEUESCALER_RECEIVER_SECRETS", value_name = "FOLDER")]
    pub receiver_secrets: Option<PathBuf>,
}

impl FileArgs {
    pub(super) fn files(self) -> Option<Files> {
        // An empty variable is no file, as for the other options.
        let file = self.receivers_file.filter(|file| !file.as_os_str().is_empty())?;
        Some(Files::new(file, self.receiver_secrets.filter(|folder| !folder.as_os_str().is_empty())))
    }
}

/// Options of `receivers test`.
#[derive(Args, Clone, Debug)]
pub struct TestArgs {
    /// Name of the receiver
    pub name: String,
    /// The file
    #[command(flatten)]
    pub file: FileArgs,
    /// Address ranges that receivers are allowed to have although they are refused by default
    #[arg(long, env = "QUEUESCALER_ALLOW_ADDRESSES", default_value = "", hide_default_value = true,
          value_parser = ranges, value_name = "CIDR,…")]
    // With its path, as clap would take `Vec` for an option that is given several times.
    pub allow_addresses: std::vec::Vec<IpNet>,
}

/// Sends a test alert. Returns what is printed.
///
/// # Errors
/// The file cannot be used, there is no such receiver, or it does not accept the alert.
pub async fn test(name: &str, file: FileArgs, addresses: &AddressPolicy) -> Result<String, Unusable> {
    let missing = "there is no receivers file; name it with --receivers-file";
    let files = file.files().ok_or_else(|| Unusable(missing.to_owned()))?;
    let ReceiversFile { runbook_url, cluster, receivers } = ReceiversFile::parse(&files.text()?)?;
    let names: Vec<_> = receivers.iter().map(|receiver| receiver.name.clone()).collect();
    let Some(receiver) = receivers.into_iter().find(|receiver| receiver.name == name) else {
        return Err(Unusable(format!("there is no receiver {name}; there are: {}", names.join(", "))));
    };
    let receiver = Arc::new(receiver);
    let notice = sample_notice(Timestamp::now());
    let setting = Setting { runbook_url, cluster };
    send(&receiver, &[&notice], &setting, &files, addresses)
        .await
        .map_err(|refused| Unusable(format!("receiver {name}: {refused}")))?;
    Ok(format!("receiver {name} accepted the test alert\n"))
}
