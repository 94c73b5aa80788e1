//! One webhook through its plugin: authenticated and mapped by a fresh WebAssembly instance, and by the same source as
//! native code.
//!
//! Both run in this process, in turns of a hundred calls, and are charged all CPU time the process uses meanwhile, the
//! ticker that bounds a plugin's time included.

use std::{fs, hint::black_box, rc::Rc, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use callfeed::{
    config,
    plugin::{Grant, Request, Runtime, Verdict},
};
use callfeed_plugin::{Outcome, testing};
use rustix::time::{ClockId, clock_gettime};

use crate::{
    Bench, gateway,
    machine::Others,
    server,
    table::{Goal, Row, Series, Side, Table},
    webhook,
};

const TURNS: usize = 100;
const CALLS: u32 = 100;
const ABOVE_NATIVE_US_MAX: f64 = 25.0;

pub(crate) fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let wasm = executor.block_on(Wasm::load(bench))?;
    let native = Native::new();
    let same = executor.block_on(wasm.data())? == native.data()?;
    ensure!(
        same,
        "the plugin and the native code do not agree; they were not built from the same source"
    );

    let (mut fresh, mut bare) = (Series::default(), Series::default());
    for round in 0..=bench.options.rounds {
        let others = Others::watch(None)?;
        let mut turns = (Series::default(), Series::default());
        for _ in 0..TURNS {
            turns.0.push(executor.block_on(wasm.turn())?);
            turns.1.push(native.turn()?);
        }
        if round > 0 {
            fresh.push(turns.0.median());
            bare.push(turns.1.median());
            table.others.push(others.cores()?);
        }
    }
    // A microsecond a call is a millisecond per 1,000.
    let side = |figures: Series| Side {
        cpu: Some(figures.clone()),
        figures,
        memory_peak: None,
    };
    table.push(Row {
        measurement: "plugin call, fresh instance / native".to_owned(),
        unit: "µs",
        gateway: side(fresh),
        baseline: Some(side(bare)),
        goal: Goal::AboveAtMost(ABOVE_NATIVE_US_MAX),
    });
    Ok(())
}

/// The gateway's own way of calling a plugin, with its own configuration.
struct Wasm {
    runtime: Runtime,
    grant: Arc<Grant>,
    request: Request,
}

impl Wasm {
    async fn load(bench: &Bench) -> Result<Self> {
        let file = bench.directory.path().join("plugin.toml");
        fs::write(
            &file,
            gateway::configuration(server::free_address()?, "unused.db", "", &[]),
        )?;
        let config = config::load(&file)?.config;
        let runtime = Runtime::new(&config.limits)?;
        let (plugins, problems) = runtime.load(&[]).await;
        ensure!(problems.is_empty(), "{problems:?}");
        let route = config.routes.first().context("the configuration has a route")?;
        let plugin = plugins.get(&route.provider).context("the plugin is built in")?;
        let grant = Grant::new(Arc::clone(plugin), route).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;

        let body = webhook::body(0);
        let request = Request {
            method: "POST".to_owned(),
            urls: vec![URL.to_owned()],
            path: String::new(),
            query: Vec::new(),
            headers: vec![(
                webhook::SIGNATURE_HEADER.to_owned(),
                webhook::signature(body.as_bytes()),
            )],
            peer: None,
            body: Bytes::from(body),
            form: Vec::new(),
            received_at_ms: testing::RECEIVED_AT_MS,
        };
        Ok(Self {
            runtime,
            grant: Arc::new(grant),
            request,
        })
    }

    /// Microseconds of CPU per call.
    async fn turn(&self) -> Result<f64> {
        // A real webhook comes as a request of its own; making it is not the plugin's cost.
        let requests = vec![self.request.clone(); CALLS as usize];
        let begun = cpu();
        for request in requests {
            let Verdict::Accepted { events, .. } = self.runtime.call(&self.grant, request).await else {
                bail!("the plugin does not accept the webhook");
            };
            black_box(events);
        }
        Ok(each(begun))
    }

    async fn data(&self) -> Result<String> {
        match self.runtime.call(&self.grant, self.request.clone()).await {
            Verdict::Accepted { mut events, .. } => Ok(events.remove(0).data),
            other => bail!("the plugin does not accept the webhook: {other:?}"),
        }
    }
}

/// The plugin's source without WebAssembly around it.
struct Native {
    host: Rc<testing::TestHost>,
    request: callfeed_plugin::Request,
}

impl Native {
    fn new() -> Self {
        let body = webhook::body(0);
        let signature = webhook::signature(body.as_bytes());
        let mut request = testing::TestHost::request("POST", &body);
        request.urls = vec![URL.to_owned()];
        request
            .headers
            .push(testing::TestHost::field(webhook::SIGNATURE_HEADER, &signature));
        let host = testing::TestHost {
            body: body.into_bytes(),
            ..testing::TestHost::default()
        };
        Self {
            host: Rc::new(host.secret("signing", webhook::SECRET)),
            request,
        }
    }

    /// Microseconds of CPU per call.
    fn turn(&self) -> Result<f64> {
        let begun = cpu();
        for _ in 0..CALLS {
            black_box(self.call()?);
        }
        Ok(each(begun))
    }

    fn call(&self) -> Result<Vec<callfeed_plugin::Event>> {
        testing::with_host(Rc::clone(&self.host), || {
            let request = black_box(&self.request);
            let callfeed_plugin::Verdict::Authentic(proof) = callfeed_plugin::verify::<native::Magpipe>(request) else {
                bail!("the native code does not accept the webhook");
            };
            match callfeed_plugin::normalize::<native::Magpipe>(request, proof.payload.as_deref()) {
                Outcome::Accepted(accepted) => Ok(accepted.events),
                _ => bail!("the native code does not map the webhook"),
            }
        })
    }

    fn data(&self) -> Result<String> {
        Ok(self.call()?.remove(0).data)
    }
}

const URL: &str = "https://hooks.example.com/hooks/magpipe";

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(now).expect("a process has used no less than nothing")
}

fn each(begun: Duration) -> f64 {
    (cpu() - begun).as_secs_f64() * 1e6 / f64::from(CALLS)
}
