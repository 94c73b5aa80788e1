//! What callfeed costs, as ratios against bare servers that do the least possible for the same promise.
//!
//! Every server is a process of its own, so that its CPU time and its memory are its own. One process sends to all of
//! them in turn, the same bytes in the same way, in many short windows: a ratio is taken between windows of one round,
//! seconds apart, so that what else the machine does weighs on both sides alike.
//!
//! ```text
//! options → accept, plugin, relay, burden (each starts its servers, runs its rounds) → rows → one table
//! ```

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command that prints its findings"
)]

mod accept;
mod baseline;
mod burden;
mod gateway;
mod load;
mod machine;
mod plugin;
mod receiver;
mod relay;
mod server;
mod table;
mod webhook;

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};

use crate::table::Table;

/// The gateway's, so that the bare servers are not slower for want of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures callfeed against bare servers and prints one table of ratios.
///
/// The gateway is built in release mode first. Everything runs on this machine over loopback; the stores lie side by
/// side in one directory of a real disk.
#[derive(Parser)]
#[command(name = "callfeed-bench", after_long_help = READING)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Measurement>,
    #[command(flatten)]
    options: Options,
}

const READING: &str = "\
Reading the table:
  Each figure is the median over the rounds; the ratio is the median of the rounds' own ratios, with the
  lowest and the highest beside it. CPU is user and system time of the server's process per 1,000 webhooks,
  including what it still does after the last answer (checkpoints, deliveries' records).

  The sender needs processor time too. Where it shares the cores with the server it draws the ratio of the rates
  towards 1; the ratio of the CPU columns does not have this weakness.

  `others` under the table says how many cores other processes kept busy meanwhile. Mistrust a run where it is
  not small.

Examples:
  cargo run --release -p callfeed-bench
  cargo run --release -p callfeed-bench -- accept --rounds 15
  cargo run --release -p callfeed-bench -- relay --events 5000 --json";

#[derive(Subcommand, Clone)]
enum Measurement {
    /// All of the following (the default).
    All,
    /// Webhooks answered per second, against a bare server that keeps the body in SQLite, and one that appends it to a
    /// file; each durable before its answer.
    Accept,
    /// One webhook through a plugin in a fresh WebAssembly instance, against the same source compiled natively.
    Plugin,
    /// From accept to delivered at one, three and ten subscribers, against a bare relay that keeps nothing.
    Relay,
    /// The same to one subscriber with many events in the store and old webhooks being removed, against a gateway that has
    /// just begun. Filling the store takes minutes, and 8 GiB of disk for a million events.
    Stored,
    /// The same to nine subscribers beside one that never answers, against a gateway with the nine alone.
    Dead,
    /// As many events as `stored` has, which a subscriber gets that was down all the while, against what the same gateway
    /// relays to it then.
    Backlog,
    /// One of the bare servers, as this program starts them.
    #[command(hide = true)]
    Baseline(baseline::Arguments),
}

#[derive(Args, Clone)]
struct Options {
    /// Rounds that count; one more goes before them to warm up.
    #[arg(long, global = true, default_value_t = 9)]
    rounds: usize,
    /// Webhooks per server and round; for relay, deliveries.
    #[arg(long, global = true, default_value_t = 20_000)]
    events: usize,
    /// Connections that send; each waits for its answer before it sends again.
    #[arg(long, global = true, default_value_t = 64)]
    connections: usize,
    /// Events in the store before `stored` and `backlog` begin.
    #[arg(long, global = true, default_value_t = 1_000_000)]
    stored: usize,
    /// Webhooks per second while latency is measured.
    #[arg(long, global = true, default_value_t = 200)]
    rate: u32,
    /// Where the stores are put, in a directory of its own that is removed afterwards. Must be on a real disk [default:
    /// beside this program].
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    /// A gateway that is built already.
    #[arg(long, global = true, value_name = "FILE")]
    gateway: Option<PathBuf>,
    /// Print the rows as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Fail when a target is missed.
    #[arg(long, global = true)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command.unwrap_or(Measurement::All) {
        Measurement::Baseline(baseline) => baseline::run(baseline).map(|()| ExitCode::SUCCESS),
        measurement => run(&measurement, &arguments.options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("callfeed-bench: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(measurement: &Measurement, options: &Options) -> Result<ExitCode> {
    ensure!(
        !cfg!(debug_assertions),
        "a debug build measures nothing; run with --release"
    );
    ensure!(
        options.rounds > 0 && options.events > 0 && options.connections > 0 && options.rate > 0,
        "nothing to do: a count is zero"
    );

    let bench = Bench {
        gateway: gateway_binary(options)?,
        directory: directory(options)?,
        options: options.clone(),
    };
    let mut table = Table::default();
    if matches!(measurement, Measurement::All | Measurement::Plugin) {
        plugin::measure(&bench, &mut table).context("plugin")?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if matches!(measurement, Measurement::All | Measurement::Accept) {
            accept::measure(&bench, &mut table).await.context("accept")?;
        }
        if matches!(measurement, Measurement::All | Measurement::Relay) {
            relay::measure(&bench, &mut table).await.context("relay")?;
        }
        if matches!(measurement, Measurement::All | Measurement::Dead) {
            burden::dead(&bench, &mut table).await.context("dead")?;
        }
        if matches!(measurement, Measurement::All | Measurement::Stored) {
            burden::stored(&bench, &mut table).await.context("stored")?;
        }
        if matches!(measurement, Measurement::All | Measurement::Backlog) {
            burden::backlog(&bench, &mut table).await.context("backlog")?;
        }
        anyhow::Ok(())
    })?;

    if options.json {
        println!("{}", serde_json::to_string_pretty(&table)?);
    } else {
        print!("{table}");
    }
    Ok(if options.check && !table.all_met() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What every measurement needs.
struct Bench {
    gateway: PathBuf,
    /// Removed when the bench ends, whichever way.
    directory: tempfile::TempDir,
    options: Options,
}

fn gateway_binary(options: &Options) -> Result<PathBuf> {
    if let Some(binary) = &options.gateway {
        return Ok(binary.clone());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--package", "callfeed", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .status()
        .context("failed to run cargo")?;
    if !built.success() {
        bail!("the gateway does not build");
    }
    let binary = std::env::current_exe()?.with_file_name("callfeed");
    ensure!(
        binary.exists(),
        "no gateway at {}; name one with --gateway",
        binary.display()
    );
    Ok(binary)
}

fn directory(options: &Options) -> Result<tempfile::TempDir> {
    let parent = match &options.dir {
        Some(parent) => parent.clone(),
        None => std::env::current_exe()?
            .parent()
            .context("this program has no directory")?
            .to_owned(),
    };
    let builder = &mut tempfile::Builder::new();
    builder
        .prefix("bench-")
        .tempdir_in(&parent)
        .with_context(|| format!("failed to make a directory in {}", parent.display()))
}
