//! The proof can fail: what was committed without a sync is lost in a power cut, and what was synced never is.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use callfeed_faults::{
    binaries,
    chance::Chance,
    disk::{Disk, Syncs},
};
use rusqlite::Connection;

const SEEDS: u64 = 20;
/// Rows that are committed before the cut, at least.
const ROWS: usize = 40;

/// A program that commits one row after the other and tells of each.
fn committer(disk: &Disk, shim: &Path, synchronous: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callfeed-faults"));
    command
        .arg("commit")
        .arg(disk.store())
        .arg(synchronous)
        .envs(disk.environment(shim));
    command
}

fn disk(directory: &Path) -> Result<Disk> {
    Disk::new(directory, &directory.canonicalize()?.join("numbers.db"))
}

/// Lets it commit, kills it and cuts its power. Returns the last row it told of and the last one that is there.
fn commit_until_cut(shim: &Path, synchronous: &str, seed: u64) -> Result<(u64, u64)> {
    let directory = tempfile::tempdir()?;
    let disk = disk(directory.path())?;
    let mut child = committer(&disk, shim, synchronous).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("it was asked for")?).lines();
    let mut told: u64 = 0;
    for _ in 0..ROWS {
        told = lines.next().context("it goes on until it is killed")??.parse()?;
    }
    child.kill()?;
    child.wait()?;
    // What it told before it was killed and nobody had read yet.
    for line in lines {
        told = line?.parse()?;
    }
    ensure!(disk.counts()?.attached == 1, "the shim was not loaded");

    disk.cut_power(&mut Chance::new(seed))?;
    let connection = Connection::open(disk.store())?;
    let there = connection.query_row("SELECT ifnull(max(number), 0) FROM number", [], |row| row.get(0));
    // Of what was never synced, not even the table has to be there.
    Ok((told, there.unwrap_or(0)))
}

#[test]
fn what_was_synced_survives_a_power_cut() {
    let shim = binaries::shim().unwrap();
    for seed in 0..SEEDS {
        let (told, there) = commit_until_cut(&shim, "FULL", seed).unwrap();
        assert!(there >= told, "seed {seed}: {told} was committed, {there} is there");
    }
}

#[test]
fn what_was_not_synced_is_lost_in_a_power_cut() {
    let shim = binaries::shim().unwrap();
    for synchronous in ["OFF", "NORMAL"] {
        let cuts = (0..SEEDS).map(|seed| commit_until_cut(&shim, synchronous, seed).unwrap());
        let losses = cuts.filter(|(told, there)| there < told).count();
        assert!(
            losses as u64 >= SEEDS / 2,
            "{synchronous}: only {losses} of {SEEDS} power cuts lost something"
        );
    }
}

/// Runs it to its end, which comes when it cannot commit.
fn fail_to_commit(disk: &Disk) -> Result<Output> {
    Ok(committer(disk, &binaries::shim()?, "FULL").output()?)
}

#[test]
fn no_commit_is_told_while_syncs_fail() {
    for syncs in [Syncs::Fail, Syncs::FailAndForget] {
        let directory = tempfile::tempdir().unwrap();
        let disk = disk(directory.path()).unwrap();
        disk.syncs(syncs).unwrap();
        let output = fail_to_commit(&disk).unwrap();
        assert!(!output.status.success());
        assert_eq!(output.stdout, b"");
        assert!(disk.counts().unwrap().syncs_failed > 0);
    }
}

#[test]
fn no_commit_is_told_while_the_disk_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let disk = disk(directory.path()).unwrap();
    disk.full(true).unwrap();
    let output = fail_to_commit(&disk).unwrap();
    assert!(!output.status.success());
    assert_eq!(output.stdout, b"");
    assert!(disk.counts().unwrap().writes_refused > 0);
}
