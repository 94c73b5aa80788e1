//! Arguments → configuration → gateway → exit code; nothing else.

use std::process::ExitCode;

use callfeed::cli::{self, Cli};
use clap::Parser as _;

/// A webhook's memory is allocated on one thread and freed on another; the system's allocator pays for that twice over.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many polls a worker makes before it looks for sockets and timers that are ready. The default of 61 lets plugins
/// that run to the end of their ticks keep everybody else waiting.
const EVENT_INTERVAL: u32 = 7;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(cli::run(cli)),
        Err(error) => cli::fail(&anyhow::Error::new(error).context("failed to start the runtime")),
    }
}
