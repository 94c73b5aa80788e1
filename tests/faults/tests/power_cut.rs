//! The proof can fail: what was committed without a sync is lost in a power cut, and what was synced never is. And what a
//! gateway has delivered is there after one.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use callfeed::{config, simulate};
use callfeed_faults::{
    binaries::{self, Binaries},
    chance::Chance,
    disk::{Disk, Syncs},
    gateway::{self, Starter},
    store::{self, Depth},
};
use harness::{WHSEC, eventually, provider_secret};
use rusqlite::{Connection, OpenFlags};

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

/// What a failed sync has left in the system's memory, a start shows; so it has to be on disk before anybody gets it, also
/// while a reader of another process keeps the log from being folded.
#[tokio::test]
async fn what_was_delivered_survives_a_power_cut_after_a_failed_sync() {
    let binaries = Binaries::build(None).unwrap();
    let plugins = tempfile::tempdir().unwrap();
    for seed in 0..4 {
        let directory = tempfile::tempdir().unwrap();
        let database = gateway::canonical(directory.path(), "callfeed.db").unwrap();
        let disk = Disk::new(directory.path(), &database).unwrap();
        let subscriber = harness::Subscriber::start().await;
        let (secret, value) = provider_secret("magpipe");
        let config = directory.path().join("callfeed.toml");
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n\n[admin]\nlisten = \"127.0.0.1:0\"\n\n[store]\nurl = {:?}\n\n\
             [limits]\nplugin_cache = {:?}\nplugin_time = \"1s\"\n\n[[route]]\nname = \"magpipe\"\nprovider = \"magpipe\"\n\
             secrets = {{ {secret} = [{value:?}] }}\nurls = [\"https://hooks.example.com/hooks/magpipe\"]\n\n[[subscriber]]\nname = \"crm\"\nurl = {:?}\nsecrets = [{WHSEC:?}]\n\
             types = [\"*\"]\n",
            format!("sqlite:{}", database.display()),
            plugins.path(),
            subscriber.url(),
        );
        fs::write(&config, text).unwrap();
        let loaded = config::load(&config).unwrap().config;
        let starter = Starter {
            binary: binaries.gateway.clone(),
            shim: binaries.shim.clone(),
            config,
            log: directory.path().join("gateway.log"),
        };

        let mut first = starter.start(&disk).unwrap();
        let addresses = first.listening().await.unwrap().unwrap();
        let route = &loaded.routes[0];
        let post = async |identity| {
            let sample = simulate::samples("magpipe").swap_remove(0);
            let body = sample.identified(identity);
            let url = format!("http://{}{}", addresses.inbound, route.path);
            let mut request = simulate::client(Duration::from_secs(10)).unwrap().post(&url);
            for (name, value) in simulate::sign(route, &route.urls[0], &sample.content_type, &body).unwrap() {
                request = request.header(name, value);
            }
            let request = request.header("content-type", &sample.content_type).body(body);
            request.send().await.unwrap().status()
        };
        assert_eq!(post(1).await, 200);
        disk.syncs(Syncs::FailAndForget).unwrap();
        assert_eq!(post(2).await, 503);
        assert!(!first.wait().await.unwrap().success());

        disk.syncs(Syncs::Work).unwrap();
        // One that only reads leaves the log alone when it is closed.
        let reader = Connection::open_with_flags(&database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM event").unwrap();
        let second = starter.start(&disk).unwrap();
        let delivered = eventually("the second event is delivered", async || {
            let delivered: BTreeSet<_> = subscriber.deliveries().iter().map(harness::Delivery::id).collect();
            (delivered.len() == 2).then_some(delivered)
        })
        .await;
        second.kill().await.unwrap();
        drop(reader);
        let lost = disk.cut_power(&mut Chance::new(seed)).unwrap();

        let history = store::open(&loaded.store, &database).await.unwrap();
        let record = store::read(&history, Depth::Always).await.unwrap();
        let there: BTreeSet<_> = record.events.into_iter().map(|event| event.id).collect();
        assert_eq!(there, delivered, "seed {seed}, the power cut took: {lost}");
    }
}
