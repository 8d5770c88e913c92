//! The operator's process: wiring, leadership, ordered shutdown.
//!
//! Order of ending: no new reconciles, those under way end, their reports are written, sessions close, the lease is
//! given back, the HTTP server stops. A lost lease ends the process with an error, so that its pod begins anew as a candidate.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kube::Config;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::brokers::address::AddressPolicy;
use crate::brokers::names::{Names, literal};
use crate::brokers::sessions::Sessions;
use crate::cli::RunArgs;
use crate::cluster::client::{self, Clients};
use crate::cluster::drains as cluster_drains;
use crate::cluster::events::Events;
use crate::cluster::lease::{self, Election};
use crate::cluster::own_deployment::OwnDeployment;
use crate::cluster::scope::Scope;
use crate::cluster::secrets::SecretCache;
use crate::cluster::watches::Watches;
use crate::controllers::context::Shared;
use crate::controllers::reporter::{Reporter, ScalesInFlight};
use crate::controllers::serve;
use crate::controllers::writes::StatusBudget;
use crate::receivers::command::{self, ReceiversCommand, TestArgs};
use crate::receivers::notifier::Notifier;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::{http, logs};

/// How long reconciles under way, and what they report, may take to end.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// The configuration cannot be used, the HTTP address cannot be bound, the API server cannot be found, or the lease was
/// lost.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let RunArgs {
        watch_namespaces,
        watch_label_selector,
        namespace,
        identity,
        lease_name,
        lease_seconds,
        http_address,
        log_format,
        log,
        allow_addresses,
        status_writes_per_second,
        receivers,
        deployment,
        drains,
        budget,
    } = args;
    logs::install(log_format, &log).context("cannot install the log")?;
    let stop = stop_signal()?;
    let metrics = Metrics::new();
    let stopped = CancellationToken::new();
    let listener = http::listen(http_address).await.with_context(|| {
        format!("cannot listen on {http_address}: give another --http-address, or end who has it")
    })?;
    let watches = Watches::default();
    let (of_readiness, of_metrics) = (watches.clone(), watches.clone());
    metrics.watches(move || of_metrics.states());
    let served = http::Served {
        metrics: Arc::clone(&metrics),
        not_ready: Arc::new(move || of_readiness.problem().map(|problem| problem.to_string())),
    };
    let server = tokio::spawn(http::serve(listener, served, stopped.clone().cancelled_owned()));

    let config =
        Config::infer().await.context("no way to the API server: run in a cluster, or set KUBECONFIG")?;
    let names = Names::of_system();
    let addresses = AddressPolicy::new(allow_addresses, api_server(&config, &names).await, names);
    let Clients { main: client, short, lease } =
        client::connect(config).context("cannot make a client for the API server")?;
    let identity = identity.unwrap_or_else(own_name);
    let own_namespace = namespace.clone();
    let election = Election {
        namespace,
        name: lease_name,
        identity: identity.clone(),
        duration: Duration::from_secs(lease_seconds),
    };

    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        identity,
        lease = election.name,
        "waiting for the lease"
    );
    let mut held = tokio::select! {
        held = lease::acquire(lease, election) => held,
        () = stop.cancelled() => return end(stopped, server).await,
    };
    tracing::info!("leading");
    let leadership = held.leadership();
    let fence = leadership.clone();
    metrics.leads_while(move || fence.check().is_ok());
    let events = Events::new(short.clone(), identity, leadership.clone());
    let scales = ScalesInFlight::default();
    let reporter = Reporter::start(
        short.clone(),
        events.clone(),
        leadership.clone(),
        Arc::clone(&metrics),
        scales.clone(),
    );
    let own = deployment
        .filter(|name| !name.is_empty())
        .map(|name| OwnDeployment::new(short.clone(), events.clone(), own_namespace, name));
    let notifier =
        Notifier::start(receivers, addresses.clone(), leadership.clone(), Arc::clone(&metrics), own);
    let drains_are_defined = !drains.enabled || cluster_drains::are_defined(&client).await;
    if !drains_are_defined {
        tracing::warn!(
            "the definition of QueueDrain is not installed; drains are served after it is, and a restart"
        );
    }
    let shared = Shared {
        notifier,
        sessions: Arc::new(Sessions::new(addresses, budget.into(), Arc::clone(&metrics))),
        secrets: SecretCache::new(client.clone()),
        reporter: reporter.clone(),
        events,
        drains: (drains.enabled && drains_are_defined).then(|| drains.image()),
        scales,
        leadership,
        metrics,
        watches,
        status_budget: Arc::new(StatusBudget::new(status_writes_per_second)),
        label_selector: watch_label_selector.filter(|selector| !selector.is_empty()),
    };
    let quit = CancellationToken::new();
    let mut controllers = JoinSet::new();
    for scope in scopes(watch_namespaces) {
        controllers.spawn(serve::run(client.clone(), short.clone(), scope, shared.clone(), quit.clone()));
    }
    tokio::select! {
        () = held.keep() => bail!("the lease is lost: another process may lead now"),
        // Its scope would be served by nobody, however well the others are.
        Some(ended) = controllers.join_next() => {
            ended.context("a controller failed")?;
            bail!("a controller ended by itself");
        }
        () = stop.cancelled() => tracing::info!("stopping"),
    }
    quit.cancel();
    let all_ended = async {
        while controllers.join_next().await.is_some() {}
        reporter.flushed().await;
    };
    let may_release = tokio::select! {
        _ = tokio::time::timeout(SHUTDOWN, all_ended) => true,
        () = held.keep() => false,
    };
    if may_release {
        held.release().await;
    }
    end(stopped, server).await
}

