//! Another version of a plugin takes the place of the one that serves, or does not.

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use harness::{Callfeed, Delivery, Gateway, Output, PATIENCE, Reply, Setup, Subscriber, guest, provider_secret};
use tokio::task::JoinSet;

/// The first version knows whom a call was made to, under this name; the second knows another name and leaves what it does
/// not know in `extra`.
const KNOWN: &str = "service_number";
const RENAMED: &str = "serviced_phone";

fn first() -> Vec<u8> {
    fs::read(guest::workspace().join("tests/plugins/kept/magpipe-1.0.0.wasm")).unwrap()
}

fn second() -> Vec<u8> {
    guest::replaced(&first(), KNOWN, RENAMED)
}

/// Which of them mapped it.
fn version(delivery: &Delivery) -> usize {
    if delivery.event()["data"]["call"]["to"].is_object() {
        1
    } else {
        2
    }
}

/// A route `acme` on the plugin `acme`, with a secret that lets it take Magpipe's samples, and a route that signs them.
fn setup() -> Setup {
    let (secret, value) = provider_secret("magpipe");
    Setup::new()
        .toml("[[plugin]]\nname = \"acme\"\npath = \"acme.wasm\"\n")
        .route_with("acme", "acme", &format!("secrets = {{ {secret} = [{value:?}] }}"))
        .route("magpipe")
}

/// Writes a version into a folder of its own, with the case of a call in it, which becomes what the version `proven` makes of
/// it.
async fn write(directory: &Path, name: &str, wasm: &[u8], proven: &[u8]) -> PathBuf {
    let folder = directory.join(name);
    let case = folder.join("cases/call-completed");
    fs::create_dir_all(&case).unwrap();
    let cases = guest::workspace().join("plugins/magpipe/cases");
    fs::copy(cases.join("route.toml"), folder.join("cases/route.toml")).unwrap();
    fs::copy(cases.join("call-completed/request.http"), case.join("request.http")).unwrap();
    let file = folder.join("acme.wasm");
    fs::write(&file, proven).unwrap();
    let path = file.to_str().unwrap();
    // The host is not optimised here.
    let bless = ["plugin", "test", path, "--bless", "--only", "cases", "--time", "5000"];
    Callfeed::run(bless).await.success();
    fs::write(&file, wasm).unwrap();
    let said = Callfeed::run(["plugin", "pack", path]).await.success();
    assert_eq!(said, format!("{path} carries 1 cases\n"));
    file
}

/// Runs a command that asks the gateway.
async fn ask(gateway: &Gateway, args: &[&str]) -> Output {
    let admin = format!("http://{}", gateway.admin());
    gateway.run(&[args, &["--admin", &admin]].concat()).await
}

async fn accept(gateway: &Gateway) -> String {
    let webhook = gateway.sample("magpipe", "call-completed").at("/hooks/acme");
    gateway.accept(&webhook).await
}

/// The version by which the next webhook is mapped.
async fn serving(gateway: &Gateway, subscriber: &Subscriber) -> usize {
    let id = accept(gateway).await;
    let deliveries = subscriber
        .wait_until("the event is delivered", |deliveries| {
            deliveries.iter().any(|delivery| delivery.id() == id)
        })
        .await;
    version(deliveries.iter().find(|delivery| delivery.id() == id).unwrap())
}

