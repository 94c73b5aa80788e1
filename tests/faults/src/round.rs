//! One round: one store, several gateways on it one after the other, each ended in some way; then time to settle, and the
//! model's last word.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use callfeed::{config, event::ERASED, simulate, store::Query};
use harness::provider_secret;
use jiff::SignedDuration;
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    binaries::Binaries,
    chance::Chance,
    disk::{self, Disk, Syncs},
    gateway::{self, Addresses, Gateway, Starter},
    model::{self, Erasure, Memory, Record, Violation},
    providers::{Providers, lock},
    store::{self, Depth},
    subscribers::{CHARACTERS, Subscriber, Ticks},
};

const PROVIDERS: [&str; 5] = ["magpipe", "magnetis", "voxagent", "topcalls", "salpre"];
/// Connections that post.
const CONNECTIONS: u64 = 12;
/// How long everything may take to settle once nothing is wrong any more.
const SETTLE_MAX: Duration = Duration::from_secs(90);
/// Between two looks at what does not tell when it changes.
const LOOK: Duration = Duration::from_millis(100);
/// What a reload changes: nothing by which anybody would get anything else.
const CHANGES: [(&str, &str); 2] = [
    ("in_flight = 16\n", "in_flight = 2\n"),
    (
        "provider = \"magpipe\"\n",
        "provider = \"magpipe\"\nallow_hmac = true\n",
    ),
];
/// Of the looks at the subscribers, in permille, those after which an operator has something delivered once more.
const REPLAY_PERMILLE: u64 = 150;
/// Of the looks of someone who erases calls, in permille, those after which one is.
const ERASE_PERMILLE: u64 = 200;
/// How far clocks jump.
const CLOCK_MAX_SECONDS: u64 = 6 * 60 * 60;
/// How long events are kept in a round of which some are forgotten.
const KEEP: SignedDuration = SignedDuration::from_hours(1);
/// Of the rounds, in permille, those.
const FORGETS_PERMILLE: u64 = 300;
/// How much time passes between two gateways then, at most.
const PASSED_MAX_SECONDS: u64 = 3 * 60 * 60;
/// Forward at last, however far back it was set before: what waits for a pause is due then, and nothing waits for longer.
const CLOCK_REST_SECONDS: i64 = 600;

/// What every round needs.
#[derive(Debug)]
pub struct Ground {
    pub binaries: Binaries,
    /// Where rounds make their directories.
    pub directory: PathBuf,
    /// Where compiled plugins are kept from one gateway to the next.
    pub plugin_cache: PathBuf,
}

/// What became of a round.
#[derive(Debug, Default)]
pub struct Report {
    pub seed: u64,
    pub kills: u64,
    /// Ends of any kind after which the disk lost what was not synced.
    pub power_cuts: u64,
    pub terminations: u64,
    pub full_disks: u64,
    pub failed_syncs: u64,
    pub clock_jumps: u64,
    pub reloads: u64,
    /// Wishes to deliver something once more.
    pub replays: u64,
    /// Erasures that were answered as done.
    pub erasures: u64,
    /// Gateways that ended by themselves after a sync had failed.
    pub exits: u64,
    pub sent: usize,
    pub accepted: usize,
    pub events: usize,
    /// Those of them that are erased.
    pub erased: usize,
    /// Events that were kept for as long as they had to be.
    pub forgotten: usize,
    pub quarantined: usize,
    /// Requests that reached a subscriber.
    pub arrivals: usize,
    /// Those that were answered 2xx.
    pub taken: usize,
    pub dead: usize,
    pub took: Duration,
    pub violations: Vec<Violation>,
    /// Where store and logs are, if something was violated.
    pub kept: Option<PathBuf>,
}

impl Report {
    pub fn json(&self) -> Value {
        json!({
            "seed": self.seed,
            "kills": self.kills,
            "power_cuts": self.power_cuts,
            "terminations": self.terminations,
            "full_disks": self.full_disks,
            "failed_syncs": self.failed_syncs,
            "clock_jumps": self.clock_jumps,
            "reloads": self.reloads,
            "replays": self.replays,
            "erasures": self.erasures,
            "exits": self.exits,
            "webhooks_sent": self.sent,
            "webhooks_accepted": self.accepted,
            "events": self.events,
            "erased": self.erased,
            "forgotten": self.forgotten,
            "quarantined": self.quarantined,
            "requests_at_subscribers": self.arrivals,
            "deliveries_taken": self.taken,
            "deliveries_dead": self.dead,
            "seconds": self.took.as_secs_f64(),
            "violations": self.violations.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "kept": self.kept,
        })
    }

