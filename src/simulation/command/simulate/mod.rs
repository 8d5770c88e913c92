//! The command `simulate`: reads the files, runs the simulation, and shows what came of it.
//!
//! Files and the terminal are its only I/O; no cluster and no broker is read. A run itself is in
//! [`simulation`](crate::simulation) alone.

mod admission;
mod args;
mod compare;
mod manifest;
mod metadata;
mod progress;
mod report;
mod table;
mod thin;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use jiff::Timestamp;

pub use args::{OutputForm, SimulateArgs};
use manifest::Manifest;
use progress::Progress;
use report::Report;

use crate::api::Mode;
use crate::plan::{Bounds, Sharing};
use crate::simulation::autoscaler::Engine;
use crate::simulation::model::{ArrivalKind, PodStart, Queue, Settings};
use crate::simulation::run::{Script, play};
use crate::simulation::scenario::Scenario;
use crate::simulation::trace;

/// When scenarios begin: a time like any other, so that a run is the same tomorrow.
const SCENARIOS_BEGIN: i64 = 1_767_225_600; // 2026-01-01T00:00:00Z

/// Seconds after which a message is late, where neither options nor policy set them: the default of `drainTime`.
const LATE_AFTER: u32 = 300;

/// How often a broker with shared queues renews its numbers: the default of RabbitMQ's management API.
const STATISTICS_SECONDS: u32 = 5;

/// Longest time that is simulated: a bit more than a year.
const LONGEST_DAYS: u32 = 400;

/// Why nothing could be simulated.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file has something that cannot be used.
    #[error("{path}:{problem}")]
    Content {
        /// The file.
        path: String,
        /// Line, what is wrong, and what would be right.
        problem: String,
    },
    /// Options do not fit.
    #[error("{0}")]
    Options(String),
}

/// Runs the command and returns what belongs on standard output.
///
/// # Errors
/// What cannot be read, used or written.
pub fn run(args: &SimulateArgs) -> Result<String, SimulateError> {
    let mut manifest = read_manifest(args)?;
    // DryRun and Paused would show nothing here.
    manifest.plan.scaling.mode = Mode::Active;
    let traces = args.trace.iter().map(|path| Input::Trace(path));
    let scenarios = args.scenario.iter().map(|scenario| Input::Scenario(*scenario));
    let inputs: Vec<Input> = traces.chain(scenarios).collect();
    if inputs.len() > 1 && args.report.is_some() {
        let problem = "--report shows one run; give one --trace or one --scenario with it";
        return Err(SimulateError::Options(problem.into()));
    }
    let reports =
        inputs.iter().map(|input| simulate(args, &manifest, *input)).collect::<Result<Vec<_>, _>>()?;
    Ok(match (args.output, reports.as_slice()) {
        (OutputForm::Table, reports) => reports.iter().map(table::render).collect::<Vec<_>>().join("\n"),
        (OutputForm::Json, [report]) => report::json(report),
        (OutputForm::Json, reports) => report::json(&reports),
    })
}

/// One of the loads that were given.
#[derive(Clone, Copy)]
enum Input<'a> {
    Trace(&'a Path),
    Scenario(Scenario),
}

fn simulate(args: &SimulateArgs, manifest: &Manifest, input: Input) -> Result<Report, SimulateError> {
    let late_after = args.late_after_seconds.or(manifest.wait).unwrap_or(LATE_AFTER);
    let mut settings = settings(args, manifest);
    let script = script(args, &settings, input)?;
    let plan = &manifest.plan.scaling;
    let contest = compare::Contest::new(args, script, input)?;
    // What cannot be written is found before the work, and after all that can be wrong with the files that are read.
    let page = args.report.as_ref().map(|path| create(path)).transpose()?;
    let script = &contest.evaluated;
    settings.replicas = args.replicas.unwrap_or_else(|| first_replicas(script, &settings, plan.bounds));
    let comparison = args.compare.as_ref().map(|_| contest.hold(plan, &settings, late_after));
    let mut progress = Progress::new(u64::from(script.load.seconds));
    let mut engine = Engine::new(plan);
    let outcome = play(script, &settings, &mut engine, args.seed, late_after, true, |more| {
        progress.advance(more);
    });
    progress.finish();
    let report =
        Report { comparison, ..Report::new(manifest, script, &settings, (args.seed, late_after), &outcome) };
    if let (Some(mut page), Some(path)) = (page, &args.report) {
        page.write_all(report.html().as_bytes()).map_err(|source| unwritten(path, source))?;
    }
    Ok(report)
}

