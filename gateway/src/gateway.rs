//! Opens the rooms in order and closes them in reverse.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admin::{Admin, Wish},
    config::{self, Checked, Config, Limits, Problem, Problems, Refused},
    descriptors,
    inbound::{self, Certificate, Inbound, Listener, Route, Routes},
    kit::{Stand, rehearse},
    outbound::{self, Outbound},
    plugin::{Grant, Plugins, Runtime},
    retention::{self, Keep},
    store::{self, Health, Store},
};

/// What the rooms that serve operators get beyond the grace period, at most.
const LAST_TASKS: Duration = Duration::from_secs(1);

/// Everything that can be proved before the first socket opens: plugins loaded, routes granted.
#[derive(Debug)]
pub struct Prepared {
    pub config: Config,
    /// What is worth a word all the same.
    pub warnings: Vec<Problem>,
    pub plugins: Plugins,
    runtime: Arc<Runtime>,
    /// One for each route of the configuration, in order.
    grants: Vec<Grant>,
}

/// Files of plugins that came through their own cases under these limits.
#[derive(Debug, Default)]
pub struct Proven {
    limits: Limits,
    digests: HashSet<[u8; 32]>,
}

impl Prepared {
    /// Loads every plugin and holds every route against its plugin; also those of a configuration that is refused
    /// already, so that everything wrong with it is said at once.
    ///
    /// # Errors
    ///
    /// Every problem found, those of the file's reading included.
    pub async fn new(read: Result<Checked, Refused>) -> Result<Self, Problems> {
        Self::again(read, &Proven::default()).await
    }

    /// The same for a gateway that serves already: files it has proven are not held to their cases once more.
    ///
    /// # Errors
    ///
    /// Every problem found, those of the file's reading included.
    pub async fn again(read: Result<Checked, Refused>, proven: &Proven) -> Result<Self, Problems> {
        match read {
            Ok(mut checked) => {
                let config = &checked.config;
                let found = examine(
                    &config.limits,
                    &config.plugins,
                    &config.providers,
                    &config.routes,
                    |_| true,
                    proven,
                )
                .await;
                let (runtime, plugins, grants, slow) = found.map_err(|problems| checked.refuse(problems))?;
                checked.warn(slow);
                let mut warnings = checked.warnings;
                warnings.extend(descriptors::shortage(&checked.config));
                Ok(Self {
                    config: checked.config,
                    warnings,
                    plugins,
                    runtime: Arc::new(runtime),
                    grants,
                })
            }
            Err(refused) => {
                let part = &refused.readable;
                let missing = |name: &str| part.whole && !part.plugins_unreadable.iter().any(|known| known == name);
                let found = examine(
                    &part.limits,
                    &part.plugins,
                    &part.providers,
                    &part.routes,
                    missing,
                    proven,
                )
                .await;
                Err(refused.refuse(found.err().unwrap_or_default()))
            }
        }
    }

    /// Its files, for when its configuration is read again.
    pub fn proven(&self) -> Proven {
        let files = self.config.plugins.iter();
        Proven {
            limits: self.config.limits.clone(),
            digests: files.map(|file| self.plugins[&file.name].digest).collect(),
        }
    }

    fn take_routes(&mut self, metrics: &inbound::Metrics) -> Routes {
        let mut routes = Routes::default();
        for (route, grant) in self.config.routes.iter().zip(self.grants.drain(..)) {
            let (runtime, meters) = (Arc::clone(&self.runtime), metrics.of(&route.name));
            routes.insert(Route::new(route, grant, &self.config.server, runtime, meters));
        }
        routes
    }
}