    pub fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.terminations += other.terminations;
        self.full_disks += other.full_disks;
        self.failed_syncs += other.failed_syncs;
        self.clock_jumps += other.clock_jumps;
        self.reloads += other.reloads;
        self.replays += other.replays;
        self.erasures += other.erasures;
        self.exits += other.exits;
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.events += other.events;
        self.erased += other.erased;
        self.forgotten += other.forgotten;
        self.quarantined += other.quarantined;
        self.arrivals += other.arrivals;
        self.taken += other.taken;
        self.dead += other.dead;
        self.took += other.took;
    }
}

/// How a gateway ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    PowerCut,
    Terminate,
    /// Stopped in order, and then the power goes.
    TerminateAndPowerCut,
    /// It is gone already.
    ByItself,
    ByItselfAndPowerCut,
}

const ENDS: [End; 10] = [
    End::Kill,
    End::Kill,
    End::Kill,
    End::PowerCut,
    End::PowerCut,
    End::PowerCut,
    End::PowerCut,
    End::Terminate,
    End::Terminate,
    End::TerminateAndPowerCut,
];

/// What goes wrong while a gateway runs.
#[derive(Debug, Clone, Copy)]
enum Fault {
    FullDisk,
    /// The gateway ends by itself then, because nothing else could tell it what the disk holds.
    Syncs(Syncs),
    Clock,
    /// It reads its configuration again, which is another one, the same one, or none at all.
    Reload,
    /// Another process opens the store for reading, and leaves it open: what SQLite shares in memory outlives the gateway.
    Reader,
}

const FAULTS: [Fault; 10] = [
    Fault::Reload,
    Fault::Reload,
    Fault::FullDisk,
    Fault::FullDisk,
    Fault::Syncs(Syncs::Fail),
    Fault::Syncs(Syncs::FailAndForget),
    Fault::Syncs(Syncs::FailAndForgetDatabase),
    Fault::Clock,
    Fault::Clock,
    Fault::Reader,
];

/// Plays the round of this seed. An error means that it could not be played; what the gateway did wrong is in the report.
pub async fn play(ground: &Ground, seed: u64) -> Result<Report> {
    let began = Instant::now();
    let directory = ground.directory.join(format!("round-{seed}"));
    // What a former round of this seed left there.
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(directory.join("store"))?;
    let mut round = Round::new(ground, seed, &directory).await?;
    round.play().await.with_context(|| format!("seed {seed}"))?;
    let mut report = round.report();
    report.took = began.elapsed();
    if report.violations.is_empty() {
        drop(round);
        fs::remove_dir_all(&directory)?;
    } else {
        fs::write(directory.join("arrivals.jsonl"), round.arrivals())?;
        let mut text = String::new();
        for violation in &report.violations {
            writeln!(text, "{violation}")?;
        }
        fs::write(directory.join("violations.txt"), text)?;
        report.kept = Some(directory);
    }
    Ok(report)
}

struct Round {
    seed: u64,
    directory: PathBuf,
    chance: Chance,
    disk: Disk,
    starter: Starter,
    /// The text of it that every gateway starts with.
    configuration: String,
    store: config::Store,
    providers: Arc<Providers>,
    subscribers: Arc<Vec<Subscriber>>,
    addresses: Arc<watch::Sender<Option<Addresses>>>,
    clock_seconds: i64,
    /// What is older is forgotten. Time passes only between two gateways then, so that everything is seen before.
    keep_events: Option<SignedDuration>,
    memory: Memory,
    /// A sync was made to fail in the life of the gateway that runs.
    had_failed_syncs: bool,
    readers: Vec<Connection>,
    record: Record,
    report: Report,
    replays: Arc<AtomicU64>,
    ticks: Arc<Ticks>,
    diary: Arc<Diary>,
}

/// What happened, in order, for whoever looks into a failure.
struct Diary {
    text: Mutex<String>,
    began: Instant,
}