fn read_manifest(args: &SimulateArgs) -> Result<Manifest, SimulateError> {
    let text = read(&args.file)?;
    manifest::read(&text, args.name.as_deref()).map_err(|bad| content(&args.file, &bad))
}

/// Replicas that keep up with the load of the beginning, with a third to spare.
fn first_replicas(script: &Script, settings: &Settings, bounds: Bounds) -> i32 {
    let rate = script.load.steps.first().map_or(0.0, |(_, rate)| *rate);
    #[allow(clippy::cast_possible_truncation)] // Saturates.
    let needed = (rate * settings.service_seconds * 4.0 / 3.0).ceil() as i32;
    bounds.clamp(needed.min(settings.workers()))
}

fn settings(args: &SimulateArgs, manifest: &Manifest) -> Settings {
    let queue = match manifest.plan.source.sharing() {
        Sharing::Partitioned => Queue::Partitioned {
            partitions: args.partitions,
            protocol: args.rebalance.into(),
            commit_seconds: args.commit_seconds,
            rebalance_seconds: args.rebalance_seconds,
        },
        Sharing::Shared => Queue::Shared {
            prefetch: args.prefetch,
            statistics_seconds: STATISTICS_SECONDS,
            single_active: args.single_active_consumer,
        },
    };
    Settings {
        queue,
        key_skew: args.key_skew,
        arrivals: if args.even_arrivals { ArrivalKind::Even } else { ArrivalKind::Poisson },
        service_seconds: args.service_seconds,
        service_variation: args.service_variation,
        pod_start: args.pod_start_seconds.map_or(PodStart::Usual, PodStart::Fixed),
        retention_seconds: args.retention_seconds,
        replicas: manifest.plan.scaling.bounds.min,
        max_replicas: manifest.plan.scaling.bounds.max,
    }
}

fn script(args: &SimulateArgs, settings: &Settings, input: Input) -> Result<Script, SimulateError> {
    let mut script = match input {
        Input::Trace(path) => trace_script(path, args)?,
        Input::Scenario(scenario) => {
            let (load, faults) = scenario.script(f64::from(settings.most()) / settings.service_seconds);
            let begin = Timestamp::from_second(SCENARIOS_BEGIN).unwrap_or_default();
            Script { name: format!("scenario {}", scenario.name()), begin, load, faults }
        }
    };
    let mean = script.load.mean();
    let factor = match args.messages_per_second {
        Some(_) if mean <= 0.0 => {
            return Err(SimulateError::Options(
                "nothing arrives, so no --messages-per-second can be made of it".into(),
            ));
        }
        Some(wanted) => wanted / mean,
        None => args.factor,
    };
    script.load = script.load.scaled(factor);
    Ok(script)
}

fn trace_script(path: &Path, args: &SimulateArgs) -> Result<Script, SimulateError> {
    let trace = trace::parse(&read(path)?, args.gaps.into()).map_err(|bad| content(path, &bad))?;
    let days = trace.load.seconds / 86_400;
    if args.days.unwrap_or(days) > LONGEST_DAYS {
        let problem = format!("1: goes over {days} days; choose at most {LONGEST_DAYS} of them with --days");
        return Err(SimulateError::Content { path: shown(path), problem });
    }
    let name = path.file_name().map_or_else(|| shown(path), |name| name.to_string_lossy().into_owned());
    let name = format!("trace {name}");
    let script = Script { name, begin: trace.begin, load: trace.load, faults: trace.unknown };
    Ok(match args.days {
        Some(days) => script.part(0, days.saturating_mul(86_400)),
        None => script,
    })
}

fn read(path: &Path) -> Result<String, SimulateError> {
    let bytes = std::fs::read(path).map_err(|source| SimulateError::Read { path: shown(path), source })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count() + 1;
        content(path, &format!("{line}: is no text in UTF-8; save it as that"))
    })
}

fn create(path: &Path) -> Result<File, SimulateError> {
    File::create(path).map_err(|source| unwritten(path, source))
}

fn unwritten(path: &Path, source: std::io::Error) -> SimulateError {
    SimulateError::Write { path: shown(path), source }
}

fn content(path: &Path, bad: &dyn std::fmt::Display) -> SimulateError {
    SimulateError::Content { path: shown(path), problem: bad.to_string() }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
