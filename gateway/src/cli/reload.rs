//! `callfeed reload`.

use super::{ConfigFile, Failure, Running};

/// Has the running gateway read its configuration again: plugins, routes, subscribers, the certificate and the times of
/// keeping. A file that is wrong changes nothing. `kill -HUP` does the same without an answer.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    running: Running,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    args.running.ask(&args.config, "reload").await
}
