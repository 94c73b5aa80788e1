use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    binary::callfeed_bin,
    gateway::{Gateway, Start},
    subscriber::{Subscriber, WHSEC},
};

/// The name and the value of the secret that every provider's route has here.
///
/// # Panics
///
/// When there is no such provider.
pub fn provider_secret(provider: &str) -> (&'static str, &'static str) {
    match provider {
        "magpipe" => ("signing", "whsec_magpipe-0Xk3fZq8Lw"),
        "magnetis" => ("signing", "magnetis-api-key-7Jr2mVt5"),
        "voxagent" => ("signing", "voxagent-secret-4Hn9cYp1"),
        "topcalls" => ("signing", "topcalls-secret-6Bd8sKe0"),
        "salpre" => ("token", "salpre-token-2Gw5xQa7"),
        other => panic!("no secret is set for {other}"),
    }
}

fn plugin_cache() -> PathBuf {
    callfeed_bin().with_file_name("plugins")
}

/// What a gateway is configured with, and the directory it lives in. Every address is `127.0.0.1:0`.
#[derive(Debug)]
pub struct Setup {
    pub(crate) directory: TempDir,
    server: String,
    store: String,
    store_url: String,
    admin: String,
    limits: String,
    blocks: String,
    pub(crate) log: &'static str,
    pub(crate) wrapper: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// No route, no subscriber.
    ///
    /// # Panics
    ///
    /// When there is no room for a temporary directory.
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a directory can be made"),
            server: String::new(),
            store: String::new(),
            store_url: "sqlite:callfeed.db".to_owned(),
            admin: String::new(),
            limits: String::new(),
            blocks: String::new(),
            log: "info",
            wrapper: None,
        }
    }

    /// Lines of `[server]`.
    #[must_use]
    pub fn server(mut self, lines: &str) -> Self {
        self.server.push_str(lines);
        self.server.push('\n');
        self
    }

    /// Lines of `[admin]`, without `listen`.
    #[must_use]
    pub fn admin(mut self, lines: &str) -> Self {
        self.admin.push_str(lines);
        self.admin.push('\n');
        self
    }

    /// Lines of `[store]`, without `url`.
    #[must_use]
    pub fn store(mut self, lines: &str) -> Self {
        self.store.push_str(lines);
        self.store.push('\n');
        self
    }

    /// Where events are kept; `callfeed.db` in the directory unless said.
    #[must_use]
    pub fn store_file(mut self, path: &Path) -> Self {
        self.store_url = format!("sqlite:{}", path.display());
        self
    }

    /// Lines of `[limits]`.
    #[must_use]
    pub fn limits(mut self, lines: &str) -> Self {
        self.limits.push_str(lines);
        self.limits.push('\n');
        self
    }

    /// A route named like its provider, with its secret.
    #[must_use]
    pub fn route(self, provider: &str) -> Self {
        self.route_with(provider, provider, "")
    }

    /// A route with a name of its own and further lines.
    #[must_use]
    pub fn route_with(mut self, name: &str, provider: &str, lines: &str) -> Self {
        write!(self.blocks, "\n[[route]]\nname = {name:?}\nprovider = {provider:?}\n").expect("a text grows");
        if !lines.contains("secrets") {
            let (secret, value) = provider_secret(provider);
            writeln!(self.blocks, "secrets = {{ {secret} = [{value:?}] }}").expect("a text grows");
        }
        if !lines.contains("urls") {
            // What is signed must not depend on the port.
            writeln!(self.blocks, "urls = [\"https://hooks.example.com/hooks/{name}\"]").expect("a text grows");
        }
        writeln!(self.blocks, "{lines}").expect("a text grows");
        self
    }

    /// A subscriber that signs with [`WHSEC`] and retries quickly.
    #[must_use]
    pub fn subscriber(self, name: &str, subscriber: &Subscriber) -> Self {
        self.subscriber_with(name, subscriber, "")
    }

    /// The same with further lines; those of `schedule` and `secrets` stand instead of the usual ones.
    #[must_use]
    pub fn subscriber_with(self, name: &str, subscriber: &Subscriber, lines: &str) -> Self {
        self.subscriber_at(name, &subscriber.url(), lines)
    }

    /// A subscriber at any URL.
    #[must_use]
    pub fn subscriber_at(mut self, name: &str, url: &str, lines: &str) -> Self {
        write!(self.blocks, "\n[[subscriber]]\nname = {name:?}\nurl = {url:?}\n").expect("a text grows");
        if !lines.contains("secrets") {
            writeln!(self.blocks, "secrets = [{WHSEC:?}]").expect("a text grows");
        }
        if !lines.contains("schedule") {
            let quick =
                r#"schedule = ["0s", "20ms", "50ms", "100ms", "200ms", "500ms", "1s", "1s", "1s", "1s", "1s", "1s"]"#;
            writeln!(self.blocks, "{quick}").expect("a text grows");
        }
        writeln!(self.blocks, "{lines}").expect("a text grows");
        self
    }

    /// Without the routes, the subscribers and the other blocks so far.
    #[must_use]
    pub fn cleared(mut self) -> Self {
        self.blocks.clear();
        self
    }

    /// Any further blocks.
    #[must_use]
    pub fn toml(mut self, text: &str) -> Self {
        self.blocks.push_str(text);
        self.blocks.push('\n');
        self
    }

    /// What `CALLFEED_LOG` says; `info` unless said.
    #[must_use]
    pub fn log(mut self, filter: &'static str) -> Self {
        self.log = filter;
        self
    }

    /// Shell commands to run in the gateway's process before the gateway takes its place, such as `ulimit`.
    #[must_use]
    pub fn wrapped(mut self, commands: &str) -> Self {
        self.wrapper = Some(commands.to_owned());
        self
    }

    /// The directory of the configuration and, unless said otherwise, the store.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn config_path(&self) -> PathBuf {
        self.directory().join("callfeed.toml")
    }

    /// Writes the configuration.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn write(&self) -> PathBuf {
        let path = self.config_path();
        // Compiling every plugin takes an unoptimised gateway seconds; all stories share what the first one compiled.
        let limits = match self.limits.contains("plugin_cache") {
            true => self.limits.clone(),
            false => format!("plugin_cache = {:?}\n{}", plugin_cache(), self.limits),
        };
        let Self {
            server,
            store,
            store_url,
            admin,
            blocks,
            ..
        } = self;
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n{server}\n[admin]\nlisten = \"127.0.0.1:0\"\n{admin}\n\
             [store]\nurl = {store_url:?}\n{store}\n[limits]\n{limits}{blocks}"
        );
        std::fs::write(&path, text).expect("the configuration can be written");
        path
    }

    /// Writes the configuration and starts a gateway that has to come up.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn start(self) -> Gateway {
        Gateway::start(self).await
    }

    /// Writes the configuration and starts a gateway that may refuse to.
    pub async fn try_start(self) -> Start {
        Gateway::try_start(self).await
    }
}
