//! `callfeed-faults`: plays rounds and tells what became of them.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command that prints its findings"
)]

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use callfeed_faults::{
    binaries::Binaries,
    chance::Chance,
    round::{self, Ground, Report},
};
use clap::{Args, Parser, Subcommand};
use serde_json::json;

/// Kills the gateway, its disk and its clock again and again, and checks that nothing accepted is lost.
#[derive(Parser)]
#[command(name = "callfeed-faults", after_long_help = READING)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

const READING: &str = "\
Examples:
  cargo run --release -p callfeed-faults -- --rounds 20 --seed 7
  cargo run --release -p callfeed-faults -- --duration 8h
  cargo run --release -p callfeed-faults -- --rounds 1 --seed 1234567890    plays that round again, alone

The seed decides what is sent, what goes wrong, for how long and in which order. When each of it meets the gateway is up to
real processes and a real disk: a round that failed once may pass when it is played again. Its store, its logs, its diary
and what arrived are kept, and they are the evidence.";

#[derive(Subcommand)]
enum Command {
    /// Commits one row after the other to a SQLite database and prints each row's number once it is committed.
    #[command(hide = true)]
    Commit { store: PathBuf, synchronous: String },
}

#[derive(Args)]
struct Options {
    /// Rounds to play. Each has a store of its own and several gateways on it.
    #[arg(long, default_value_t = 20)]
    rounds: u64,
    /// Play as many rounds as fit instead, as in 90m or 8h.
    #[arg(long, conflicts_with = "rounds")]
    duration: Option<jiff::SignedDuration>,
    /// Decides everything but the timing of the processes, of the first round itself and of the others through theirs.
    #[arg(long)]
    seed: Option<u64>,
    /// A gateway that is built already.
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
    /// Where stores and logs are put; removed after a round that went well [default: beside this program].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// One JSON object a round, and one for all of them.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Some(Command::Commit { store, synchronous }) => commit(store, synchronous),
        None => run(&arguments.options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("callfeed-faults: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(options: &Options) -> Result<ExitCode> {
    let seed = options
        .seed
        .unwrap_or_else(|| RandomState::new().build_hasher().finish());
    let directory = directory(options)?;
    let ground = Ground {
        binaries: Binaries::build(options.gateway.as_deref())?,
        plugin_cache: directory.join("plugins"),
        directory,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(play_all(options, &ground, seed))
}

async fn play_all(options: &Options, ground: &Ground, first: u64) -> Result<ExitCode> {
    let deadline = match options.duration {
        Some(duration) => Some(Instant::now() + Duration::try_from(duration).context("a duration is not negative")?),
        None => None,
    };
    let mut seeds = Chance::new(first);
    let (mut seed, mut played, mut failed) = (first, 0, Vec::new());
    let mut total = Report::default();
    while match deadline {
        Some(deadline) => Instant::now() < deadline,
        None => played < options.rounds,
    } {
        let report = round::play(ground, seed).await?;
        played += 1;
        total.add(&report);
        tell(options, played, &report);
        if !report.violations.is_empty() {
            failed.push(report.seed);
        }
        seed = seeds.number();
    }
    if options.json {
        let mut total = total.json();
        total["rounds"] = json!(played);
        total["failed_seeds"] = json!(failed);
        println!("{total}");
    } else {
        println!(
            "{played} rounds, {} kills, {} stops, {} ends by itself, {} power cuts after one of these; {} full disks, {} \
             failing syncs, {} clock jumps, {} reloads, {} replays, {} erasures; {} webhooks sent, {} accepted, {} events, {} of them erased, and {} forgotten, {} in quarantine; {} requests at subscribers, {} taken, \
             {} given up on record; {}",
            total.kills,
            total.terminations,
            total.exits,
            total.power_cuts,
            total.full_disks,
            total.failed_syncs,
            total.clock_jumps,
            total.reloads,
            total.replays,
            total.erasures,
            total.sent,
            total.accepted,
            total.events,
            total.erased,
            total.forgotten,
            total.quarantined,
            total.arrivals,
            total.taken,
            total.dead,
            match failed.len() {
                0 if total.accepted == 0 => "nothing was accepted, so nothing is proven".to_owned(),
                0 => "nothing was lost".to_owned(),
                count => format!("{count} rounds FAILED"),
            }
        );
    }
    Ok(if failed.is_empty() && total.accepted > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn tell(options: &Options, round: u64, report: &Report) {
    if options.json {
        println!("{}", report.json());
        return;
    }
    println!(
        "round {round} seed {}: {:.1} s, {} kills, {} stops, {} ends by itself, {} power cuts after one of these, {} \
         faults, {} of {} webhooks accepted, {} taken: {}",
        report.seed,
        report.took.as_secs_f64(),
        report.kills,
        report.terminations,
        report.exits,
        report.power_cuts,
        report.full_disks + report.failed_syncs + report.clock_jumps + report.reloads,
        report.accepted,
        report.sent,
        report.taken,
        if report.violations.is_empty() { "ok" } else { "FAILED" }
    );
    const SHOWN: usize = 20;
    for violation in report.violations.iter().take(SHOWN) {
        println!("  {violation}");
    }
    if report.violations.len() > SHOWN {
        println!("  … and {} more", report.violations.len() - SHOWN);
    }
    if let Some(kept) = &report.kept {
        println!(
            "  store, logs, diary and what arrived, the evidence: {}",
            kept.display()
        );
        println!(
            "  the same decisions again: cargo run --release -p callfeed-faults -- --rounds 1 --seed {}",
            report.seed
        );
    }
}

fn directory(options: &Options) -> Result<PathBuf> {
    let directory = match &options.dir {
        Some(directory) => directory.clone(),
        None => std::env::current_exe()?.with_file_name("faults"),
    };
    std::fs::create_dir_all(&directory).with_context(|| format!("failed to make {}", directory.display()))?;
    Ok(std::fs::canonicalize(directory)?)
}

fn commit(store: &Path, synchronous: &str) -> Result<ExitCode> {
    let connection = rusqlite::Connection::open(store)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.execute_batch("CREATE TABLE IF NOT EXISTS number (number INTEGER PRIMARY KEY)")?;
    for number in 1u64.. {
        connection.execute("INSERT INTO number (number) VALUES (?)", [number])?;
        println!("{number}");
    }
    Ok(ExitCode::SUCCESS)
}