/// Runs `queuescaler receivers`. Returns what is printed.
///
/// # Errors
/// Those of the command.
pub async fn receivers(command: ReceiversCommand) -> anyhow::Result<String> {
    let ReceiversCommand::Test(TestArgs { name, file, allow_addresses }) = command;
    let names = Names::of_system();
    // Outside of a cluster there is no API server to be protected.
    let api_server = match Config::infer().await {
        Ok(config) => api_server(&config, &names).await,
        Err(_) => Vec::new(),
    };
    let addresses = AddressPolicy::new(allow_addresses, api_server, names);
    Ok(command::test(&name, file, &addresses).await?)
}

async fn end(
    stopped: CancellationToken,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
) -> anyhow::Result<()> {
    stopped.cancel();
    server.await?.context("serving the metrics failed")
}

/// A token that SIGTERM and SIGINT cancel.
fn stop_signal() -> anyhow::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    Ok(stop)
}

fn scopes(mut namespaces: Vec<String>) -> Vec<Scope> {
    namespaces.retain(|namespace| !namespace.is_empty());
    namespaces.sort_unstable();
    namespaces.dedup();
    if namespaces.is_empty() {
        return vec![Scope::Cluster];
    }
    namespaces.into_iter().map(Scope::Namespace).collect()
}

/// Longest wait for the look-up of the API server's name.
const LOOKUP: Duration = Duration::from_secs(5);

/// The addresses of the API server, which are refused to brokers.
async fn api_server(config: &Config, names: &Names) -> Vec<IpAddr> {
    let host = config.cluster_url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    if let Some(address) = literal(&host) {
        return vec![address];
    }
    let looked_up = tokio::time::timeout(LOOKUP, names.look_up(&host)).await;
    looked_up.unwrap_or_else(|_| Err("the name server did not answer in time".to_owned())).unwrap_or_else(
        |error| {
            tracing::warn!(
                error,
                host,
                "cannot look up the API server's addresses; a broker at one of them is not refused"
            );
            Vec::new()
        },
    )
}

fn own_name() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "queuescaler".into());
    format!("{host}-{}", std::process::id())
}
