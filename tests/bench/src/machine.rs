//! What Linux says of processor time and memory, of one process and of the whole machine.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// User and system time of a process, all its threads, since it began.
pub(crate) fn cpu(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).context("the server is gone")?;
    // The second field is the name in parentheses, and may hold anything; utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').context("/proc/<pid>/stat has no name")?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut field = || {
        fields
            .next()
            .and_then(|field| field.parse::<u64>().ok())
            .context("/proc/<pid>/stat is cut short")
    };
    Ok(ticks(field()? + field()?))
}

/// The most memory a process has had resident since it began, in bytes.
pub(crate) fn memory_peak(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("the server is gone")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("/proc/<pid>/status has no VmHWM")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim_end().parse()?;
    Ok(kibibytes * 1024)
}

/// What all processors together have worked since the machine began, for anybody.
fn busy() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let all = stat
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("cpu "))
        .context("/proc/stat has no first line")?;
    let fields = all
        .split_ascii_whitespace()
        .map(str::parse)
        .collect::<Result<Vec<u64>, _>>()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = fields[..] else {
        anyhow::bail!("/proc/stat is cut short");
    };
    Ok(ticks(user + nice + system + irq + softirq + steal))
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Watches how much of the machine others use while a server is measured.
pub(crate) struct Others {
    server: Option<u32>,
    begun: Instant,
    busy: Duration,
    ours: Duration,
}

impl Others {
    /// Everything counts as others' but this process and the server's, where there is one.
    pub(crate) fn watch(server: Option<u32>) -> Result<Self> {
        Ok(Self {
            server,
            begun: Instant::now(),
            busy: busy()?,
            ours: ours(server)?,
        })
    }

    /// Cores that others kept busy, on average.
    pub(crate) fn cores(&self) -> Result<f64> {
        let (busy, ours) = (busy()? - self.busy, ours(self.server)? - self.ours);
        Ok(busy.saturating_sub(ours).as_secs_f64() / self.begun.elapsed().as_secs_f64())
    }
}

fn ours(server: Option<u32>) -> Result<Duration> {
    let server = server.map(cpu).transpose()?.unwrap_or_default();
    Ok(cpu(std::process::id())? + server)
}
