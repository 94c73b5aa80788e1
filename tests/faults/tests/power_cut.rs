//! The proof can fail: what was committed without a sync is lost in a power cut, and what was synced never is. And what a
//! gateway has delivered is there after one.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use callfeed::{config, simulate};
use callfeed_faults::{
    binaries::{self, Binaries},
    chance::Chance,
    disk::{Disk, Syncs},
    gateway::{self, Addresses, Gateway, Starter},
    store::{self, Depth},
};
use harness::{PATIENCE, Reply, WHSEC, eventually, provider_secret};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tempfile::TempDir;

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

/// A gateway with one route and one subscriber, and what is under it.
struct Scene {
    directory: TempDir,
    disk: Disk,
    starter: Starter,
    config: config::Config,
    subscriber: harness::Subscriber,
    _plugins: TempDir,
}

impl Scene {
    async fn new() -> Result<Self> {
        let binaries = Binaries::build(None)?;
        let directory = tempfile::tempdir()?;
        let plugins = tempfile::tempdir()?;
        let database = gateway::canonical(directory.path(), "callfeed.db")?;
        let subscriber = harness::Subscriber::start().await;
        let (secret, value) = provider_secret("magpipe");
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n\n[admin]\nlisten = \"127.0.0.1:0\"\n\n[store]\nurl = {:?}\n\n\
             [limits]\nplugin_cache = {:?}\nplugin_time = \"1s\"\n\n[[route]]\nname = \"magpipe\"\n\
             provider = \"magpipe\"\nsecrets = {{ {secret} = [{value:?}] }}\n\
             urls = [\"https://hooks.example.com/hooks/magpipe\"]\n\n[[subscriber]]\nname = \"crm\"\nurl = {:?}\n\
             secrets = [{WHSEC:?}]\ntypes = [\"*\"]\n",
            format!("sqlite:{}", database.display()),
            plugins.path(),
            subscriber.url(),
        );
        let config = directory.path().join("callfeed.toml");
        fs::write(&config, text)?;
        Ok(Self {
            disk: Disk::new(directory.path(), &database)?,
            config: config::load(&config)?.config,
            starter: Starter {
                binary: binaries.gateway,
                shim: binaries.shim,
                config,
                log: directory.path().join("gateway.log"),
            },
            directory,
            subscriber,
            _plugins: plugins,
        })
    }

    async fn start(&self) -> Result<(Gateway, Addresses)> {
        let mut gateway = self.starter.start(&self.disk)?;
        let addresses = gateway.listening().await?;
        Ok((gateway, addresses.with_context(|| self.starter.log_end())?))
    }

    /// A webhook of another call each, to be sent.
    fn webhook(&self, client: &reqwest::Client, to: Addresses, identity: u64) -> Result<reqwest::RequestBuilder> {
        let route = &self.config.routes[0];
        let sample = simulate::samples("magpipe").swap_remove(0);
        let body = sample.identified(identity);
        let mut request = client.post(format!("http://{}{}", to.inbound, route.path));
        for (name, value) in simulate::sign(route, &route.urls[0], &sample.content_type, &body)? {
            request = request.header(name, value);
        }
        Ok(request.header("content-type", &sample.content_type).body(body))
    }

    /// How many events the database has without its log.
    fn folded(&self) -> Option<u64> {
        let uri = format!("file:{}?immutable=1", self.disk.store().display());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let database = Connection::open_with_flags(uri, flags).ok()?;
        database
            .query_row("SELECT count(*) FROM event", [], |row| row.get(0))
            .ok()
    }

    /// Whether the database was written to since it was synced.
    fn is_unsynced(&self) -> bool {
        let journal = self.directory.path().join("database.journal");
        journal.metadata().is_ok_and(|journal| journal.len() > 0)
    }

    /// The events that are there after a power cut of each kind.
    async fn after_power_cuts(&self) -> Result<Vec<(BTreeSet<String>, String)>> {
        let mut found = Vec::new();
        for seed in 0..SEEDS {
            let copy = tempfile::tempdir()?;
            for name in ["callfeed.db", "callfeed.db-wal", "database.journal", "log.journal"] {
                fs::copy(self.directory.path().join(name), copy.path().join(name))?;
            }
            let store = gateway::canonical(copy.path(), "callfeed.db")?;
            let lost = Disk::new(copy.path(), &store)?.cut_power(&mut Chance::new(seed))?;
            let damage = store::damage(&store)?;
            ensure!(damage.is_none(), "{damage:?}, the power cut took: {lost}");
            let history = store::open(&self.config.store, &store).await?;
            let record = store::read(&history, Depth::Always).await?;
            found.push((record.events.into_iter().map(|event| event.id).collect(), lost));
        }
        Ok(found)
    }
}

