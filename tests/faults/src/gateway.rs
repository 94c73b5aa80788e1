//! One gateway process, started with the shim and ended in whichever way.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    sync::watch,
    task::JoinSet,
};

use crate::disk::Disk;

/// How long a start or an end may take. Far longer than needed: a busy machine is no fault.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a gateway listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub inbound: SocketAddr,
    pub admin: SocketAddr,
}

/// What one gateway after the other is started with.
#[derive(Debug)]
pub struct Starter {
    pub binary: PathBuf,
    pub shim: PathBuf,
    pub config: PathBuf,
    /// Every gateway's standard error, one after the other.
    pub log: PathBuf,
}

/// A running process. Killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    listening: watch::Receiver<Listening>,
    reader: JoinSet<()>,
}

#[derive(Debug, Clone, Copy)]
enum Listening {
    NotYet,
    At(Addresses),
    /// Its standard error was closed.
    Gone,
}

impl Starter {
    pub fn start(&self, disk: &Disk) -> Result<Gateway> {
        let mut command = Command::new(&self.binary);
        command
            .args(["serve", "--log-format", "json", "--config"])
            .arg(&self.config)
            .env("CALLFEED_LOG", "info")
            .env_remove("CALLFEED_CONFIG")
            .envs(disk.environment(&self.shim))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .with_context(|| format!("failed to start {}", self.binary.display()))?;
        let stderr = child.stderr.take().context("standard error was asked for")?;
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let (sender, listening) = watch::channel(Listening::NotYet);
        let mut reader = JoinSet::new();
        reader.spawn(read(stderr, log, sender));
        Ok(Gateway {
            child,
            listening,
            reader,
        })
    }

    /// The end of the log, for a message.
    pub fn log_end(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(3)..].join(" | ")
    }
}

async fn read(stderr: ChildStderr, mut log: File, listening: watch::Sender<Listening>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // The log is for whoever looks into a failure; it must not be one.
        let _ = writeln!(log, "{line}");
        if let Some(addresses) = addresses(&line) {
            listening.send_replace(Listening::At(addresses));
        }
    }
    listening.send_replace(Listening::Gone);
}

fn addresses(line: &str) -> Option<Addresses> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["message"] != "callfeed is listening" {
        return None;
    }
    Some(Addresses {
        inbound: line["inbound"].as_str()?.parse().ok()?,
        admin: line["admin"].as_str()?.parse().ok()?,
    })
}

impl Gateway {
    /// Where it listens, once it does; `None` when it ended before.
    pub async fn listening(&mut self) -> Result<Option<Addresses>> {
        let found = self
            .listening
            .wait_for(|listening| !matches!(listening, Listening::NotYet));
        match tokio::time::timeout(PATIENCE, found).await {
            Err(_) => bail!("it neither listens nor ends within {PATIENCE:?}"),
            Ok(Ok(listening)) => match *listening {
                Listening::At(addresses) => Ok(Some(addresses)),
                Listening::NotYet | Listening::Gone => Ok(None),
            },
            Ok(Err(_)) => Ok(None),
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait().await.map(drop)
    }

    /// `SIGTERM`, and waits until it is gone.
    pub async fn terminate(self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait().await
    }

    /// `SIGHUP`.
    pub fn reload(&self) -> Result<()> {
        self.signal(Signal::HUP)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        // One that was waited for has no id any more.
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        match id.and_then(Pid::from_raw) {
            Some(id) => kill_process(id, signal).context("failed to signal the gateway"),
            None => Ok(()),
        }
    }

    /// Waits until it is gone.
    pub async fn wait(mut self) -> Result<ExitStatus> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .with_context(|| format!("it does not end within {PATIENCE:?}"))??;
        while self.reader.join_next().await.is_some() {}
        Ok(status)
    }
}

/// Asks a running gateway for something to be done with a subscriber. It may be gone before it is done.
pub async fn ask(client: &reqwest::Client, admin: SocketAddr, subscriber: &str, wish: &str) {
    let url = format!("http://{admin}/subscribers/{subscriber}/{wish}");
    let _ = client.post(url).timeout(Duration::from_secs(2)).send().await;
}

/// Asks a running gateway to erase what it keeps of a call, as `callfeed erase --subject` does. Whether it said that it did.
pub async fn erase(client: &reqwest::Client, admin: SocketAddr, subject: &str) -> bool {
    let url = format!("http://{admin}/erase");
    let url = reqwest::Url::parse_with_params(&url, [("subject", subject)]).expect("it is an address");
    let Ok(answer) = client.post(url).send().await else {
        return false;
    };
    let is_done = answer.status().is_success();
    is_done && answer.bytes().await.is_ok()
}

/// The path as the gateway itself will name it.
pub fn canonical(directory: &Path, name: &str) -> Result<PathBuf> {
    Ok(std::fs::canonicalize(directory)?.join(name))
}
