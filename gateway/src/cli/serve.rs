//! `callfeed serve`.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{ConfigFile, Failure};
use crate::{
    descriptors,
    gateway::{Gateway, Prepared, Proven},
};

/// Run the gateway.
///
/// It runs until SIGTERM or SIGINT, then finishes what is in hand within `server.grace`. A second signal ends it at once;
/// nothing that was accepted is lost either way. On SIGHUP, and when `callfeed reload` asks, it reads its configuration
/// again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    // Before anything else: a stop that arrives while the gateway starts must be seen.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // A file that may not grow is a full disk, and no reason to die.
    let _too_large = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    descriptors::raise();
    let prepared = Prepared::new(args.config.read()).await.map_err(Failure::Config)?;
    for warning in &prepared.warnings {
        tracing::warn!("{warning}");
    }
    let mut proven = prepared.proven();
    let (wish, mut wishes) = mpsc::channel(1);
    let gateway = Gateway::start(prepared, Some(wish)).await?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            broken = gateway.broken() => return Err(broken.into()),
            _ = hangup.recv() => drop(reload(&args.config, &gateway, &mut proven).await),
            Some(wish) = wishes.recv() => drop(wish.done.send(reload(&args.config, &gateway, &mut proven).await)),
        }
    }
    tokio::select! {
        () = gateway.stop() => Ok(()),
        _ = terminate.recv() => Err(anyhow::anyhow!("a second signal cut the stop short").into()),
        _ = interrupt.recv() => Err(anyhow::anyhow!("a second signal cut the stop short").into()),
    }
}

/// Reads the file again and goes over to what it says. One that is wrong changes nothing.
async fn reload(file: &ConfigFile, gateway: &Gateway, proven: &mut Proven) -> Result<String, String> {
    let prepared = match Prepared::again(file.read(), proven).await {
        Ok(prepared) => prepared,
        Err(problems) => {
            for problem in problems.to_string().lines() {
                tracing::error!("{problem}");
            }
            tracing::error!("the configuration is wrong; nothing has changed");
            return Err(problems.to_string());
        }
    };
    for warning in &prepared.warnings {
        tracing::warn!("{warning}");
    }
    let (routes, subscribers) = (prepared.config.routes.len(), prepared.config.subscribers.len());
    let next = prepared.proven();
    let done = gateway.reload(prepared).await;
    if done.is_ok() {
        *proven = next;
    }
    match done {
        Ok(postponed) if postponed.is_empty() => {
            tracing::info!(routes, subscribers, "configuration read again");
            Ok(format!("done: {routes} routes, {subscribers} subscribers"))
        }
        Ok(postponed) => {
            let at_start = postponed.join(", ");
            tracing::warn!(
                routes,
                subscribers,
                at_start,
                "configuration read again; some of it takes a start"
            );
            Ok(format!(
                "done: {routes} routes, {subscribers} subscribers; what changed in {at_start} needs a restart of the gateway"
            ))
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the configuration cannot be taken over");
            Err(format!("{error:#}"))
        }
    }
}
