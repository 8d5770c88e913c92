//! The command `record`: writes down what an operator sees of one `QueueScaler`, as a trace that `simulate` replays.
//!
//! It reads the operator's `/metrics`, so that it needs no right on a cluster and no broker's credentials, and changes
//! nothing. What has happened already is in a Prometheus; `simulate` reads its answers as they are.

mod exposition;

use std::io::Write;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use exposition::Seen;

/// First line of a record: the columns of a trace.
const HEADER: &str = "timestamp,value,quality,backlog,replicas";

/// Longest time that an operator may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Longest answer, in bytes: 10,000 objects have about 20 MB.
const LONGEST_ANSWER: usize = 64 << 20;

const EXAMPLES: &str = "\
Example, until Ctrl-C:
  kubectl --namespace queuescaler-system port-forward deployment/queuescaler 8080 &
  queuescaler record --namespace shop --name orders > orders.csv
  queuescaler simulate --file orders.yaml --trace orders.csv --gaps hold";

/// Options of `record`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RecordArgs {
    /// Where the operator serves its metrics
    #[arg(long, default_value = "http://localhost:8080/metrics", value_name = "URL")]
    pub metrics: reqwest::Url,
    /// Namespace of the QueueScaler
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: String,
    /// Name of the QueueScaler
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Time between two lines
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub every_seconds: u32,
    /// End after this time [default: when it is interrupted]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub for_seconds: Option<u32>,
}

/// Why nothing can be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The first answer could not be had.
    #[error("cannot read {url}: {problem}; is the operator's port forwarded, and its metrics switched on?")]
    NoAnswer {
        /// Where.
        url: reqwest::Url,
        /// Why.
        problem: String,
    },
    /// The object is not in the answer.
    #[error("the operator at {url} has no QueueScaler {namespace}/{name}; does its leader answer there?")]
    Unknown {
        /// Where.
        url: reqwest::Url,
        /// Namespace of the object.
        namespace: String,
        /// Name of the object.
        name: String,
    },
    /// The record cannot be written.
    #[error("cannot write the record")]
    Write(#[from] std::io::Error),
}

/// Writes the record to `record` and problems on the way to `words`, until the time is over or Ctrl-C.
///
/// # Errors
/// The operator does not answer at the beginning, does not know the object, or the record cannot be written.
pub async fn run(
    args: &RecordArgs,
    record: &mut impl Write,
    words: &mut impl Write,
) -> Result<(), RecordError> {
    let client = reqwest::Client::new();
    let mut recorder = Recorder { args, rate: None };
    let first = recorder.see(&client).await?;
    writeln!(record, "{HEADER}")?;
    let began = Instant::now();
    let mut ticks = interval(Duration::from_secs(args.every_seconds.into()));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut first = Some(first);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
        if args.for_seconds.is_some_and(|seconds| began.elapsed() >= Duration::from_secs(seconds.into())) {
            return Ok(());
        }
        let now = Timestamp::now();
        let seen = match first.take() {
            Some(first) => Ok(first),
            None => recorder.see(&client).await,
        };
        match seen {
            Ok(seen) => {
                if let Some(line) = recorder.line(&seen, now) {
                    writeln!(record, "{line}")?;
                    record.flush()?;
                }
            }
            // A restart of the operator must not end a record; the trace has a gap then.
            Err(error) => writeln!(words, "{error}")?,
        }
    }
}

struct Recorder<'a> {
    args: &'a RecordArgs,
    /// The last rate, for a moment without one.
    rate: Option<f64>,
}

impl Recorder<'_> {
    async fn see(&self, client: &reqwest::Client) -> Result<Seen, RecordError> {
        let RecordArgs { metrics: url, namespace, name, .. } = self.args;
        let no_answer = |problem: String| RecordError::NoAnswer { url: url.clone(), problem };
        let answer = timeout(ANSWER_WITHIN, read(client, url.clone())).await;
        let text = answer.map_err(|_| no_answer("no answer within 3 s".into()))?.map_err(no_answer)?;
        exposition::seen(&text, namespace, name).ok_or_else(|| RecordError::Unknown {
            url: url.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
        })
    }

    /// One line of the record; none before the operator has seen enough for a rate.
    fn line(&mut self, seen: &Seen, now: Timestamp) -> Option<String> {
        let unknown = seen.quality == "Unknown";
        self.rate = seen.rate.or(self.rate);
        let value = match self.rate {
            _ if unknown => String::new(),
            Some(rate) => shown(rate * f64::from(self.args.every_seconds)),
            None => return None,
        };
        let number = |number: Option<f64>| number.map(shown).unwrap_or_default();
        let (backlog, replicas) = (number(seen.backlog), number(seen.replicas));
        Some(format!("{now:.0},{value},{},{backlog},{replicas}", seen.quality))
    }
}

