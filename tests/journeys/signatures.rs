//! How deliveries are signed: as Standard Webhooks say with every live key, or in the form a subscriber already checks.

use harness::{Callfeed, Delivery, Setup, Subscriber, WHSEC};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Sha256, Sha512};

async fn deliver(lines: &str) -> (harness::Gateway, Delivery) {
    let subscriber = Subscriber::start().await;
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber_with("crm", &subscriber, lines)
        .start()
        .await;
    gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    (gateway, subscriber.wait_for(1).await.remove(0))
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn while_a_secret_is_changed_both_verify() {
    let new = Callfeed::run(["secret", "new"]).await.success();
    let new = new.trim();
    assert!(new.starts_with("whsec_"), "{new}");
    let other = Callfeed::run(["secret", "new", "--json"]).await.json_lines().remove(0);
    let other = other["secret"].as_str().unwrap();
    assert_ne!(new, other);

    let (_, delivery) = deliver(&format!("secrets = [{new:?}, {WHSEC:?}]")).await;
    assert_eq!(delivery.header("webhook-signature").split(' ').count(), 2);
    assert!(delivery.verifies(new) && delivery.verifies(WHSEC) && !delivery.verifies(other));
    let stale = Delivery {
        body: [&delivery.body[..], b" "].concat().into(),
        ..delivery
    };
    assert!(!stale.verifies(WHSEC), "the body is covered");
}

#[tokio::test]
async fn an_asymmetric_key_signs_beside_a_secret() {
    let pair = Callfeed::run(["secret", "new", "--ed25519", "--json"])
        .await
        .json_lines()
        .remove(0);
    let (private, public) = (pair["private"].as_str().unwrap(), pair["public"].as_str().unwrap());
    let (_, delivery) = deliver(&format!("secrets = [{WHSEC:?}, {private:?}]")).await;
    assert!(delivery.verifies(WHSEC));

    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let key = BASE64_STANDARD.decode(public.strip_prefix("whpk_").unwrap()).unwrap();
    let mut signatures = delivery.header("webhook-signature").split(' ');
    let signature = signatures.find_map(|one| one.strip_prefix("v1a,")).unwrap();
    let signed = [
        delivery.header("webhook-id").as_bytes(),
        b".",
        delivery.header("webhook-timestamp").as_bytes(),
        b".",
        &delivery.body,
    ]
    .concat();
    ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, key)
        .verify(&signed, &BASE64_STANDARD.decode(signature).unwrap())
        .unwrap();
}

#[tokio::test]
async fn the_form_a_subscriber_already_checks() {
    let lines = r#"secrets = ["a plain old secret"]
signature = { header = "x-hub-signature-256", encoding = "hex", prefix = "sha256=", over = "body" }"#;
    let (gateway, delivery) = deliver(lines).await;
    let mac = Hmac::<Sha256>::new_from_slice(b"a plain old secret")
        .unwrap()
        .chain_update(&delivery.body);
    let expected = format!("sha256={}", hex(mac.finalize().into_bytes()));
    assert_eq!(delivery.header("x-hub-signature-256"), expected);
    assert!(!delivery.headers.contains_key("webhook-signature"));
    assert!(!delivery.id().is_empty());
    drop(gateway);

    let lines = r#"secrets = ["a plain old secret"]
headers = { x-tenant = "vancouver", authorization = "Bearer abcdefgh" }
signature = { header = "x-sig", algorithm = "hmac-sha512", encoding = "base64", over = "id.timestamp.body" }"#;
    let (_, delivery) = deliver(lines).await;
    let mac = Hmac::<Sha512>::new_from_slice(b"a plain old secret")
        .unwrap()
        .chain_update(format!("{}.{}.", delivery.id(), delivery.header("webhook-timestamp")))
        .chain_update(&delivery.body);
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    assert_eq!(
        delivery.header("x-sig"),
        BASE64_STANDARD.encode(mac.finalize().into_bytes())
    );
    assert_eq!(
        (delivery.header("x-tenant"), delivery.header("authorization")),
        ("vancouver", "Bearer abcdefgh")
    );
}

#[tokio::test]
async fn strangers_do_not_fill_the_log() {
    let gateway = Setup::new().route("voxagent").start().await;
    let mut webhook = gateway.sample("voxagent", "conversation-complete");
    // A header that looks like a signature, which the plugin has something to say about.
    webhook.headers.retain(|(name, _)| name == "content-type");
    webhook.headers.push(("x-some-signature".to_owned(), "ab".repeat(32)));
    let started = std::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(gateway.post(&webhook).await.status, 401);
    }
    let seconds = started.elapsed().as_secs() as usize;
    let log = gateway.log();
    let lines = log.iter().filter(|line| line["target"] == "callfeed::plugin").count();
    // One a second, and of a webhook that has a voice every line.
    assert!((1..=seconds + 2).contains(&lines), "{lines} lines in {seconds} seconds");
}
