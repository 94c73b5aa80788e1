//! A server under test: a process of its own.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::machine;

/// A gateway that finds nothing in its cache compiles every plugin first.
const START_MAX: Duration = Duration::from_secs(120);
const STOP_MAX: Duration = Duration::from_secs(60);
/// A server is at rest when it used less than this share of one core for this long.
const REST: Duration = Duration::from_millis(300);
const REST_SHARE: f64 = 0.05;
const REST_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) process: u32,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `command`, which is to listen on `address`, and waits until it does. What it prints goes to a file in
    /// `directory`.
    pub(crate) async fn start(name: &str, mut command: Command, address: SocketAddr, directory: &Path) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        let process = child.id().context("a process that was just started has an id")?;

        let begun = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("{name} ended ({status}):\n{}", fs::read_to_string(&log)?);
            }
            if begun.elapsed() > START_MAX {
                bail!("{name} does not listen on {address}:\n{}", fs::read_to_string(&log)?);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let server = Self {
            address,
            process,
            child,
            log,
        };
        server.rest().await?;
        Ok(server)
    }

    pub(crate) fn cpu(&self) -> Result<Duration> {
        machine::cpu(self.process)
    }

    pub(crate) fn memory_peak(&self) -> Result<u64> {
        machine::memory_peak(self.process)
    }

    /// Waits until the server has done what it put off, so that it is counted as its own work and disturbs nobody.
    pub(crate) async fn rest(&self) -> Result<()> {
        let begun = Instant::now();
        let mut before = self.cpu()?;
        loop {
            tokio::time::sleep(REST).await;
            let now = self.cpu()?;
            if (now - before).as_secs_f64() < REST_SHARE * REST.as_secs_f64() {
                return Ok(());
            }
            if begun.elapsed() > REST_MAX {
                bail!("{} does not come to rest", self.log.display());
            }
            before = now;
        }
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.process)
            .ok()
            .and_then(Pid::from_raw)
            .context("a process has a positive id")?;
        kill_process(pid, Signal::TERM)?;
        let status = tokio::time::timeout(STOP_MAX, self.child.wait())
            .await
            .context("a server does not stop")??;
        // A bare server knows no better than to die of the signal.
        if !status.success() && status.signal() != Some(Signal::TERM.as_raw()) {
            bail!("a server ended badly ({status}):\n{}", fs::read_to_string(&self.log)?);
        }
        Ok(())
    }
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