#[tokio::test]
async fn a_version_replaces_another_under_load_and_no_webhook_is_lost() {
    const SENDERS: usize = 3;
    const EACH_SIDE: usize = 10;
    let subscriber = Subscriber::start().await;
    let setup = setup().subscriber("crm", &subscriber);
    let directory = setup.directory().to_owned();
    let one = write(&directory, "one", &first(), &first()).await;
    let two = write(&directory, "two", &second(), &second()).await;
    fs::copy(&one, directory.join("acme.wasm")).unwrap();
    let gateway = Arc::new(setup.start().await);

    // Two versions there and back, as commands say; the senders never pause.
    let stop = Arc::new(AtomicBool::new(false));
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        let (gateway, stop) = (Arc::clone(&gateway), Arc::clone(&stop));
        senders.spawn(async move {
            let mut ids = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                ids.push(accept(&gateway).await);
            }
            ids
        });
    }
    let some_more = async || {
        let came = subscriber.deliveries().len();
        subscriber.wait_for(came + EACH_SIDE).await;
    };
    some_more().await;
    assert_eq!(serving(&gateway, &subscriber).await, 1);
    let install = ["plugin", "install", "acme", two.to_str().unwrap()];
    let said = ask(&gateway, &install).await.success();
    for part in [
        "acme.wasm is Magpipe ",
        "; of its own cases 1 passed\n",
        "callfeed plugin rollback acme\n",
        "done: 2 routes, 1 subscribers",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert_eq!(serving(&gateway, &subscriber).await, 2);
    some_more().await;
    for after in [1, 2] {
        let json = ask(&gateway, &["plugin", "rollback", "acme", "--json"])
            .await
            .json_lines();
        assert_eq!(
            (&json[0]["plugin"], &json[0]["reloaded"], &json[0]["cases"]),
            (&"acme".into(), &true.into(), &1.into())
        );
        assert_eq!(serving(&gateway, &subscriber).await, after);
        some_more().await;
    }
    stop.store(true, Ordering::Relaxed);

    let accepted: Vec<String> = senders.join_all().await.into_iter().flatten().collect();
    let deliveries = subscriber
        .wait_until("every event is delivered", |deliveries| {
            let ids: std::collections::HashSet<_> = deliveries.iter().map(Delivery::id).collect();
            accepted.iter().all(|id| ids.contains(id))
        })
        .await;
    let by = |wanted| deliveries.iter().filter(|delivery| version(delivery) == wanted).count();
    assert!(by(1) > EACH_SIDE && by(2) > EACH_SIDE, "{} and {}", by(1), by(2));
    let file = |name: &str| fs::read(directory.join(name)).unwrap();
    assert_eq!(file("acme.wasm"), fs::read(&two).unwrap());
    assert_eq!(file("acme.wasm.previous"), fs::read(&one).unwrap());
}

#[tokio::test]
async fn a_version_that_fails_its_own_case_does_not_serve() {
    let subscriber = Subscriber::start().await;
    let setup = setup().subscriber("crm", &subscriber);
    let directory = setup.directory().to_owned();
    let one = write(&directory, "one", &first(), &first()).await;
    let two = write(&directory, "two", &second(), &second()).await;
    let bad = write(&directory, "bad", &second(), &first()).await;
    let place = directory.join("acme.wasm");
    fs::copy(&one, &place).unwrap();
    let mut gateway = setup.start().await;
    let install = |file: &Path| ["plugin", "install", "acme", file.to_str().unwrap()].map(str::to_owned);
    let args = install(&two);
    ask(&gateway, &args.each_ref().map(String::as_str)).await.success();

    // By the command it does not get as far as the gateway.
    let args = install(&bad);
    let refused = ask(&gateway, &args.each_ref().map(String::as_str)).await;
    assert_eq!(refused.status, Some(1), "{refused:?}");
    let fails = "acme.wasm fails its own case \"call-completed\": /events/0/data/call/to is absent instead of ";
    for part in [fails, "; nothing has changed, and `callfeed plugin test "] {
        assert!(refused.stderr.contains(part), "{part:?} is not in {}", refused.stderr);
    }
    assert_eq!(fs::read(&place).unwrap(), fs::read(&two).unwrap());

    // By hand it gets there, and no further.
    fs::copy(&bad, &place).unwrap();
    let refused = ask(&gateway, &["reload"]).await;
    assert_eq!(refused.status, Some(1), "{refused:?}");
    let remedy = "acme.wasm.previous, which `callfeed plugin install` or `rollback` took out of its place last; `callfeed plugin \
                  test ";
    for part in ["plugin[acme].path: ", fails, remedy] {
        assert!(refused.stderr.contains(part), "{part:?} is not in {}", refused.stderr);
    }
    gateway.logged("the configuration is wrong; nothing has changed").await;
    assert!(
        gateway.log_text().contains("fails its own case"),
        "{}",
        gateway.log_text()
    );
    assert!(
        !gateway.log_text().contains("whsec_0123456789"),
        "{}",
        gateway.log_text()
    );
    assert_eq!(serving(&gateway, &subscriber).await, 2);
    let check = gateway.run(&["check"]).await;
    assert_eq!(check.status, Some(2), "{check:?}");
    assert!(
        check.stderr.contains(fails) && check.stderr.contains(remedy),
        "{check:?}"
    );

    // Nor does a gateway start with it; and the way back needs none that runs.
    gateway.terminate().await;
    let start = tokio::time::timeout(PATIENCE, gateway.run(&["serve"]));
    let start = start.await.expect("it does not start");
    assert_eq!(start.status, Some(2), "{start:?}");
    assert!(
        start.stderr.contains(fails) && start.stderr.contains(remedy),
        "{start:?}"
    );
    let back = gateway.run(&["plugin", "rollback", "acme"]).await.success();
    assert!(back.contains("no gateway answers at http://127.0.0.1:"), "{back}");
    assert_eq!(fs::read(&place).unwrap(), fs::read(&one).unwrap());
    gateway.restart().await;
    assert_eq!(serving(&gateway, &subscriber).await, 1);

    // What is before it now does not come back by a second rollback.
    let again = ask(&gateway, &["plugin", "rollback", "acme"]).await;
    assert_eq!(again.status, Some(1), "{again:?}");
    assert!(
        again.stderr.contains("acme.wasm.previous fails its own case"),
        "{again:?}"
    );
    assert_eq!(serving(&gateway, &subscriber).await, 1);
}

