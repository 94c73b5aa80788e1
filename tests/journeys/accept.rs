//! A webhook comes in and the event goes out: from every provider, over every form of HTTP.

use std::{collections::HashSet, fs};

use callfeed::{event, simulate};
use harness::{Setup, Subscriber, Webhook, client, http2_client, tls_client};
use serde_json::Value;

/// The route of Magpipe's webhooks that carry no signature.
const UNSIGNED: &str = "magpipe-whatsapp";

fn schema() -> jsonschema::Validator {
    let schema = include_str!("../../schemas/event/v1/call-event.schema.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    jsonschema::draft202012::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap()
}

#[tokio::test]
async fn every_sample_of_every_provider_arrives_as_a_signed_cloud_event() {
    let providers = ["magnetis", "magpipe", "salpre", "topcalls", "voxagent"];
    let subscriber = Subscriber::start().await;
    let mut setup = Setup::new().subscriber("crm", &subscriber);
    for provider in providers {
        setup = setup.route(provider);
    }
    let gateway = setup
        .route_with(UNSIGNED, "magpipe", "allow_unsigned = true")
        .start()
        .await;

    let mut expected = Vec::new();
    for provider in providers {
        let samples = simulate::samples(provider);
        assert!(!samples.is_empty(), "{provider} has samples");
        for sample in samples {
            let webhook = gateway.sample(provider, sample.name);
            let (route, webhook) = match sample.name {
                "whatsapp-received" => (UNSIGNED, webhook.unsigned().at("/hooks/magpipe-whatsapp")),
                _ => (provider, webhook),
            };
            let answer = gateway.post(&webhook).await;
            assert_eq!(answer.header("content-type"), "application/json");
            expected.extend(
                answer
                    .accepted()
                    .into_iter()
                    .map(|id| (id, route, provider, sample.name)),
            );
        }
    }

    let schema = schema();
    let deliveries = subscriber.wait_for(expected.len()).await;
    for (place, (id, route, provider, sample)) in expected.iter().enumerate() {
        let what = format!("{provider} {sample}");
        let mut found = deliveries.iter().filter(|delivery| delivery.id() == *id);
        let (delivery, again) = (found.next().unwrap_or_else(|| panic!("{what} arrives")), found.next());
        assert!(again.is_none(), "{what} arrives once");
        assert!(delivery.verifies(harness::WHSEC), "{what}");
        assert_eq!(
            delivery.header("content-type"),
            "application/cloudevents+json",
            "{what}"
        );
        assert!(delivery.header("user-agent").starts_with("callfeed/"), "{what}");
        let event = delivery.event();
        let problems: Vec<_> = schema
            .iter_errors(&event["data"])
            .map(|error| error.to_string())
            .collect();
        assert!(problems.is_empty(), "{what}: {problems:?}");
        assert_eq!(event["specversion"], "1.0", "{what}");
        assert_eq!(event["id"], **id, "{what}");
        assert_eq!(event["source"], format!("/routes/{route}"), "{what}");
        assert_eq!(event["datacontenttype"], "application/json", "{what}");
        assert_eq!(
            event["sequence"],
            (place + 1).to_string(),
            "{what}: the feed has the order of the answers"
        );
        assert!(event::TYPES.contains(&event["type"].as_str().unwrap()), "{what}");
        assert!(
            event["subject"].as_str().unwrap().starts_with(&format!("{provider}/")),
            "{what}"
        );
        assert_eq!(event["data"]["provider"], *provider, "{what}");
        event["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }
    let feed = gateway.feed().await;
    let delivered: Vec<Value> = expected
        .iter()
        .map(|(id, ..)| deliveries.iter().find(|delivery| delivery.id() == *id).unwrap().event())
        .collect();
    assert_eq!(feed, delivered, "what is kept is what is delivered");
}

/// Many at once, each kept and answered for itself.
async fn crowd(
    client: &reqwest::Client,
    url: &str,
    webhooks: Vec<Webhook>,
) -> (HashSet<String>, HashSet<hyper::Version>) {
    let mut posts = tokio::task::JoinSet::new();
    for webhook in webhooks {
        let (client, url) = (client.clone(), url.to_owned());
        posts.spawn(async move { webhook.post(&client, &url).await.unwrap() });
    }
    let answers = posts.join_all().await;
    let ids = answers.iter().map(|answer| answer.accepted().remove(0)).collect();
    (ids, answers.iter().map(|answer| answer.version).collect())
}

#[tokio::test]
async fn http_1_and_http_2_on_one_port() {
    let subscriber = Subscriber::start().await;
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    let url = gateway.url("/hooks/magpipe");
    let webhooks = |count| {
        (0..count)
            .map(|_| gateway.sample("magpipe", "sms-received"))
            .collect::<Vec<_>>()
    };

    let (first, versions) = crowd(&client(), &url, webhooks(40)).await;
    assert_eq!(versions, [hyper::Version::HTTP_11].into());
    let (second, versions) = crowd(&http2_client(), &url, webhooks(40)).await;
    assert_eq!(versions, [hyper::Version::HTTP_2].into());

    let deliveries = subscriber.wait_for(80).await;
    let delivered: HashSet<String> = deliveries.iter().map(harness::Delivery::id).collect();
    assert_eq!(delivered, first.union(&second).cloned().collect());
}

#[tokio::test]
async fn tls_with_the_version_of_http_that_both_speak() {
    let made = rcgen::generate_simple_self_signed(["hooks.example.com".to_owned()]).unwrap();
    let setup = Setup::new()
        .route("salpre")
        .server(r#"tls = { certificate = "certificate.pem", key = "key.pem" }"#);
    fs::write(setup.directory().join("certificate.pem"), made.cert.pem()).unwrap();
    fs::write(setup.directory().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let gateway = setup.start().await;
    let url = format!("https://hooks.example.com:{}/hooks/salpre", gateway.address().port());

    let webhook = gateway.sample("salpre", "call-answered");
    let answer = webhook
        .post(&tls_client(&made.cert.pem(), gateway.address()).build().unwrap(), &url)
        .await
        .unwrap();
    assert_eq!((answer.version, answer.accepted().len()), (hyper::Version::HTTP_2, 1));

    let old = tls_client(&made.cert.pem(), gateway.address())
        .http1_only()
        .build()
        .unwrap();
    let answer = gateway
        .sample("salpre", "call-answered")
        .post(&old, &url)
        .await
        .unwrap();
    assert_eq!((answer.version, answer.accepted().len()), (hyper::Version::HTTP_11, 1));

    // Who speaks no TLS is not answered in the clear.
    let mut plain = gateway.connect().await;
    plain
        .send(b"POST /hooks/salpre HTTP/1.1\r\nhost: hooks.example.com\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert!(!plain.read_to_end().await.contains("HTTP/"));
    assert_eq!(gateway.feed().await.len(), 2);
}
