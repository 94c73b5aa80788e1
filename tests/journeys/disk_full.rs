//! The disk is full: providers are asked to send again, what was promised stays, and work goes on once there is room.

use std::{collections::HashSet, fs, path::Path, process::Command};

use harness::{Gateway, PATIENCE, Setup, Subscriber};
use tempfile::TempDir;

/// A small file system of its own, where the machine lets us have one.
struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
            .arg(directory.path());
        mount
            .output()
            .is_ok_and(|output| output.status.success())
            .then_some(Self { directory })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whatever still has a file open there keeps it until it ends.
        drop(Command::new("umount").arg("-l").arg(self.directory.path()).output());
    }
}

/// Posts until something was refused, and returns what was accepted before.
async fn fill(gateway: &Gateway) -> HashSet<String> {
    let mut accepted = HashSet::new();
    let started = std::time::Instant::now();
    loop {
        let mut webhook = gateway.sample("magpipe", "call-completed");
        webhook.body.extend([b' '; 60_000]);
        let webhook = gateway.signed("magpipe", "application/json", webhook.body);
        let answer = gateway.post(&webhook).await;
        if answer.status != 200 {
            assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{answer:?}");
            assert_eq!(answer.body, r#"{"error":"cannot be kept now, please send it again"}"#);
            return accepted;
        }
        accepted.extend(answer.accepted());
        assert!(started.elapsed() < PATIENCE, "the disk is never full");
    }
}

async fn kept(gateway: &Gateway) -> HashSet<String> {
    gateway
        .feed()
        .await
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_full_disk_is_said_and_survived_and_work_goes_on_once_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        // Without the right to mount, the story of the file that may not grow tells most of this.
        return;
    };
    let subscriber = Subscriber::start().await;
    let filler = disk.path().join("filler");
    fs::write(&filler, vec![0; 1 << 20]).unwrap();
    let mut gateway = Setup::new()
        .route("magpipe")
        .subscriber("crm", &subscriber)
        .store_file(&disk.path().join("callfeed.db"))
        .start()
        .await;

    let mut accepted = fill(&gateway).await;
    assert!(!accepted.is_empty());
    for _ in 0..5 {
        let answer = gateway.post(&gateway.sample("magpipe", "call-completed")).await;
        // What is small may still fit.
        match answer.status {
            503 => {}
            _ => accepted.extend(answer.accepted()),
        }
    }
    gateway
        .logged("the webhook could not be kept; the provider was asked to send it again")
        .await;

    fs::remove_file(&filler).unwrap();
    let webhook = gateway.sample("magpipe", "call-completed");
    let look = async || {
        gateway
            .try_post(&webhook)
            .await
            .ok()
            .filter(|answer| answer.status == 200)
    };
    accepted.extend(harness::eventually("room on the disk", look).await.accepted());

    let kept = kept(&gateway).await;
    assert!(accepted.is_subset(&kept), "what was answered with 200 is kept");
    let what = "every event accepted";
    subscriber
        .wait_until(what, |deliveries| {
            let delivered: HashSet<_> = deliveries.iter().map(harness::Delivery::id).collect();
            accepted.is_subset(&delivered)
        })
        .await;
    gateway.kill9().await;
    gateway.restart().await;
    let again: HashSet<String> = self::kept(&gateway).await;
    assert_eq!(again, kept, "and survives a crash");
}

#[tokio::test]
async fn a_file_that_may_not_grow_loses_nothing() {
    let subscriber = Subscriber::start().await;
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber("crm", &subscriber)
        // In blocks of 512 or 1024 bytes, as the shell counts. A write past it fails, as on a full disk.
        .wrapped("trap '' XFSZ; ulimit -f 2000")
        .start()
        .await;
    let accepted = fill(&gateway).await;
    assert!(!accepted.is_empty());
    assert!(gateway.admin_get("/healthz").await.status == 200, "the gateway lives");

    // A new process without the limit: the disk has room again.
    let gateway = gateway.restart_with(|setup| setup.wrapped("ulimit -f unlimited")).await;
    assert!(
        accepted.is_subset(&kept(&gateway).await),
        "what was answered with 200 is kept"
    );
    let what = "every event accepted";
    subscriber
        .wait_until(what, |deliveries| {
            let delivered: HashSet<_> = deliveries.iter().map(harness::Delivery::id).collect();
            accepted.is_subset(&delivered)
        })
        .await;
    gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
}