#[tokio::test]
async fn what_the_gateway_refuses_is_put_back() {
    let setup = setup();
    let directory = setup.directory().to_owned();
    let place = directory.join("acme.wasm");
    fs::write(&place, first()).unwrap();
    fs::write(directory.join("two.wasm"), second()).unwrap();
    let new = directory.join("two.wasm");
    let install = ["plugin", "install", "acme", new.to_str().unwrap()];
    let mut gateway = setup.start().await;
    let rollback = ask(&gateway, &["plugin", "rollback", "acme"]).await;
    assert!(
        rollback.stderr.contains("acme.wasm.previous, so nothing to go back to"),
        "{rollback:?}"
    );

    let same = ask(&gateway, &["plugin", "install", "acme", place.to_str().unwrap()]).await;
    let same = same.success();
    assert!(
        same.contains("was in place already") && same.contains("done: ") && !same.contains("rollback"),
        "{same}"
    );
    assert!(!directory.join("acme.wasm.previous").exists());

    let wrong = gateway
        .reload_with(|setup| setup.toml("[[route]]\nname = \"lost\"\nprovider = \"lost\""))
        .await;
    assert_eq!(wrong.status, Some(1), "{wrong:?}");
    let refused = ask(&gateway, &install).await;
    assert_eq!(refused.status, Some(1), "{refused:?}");
    for part in [
        "the gateway refuses it; ",
        "route[lost].provider: there is no plugin \"lost\"",
    ] {
        assert!(refused.stderr.contains(part), "{part:?} is not in {}", refused.stderr);
    }
    assert_eq!(fs::read(&place).unwrap(), first());
    assert!(!directory.join("acme.wasm.previous").exists());

    let none = ask(&gateway, &["plugin", "install", "acem", new.to_str().unwrap()]).await;
    assert!(
        none.stderr
            .contains("has no [[plugin]] with the name \"acem\": it has acme"),
        "{none:?}"
    );
    fs::write(&new, &first()[..1000]).unwrap();
    let broken = ask(&gateway, &install).await;
    assert!(
        broken
            .stderr
            .contains("two.wasm is not a plugin this gateway can run: "),
        "{broken:?}"
    );
    assert_eq!(fs::read(&place).unwrap(), first());
}

