//! What one subscriber gets, where it begins, and whom it trusts.

use std::{fs, sync::Arc};

use harness::{Setup, Subscriber, WHSEC};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{RootCertStore, pki_types::PrivateKeyDer, server::WebPkiClientVerifier};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

fn call(id: &str) -> String {
    json!({ "event": "call.completed", "timestamp": "2026-02-18T15:30:45Z", "data": { "call_record_id": id,
        "direction": "inbound", "caller_number": "+33123456789", "service_number": "+16042101966",
        "duration_seconds": 5, "status": "completed", "summary": "what was said", "transcript": "User: hello" } })
    .to_string()
}

#[tokio::test]
async fn what_a_subscriber_is_not_to_get_it_does_not_get() {
    let (all, part) = (Subscriber::start().await, Subscriber::start().await);
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber("all", &all)
        .subscriber_with(
            "part",
            &part,
            "drop = [\"call.transcript\", \"data.call.summary\", \"extra\"]\nmask = [\"call.from.number\", \"call.from.raw\"]",
        )
        .start()
        .await;
    let id = gateway
        .accept(&gateway.signed("magpipe", "application/json", call("a")))
        .await;
    let (whole, part) = (all.wait_for(1).await.remove(0), part.wait_for(1).await.remove(0));
    // It is signed as it is sent.
    assert!(part.verifies(WHSEC) && part.id() == id);
    let (mut expected, event) = (whole.event(), part.event());
    let from = &event["data"]["call"]["from"];
    assert_eq!(
        (from["number"].as_str(), from["raw"].as_str()),
        (Some("+33*******89"), Some("+33*******89"))
    );
    let block = expected["data"]["call"].as_object_mut().unwrap();
    assert!(block.remove("transcript").is_some() && block.remove("summary").is_some());
    block["from"]["number"] = "+33*******89".into();
    block["from"]["raw"] = "+33*******89".into();
    expected["data"].as_object_mut().unwrap().remove("extra");
    assert_eq!(event, expected);
    let schema: Value = serde_json::from_str(callfeed::inbound::SCHEMA).unwrap();
    assert!(jsonschema::is_valid(&schema, &event["data"]));
}

#[tokio::test]
async fn one_that_begins_in_the_past_catches_up_and_goes_on() {
    let first = Subscriber::start().await;
    let mut gateway = Setup::new().route("magpipe").subscriber("first", &first).start().await;
    let mut ids = Vec::new();
    for number in 0..3 {
        let webhook = gateway.signed("magpipe", "application/json", call(&number.to_string()));
        ids.push(gateway.accept(&webhook).await);
    }
    let second_kept = gateway.run(&["events", "list", "--json"]).await.json_lines().len();
    assert_eq!(second_kept, 3);
    let now = callfeed::clock::now();
    let (from_start, from_now, from_time) = (
        Subscriber::start().await,
        Subscriber::start().await,
        Subscriber::start().await,
    );
    for number in 3..5 {
        let webhook = gateway.signed("magpipe", "application/json", call(&number.to_string()));
        ids.push(gateway.accept(&webhook).await);
    }
    let reload = gateway
        .reload_with(|setup| {
            setup
                .subscriber_with("start", &from_start, "from = \"start\"")
                .subscriber_with("now", &from_now, "")
                .subscriber_with("time", &from_time, &format!("from = \"{now}\""))
        })
        .await;
    assert_eq!(reload.status, Some(0), "{reload:?}");
    let webhook = gateway.signed("magpipe", "application/json", call("5"));
    ids.push(gateway.accept(&webhook).await);

    let got = |deliveries: Vec<harness::Delivery>| deliveries.iter().map(harness::Delivery::id).collect::<Vec<_>>();
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    assert_eq!(sorted(got(from_start.wait_for(6).await)), sorted(ids.clone()));
    assert_eq!(sorted(got(from_time.wait_for(3).await)), sorted(ids[3..].to_vec()));
    assert_eq!(got(from_now.wait_for(1).await), ids[5..]);
    // Where it is known already, it goes on where it was.
    gateway.terminate().await;
    gateway.restart().await;
    let webhook = gateway.signed("magpipe", "application/json", call("6"));
    let last = gateway.accept(&webhook).await;
    from_start
        .wait_until("the last one", |deliveries| deliveries.iter().any(|it| it.id() == last))
        .await;
    assert_eq!(from_start.deliveries().len(), 7);
}

#[tokio::test]
async fn a_path_that_no_event_has_is_refused() {
    let output = Setup::new()
        .route("magpipe")
        .subscriber_at(
            "crm",
            "http://127.0.0.1:9/",
            "drop = [\"call.sumary\", \"call.id\"]\nmask = [\"call.duration_seconds\"]\nfrom = \"yesterday\"",
        )
        .try_start()
        .await
        .refused();
    assert_eq!(output.status, Some(2), "{output:?}");
    for part in [
        "subscriber[crm].drop[#1]",
        "did you mean \"summary\"?",
        "subscriber[crm].drop[#2]",
        "subscriber[crm].mask[#1]",
        "subscriber[crm].from",
    ] {
        assert!(output.stderr.contains(part), "{part} in {}", output.stderr);
    }
}