impl Diary {
    fn tell(&self, what: &str) {
        let at = self.began.elapsed().as_secs_f64();
        // Writing to memory does not fail.
        let _ = writeln!(lock(&self.text), "{at:8.3} {what}");
    }
}

impl Round {
    async fn new(ground: &Ground, seed: u64, directory: &Path) -> Result<Self> {
        let mut chance = Chance::new(seed);
        let database = gateway::canonical(&directory.join("store"), "callfeed.db")?;
        let ticks = Arc::new(Ticks::default());
        let mut subscribers = Vec::new();
        for character in CHARACTERS {
            subscribers.push(Subscriber::start(character, chance.number(), &ticks).await);
        }
        let config = directory.join("callfeed.toml");
        let keep_events = chance.permille(FORGETS_PERMILLE).then_some(KEEP);
        let configuration = configuration(&database, keep_events, &ground.plugin_cache, &subscribers);
        fs::write(&config, &configuration)?;
        let loaded = config::load(&config)?.config;
        let addresses = watch::Sender::new(None);
        let providers = Providers {
            routes: loaded.routes,
            gateway: addresses.subscribe(),
            stop: AtomicBool::new(false),
            sent: Mutex::default(),
            violations: Mutex::default(),
            unsynced: AtomicU64::new(0),
            pause: Duration::from_millis(*chance.one_of(&[10, 30, 60])),
            ticks: Arc::clone(&ticks),
            erasures: Mutex::default(),
        };
        Ok(Self {
            seed,
            disk: Disk::new(directory, &database)?,
            starter: Starter {
                binary: ground.binaries.gateway.clone(),
                shim: ground.binaries.shim.clone(),
                config,
                log: directory.join("gateway.log"),
            },
            configuration,
            store: loaded.store,
            providers: Arc::new(providers),
            subscribers: Arc::new(subscribers),
            addresses: Arc::new(addresses),
            clock_seconds: 0,
            keep_events,
            memory: Memory::default(),
            had_failed_syncs: false,
            readers: Vec::new(),
            record: Record::default(),
            report: Report {
                seed,
                ..Report::default()
            },
            replays: Arc::default(),
            ticks,
            diary: Arc::new(Diary {
                text: Mutex::default(),
                began: Instant::now(),
            }),
            directory: directory.to_owned(),
            chance,
        })
    }

    fn tell(&self, what: &str) {
        self.diary.tell(what);
    }

    async fn play(&mut self) -> Result<()> {
        let mut outside = JoinSet::new();
        for connection in 0..CONNECTIONS {
            let chance = Chance::of(self.seed, &connection.to_le_bytes());
            outside.spawn(Arc::clone(&self.providers).post(chance));
        }
        outside.spawn(operate(
            Arc::clone(&self.providers),
            Arc::clone(&self.subscribers),
            Arc::clone(&self.addresses),
            Arc::clone(&self.replays),
            Arc::clone(&self.diary),
            Chance::of(self.seed, b"operator"),
        ));
        outside.spawn(erase(
            Arc::clone(&self.providers),
            Arc::clone(&self.subscribers),
            Arc::clone(&self.addresses),
            Arc::clone(&self.diary),
            Chance::of(self.seed, b"eraser"),
        ));

        for _ in 0..self.chance.within(5, 10) {
            self.live().await?;
            if !self.violations().is_empty() {
                break;
            }
        }
        self.settle(&mut outside).await?;
        fs::write(self.directory.join("diary.txt"), &*lock(&self.diary.text))?;
        Ok(())
    }

    fn violations(&self) -> Vec<Violation> {
        let mut found = self.report.violations.clone();
        found.extend(lock(&self.providers.violations).iter().cloned());
        found
    }