/// Loads the plugins, runs those of files with the cases they carry, and grants each route its own, in order; beside them
/// what is worth a word. `missing` tells of a plugin that is neither built in nor named by `plugins` whether it is really not
/// there.
async fn examine(
    limits: &Limits,
    plugins: &[config::Plugin],
    providers: &[config::Provider],
    routes: &[config::Route],
    missing: impl Fn(&str) -> bool,
    proven: &Proven,
) -> Result<(Runtime, Plugins, Vec<Grant>, Vec<Problem>), Vec<Problem>> {
    let stand = Stand::new(limits).map_err(|error| {
        vec![Problem::new(
            0,
            "limits",
            error.to_string(),
            "lower limits.plugins_in_flight or limits.plugin_memory",
        )]
    })?;
    let (mut loaded, mut problems) = stand.runtime.load(plugins).await;
    problems.extend(stand.runtime.declare(providers, &mut loaded).await);
    let mut warnings = Vec::new();
    for plugin in plugins {
        // One that did not load has been reported.
        let Some(compiled) = loaded.get(&plugin.name) else {
            continue;
        };
        if proven.limits == *limits && proven.digests.contains(&compiled.digest) {
            continue;
        }
        let (place, file) = (format!("plugin[{}].path", plugin.name), plugin.path.display());
        match rehearse(&stand, compiled, &plugin.path).await {
            Ok(rehearsed) => warnings.extend(rehearsed.slow().map(|slow| {
                let remedy = "`callfeed plugin bench` says whether it is the plugin or a busy machine";
                Problem::warning(plugin.line, place, format!("{file} {slow}"), remedy)
            })),
            Err(unfit) => problems.push(Problem::new(
                plugin.line,
                place,
                format!("{file} {unfit}"),
                remedy(plugin),
            )),
        }
    }
    let mut grants = Vec::with_capacity(routes.len());
    for route in routes {
        let Some(plugin) = loaded.get(&route.provider) else {
            // One that did not load has been reported with its own block.
            let mut names = plugins.iter().map(|plugin| &plugin.name);
            let named = names.any(|name| *name == route.provider);
            if !named && missing(&route.provider) {
                let known: Vec<_> = loaded.keys().map(String::as_str).collect();
                problems.push(Problem::new(
                    route.line,
                    format!("route[{}].provider", route.name),
                    format!("there is no plugin {:?}", route.provider),
                    format!("use one of {}, or name a file in a [[plugin]] block", known.join(", ")),
                ));
            }
            continue;
        };
        match Grant::new(Arc::clone(plugin), route) {
            Ok(grant) => grants.push(grant),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() {
        Ok((stand.runtime, loaded, grants, warnings))
    } else {
        Err(problems)
    }
}

/// What to do about a plugin that fails its own cases.
fn remedy(plugin: &config::Plugin) -> String {
    let test = format!("`callfeed plugin test {}` shows all of it", plugin.path.display());
    match plugin.previous().is_file() {
        true => format!(
            "`callfeed plugin rollback {}` goes back to {}, which `callfeed plugin install` or `rollback` took out of its place \
             last; {test}",
            plugin.name,
            plugin.previous().display()
        ),
        false => test,
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
    certificate: Certificate,
    inbound: Arc<Inbound>,
    inbound_metrics: inbound::Metrics,
    outbound: Arc<Outbound>,
    keep: watch::Sender<Keep>,
    store: Store,
    /// What it was started with.
    first: Config,
}

/// The sections of the configuration that changed and that only a start takes over.
pub type Postponed = Vec<&'static str>;

impl Gateway {
    /// Opens the store, takes the addresses and starts both roads.
    ///
    /// # Errors
    ///
    /// When the store cannot be opened, an address is taken, or a certificate does not fit; nothing is left running.
    ///
    /// Whoever asks at the admin address that the configuration be read again is passed on to `reload`, if there is one.
    pub async fn start(mut prepared: Prepared, reload: Option<mpsc::Sender<Wish>>) -> anyhow::Result<Self> {
        let mut registry = Registry::default();
        let inbound_metrics = inbound::Metrics::register(&mut registry);
        let outbound_metrics = outbound::Metrics::register(&mut registry);
        let routes = prepared.take_routes(&inbound_metrics);
        let config = prepared.config;
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

        let (listening, rooms) = (CancellationToken::new(), CancellationToken::new());
        let (listener_task, tasks) = (TaskTracker::new(), TaskTracker::new());
        let (keep, kept) = watch::channel(keep_for(&config));
        let names = Arc::clone(&keep.borrow().subscribers);
        warn_of_removed(&store, &names)
            .await
            .context("failed to compare the store with the configuration")?;
        let (subscribers, keep_events) = (config.subscribers.clone(), config.store.keep_events);
        let outbound = Outbound::start(store.clone(), subscribers, keep_events, &outbound_metrics)
            .await
            .context("failed to start deliveries")?;
        let outbound = Arc::new(outbound);
        let inbound = Arc::new(Inbound::new(
            config.server.clone(),
            routes,
            store.clone(),
            inbound_metrics.clone(),
        ));
        let certificate = listener.certificate();
        listener_task.spawn(listener.run(Arc::clone(&inbound), listening.clone()));
        if let Some(socket) = admin_socket {
            let admin = Admin::new(
                &config.admin,
                registry,
                Arc::clone(&ready),
                store.clone(),
                Arc::clone(&inbound),
                Arc::clone(&outbound),
                reload,
            );
            tasks.spawn(admin.run(socket, rooms.clone()));
        }
        tasks.spawn(retention::run(store.clone(), kept, rooms.clone()));
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
            certificate,
            inbound,
            inbound_metrics,
            outbound,
            keep,
            store,
            first: config,
        })
    }

    /// Goes over to another configuration: plugins, routes, subscribers, certificate and times of keeping. Webhooks and
    /// attempts in hand end as they began, and a subscriber that did not change notices nothing.
    ///
    /// # Errors
    ///
    /// When the certificate, a subscriber's keys or its TLS are unusable, or the store fails; nothing has changed then but,
    /// perhaps, the certificate.
    pub async fn reload(&self, mut prepared: Prepared) -> anyhow::Result<Postponed> {
        let routes = prepared.take_routes(&self.inbound_metrics);
        let config = prepared.config;
        if let Some(tls) = &config.server.tls {
            self.certificate.renew(tls)?;
        }
        let postponed = self.postponed(&config);
        let keep = keep_for(&config);
        warn_of_removed(&self.store, &keep.subscribers)
            .await
            .context("failed to compare the store with the configuration")?;
        self.outbound
            .serve(config.subscribers, config.store.keep_events, self.grace)
            .await
            .context("failed to start deliveries")?;
        self.inbound.serve(routes);
        self.keep.send_replace(keep);
        Ok(postponed)
    }

    fn postponed(&self, config: &Config) -> Postponed {
        let mut server = self.first.server.clone();
        // Each route has its own copy of these.
        server.public_url.clone_from(&config.server.public_url);
        server.body_bytes_max = config.server.body_bytes_max;
        if server.tls.is_some() && config.server.tls.is_some() {
            server.tls.clone_from(&config.server.tls);
        }
        let mut store = self.first.store.clone();
        store.keep_events = config.store.keep_events;
        store.keep_ids = config.store.keep_ids;
        store.keep_webhooks = config.store.keep_webhooks;
        store.keep_attempts = config.store.keep_attempts;
        [
            ("[server]", server == config.server),
            ("[admin]", self.first.admin == config.admin),
            ("[store]", store == config.store),
        ]
        .into_iter()
        .filter_map(|(section, same)| (!same).then_some(section))
        .collect()
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

    /// Waits until there is nothing this process can do any more, and says why. Nothing that was accepted is lost; what has
    /// to follow is the end of the process, without [`Gateway::stop`], and another start.
    pub async fn broken(&self) -> anyhow::Error {
        let mut health = self.store.health();
        match health.wait_for(|health| *health == Health::Broken).await {
            Ok(_) => anyhow::anyhow!(
                "the disk failed to keep what it was given, and what is there can only be told by starting again; nothing \
                 that was accepted is lost"
            ),
            Err(_) => anyhow::anyhow!("the store has ended; this is a fault of callfeed"),
        }
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
            let senders = async {
                self.listener.wait().await;
                self.inbound.drain().await;
            };
            if tokio::time::timeout_at(deadline, senders).await.is_err() {
                tracing::warn!("some senders did not finish within the grace period");
            }
        };
        // Both at once: what a sender takes of the time is not the deliveries' loss.
        tokio::join!(inbound, self.outbound.stop(self.grace));
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

fn keep_for(config: &Config) -> Keep {
    Keep {
        config: config.store.clone(),
        subscribers: config
            .subscribers
            .iter()
            .map(|subscriber| subscriber.name.clone())
            .collect(),
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

#[cfg(test)]
mod tests {
    use std::fs;

    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::plugin;

    async fn problems(text: &str, directory: &std::path::Path) -> Vec<(usize, String, String)> {
        let env = |name: &str| (name == "SET").then(|| "hunter2".to_owned());
        let read = config::parse(text, "callfeed.toml", &env, directory);
        let problems = Prepared::new(read).await.expect_err("it is wrong").to_string();
        assert!(!problems.contains("hunter2"), "{problems}");
        let problem = |line: &str| {
            let mut parts = line.splitn(4, ':').map(str::trim);
            let (_, line, path) = (parts.next(), parts.next()?.parse().ok()?, parts.next()?);
            Some((line, path.to_owned(), parts.next()?.to_owned()))
        };
        problems.lines().filter_map(problem).collect()
    }

    #[tokio::test]
    async fn what_the_file_and_the_plugins_find_wrong_is_one_list() {
        let directory = tempfile::tempdir().expect("a directory can be made");
        fs::write(directory.path().join("acme.wasm"), "not wasm").expect("it can be written to");
        let text = r#"
[server]
listn = "127.0.0.1:0"
[[plugin]]
name = "acme"
path = "acme.wasm"
[[plugin]]
name = "salpre"
path = "acme.wasm"
[[plugin]]
name = "lost"
path = "lost.wasm"
[[route]]
name = "a"
provider = "magpip"
secrets = { signing = { env = "SET" } }
[[route]]
name = "b"
provider = "acme"
secrets = { signing = { env = "SET" } }
[[route]]
name = "c"
provider = "magnetis"
secrets = { signing = { env = "SET" }, sining = { env = "UNSET" } }
options = { canonicalization = "hunter2", colour = "hunter2" }
[[route]]
name = "d"
path = "no-slash"
provider = "lost"
secrets = { signing = { env = "SET" } }
[[route]]
name = "e"
provider = "topcalls"
secrets = { signing = { env = "UNSET" } }
options = { duration_unit = "hours" }
[[subscriber]]
name = "crm"
url = "https://crm.example.com/"
secrets = { env = "SET" }
"#;
        let problems = problems(text, directory.path()).await;
        let found: Vec<_> = problems.iter().map(|(line, path, _)| (*line, path.as_str())).collect();
        assert_eq!(
            found,
            [
                (3, "server.listn"),
                (6, "plugin[acme].path"),
                (8, "plugin[salpre].name"),
                (12, "plugin[lost].path"),
                (15, "route[a].provider"),
                (24, "route[c].secrets.sining"),
                (24, "route[c].secrets.sining"),
                (25, "route[c].options.canonicalization"),
                (25, "route[c].options.colour"),
                (28, "route[d].path"),
                (34, "route[e].secrets.signing"),
                (35, "route[e].options.duration_unit"),
                (39, "subscriber[crm].secrets"),
            ],
            "{problems:#?}"
        );
    }

    #[tokio::test]
    async fn a_file_is_held_to_its_cases_until_it_is_proven() {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let magpipe = plugin::built_in("magpipe").expect("it is built in");
        let file = plugin::with_cases(magpipe, Some(b"{}")).expect("it is a component");
        fs::write(directory.path().join("acme.wasm"), &file).expect("it can be written to");
        let read = |more: &str| {
            let text = format!(
                "[[plugin]]\nname = \"acme\"\npath = \"acme.wasm\"\n{more}\
                 [[route]]\nname = \"a\"\nprovider = \"acme\"\nallow_unsigned = true\n"
            );
            config::parse(&text, "callfeed.toml", &|_| None, directory.path())
        };
        let prepare = async |more: &str, proven: &Proven| Prepared::again(read(more), proven).await;
        let proven = Proven {
            limits: read("").expect("it is right").config.limits,
            digests: HashSet::from([Sha256::digest(&file).into()]),
        };
        let kept = prepare("", &proven).await.expect("it is proven").proven();
        prepare("", &kept).await.expect("it still is");
        for (more, proven) in [
            ("", &Proven::default()),
            ("[limits]\nplugin_host_calls = 10\n", &proven),
        ] {
            let problems = prepare(more, proven).await.expect_err("it has no cases").to_string();
            assert!(problems.contains("acme.wasm#cases: has no cases"), "{problems}");
        }
    }

    /// What a plugin is named in may be in what was not understood.
    #[tokio::test]
    async fn a_syntax_error_makes_no_plugin_missing() {
        let text = "[[plugin]\nname = \"acme\"\n[[route]]\nname = \"a\"\nprovider = \"acme\"\n\
            secrets.signing = { env = \"SET\" }\n[[route]]\nname = \"b\"\nprovider = \"magpipe\"\n\
            secrets.sining = { env = \"SET\" }\n";
        let directory = tempfile::tempdir().expect("a directory can be made");
        let problems = problems(text, directory.path()).await;
        assert!(problems.iter().any(|(line, _, _)| *line == 1), "{problems:?}");
        assert!(problems.iter().any(|(line, ..)| *line == 10), "{problems:?}");
        assert!(
            problems.iter().all(|(_, path, _)| path != "route[a].provider"),
            "{problems:?}"
        );
    }
}
