//! From a webhook's first byte to the answer that it is kept.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::{
    Bench, gateway, load,
    machine::Others,
    server::{Server, free_address},
    table::{Goal, Row, Series, Side, Table},
    webhook::Stock,
};

const MEMORY_MIB_MAX: f64 = 150.0;

/// One server and what its rounds gave.
struct Contender {
    server: Server,
    per_second: Series,
    cpu: Series,
    median_ms: Series,
    slow_ms: Series,
}

pub(crate) async fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    let mut contenders = [
        Contender::new(gateway::start(bench, "accept", &[], "").await?),
        Contender::new(baseline(bench, "sqlite").await?),
        Contender::new(baseline(bench, "append").await?),
    ];
    let count = bench.options.events;
    for round in 0..=bench.options.rounds {
        let stock = Arc::new(Stock::new((round * count) as u64, count));
        // Nobody always follows the same neighbour.
        for turn in 0..contenders.len() {
            let contender = &mut contenders[(round + turn) % 3];
            let counts = round > 0;
            contender.window(bench, table, &stock, counts).await?;
        }
    }

    let (kept, sent) = (
        gateway::events(bench, "accept").await?,
        (bench.options.rounds + 1) * count,
    );
    ensure!(
        kept == sent as u64,
        "{sent} webhooks were answered and {kept} events kept"
    );

    let connections = bench.options.connections;
    let [gateway, sqlite, append] = &contenders;
    let gateway_memory = gateway.server.memory_peak()?;
    for (baseline, name, goal) in [
        (sqlite, "SQLite", Goal::RatioAtLeast(0.55)),
        (append, "fdatasync", Goal::None),
    ] {
        table.push(Row {
            measurement: format!("accept, {connections} connections / bare {name}"),
            unit: "webhooks/s",
            gateway: Side {
                figures: gateway.per_second.clone(),
                cpu: Some(gateway.cpu.clone()),
                memory_peak: Some(gateway_memory),
            },
            baseline: Some(Side {
                figures: baseline.per_second.clone(),
                cpu: Some(baseline.cpu.clone()),
                memory_peak: Some(baseline.server.memory_peak()?),
            }),
            goal,
        });
    }
    for (part, of) in [
        (
            "median",
            (|contender| &contender.median_ms) as fn(&Contender) -> &Series,
        ),
        ("p99", |contender| &contender.slow_ms),
    ] {
        table.push(Row {
            measurement: format!("… time to answer, {part} / bare SQLite"),
            unit: "ms",
            gateway: Side::of(of(gateway).clone()),
            baseline: Some(Side::of(of(sqlite).clone())),
            goal: Goal::None,
        });
    }
    table.push(Row {
        measurement: "… resident memory, highest".to_owned(),
        unit: "MiB",
        gateway: Side::of(Series::one(gateway_memory as f64 / f64::from(1 << 20))),
        baseline: None,
        goal: Goal::AtMost(MEMORY_MIB_MAX),
    });

    for contender in contenders {
        contender.server.stop().await?;
    }
    Ok(())
}

/// Starts a bare server that keeps webhooks in its own file beside the gateway's.
async fn baseline(bench: &Bench, kind: &str) -> Result<Server> {
    let directory = bench.directory.path();
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("baseline").arg("--listen").arg(address.to_string());
    command.arg(kind).arg(directory.join(format!("baseline-{kind}.db")));
    Server::start(kind, command, address, directory).await
}

impl Contender {
    fn new(server: Server) -> Self {
        let empty = Series::default;
        Self {
            server,
            per_second: empty(),
            cpu: empty(),
            median_ms: empty(),
            slow_ms: empty(),
        }
    }

    async fn window(&mut self, bench: &Bench, table: &mut Table, stock: &Arc<Stock>, counts: bool) -> Result<()> {
        let count = stock.requests.len() as f64;
        let (cpu, others) = (self.server.cpu()?, Others::watch(Some(self.server.process))?);
        let sent = load::flood(self.server.address, stock, bench.options.connections).await?;
        let others = others.cores()?;
        self.server.rest().await?;
        let cpu = self.server.cpu()? - cpu;

        if counts {
            let answers = Series::from_iter(sent.answers.iter().map(milliseconds));
            self.per_second.push(count / sent.took.as_secs_f64());
            self.cpu.push(milliseconds(&cpu) / count * 1000.0);
            self.median_ms.push(answers.quantile(0.5));
            self.slow_ms.push(answers.quantile(0.99));
            table.others.push(others);
        }
        Ok(())
    }
}

fn milliseconds(duration: &Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