    /// The life of one gateway, from its start to its end, and a look at what it left.
    async fn live(&mut self) -> Result<()> {
        let delay = Duration::from_micros(*self.chance.one_of(&[0, 0, 500, 2000, 10_000]));
        self.disk.slow_syncs(delay)?;
        self.had_failed_syncs = false;
        if self.chance.permille(300) {
            self.readers.clear();
        }
        if self.keep_events.is_some() && self.chance.permille(500) {
            let passed = self.chance.within(0, PASSED_MAX_SECONDS);
            self.report.clock_jumps += 1;
            self.set_clock(self.clock_seconds + passed as i64)?;
        }
        fs::write(&self.starter.config, &self.configuration)?;
        let mut gateway = self.start()?;
        let end = if self.chance.permille(100) {
            // It has not come up yet.
            let after = self.chance.within(0, 150);
            tokio::time::sleep(Duration::from_millis(after)).await;
            self.tell("it is killed while it starts");
            *self.chance.one_of(&[End::Kill, End::PowerCut])
        } else {
            match gateway.listening().await? {
                Some(addresses) => self.addresses.send_replace(Some(addresses)),
                None => {
                    let how = format!("it did not start: {}", self.starter.log_end());
                    self.report.violations.push(Violation::Broken { how });
                    return Ok(());
                }
            };
            self.tell("it listens");
            for _ in 0..self.chance.below(4) {
                let pause = self.chance.within(10, 500);
                tokio::time::sleep(Duration::from_millis(pause)).await;
                let fault = *self.chance.one_of(&FAULTS);
                if self.keep_events.is_none() || !matches!(fault, Fault::Clock) {
                    self.suffer(&gateway, fault).await?;
                }
            }
            let last = self.chance.within(0, 700);
            tokio::time::sleep(Duration::from_millis(last)).await;
            *self.chance.one_of(&ENDS)
        };
        let end = match gateway.is_running() {
            true => end,
            false if self.had_failed_syncs => *self.chance.one_of(&[End::ByItself, End::ByItselfAndPowerCut]),
            false => {
                let how = format!("it ended by itself: {}", self.starter.log_end());
                self.report.violations.push(Violation::Broken { how });
                End::ByItself
            }
        };
        self.end(gateway, end).await?;
        self.recover()?;
        self.look().await
    }

    /// The next gateway. Whatever the one before sent has arrived.
    fn start(&self) -> Result<Gateway> {
        let now = self.ticks.next();
        for erasure in lock(&self.providers.erasures).iter_mut().filter(|it| it.done.is_some()) {
            erasure.over.get_or_insert(now);
        }
        self.starter.start(&self.disk)
    }

    /// Brings a fault about, and takes it away after a while or leaves it until the gateway's end.
    async fn suffer(&mut self, gateway: &Gateway, fault: Fault) -> Result<()> {
        let lasting = Duration::from_millis(self.chance.within(20, 400));
        let stays = self.chance.permille(250);
        self.tell(&format!("{fault:?}{}", if stays { ", until the end" } else { "" }));
        match fault {
            Fault::Clock => {
                self.report.clock_jumps += 1;
                let most = if self.chance.permille(500) {
                    300
                } else {
                    CLOCK_MAX_SECONDS
                };
                let jump = i64::try_from(self.chance.below(2 * most)).expect("a few hours") - most as i64;
                self.set_clock(self.clock_seconds + jump)?;
                return Ok(());
            }
            Fault::Reload => {
                self.report.reloads += 1;
                let text = match self.chance.below(6) {
                    0 => "this is no configuration".to_owned(),
                    1 => self.configuration.clone(),
                    2 | 3 => {
                        let subscribers = Arc::clone(&self.subscribers);
                        let subscriber = self.chance.one_of(&subscribers[..]);
                        self.tell(&format!("without {}", subscriber.name()));
                        self.configuration.replace(&subscriber.toml(), "")
                    }
                    _ => {
                        let (from, to) = *self.chance.one_of(&CHANGES);
                        self.configuration.replace(from, to)
                    }
                };
                fs::write(&self.starter.config, text)?;
                gateway.reload()?;
                if !stays {
                    tokio::time::sleep(lasting).await;
                    fs::write(&self.starter.config, &self.configuration)?;
                    gateway.reload()?;
                    self.tell("as it was");
                }
                return Ok(());
            }
            Fault::Reader => {
                let reader = store::reader(self.disk.store())?;
                if self.chance.permille(500) {
                    self.tell("within a transaction");
                    reader.execute_batch("BEGIN; SELECT count(*) FROM event")?;
                }
                self.readers.push(reader);
                return Ok(());
            }
            Fault::FullDisk => {
                self.report.full_disks += 1;
                self.disk.full(true)?;
            }
            Fault::Syncs(how) => {
                self.report.failed_syncs += 1;
                self.had_failed_syncs = true;
                self.disk.syncs(how)?;
            }
        }
        // What is answered is in the log.
        if !matches!(fault, Fault::Syncs(Syncs::FailAndForgetDatabase)) {
            self.unsynced(true);
        }
        tokio::time::sleep(lasting).await;
        if !stays {
            self.recover()?;
            self.tell("and it is over");
        }
        Ok(())
    }

