//! `callfeed reload`.

use super::{ConfigFile, Failure, Running};

/// Have the running gateway read its configuration again.
///
/// Its plugins, routes, subscribers, certificate and times of keeping, that is. A file that is wrong changes nothing. `kill -HUP` does the same without an answer.
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
