//! Opens the rooms in order and closes them in reverse.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admin::Admin,
    config::{Config, Problem},
    inbound::{self, Inbound, Listener, Route, Routes},
    outbound::{self, Outbound},
    plugin::{Grant, Plugins, Runtime},
    retention,
    store::{self, Store},
};

/// What the rooms that serve operators get beyond the grace period, at most.
const LAST_TASKS: Duration = Duration::from_secs(1);

/// Everything that can be proved before the first socket opens: plugins loaded, routes granted.
#[derive(Debug)]
pub struct Prepared {
    pub config: Config,
    pub plugins: Plugins,
    runtime: Arc<Runtime>,
    routes: Routes,
}

impl Prepared {
    /// Loads every plugin and holds every route against its plugin.
    ///
    /// # Errors
    ///
    /// Every problem found.
    pub async fn new(config: Config) -> Result<Self, Vec<Problem>> {
        let runtime = Runtime::new(&config.limits).map_err(|error| {
            vec![Problem::new(
                0,
                "limits",
                error.to_string(),
                "lower limits.plugins_in_flight or limits.plugin_memory",
            )]
        })?;
        let plugins = runtime.load(&config.plugins).await?;
        let mut routes = Routes::default();
        let mut problems = Vec::new();
        for route in &config.routes {
            let Some(plugin) = plugins.get(&route.provider) else {
                let known: Vec<_> = plugins.keys().map(String::as_str).collect();
                problems.push(Problem::new(
                    route.line,
                    format!("route[{}].provider", route.name),
                    format!("there is no plugin {:?}", route.provider),
                    format!("use one of {}, or name a file in a [[plugin]] block", known.join(", ")),
                ));
                continue;
            };
            match Grant::new(Arc::clone(plugin), route) {
                Ok(grant) => routes.insert(&route.path, Route::new(route, grant, &config.server)),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() {
            Ok(Self {
                config,
                plugins,
                runtime: Arc::new(runtime),
                routes,
            })
        } else {
            Err(problems)
        }
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    grace: Duration,
    ready: Arc<AtomicBool>,
    listening: CancellationToken,
    rooms: CancellationToken,
    listener: TaskTracker,
    tasks: TaskTracker,
    inbound: Arc<Inbound>,
    outbound: Arc<Outbound>,
    store: Store,
}

impl Gateway {
    /// Opens the store, takes the addresses and starts both roads.
    ///
    /// # Errors
    ///
    /// When the store cannot be opened, an address is taken, or a certificate does not fit; nothing is left running.
    pub async fn start(prepared: Prepared) -> anyhow::Result<Self> {
        let Prepared {
            config,
            runtime,
            routes,
            ..
        } = prepared;
        let mut registry = Registry::default();
        let ready = Arc::new(AtomicBool::new(false));

        // The sockets first: a second gateway by mistake is told so before it waits for the first one's store.
        let listener = Listener::bind(config.server.clone()).await?;
        let address = listener
            .address()
            .context("failed to learn the address of server.listen")?;
        let admin_socket = match config.admin.listen {
            Some(address) => Some(Admin::bind(address).await?),
            None => None,
        };
        let admin_address = admin_socket
            .as_ref()
            .map(|socket| {
                socket
                    .local_addr()
                    .context("failed to learn the address of admin.listen")
            })
            .transpose()?;
        let store = Store::open(&config.store).await.context("failed to open the store")?;

        let inbound_metrics = inbound::Metrics::register(&mut registry, &routes);
        let outbound_metrics = outbound::Metrics::register(&mut registry);
        let (listening, rooms) = (CancellationToken::new(), CancellationToken::new());
        let (listener_task, tasks) = (TaskTracker::new(), TaskTracker::new());
        let names: Arc<[String]> = config
            .subscribers
            .iter()
            .map(|subscriber| subscriber.name.clone())
            .collect();
        warn_of_removed(&store, &names)
            .await
            .context("failed to compare the store with the configuration")?;
        let outbound = Outbound::start(store.clone(), config.subscribers, &outbound_metrics)
            .await
            .context("failed to start deliveries")?;
        let outbound = Arc::new(outbound);
        let inbound = Arc::new(Inbound::new(
            config.server.clone(),
            routes,
            runtime,
            store.clone(),
            inbound_metrics,
        ));
        listener_task.spawn(listener.run(Arc::clone(&inbound), listening.clone()));
        if let Some(socket) = admin_socket {
            tasks.spawn(
                Admin::new(&config.admin, registry, Arc::clone(&ready), Arc::clone(&outbound))
                    .run(socket, rooms.clone()),
            );
        }
        tasks.spawn(retention::run(
            store.clone(),
            config.store,
            Arc::clone(&names),
            rooms.clone(),
        ));
        ready.store(true, Ordering::Release);
        tracing::info!(
            inbound = %address,
            admin = admin_address.map(|address| address.to_string()),
            subscribers = names.join(", "),
            "callfeed is listening"
        );
        Ok(Self {
            address,
            admin_address,
            grace: config.server.grace,
            ready,
            listening,
            rooms,
            listener: listener_task,
            tasks,
            inbound,
            outbound,
            store,
        })
    }

    /// Where webhooks come in.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Stops taking webhooks, finishes what is in hand within the grace period, and closes the store.
    ///
    /// What the grace period cuts short is not lost: an unanswered webhook is the provider's to send again, and a
    /// delivery without an outcome is attempted again after the next start.
    pub async fn stop(self) {
        tracing::info!(grace = ?self.grace, "stopping");
        self.ready.store(false, Ordering::Release);
        self.listening.cancel();
        self.listener.close();
        // One deadline for all: whoever sent the signal counts from there.
        let deadline = Instant::now() + self.grace;
        let inbound = async {
            self.listener.wait().await;
            self.inbound.drain().await;
        };
        if tokio::time::timeout_at(deadline, inbound).await.is_err() {
            tracing::warn!("some senders did not finish within the grace period");
        }
        self.outbound
            .stop(deadline.saturating_duration_since(Instant::now()))
            .await;
        self.rooms.cancel();
        self.tasks.close();
        if tokio::time::timeout_at(deadline + LAST_TASKS, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some tasks did not finish within the grace period");
        }
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "the store did not close cleanly; what was accepted is durable all the same");
        }
        tracing::info!("stopped");
    }
}

/// Tells of subscribers that the configuration no longer has. Nothing of them is touched: with a misspelt name, or the wrong
/// file, that could not be undone.
async fn warn_of_removed(store: &Store, configured: &[String]) -> Result<(), store::Error> {
    let head = *store.head().borrow();
    for subscriber in store.history().subscribers().await? {
        if !configured.contains(&subscriber.name) {
            tracing::warn!(
                subscriber = subscriber.name,
                behind = head.saturating_sub(subscriber.cursor),
                waiting = subscriber.waiting,
                "no longer configured: it gets nothing, and no event is kept for its sake; configured again, it goes on \
                 where it was, with what is left"
            );
        }
    }
    Ok(())
}