/// What lies in a plugin's place and beside it: which inodes, with which modes.
fn lies(directory: &Path) -> Vec<(String, u64, u32)> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let mut found: Vec<_> = entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, metadata.ino(), metadata.permissions().mode())
        })
        .filter(|(name, ..)| name != "callfeed.toml")
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn what_no_gateway_took_over_is_not_left_in_place() {
    let setup = setup();
    let config = setup.write();
    let directory = setup.directory();
    let place = directory.join("acme.wasm");
    let versions = tempfile::tempdir().unwrap();
    let new = versions.path().join("two.wasm");
    fs::write(&new, second()).unwrap();
    for (path, mode) in [(&place, 0o640), (&directory.join("acme.wasm.previous"), 0o600)] {
        fs::write(path, first()).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let install = ["plugin", "install", "acme", new.to_str().unwrap()];
    let before = lies(directory);

    // Who answers here says what a gateway, or a proxy before it, would.
    let admin = Subscriber::start().await;
    let nobody = "http://127.0.0.1:1/".to_owned();
    let url = format!("http://{}/", admin.address());
    for (url, status, said) in [
        (
            &nobody,
            None,
            "failed to reach the gateway at http://127.0.0.1:1/healthz",
        ),
        (&url, Some(422), "the gateway refuses it; "),
        (&url, Some(401), "this command may not ask the gateway (no); "),
    ] {
        if let Some(status) = status {
            admin.script([Reply::status(200), Reply::status(status).body("no")]);
        }
        let refused = Callfeed::run_with(&config, [&install[..], &["--admin", url]].concat()).await;
        assert_eq!(refused.status, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(said), "{said:?} is not in {}", refused.stderr);
        assert_eq!(lies(directory), before);
    }
    let lock = File::open(directory).unwrap();
    lock.lock().unwrap();
    let busy = Callfeed::run_with(&config, install).await;
    assert!(
        busy.stderr
            .contains("another `callfeed plugin install` or `rollback` is at work"),
        "{busy:?}"
    );
    drop(lock);
    assert_eq!(lies(directory), before);

    admin.script([Reply::status(200), Reply::status(502).body("no")]);
    let unknown = Callfeed::run_with(&config, [&install[..], &["--admin", &url]].concat()).await;
    assert_eq!(unknown.status, Some(1), "{unknown:?}");
    for part in [
        "whether the gateway took it over is not known",
        "it answered 502 Bad Gateway: no",
    ] {
        assert!(unknown.stderr.contains(part), "{part:?} is not in {}", unknown.stderr);
    }
    assert_eq!(fs::read(&place).unwrap(), second());
    let after = lies(directory);
    assert_eq!(after[1], ("acme.wasm.previous".to_owned(), before[0].1, before[0].2));
    assert_eq!((after.len(), after[0].2), (2, before[0].2));
}

#[tokio::test]
async fn without_an_admin_address_the_files_change_places_all_the_same() {
    let setup = setup();
    let config = setup.write();
    let text = fs::read_to_string(&config).unwrap();
    let off = text.replace("[admin]\nlisten = \"127.0.0.1:0\"", "[admin]\nlisten = \"off\"");
    assert_ne!(off, text);
    fs::write(&config, off).unwrap();
    let directory = setup.directory();
    let (place, new) = (directory.join("acme.wasm"), directory.join("two.wasm"));
    fs::write(&place, first()).unwrap();
    fs::write(&new, second()).unwrap();
    let install = ["plugin", "install", "acme", new.to_str().unwrap()];
    let said = Callfeed::run_with(&config, install).await.success();
    for part in [
        "; it carries no cases of its own\n",
        "admin.listen is off, so a running gateway was not asked",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert_eq!(fs::read(&place).unwrap(), second());
    let json = Callfeed::run_with(&config, ["plugin", "rollback", "acme", "--json"]).await;
    let json = json.json_lines();
    assert_eq!((&json[0]["reloaded"], &json[0]["cases"]), (&false.into(), &0.into()));
    assert_eq!(fs::read(&place).unwrap(), first());

    fs::rename(&place, directory.join("one.wasm")).unwrap();
    symlink("one.wasm", &place).unwrap();
    let link = Callfeed::run_with(&config, install).await;
    assert_eq!(link.status, Some(1), "{link:?}");
    assert!(
        link.stderr
            .contains("acme.wasm is a link, and only a file is replaced: "),
        "{link:?}"
    );
    assert_eq!(fs::read(&place).unwrap(), first());
}
