//! `queuescaler drain`: shows the plan of a `QueueDrain`, starts, pauses, resumes and aborts it, and watches it.
//!
//! It speaks to the API server of the kubeconfig as whoever calls it, and changes nothing but `desiredState`.

use std::io::{BufRead, Write};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;

use crate::api::drain_status::{DrainNote, DrainPlan, ProgressStatus};
use crate::api::queue_drain::DrainOrdering;
use crate::api::{DesiredState, DrainState, DrainStep, QueueDrain, QueueDrainStatus};

/// How long a resume waits for the run to be paused first.
const PATIENCE: Duration = Duration::from_secs(60);
/// Characters of a progress bar.
const BAR: usize = 30;

/// What is done with a `QueueDrain`.
#[derive(Clone, Debug, Subcommand)]
pub enum DrainCommand {
    /// Show the plan: what it would do, how long it takes, what keeps it from starting
    Plan(Named),
    /// Start it (desiredState: Running)
    Start(Named),
    /// Stop copying and consuming, and keep everything (desiredState: Paused)
    Pause(Named),
    /// Go on after a pause, or after the cause of a halt is fixed
    Resume(Named),
    /// End it early; shows first what that does
    Abort(AbortArgs),
    /// Show its progress until it ends
    Watch(Named),
}

/// Which `QueueDrain`.
#[derive(Args, Clone, Debug)]
pub struct Named {
    /// Namespace of the QueueDrain [default: that of the kubeconfig's context]
    #[arg(long, short, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Name of the QueueDrain
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// Options of `abort`.
#[derive(Args, Clone, Debug)]
pub struct AbortArgs {
    /// Which QueueDrain
    #[command(flatten)]
    pub named: Named,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// Runs a command. `answers` is where a question is answered.
///
/// # Errors
/// The API server cannot be reached or refuses, or the drain is not in a state for it.
pub async fn run(
    command: DrainCommand,
    out: &mut impl Write,
    answers: &mut impl BufRead,
) -> anyhow::Result<()> {
    let client = Client::try_default()
        .await
        .context("no way to the API server: set KUBECONFIG, or run in a cluster")?;
    let drains = |named: &Named| -> Api<QueueDrain> {
        match &named.namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::default_namespaced(client.clone()),
        }
    };
    match command {
        DrainCommand::Plan(named) => {
            let object = drains(&named).get(&named.name).await?;
            let status = object.status.unwrap_or_default();
            let Some(plan) = &status.plan else { bail!("there is no plan yet; is the operator running?") };
            Ok(write!(out, "{}", table(&named.name, plan))?)
        }
        DrainCommand::Start(named) => {
            let object = drains(&named).get(&named.name).await?;
            let problems = object.status.and_then(|status| status.plan).map(|plan| plan.problems);
            for problem in problems.into_iter().flatten() {
                writeln!(out, "problem  {}: {}", problem.reason, problem.message)?;
            }
            desire(&drains(&named), &named.name, DesiredState::Running).await?;
            Ok(writeln!(out, "{} starts as soon as no problem keeps it from that", named.name)?)
        }
        DrainCommand::Pause(named) => {
            desire(&drains(&named), &named.name, DesiredState::Paused).await?;
            Ok(writeln!(out, "{} pauses", named.name)?)
        }
        DrainCommand::Resume(named) => resume(&drains(&named), &named.name, out).await,
        DrainCommand::Abort(AbortArgs { named, yes }) => {
            abort(&drains(&named), &named.name, yes, out, answers).await
        }
        DrainCommand::Watch(named) => watch(drains(&named), &named.name, out).await,
    }
}

async fn desire(drains: &Api<QueueDrain>, name: &str, state: DesiredState) -> anyhow::Result<()> {
    let patch = json!({"spec": {"desiredState": state}});
    drains.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

/// A halted run resumes by way of a pause, which clears what ended.
async fn resume(drains: &Api<QueueDrain>, name: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let status = drains.get(name).await?.status.unwrap_or_default();
    if status.state == Some(DrainState::Halted) {
        desire(drains, name, DesiredState::Paused).await?;
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut objects = watcher(drains.clone(), config).default_backoff().applied_objects().boxed();
        let paused = async {
            while let Some(object) = objects.next().await {
                let state = object.ok().and_then(|object| object.status).and_then(|status| status.state);
                if state == Some(DrainState::Paused) {
                    break;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, paused).await.is_err() {
            bail!("{name} is still halted; is the operator running?");
        }
    }
    desire(drains, name, DesiredState::Running).await?;
    Ok(writeln!(out, "{name} goes on")?)
}

async fn abort(
    drains: &Api<QueueDrain>,
    name: &str,
    yes: bool,
    out: &mut impl Write,
    answers: &mut impl BufRead,
) -> anyhow::Result<()> {
    let object = drains.get(name).await?;
    let status = object.status.clone().unwrap_or_default();
    writeln!(out, "{}", of_abort(&status, object.spec.ordering))?;
    if !yes {
        write!(out, "Abort {name}? Type yes: ")?;
        out.flush()?;
        let mut answer = String::new();
        answers.read_line(&mut answer)?;
        if answer.trim() != "yes" {
            bail!("nothing was done");
        }
    }
    desire(drains, name, DesiredState::Aborted).await?;
    Ok(writeln!(out, "{name} is aborted")?)
}

/// What an abort does now.
fn of_abort(status: &QueueDrainStatus, ordering: DrainOrdering) -> String {
    let replicas = status.original.as_ref().map_or(0, |original| original.replicas);
    let restore = format!("the workload gets its {replicas} replicas back");
    match (status.state.unwrap_or_default(), status.step.unwrap_or_default()) {
        (DrainState::Planned, _) => "Nothing has begun; nothing changes.".to_owned(),
        (DrainState::Succeeded | DrainState::Aborted, _) => {
            "It has ended already; nothing changes.".to_owned()
        }
        (_, step) if step < DrainStep::Copying => {
            format!("Nothing was copied: {restore} at once, and the temporary topic is deleted if it exists.")
        }
        (_, step) if step < DrainStep::Restoring => {
            let copied = status.progress.as_ref().map_or(0, |progress| progress.copied);
            let when = match ordering {
                DrainOrdering::None => "at once",
                DrainOrdering::PerKey => "when they are consumed, so that keys stay in order",
            };
            format!(
                "Copying stops. The {copied} copied messages are consumed by the pods of the drain; {restore} {when}, and \
                 consumes the rest from where copying stopped. The temporary topic is deleted after it is consumed."
            )
        }
        _ => "The workload is being restored already; the temporary topic is deleted without waiting."
            .to_owned(),
    }
}

async fn watch(drains: Api<QueueDrain>, name: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut objects = watcher(drains, config).default_backoff().applied_objects().boxed();
    let mut last = String::new();
    while let Some(object) = objects.next().await {
        let Some(status) = object?.status else { continue };
        let line = line(&status);
        if line != last {
            writeln!(out, "{line}")?;
            last = line;
        }
        match status.state {
            Some(DrainState::Succeeded) => return Ok(()),
            Some(DrainState::Aborted) => bail!("{name} was aborted"),
            _ => {}
        }
    }
    Ok(())
}

/// One line of progress.
fn line(status: &QueueDrainStatus) -> String {
    let (state, step) = (status.state.unwrap_or_default(), status.step.unwrap_or_default());
    let message = status.message.as_deref().unwrap_or_default();
    match &status.progress {
        Some(progress) if step < DrainStep::Restoring => {
            format!("{state:?} {step:?} {} {message}", bar(progress))
        }
        _ => format!("{state:?} {step:?}: {message}"),
    }
}

fn bar(progress: &ProgressStatus) -> String {
    let full = usize::try_from(progress.percent).unwrap_or(0).min(100) * BAR / 100;
    let left = progress.estimated_seconds_left.map_or(String::new(), |left| format!(", {left} s left"));
    format!(
        "[{}{}] {} % copied {} consumed {} of {}{left}:",
        "#".repeat(full),
        ".".repeat(BAR - full),
        progress.percent,
        progress.copied,
        progress.consumed,
        progress.total
    )
}

/// A plan as a table.
fn table(name: &str, plan: &DrainPlan) -> String {
    let number = |value: Option<i64>, unit: &str| {
        value.map_or_else(|| "not known".to_owned(), |value| format!("{value}{unit}"))
    };
    let small = |value: Option<i32>| number(value.map(i64::from), "");
    let worthwhile = match plan.worthwhile {
        Some(true) => "yes: it at least halves the time",
        Some(false) => "no: scale instead",
        None => "not known",
    };
    let without = match (plan.estimated_seconds_without_drain, plan.estimated_seconds) {
        (None, Some(_)) => "never: messages arrive faster than they are processed".to_owned(),
        (seconds, _) => number(seconds, " s"),
    };
    let mut rows = vec![
        ("drain", name.to_owned()),
        ("messages", number(plan.messages, "")),
        ("bytes", number(plan.bytes, "")),
    ];
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "not known".to_owned());
    match &plan.temporary_queue_prefix {
        Some(prefix) => {
            rows.push(("temporary queues", format!("{}, {prefix}0 and so on", small(plan.temporary_queues))));
        }
        None => rows.extend([
            (
                "partitions",
                format!("{} to {}", small(plan.source_partitions), small(plan.temporary_partitions)),
            ),
            ("temporary topic", text(&plan.temporary_topic)),
            ("its group", text(&plan.temporary_group)),
        ]),
    }
    rows.extend([
        ("pods", small(plan.replicas)),
        ("with the drain", number(plan.estimated_seconds, " s")),
        ("without", without),
        ("worthwhile", worthwhile.to_owned()),
    ]);
    rows.extend(plan.basis.iter().map(|basis| ("basis", basis.clone())));
    let notes = |kind: &'static str, notes: &[DrainNote]| -> Vec<(&'static str, String)> {
        notes.iter().map(|note| (kind, format!("{}: {}", note.reason, note.message))).collect()
    };
    rows.extend(notes("alternative", &plan.alternatives));
    rows.extend(notes("warning", &plan.warnings));
    rows.extend(notes("problem", &plan.problems));
    rows.iter().map(|(name, value)| format!("{name:16} {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::drain_status::OriginalStatus;

    #[test]
    fn a_plan_is_a_table_with_its_problems_last() {
        let plan = DrainPlan {
            messages: Some(3_600_000),
            source_partitions: Some(12),
            temporary_partitions: Some(120),
            replicas: Some(75),
            estimated_seconds: Some(660),
            worthwhile: Some(true),
            problems: vec![crate::drain::plan::note("NameConflict", "the topic exists".into())],
            ..DrainPlan::default()
        };
        let table = table("now", &plan);
        assert!(table.contains("partitions       12 to 120\n"), "{table}");
        assert!(table.contains("without          never: messages arrive faster"), "{table}");
        assert!(table.ends_with("problem          NameConflict: the topic exists\n"), "{table}");
    }

    #[test]
    fn an_abort_shows_what_it_does() {
        let status = |state, step| QueueDrainStatus {
            state: Some(state),
            step: Some(step),
            original: Some(OriginalStatus { replicas: 3, uid: String::new() }),
            progress: Some(ProgressStatus { copied: 70, ..ProgressStatus::default() }),
            ..QueueDrainStatus::default()
        };
        let words = |state, step, ordering| of_abort(&status(state, step), ordering);
        use DrainState::{Planned, Running};
        assert!(words(Planned, DrainStep::Planned, DrainOrdering::PerKey).starts_with("Nothing has begun"));
        let early = words(Running, DrainStep::Quiescing, DrainOrdering::PerKey);
        assert!(
            early.starts_with("Nothing was copied: the workload gets its 3 replicas back at once"),
            "{early}"
        );
        let ordered = words(Running, DrainStep::Copying, DrainOrdering::PerKey);
        assert!(
            ordered.contains("70 copied messages") && ordered.contains("when they are consumed"),
            "{ordered}"
        );
        let unordered = words(Running, DrainStep::Copying, DrainOrdering::None);
        assert!(unordered.contains("3 replicas back at once"), "{unordered}");
    }

    #[test]
    fn progress_is_a_bar() {
        let progress = ProgressStatus {
            copied: 200,
            consumed: 100,
            total: 200,
            percent: 75,
            estimated_seconds_left: Some(9),
            ..ProgressStatus::default()
        };
        let expected =
            format!("[{}{}] 75 % copied 200 consumed 100 of 200, 9 s left:", "#".repeat(22), ".".repeat(8));
        assert_eq!(bar(&progress), expected);
    }
}