    fn set_clock(&mut self, seconds: i64) -> Result<()> {
        self.clock_seconds = seconds;
        self.tell(&format!("the clock is {seconds} s off"));
        Ok(self.disk.clock(seconds)?)
    }

    /// What the providers have to know: after the fault is there, and before it goes.
    fn unsynced(&self, begins: bool) {
        let now = self.providers.unsynced.load(Ordering::SeqCst);
        if (now % 2 == 1) != begins {
            self.providers.unsynced.store(now + 1, Ordering::SeqCst);
        }
    }

    /// Nothing is wrong with the disk any more.
    fn recover(&self) -> Result<()> {
        self.unsynced(false);
        self.disk.full(false)?;
        self.disk.syncs(Syncs::Work)?;
        Ok(())
    }

    async fn end(&mut self, gateway: Gateway, end: End) -> Result<()> {
        self.tell(&format!("{end:?}"));
        match end {
            End::Kill | End::PowerCut => {
                self.report.kills += 1;
                gateway.kill().await?;
                self.addresses.send_replace(None);
            }
            End::Terminate | End::TerminateAndPowerCut => {
                self.report.terminations += 1;
                let is_well =
                    self.providers.unsynced.load(Ordering::SeqCst).is_multiple_of(2) && !self.had_failed_syncs;
                let status = gateway.terminate().await?;
                self.addresses.send_replace(None);
                if is_well && !status.success() {
                    let how = format!("it stopped with {status}: {}", self.starter.log_end());
                    self.report.violations.push(Violation::Broken { how });
                }
            }
            End::ByItself | End::ByItselfAndPowerCut => {
                self.report.exits += 1;
                gateway.wait().await?;
                self.addresses.send_replace(None);
            }
        }
        if matches!(
            end,
            End::PowerCut | End::TerminateAndPowerCut | End::ByItselfAndPowerCut
        ) {
            self.report.power_cuts += 1;
            // Nobody outlives it.
            self.readers.clear();
            let lost = self.disk.cut_power(&mut self.chance)?;
            self.tell(&format!("the power cut took: {lost}"));
        }
        Ok(())
    }

    /// What the store says, from a copy: looking at it must not help the gateway.
    async fn look(&mut self) -> Result<()> {
        let sent = self.providers.sent();
        let Some(record) = self.read(Depth::Always, &sent).await? else {
            return Ok(());
        };
        self.record = record;
        let evidence: Vec<_> = self.subscribers.iter().map(Subscriber::evidence).collect();
        let erasures = lock(&self.providers.erasures).clone();
        let found = model::check_always(&sent, &self.record, &evidence, &erasures);
        self.tell(&format!(
            "{} sent, {} in the feed, {} in quarantine",
            sent.len(),
            self.record.events.len(),
            self.record.quarantine.len()
        ));
        self.report.violations.extend(found);
        Ok(())
    }

    /// `None` where there is nothing to read, and need not be.
    async fn read(&mut self, depth: Depth, sent: &[model::Sent]) -> Result<Option<Record>> {
        let copies = self.directory.join("copy");
        let copy = match disk::copy_store(self.disk.store(), &copies) {
            Ok(copy) => copy,
            // The name of a file that was never synced may be lost.
            Err(_) if sent.iter().all(|webhook| webhook.accepted.is_none()) => return Ok(None),
            Err(error) => {
                let how = format!("{error:#}");
                self.report.violations.push(Violation::Damaged { how });
                return Ok(None);
            }
        };
        if let Some(how) = store::damage(&copy)? {
            self.report.violations.push(Violation::Damaged { how });
            return Ok(None);
        }
        let read = async {
            let history = store::open(&self.store, &copy).await?;
            store::read(&history, depth).await
        };
        match read.await {
            Ok(mut record) => {
                let now = callfeed::clock::now() + SignedDuration::from_secs(self.clock_seconds);
                self.memory
                    .compare(&mut record, self.keep_events.map(|keep| now - keep));
                Ok(Some(record))
            }
            Err(_) if sent.iter().all(|webhook| webhook.accepted.is_none()) => Ok(None),
            Err(error) => {
                let how = format!("{error:#}");
                self.report.violations.push(Violation::Damaged { how });
                Ok(None)
            }
        }
    }

