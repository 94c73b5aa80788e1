//! What a long life and a dead neighbour cost: a gateway that bears it against one that does not.

use std::{net::TcpListener, sync::Arc};

use anyhow::{Result, bail, ensure};

use crate::{
    Bench, gateway, load,
    receiver::Receivers,
    relay::Contender,
    server::free_address,
    table::{Goal, Row, Series, Side, Table},
    webhook::Stock,
};

/// How many webhooks are made ready at once for filling a store.
const FILL: usize = 20_000;
/// Short enough that webhooks are removed all the time while others come.
const KEEP_WEBHOOKS: &str = "keep_webhooks = \"1m\"\n";

/// A store with a million events, their attempts and what recognises them again, and the removal of old webhooks at work.
pub(crate) async fn stored(bench: &Bench, table: &mut Table) -> Result<()> {
    let stored = bench.options.stored;
    let mut contenders = [
        Contender::gateway(bench, "stored", 1, &[], KEEP_WEBHOOKS).await?,
        Contender::gateway(bench, "empty", 1, &[], KEEP_WEBHOOKS).await?,
    ];
    for contender in &mut contenders {
        // There is always something to remove.
        contender.rests = false;
    }
    for stock in fill(stored) {
        contenders[0].throughput(bench, table, &stock, false).await?;
    }
    compare(bench, table, &mut contenders, stored as u64, bench.options.events).await?;
    let kept = gateway::events(bench, "stored").await?;
    ensure!(kept > stored as u64, "only {kept} events are kept");

    let [full, empty] = &contenders;
    table.push(Row {
        measurement: format!("accept, {stored} events stored / none"),
        unit: "webhooks/s",
        gateway: Side::of(full.answered.clone()),
        baseline: Some(Side::of(empty.answered.clone())),
        goal: Goal::None,
    });
    table.push(Row {
        measurement: format!("relay to 1, {stored} events stored / none"),
        unit: "webhooks/s",
        gateway: full.side()?,
        baseline: Some(empty.side()?),
        goal: Goal::None,
    });
    stop(contenders).await
}

/// Nine subscribers and one that takes connections and never answers.
pub(crate) async fn dead(bench: &Bench, table: &mut Table) -> Result<()> {
    const ALIVE: usize = 9;
    // The kernel makes the connections; nobody reads what comes over them.
    let silent = TcpListener::bind(free_address()?)?;
    let mut contenders = [
        Contender::gateway(bench, "one-dead", ALIVE, &[silent.local_addr()?], "").await?,
        Contender::gateway(bench, "all-alive", ALIVE, &[], "").await?,
    ];
    let count = bench.options.events.div_ceil(ALIVE);
    compare(bench, table, &mut contenders, 0, count).await?;
    let [one_dead, all_alive] = &contenders;
    table.push(Row {
        measurement: format!("relay to {ALIVE} and a dead one / to {ALIVE}"),
        unit: "webhooks/s",
        gateway: one_dead.side()?,
        baseline: Some(all_alive.side()?),
        goal: Goal::None,
    });
    stop(contenders).await
}

/// What has piled up for a subscriber while it was down.
pub(crate) async fn backlog(bench: &Bench, table: &mut Table) -> Result<()> {
    let stored = bench.options.stored;
    let address = free_address()?;
    let server = gateway::start(bench, "backlog", &[address], "").await?;
    for stock in fill(stored) {
        load::flood(server.address, &stock, bench.options.connections).await?;
    }
    let receivers = Receivers::start_at(&[address]).await?;
    receivers.expect(0, stored);
    let arrivals = receivers.all().await?;
    let (Some(first), Some(last)) = (arrivals.iter().min(), arrivals.iter().max()) else {
        bail!("--stored 0 leaves nothing to deliver");
    };
    let drained = stored as f64 / (*last - *first).as_secs_f64();
    let memory_peak = Some(server.memory_peak()?);

    let mut live = Contender::new(server, receivers);
    for round in 0..=bench.options.rounds {
        let first = stored + round * bench.options.events;
        let stock = Arc::new(Stock::new(first as u64, bench.options.events));
        live.throughput(bench, table, &stock, round > 0).await?;
    }
    table.push(Row {
        measurement: format!("a backlog of {stored} to 1 / what comes live"),
        unit: "deliveries/s",
        gateway: Side {
            figures: Series::one(drained),
            cpu: None,
            memory_peak,
        },
        baseline: Some(Side {
            figures: Series::one(live.per_second.median()),
            cpu: None,
            memory_peak: Some(live.server.memory_peak()?),
        }),
        goal: Goal::None,
    });
    live.server.stop().await
}

/// So many webhooks, a part at a time; says how far it is.
fn fill(stored: usize) -> impl Iterator<Item = Arc<Stock>> {
    (0..stored).step_by(FILL).map(move |first| {
        if first > 0 && first % (10 * FILL) == 0 {
            eprintln!("callfeed-bench: {first} of {stored} events stored");
        }
        Arc::new(Stock::new(first as u64, FILL.min(stored - first)))
    })
}

async fn compare(
    bench: &Bench,
    table: &mut Table,
    contenders: &mut [Contender; 2],
    first: u64,
    count: usize,
) -> Result<()> {
    for round in 0..=bench.options.rounds {
        let stock = Arc::new(Stock::new(first + (round * count) as u64, count));
        for turn in 0..contenders.len() {
            let contender = &mut contenders[(round + turn) % 2];
            contender.throughput(bench, table, &stock, round > 0).await?;
        }
    }
    Ok(())
}

async fn stop(contenders: [Contender; 2]) -> Result<()> {
    for contender in contenders {
        contender.server.stop().await?;
    }
    Ok(())
}