#[tokio::test]
async fn private_addresses_are_not_dialled_where_only_public_ones_are_wanted() {
    let subscriber = Subscriber::start().await;
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber_with("literal", &subscriber, "public_only = true\nschedule = [\"0s\"]")
        .subscriber_at(
            "name",
            &format!("http://localhost:{}/", subscriber.address().port()),
            "public_only = true\nschedule = [\"0s\"]",
        )
        .start()
        .await;
    let id = gateway
        .accept(&gateway.signed("magpipe", "application/json", call("a")))
        .await;
    for name in ["literal", "name"] {
        let attempts = gateway.attempts(&id, name, 1).await;
        assert_eq!(attempts[0]["outcome"], "refused-address", "{attempts:?}");
    }
    assert!(subscriber.deliveries().is_empty());
}

/// A server of TLS with this certificate that answers 204, if need be only to one who shows a certificate of `clients`.
async fn tls_server(
    certificate: &rcgen::Certificate,
    key: &rcgen::KeyPair,
    clients: Option<&rcgen::Certificate>,
    tasks: &mut JoinSet<()>,
) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            config.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = [0; 16 << 10];
            // One delivery is far smaller.
            if stream.read(&mut head).await.is_ok_and(|bytes| bytes > 0) {
                let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                stream.write_all(answer).await.unwrap();
                drop(stream.shutdown().await);
            }
        }
    });
    port
}

#[tokio::test]
async fn a_subscriber_with_an_authority_of_its_own_and_a_certificate_of_ours() {
    let make = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (server, client) = (make(), make());
    let mut tasks = JoinSet::new();
    let port = tls_server(&server.cert, &server.signing_key, Some(&client.cert), &mut tasks).await;
    let setup = Setup::new().route("magpipe");
    for (name, text) in [
        ("ca.pem", server.cert.pem()),
        ("client.pem", client.cert.pem()),
        ("client.key", client.signing_key.serialize_pem()),
    ] {
        fs::write(setup.directory().join(name), text).unwrap();
    }
    let url = format!("https://localhost:{port}/");
    let once = "schedule = [\"0s\"]\n";
    let both = format!("{once}tls = {{ ca = \"ca.pem\", certificate = \"client.pem\", key = \"client.key\" }}");
    let no_certificate = format!("{once}tls = {{ ca = \"ca.pem\" }}");
    let gateway = setup
        .subscriber_at("both", &url, &both)
        .subscriber_at("no-certificate", &url, &no_certificate)
        .subscriber_at("no-authority", &url, once)
        .start()
        .await;
    let id = gateway
        .accept(&gateway.signed("magpipe", "application/json", call("a")))
        .await;
    let outcome = async |name| gateway.attempts(&id, name, 1).await[0]["outcome"].clone();
    assert_eq!(outcome("both").await, "delivered");
    assert_ne!(outcome("no-certificate").await, "delivered");
    assert_eq!(outcome("no-authority").await, "tls");
}

#[tokio::test]
async fn a_server_that_cannot_prove_its_name_gets_nothing() {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "an authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = authority.self_signed(&key).unwrap();
    let authority = Issuer::new(authority, key);
    let server = |name: &str| CertificateParams::new([name.to_owned()]).unwrap();
    let mut expired = server("localhost");
    (expired.not_before, expired.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let mut early = server("localhost");
    (early.not_before, early.not_after) = (date_time_ymd(4000, 1, 1), date_time_ymd(4001, 1, 1));

    let mut setup = Setup::new().route("magpipe");
    fs::write(setup.directory().join("ca.pem"), ca.pem()).unwrap();
    let mut tasks = JoinSet::new();
    let key = KeyPair::generate().unwrap();
    for (name, params, is_of_authority) in [
        ("right", server("localhost"), true),
        ("of-another", server("elsewhere.example"), true),
        ("expired", expired, true),
        ("early", early, true),
        ("self-signed", server("localhost"), false),
    ] {
        let certificate = match is_of_authority {
            true => params.signed_by(&key, &authority).unwrap(),
            false => params.self_signed(&key).unwrap(),
        };
        let port = tls_server(&certificate, &key, None, &mut tasks).await;
        let url = format!("https://localhost:{port}/");
        setup = setup.subscriber_at(name, &url, "schedule = [\"0s\"]\ntls = { ca = \"ca.pem\" }");
    }
    let gateway = setup.start().await;
    let id = gateway
        .accept(&gateway.signed("magpipe", "application/json", call("a")))
        .await;
    for (name, outcome, why) in [
        ("right", "delivered", ""),
        ("of-another", "tls", "not valid for name"),
        ("expired", "tls", "expired"),
        ("early", "tls", "not valid yet"),
        ("self-signed", "tls", "UnknownIssuer"),
    ] {
        let attempt = gateway.attempts(&id, name, 1).await.remove(0);
        assert_eq!(attempt["outcome"], outcome, "{name}: {attempt}");
        assert!(attempt["response"].as_str().unwrap().contains(why), "{name}: {attempt}");
    }
}