    /// Nothing goes wrong any more. Who is outside finishes, everything is delivered or given up, and the model is asked.
    async fn settle(&mut self, outside: &mut JoinSet<()>) -> Result<()> {
        self.tell("all is well from here on");
        self.readers.clear();
        self.disk.slow_syncs(Duration::ZERO)?;
        self.set_clock(self.clock_seconds + CLOCK_REST_SECONDS)?;
        self.had_failed_syncs = false;
        fs::write(&self.starter.config, &self.configuration)?;
        for subscriber in self.subscribers.iter() {
            subscriber.calm_down();
        }
        self.providers.stop.store(true, Ordering::Relaxed);
        let mut gateway = self.start()?;
        let Some(addresses) = gateway.listening().await? else {
            outside.abort_all();
            let how = format!("it did not start: {}", self.starter.log_end());
            self.report.violations.push(Violation::Broken { how });
            return Ok(());
        };
        self.addresses.send_replace(Some(addresses));
        while outside.join_next().await.is_some() {}
        self.tell("the providers and the operator are done");
        self.wait_until_settled(addresses).await?;
        self.end(gateway, End::Terminate).await?;

        let sent = self.providers.sent();
        if let Some(record) = self.read(Depth::Everything, &sent).await? {
            self.record = record;
            let evidence: Vec<_> = self.subscribers.iter().map(Subscriber::evidence).collect();
            let erasures = lock(&self.providers.erasures).clone();
            let found = model::check_finally(&sent, &self.record, &evidence, &erasures);
            self.report.violations.extend(found);
        }
        self.tell("the end");
        Ok(())
    }

