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
    // Before anything else: a stop that arrives while the gateway starts must be seen.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let prepared = Prepared::new(args.config.read()).await.map_err(Failure::Config)?;
    for warning in &prepared.warnings {
        tracing::warn!("{warning}");
    }
    let gateway = Gateway::start(prepared).await?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            broken = gateway.broken() => return Err(broken.into()),
            // Left to the system it would end the process without a word.
            _ = hangup.recv() => {
                tracing::warn!("the configuration is read at start only; restart to apply changes");
            }
        }
    }
    tokio::select! {
        () = gateway.stop() => Ok(()),
        _ = terminate.recv() => Err(anyhow::anyhow!("a second signal cut the stop short").into()),
        _ = interrupt.recv() => Err(anyhow::anyhow!("a second signal cut the stop short").into()),
    }
}