async fn read(client: &reqwest::Client, url: reqwest::Url) -> Result<String, String> {
    let failed = |error: reqwest::Error| error.to_string();
    let mut answer = client.get(url).send().await.map_err(failed)?.error_for_status().map_err(failed)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > LONGEST_ANSWER {
            return Err("the answer is longer than 64 MiB".into());
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| "the answer is not text".into())
}

/// To three decimals, without those that are 0.
fn shown(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use wiremock::matchers::path;
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::simulation::trace::{Gaps, parse};
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::objects::Sample;

    fn args(url: &str) -> RecordArgs {
        RecordArgs {
            metrics: url.parse().unwrap(),
            namespace: "shop".into(),
            name: "orders".into(),
            every_seconds: 5,
            for_seconds: None,
        }
    }

    fn seen(rate: Option<f64>, quality: &str) -> Seen {
        Seen { rate, quality: quality.into(), backlog: Some(120.0), replicas: Some(3.0) }
    }

    #[test]
    fn a_record_is_a_trace() {
        let args = args("http://localhost");
        let mut recorder = Recorder { args: &args, rate: None };
        let readings = [
            (None, "Known"),
            (Some(8.0), "Known"),
            (None, "Unknown"),
            (None, "AtLeast"),
            (Some(2.5), "Known"),
        ];
        let mut text = format!("{HEADER}\n");
        for (second, (rate, quality)) in (0..).zip(readings) {
            let now = Timestamp::from_second(1_800_000_000 + second * 5).unwrap();
            if let Some(line) = recorder.line(&seen(rate, quality), now) {
                text.push_str(&format!("{line}\n"));
            }
        }
        assert_eq!(
            text.lines().nth(1),
            Some("2027-01-15T08:00:05Z,40,Known,120,3"),
            "none before the first rate"
        );
        assert_eq!(text.lines().nth(2), Some("2027-01-15T08:00:10Z,,Unknown,120,3"));
        let trace = parse(&text, Gaps::Refuse).unwrap();
        assert_eq!(trace.load.steps, [(0, 8.0), (5, 8.0), (10, 8.0), (15, 2.5)]);
        assert_eq!(trace.unknown.len(), 1);
    }

    #[tokio::test]
    async fn what_the_operator_shows_is_seen() {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let metrics = Metrics::new();
        let sample = Sample {
            backlog: Some(120),
            arrival_rate: Some(8.0),
            replicas: vec![("desired", 4), ("current", 3)],
            quality: "Known",
            ..Sample::default()
        };
        metrics.objects().set("shop", "orders-2", Sample { backlog: Some(7), ..sample.clone() });
        metrics.objects().set("shop", "orders", sample);
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(200).set_body_string(metrics.exposition().unwrap());
        Mock::given(path("/metrics")).respond_with(answer).mount(&server).await;

        let args = args(&format!("{}/metrics", server.uri()));
        let recorder = Recorder { args: &args, rate: None };
        let found = recorder.see(&reqwest::Client::new()).await.unwrap();
        assert_eq!(found, seen(Some(8.0), "Known"));
        let other = RecordArgs { name: "bills".into(), ..args.clone() };
        let recorder = Recorder { args: &other, rate: None };
        let error = recorder.see(&reqwest::Client::new()).await.unwrap_err().to_string();
        assert!(error.contains("has no QueueScaler shop/bills"), "{error}");
        let nowhere =
            RecordArgs { metrics: format!("{}/other", server.uri()).parse().unwrap(), ..args.clone() };
        let recorder = Recorder { args: &nowhere, rate: None };
        let error = recorder.see(&reqwest::Client::new()).await.unwrap_err().to_string();
        assert!(error.contains("404"), "{error}");
    }
}