/// What a failed sync has left in the system's memory, a start shows; so it has to be on disk before anybody gets it, also
/// while a reader of another process keeps the log from being folded.
#[tokio::test]
async fn what_was_delivered_survives_a_power_cut_after_a_failed_sync() {
    let scene = Scene::new().await.unwrap();
    // Nothing is recorded of these, and with it written.
    scene.subscriber.script([Reply::stall(), Reply::stall()]);
    let (first, addresses) = scene.start().await.unwrap();
    let client = simulate::client(PATIENCE).unwrap();
    let post = async |identity| {
        let webhook = scene.webhook(&client, addresses, identity).unwrap();
        webhook.send().await.unwrap().status()
    };
    assert_eq!(post(1).await, 200);
    eventually("all is in the database, and synced", async || {
        (scene.folded() == Some(1) && !scene.is_unsynced()).then_some(())
    })
    .await;
    // Nothing more can be folded while this one reads, so nothing else is synced.
    let reader = store::reader(scene.disk.store()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM event").unwrap();
    assert_eq!(post(2).await, 200);
    scene.disk.syncs(Syncs::FailAndForget).unwrap();
    assert_eq!(post(3).await, 503);
    assert!(!first.wait().await.unwrap().success());
    drop(reader);

    scene.disk.syncs(Syncs::Work).unwrap();
    let reader = store::reader(scene.disk.store()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM event").unwrap();
    let (second, _) = scene.start().await.unwrap();
    let delivered = eventually("the third event is delivered", async || {
        let deliveries = scene.subscriber.deliveries();
        let delivered: BTreeSet<_> = deliveries.iter().map(harness::Delivery::id).collect();
        (delivered.len() == 3).then_some(delivered)
    })
    .await;
    second.kill().await.unwrap();
    drop(reader);
    for (there, lost) in scene.after_power_cuts().await.unwrap() {
        assert_eq!(there, delivered, "the power cut took: {lost}");
    }
}

/// SQLite notes in memory how much of the log is in the database, and whoever has the file open keeps that note through a
/// restart. What a failed sync of the database forgot has to be written once more all the same.
#[tokio::test]
async fn what_was_accepted_survives_a_power_cut_after_a_failed_sync_of_the_database() {
    let scene = Scene::new().await.unwrap();
    let (first, addresses) = scene.start().await.unwrap();
    let client = simulate::client(PATIENCE).unwrap();
    let mut accepted = BTreeSet::new();
    let mut post = async |identity| match scene.webhook(&client, addresses, identity).unwrap().send().await {
        Ok(answer) if answer.status() == 200 => {
            let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            let ids = answer["accepted"].as_array().unwrap().iter();
            accepted.extend(ids.map(|id| id.as_str().unwrap().to_owned()));
            true
        }
        // The gateway has given up, or is about to.
        Ok(_) | Err(_) => false,
    };
    for identity in 0..20 {
        assert!(post(identity).await);
    }
    // As far as this one reads, the log is folded, and the database is not synced before the rest is.
    let reader = store::reader(scene.disk.store()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM event").unwrap();
    for identity in 20..30 {
        assert!(post(identity).await);
    }
    eventually("the log is folded in part", async || scene.is_unsynced().then_some(())).await;
    scene.disk.syncs(Syncs::FailAndForgetDatabase).unwrap();
    reader.execute_batch("ROLLBACK").unwrap();
    let mut identity = 30;
    while post(identity).await {
        identity += 1;
    }
    assert!(!first.wait().await.unwrap().success());

    scene.disk.syncs(Syncs::Work).unwrap();
    let (second, _) = scene.start().await.unwrap();
    second.kill().await.unwrap();
    drop(reader);
    for (there, lost) in scene.after_power_cuts().await.unwrap() {
        let missing: Vec<_> = accepted.difference(&there).collect();
        assert!(missing.is_empty(), "{missing:?} are lost: the power cut took: {lost}");
    }
}

#[tokio::test]
async fn a_start_that_cannot_bring_its_log_to_a_full_disk_says_so() {
    let scene = Scene::new().await.unwrap();
    let (first, addresses) = scene.start().await.unwrap();
    let client = simulate::client(PATIENCE).unwrap();
    let answer = scene.webhook(&client, addresses, 1).unwrap().send().await.unwrap();
    assert_eq!(answer.status(), 200);
    first.kill().await.unwrap();
    scene.disk.full(true).unwrap();
    let mut second = scene.starter.start(&scene.disk).unwrap();
    assert_eq!(second.listening().await.unwrap(), None);
    let said = scene.starter.log_end();
    assert!(
        said.contains("callfeed.db-wal") && said.contains("free some space"),
        "{said}"
    );

    scene.disk.full(false).unwrap();
    let (third, _) = scene.start().await.unwrap();
    assert!(third.terminate().await.unwrap().success());
}
