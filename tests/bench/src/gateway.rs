//! The gateway under test: the release binary, with the configuration a user would write and every default as it ships.

use std::{fmt::Write as _, fs, net::SocketAddr};

use anyhow::{Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use callfeed::{config, store::History};
use tokio::process::Command;

use crate::{
    Bench,
    server::{Server, free_address},
    webhook,
};

/// What the gateway's deliveries are signed with; the bare relay's as well.
pub(crate) const SUBSCRIBER_KEY: &[u8; 24] = b"a subscriber's secret ..";
/// How many deliveries to one subscriber are under way at once, by default. The bare relay does the same.
pub(crate) const SUBSCRIBER_IN_FLIGHT: usize = 32;

/// Starts a gateway that keeps its feed in a database `name` of its own, with these further lines about it, and delivers
/// everything to `subscribers`.
pub(crate) async fn start(bench: &Bench, name: &str, subscribers: &[SocketAddr], store: &str) -> Result<Server> {
    let directory = bench.directory.path();
    let address = free_address()?;
    let file = directory.join(format!("{name}.toml"));
    let database = directory.join(format!("{name}.db")).display().to_string();
    fs::write(&file, configuration(address, &database, store, subscribers))?;

    let mut command = Command::new(&bench.gateway);
    command.arg("serve").arg("--config").arg(&file);
    Server::start(name, command, address, directory).await
}

/// How many events the gateway `name` has in its feed, by its own account to anyone who reads the store.
pub(crate) async fn events(bench: &Bench, name: &str) -> Result<u64> {
    let config = config::load(&bench.directory.path().join(format!("{name}.toml")))?.config;
    let counts = History::open(&config.store).await?.counts().await?;
    ensure!(
        counts.quarantined == 0,
        "{} webhooks are in quarantine",
        counts.quarantined
    );
    Ok(counts.events)
}

pub(crate) fn configuration(listen: SocketAddr, database: &str, store: &str, subscribers: &[SocketAddr]) -> String {
    let mut text = format!(
        r#"
[server]
listen = "{listen}"

[admin]
listen = "127.0.0.1:0"

[store]
url = "sqlite:{database}"
{store}

[[route]]
name = "magpipe"
provider = "magpipe"
path = "{path}"
secrets = {{ signing = ["{secret}"] }}
"#,
        path = webhook::PATH,
        secret = webhook::SECRET,
    );
    let key = BASE64_STANDARD.encode(SUBSCRIBER_KEY);
    for (index, address) in subscribers.iter().enumerate() {
        write!(
            text,
            r#"
[[subscriber]]
name = "subscriber-{index}"
url = "http://{address}/"
secrets = ["whsec_{key}"]
"#
        )
        .expect("writing to memory does not fail");
    }
    text
}
