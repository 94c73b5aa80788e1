//! `callfeed serve`.

use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigFile, Failure};
use crate::gateway::{Gateway, Prepared};

/// Runs until SIGTERM or SIGINT, then finishes what is in hand within `server.grace`. A second signal ends it at once;
/// nothing that was accepted is lost either way.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let prepared = Prepared::new(args.config.read()).await.map_err(Failure::Config)?;
    for warning in &prepared.warnings {
        tracing::warn!("{warning}");
    }
    // Before the sockets: a stop that arrives while the gateway starts must be seen.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let gateway = Gateway::start(prepared).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::select! {
        () = gateway.stop() => Ok(()),
        _ = terminate.recv() => Err(anyhow::anyhow!("a second signal cut the stop short").into()),
        _ = interrupt.recv() => Err(anyhow::anyhow!("a second signal cut the stop short").into()),
    }
}
