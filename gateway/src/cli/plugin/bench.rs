//! `callfeed plugin bench`.

use anyhow::Context as _;
use serde_json::{Map, json};

use super::{Subject, mebibytes};
use crate::{
    cli::{Failure, say, table::Table},
    kit::{
        Stand,
        bench::{self, Part},
    },
};

/// Measure what a call costs and where the time goes.
///
/// Calls the plugin with its samples, one at a time, and prints what half of the calls and what all but one in a hundred did
/// not take longer than: the whole call, a fresh instance, the plugin's own `verify` and `normalize` with the way in and
/// out, the host's cryptography, and the check of the event. Times are processor time.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    subject: Subject,
    /// How many calls are measured.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    calls: usize,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let found = args.subject.find()?;
    let stand = Stand::new(&args.subject.limits())?;
    let plugin = found.load(&stand).await?;
    let cases = found.read_cases(&plugin.descriptor.provider)?;
    let costs = bench::measure(&stand, &plugin, &cases, args.calls)
        .await
        .context("no case becomes an event, so there is nothing to measure; `callfeed plugin test` says why")?;
    let microseconds = |part, share| costs.quantile(part, share).as_secs_f64() * 1e6;
    if args.json {
        let parts: Map<_, _> = Part::ALL
            .into_iter()
            .map(|part| {
                let figures = json!({ "us_p50": microseconds(part, 0.5), "us_p99": microseconds(part, 0.99) });
                (part.name().to_owned(), figures)
            })
            .collect();
        say(&json!({ "calls": costs.calls, "memory_bytes_max": costs.memory_bytes_max, "parts": parts }).to_string());
        return Ok(());
    }
    let table = Table::new(&[("part", 12), ("p50 µs", 9), ("p99 µs", 9)]);
    say(&table.head());
    for part in Part::ALL {
        say(&table.row(&[
            part.name().to_owned(),
            format!("{:9.1}", microseconds(part, 0.5)),
            format!("{:9.1}", microseconds(part, 0.99)),
        ]));
    }
    say(&format!(
        "{} calls, at most {}",
        costs.calls,
        mebibytes(costs.memory_bytes_max)
    ));
    Ok(())
}
