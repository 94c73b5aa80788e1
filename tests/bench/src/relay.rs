//! From a webhook's first byte to its arrival at every subscriber.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use anyhow::Result;
use tokio::process::Command;

use crate::{
    Bench, gateway, load,
    machine::Others,
    receiver::Receivers,
    server::{Server, free_address},
    table::{Goal, Row, Series, Side, Table},
    webhook::Stock,
};

const SUBSCRIBERS: [usize; 3] = [1, 3, 10];
/// How long latency is measured in each round.
const LATENCY_SECONDS: u32 = 3;

/// One server with its subscribers, and what its rounds gave.
pub(crate) struct Contender {
    pub(crate) server: Server,
    receivers: Receivers,
    /// What it does after the last delivery is waited for, and counted as its own.
    pub(crate) rests: bool,
    /// Webhooks answered per second.
    pub(crate) answered: Series,
    /// Webhooks that reached every subscriber, per second.
    pub(crate) per_second: Series,
    cpu: Series,
    median_ms: Series,
    slow_ms: Series,
}

pub(crate) async fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    for subscribers in SUBSCRIBERS {
        let mut contenders = [
            Contender::gateway(bench, &format!("relay-{subscribers}"), subscribers, &[], "").await?,
            Contender::baseline(bench, subscribers).await?,
        ];
        let count = bench.options.events.div_ceil(subscribers);
        let gentle = (bench.options.rate * LATENCY_SECONDS) as usize;
        let mut first = 0;
        for round in 0..=bench.options.rounds {
            let flood = Arc::new(Stock::new(first, count));
            let trickle = Arc::new(Stock::new(first + count as u64, gentle));
            first += (count + gentle) as u64;
            for turn in 0..contenders.len() {
                let contender = &mut contenders[(round + turn) % 2];
                let counts = round > 0;
                contender.throughput(bench, table, &flood, counts).await?;
                if subscribers == 1 {
                    contender.latency(bench, &trickle, counts).await?;
                }
            }
        }

        let [gateway, bare] = &contenders;
        table.push(Row {
            measurement: format!("relay to {subscribers} / bare relay"),
            unit: "webhooks/s",
            gateway: gateway.side()?,
            baseline: Some(bare.side()?),
            goal: Goal::RatioAtLeast(0.5),
        });
        if subscribers == 1 {
            let rate = bench.options.rate;
            for (part, gateway, bare) in [
                ("median", &gateway.median_ms, &bare.median_ms),
                ("p99", &gateway.slow_ms, &bare.slow_ms),
            ] {
                table.push(Row {
                    measurement: format!("… sent to delivered at {rate}/s, {part}"),
                    unit: "ms",
                    gateway: Side::of(gateway.clone()),
                    baseline: Some(Side::of(bare.clone())),
                    goal: Goal::None,
                });
            }
        }
        for contender in contenders {
            contender.server.stop().await?;
        }
    }
    Ok(())
}

impl Contender {
    /// A gateway with so many subscribers that take everything, others that are waited for by nobody, and these lines of
    /// configuration about its store.
    pub(crate) async fn gateway(
        bench: &Bench,
        name: &str,
        subscribers: usize,
        others: &[SocketAddr],
        store: &str,
    ) -> Result<Self> {
        let receivers = Receivers::start(subscribers).await?;
        let addresses = [&receivers.addresses, others].concat();
        let server = gateway::start(bench, name, &addresses, store).await?;
        Ok(Self::new(server, receivers))
    }

    async fn baseline(bench: &Bench, subscribers: usize) -> Result<Self> {
        let receivers = Receivers::start(subscribers).await?;
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("baseline")
            .arg("--listen")
            .arg(address.to_string())
            .arg("relay");
        command.args(
            receivers
                .addresses
                .iter()
                .map(|address: &SocketAddr| format!("http://{address}/")),
        );
        let server = Server::start(
            &format!("bare-relay-{subscribers}"),
            command,
            address,
            bench.directory.path(),
        )
        .await?;
        Ok(Self::new(server, receivers))
    }

    pub(crate) fn new(server: Server, receivers: Receivers) -> Self {
        let empty = Series::default;
        Self {
            server,
            receivers,
            rests: true,
            answered: empty(),
            per_second: empty(),
            cpu: empty(),
            median_ms: empty(),
            slow_ms: empty(),
        }
    }

    /// As many as can be, until the last subscriber has the last one.
    pub(crate) async fn throughput(
        &mut self,
        bench: &Bench,
        table: &mut Table,
        stock: &Arc<Stock>,
        counts: bool,
    ) -> Result<()> {
        let count = stock.requests.len();
        self.receivers.expect(stock.first, count);
        let (cpu, others) = (self.server.cpu()?, Others::watch(Some(self.server.process))?);
        let begun = Instant::now();
        let sent = load::flood(self.server.address, stock, bench.options.connections).await?;
        let arrivals = self.receivers.all().await?;
        let others = others.cores()?;
        if self.rests {
            self.server.rest().await?;
        }
        let cpu = self.server.cpu()? - cpu;

        let last = arrivals.into_iter().max().unwrap_or(begun);
        if counts {
            self.answered.push(count as f64 / sent.took.as_secs_f64());
            self.per_second.push(count as f64 / (last - begun).as_secs_f64());
            self.cpu.push(cpu.as_secs_f64() * 1e6 / count as f64);
            table.others.push(others);
        }
        Ok(())
    }

    /// Few enough that nothing queues: what one webhook takes from end to end.
    async fn latency(&mut self, bench: &Bench, stock: &Arc<Stock>, counts: bool) -> Result<()> {
        self.receivers.expect(stock.first, stock.requests.len());
        let sent = load::trickle(self.server.address, stock, bench.options.rate).await?;
        let arrivals = self.receivers.all().await?;
        self.server.rest().await?;
        if counts {
            let took = arrivals
                .iter()
                .zip(&sent)
                .map(|(arrived, sent)| (*arrived - *sent).as_secs_f64() * 1000.0);
            let took = Series::from_iter(took);
            self.median_ms.push(took.quantile(0.5));
            self.slow_ms.push(took.quantile(0.99));
        }
        Ok(())
    }

    pub(crate) fn side(&self) -> Result<Side> {
        Ok(Side {
            figures: self.per_second.clone(),
            cpu: Some(self.cpu.clone()),
            memory_peak: Some(self.server.memory_peak()?),
        })
    }
}