    async fn wait_until_settled(&self, addresses: Addresses) -> Result<()> {
        let client = simulate::client(Duration::from_secs(2))?;
        let history = store::open(&self.store, self.disk.store()).await?;
        let deadline = Instant::now() + SETTLE_MAX;
        // One that does not settle shows in the record.
        while Instant::now() < deadline {
            let newest = Query {
                limit: 1,
                ..Query::default()
            };
            let head = history.events(newest).await?.first().map_or(0, |event| event.seq);
            let known = history.subscribers().await?;
            if known
                .iter()
                .all(|it| it.cursor == head && it.waiting == 0 && it.stopped.is_none())
            {
                return Ok(());
            }
            for stopped in known.iter().filter(|it| it.stopped.is_some()) {
                gateway::ask(&client, addresses.admin, &stopped.name, "resume").await;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn report(&mut self) -> Report {
        let mut report = std::mem::take(&mut self.report);
        report.violations.extend(lock(&self.providers.violations).drain(..));
        let sent = self.providers.sent();
        report.sent = sent.len();
        report.accepted = sent.iter().filter(|webhook| webhook.accepted.is_some()).count();
        report.events = self.record.events.len();
        report.forgotten = self.record.forgotten.events.len();
        report.quarantined = self.record.quarantine.len();
        report.replays = self.replays.load(Ordering::Relaxed);
        report.erasures = lock(&self.providers.erasures)
            .iter()
            .filter(|it| it.done.is_some())
            .count() as u64;
        report.erased = self.record.events.iter().filter(|event| event.kind == ERASED).count();
        report.dead = self.record.subscribers.values().map(|it| it.dead.len()).sum();
        for subscriber in self.subscribers.iter() {
            let arrivals = subscriber.evidence().arrivals;
            report.arrivals += arrivals.len();
            report.taken += arrivals.iter().filter(|arrival| arrival.taken.is_some()).count();
        }
        report
    }

    /// Everything that arrived, one JSON object a line, without what it said.
    fn arrivals(&self) -> String {
        let mut text = String::new();
        for subscriber in self.subscribers.iter() {
            for arrival in subscriber.evidence().arrivals {
                let event: Value = serde_json::from_slice(&arrival.body).unwrap_or_default();
                let line = json!({
                    "subscriber": subscriber.name(),
                    "tick": arrival.at,
                    "id": arrival.id,
                    "seq": event["sequence"],
                    "taken": arrival.taken,
                });
                // Writing to memory does not fail.
                let _ = writeln!(text, "{line}");
            }
        }
        text
    }
}

/// Someone who now and then has a call erased that a subscriber got to know, for as long as the providers begin something.
async fn erase(
    providers: Arc<Providers>,
    subscribers: Arc<Vec<Subscriber>>,
    addresses: Arc<watch::Sender<Option<Addresses>>>,
    diary: Arc<Diary>,
    mut chance: Chance,
) {
    let client = simulate::client(Duration::from_secs(5)).expect("a client can be made");
    while !providers.stop.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
        let Some(Addresses { admin, .. }) = *addresses.borrow() else {
            continue;
        };
        if !chance.permille(ERASE_PERMILLE) {
            continue;
        }
        let Some(subject) = chance.one_of(&subscribers[..]).one_to_erase(&mut chance) else {
            continue;
        };
        let asked = providers.ticks.next();
        diary.tell(&format!("{subject} is to be erased, at tick {asked}"));
        let index = {
            let mut erasures = lock(&providers.erasures);
            erasures.push(Erasure {
                subject: subject.clone(),
                asked,
                done: None,
                over: None,
            });
            erasures.len() - 1
        };
        if gateway::erase(&client, admin, &subject).await {
            let done = providers.ticks.next();
            lock(&providers.erasures)[index].done = Some(done);
            diary.tell(&format!("{subject} is erased, at tick {done}"));
        }
    }
}

/// Someone who has a subscriber that said 410 go on, and now and then has events delivered once more, for as long as the
/// providers begin something.
async fn operate(
    providers: Arc<Providers>,
    subscribers: Arc<Vec<Subscriber>>,
    addresses: Arc<watch::Sender<Option<Addresses>>>,
    replays: Arc<AtomicU64>,
    diary: Arc<Diary>,
    mut chance: Chance,
) {
    let client = simulate::client(Duration::from_secs(2)).expect("a client can be made");
    while !providers.stop.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
        let Some(Addresses { admin, .. }) = *addresses.borrow() else {
            continue;
        };
        for subscriber in subscribers.iter().filter(|subscriber| subscriber.was_gone()) {
            gateway::ask(&client, admin, subscriber.name(), "resume").await;
        }
        if !chance.permille(REPLAY_PERMILLE) {
            continue;
        }
        let subscriber = chance.one_of(&subscribers[..]);
        let wish = if chance.permille(200) {
            subscriber.will_replay_dead();
            "replay?dead".to_owned()
        } else {
            let Some(id) = subscriber.one_to_replay(&mut chance) else {
                continue;
            };
            format!("replay/{id}")
        };
        replays.fetch_add(1, Ordering::Relaxed);
        diary.tell(&format!("{} is asked for {wish}", subscriber.name()));
        gateway::ask(&client, admin, subscriber.name(), &wish).await;
    }
}

fn configuration(
    database: &Path,
    keep_events: Option<SignedDuration>,
    plugin_cache: &Path,
    subscribers: &[Subscriber],
) -> String {
    let keep_events = keep_events.map(|keep| format!("keep_events = \"{}m\"\n", keep.as_mins()));
    let mut text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ngrace = \"5s\"\n\n[admin]\nlisten = \"127.0.0.1:0\"\n\n\
         [store]\nurl = {:?}\n{}\n[limits]\nplugin_cache = {plugin_cache:?}\nplugin_time = \"1s\"\n",
        format!("sqlite:{}", database.display()),
        keep_events.unwrap_or_default()
    );
    for provider in PROVIDERS {
        let (secret, value) = provider_secret(provider);
        write!(
            text,
            "\n[[route]]\nname = {provider:?}\nprovider = {provider:?}\nsecrets = {{ {secret} = [{value:?}] }}\n\
             urls = [\"https://hooks.example.com/hooks/{provider}\"]\n"
        )
        .expect("a text grows");
    }
    for subscriber in subscribers {
        text.push_str(&subscriber.toml());
    }
    text
}
