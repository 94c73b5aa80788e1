//! Plugins as they were compiled for earlier states of the contract. They load, and do what they did.
//!
//! A file, named for the contract it was built for, is never built again. When the contract gains something, plugins that use it
//! are kept beside these. `magpipe-1.0.0-cases.wasm` is `magpipe-1.0.0.wasm` after `callfeed plugin pack`, with two of the
//! built-in plugin's cases of that time and what the file itself made of them.

use std::path::Path;

use bytes::Bytes;
use callfeed::{
    config::{Limits, Route, Secret},
    kit::{self, Accepted, Answer},
    plugin::Request,
};
use serde_json::json;

use crate::host::{Host, SIGNING, grant, mac, route, webhook};

const ROGUE: &[u8] = include_bytes!("kept/rogue-1.0.0.wasm");
const MAGPIPE: &[u8] = include_bytes!("kept/magpipe-1.0.0.wasm");
const MAGPIPE_WITH_CASES: &[u8] = include_bytes!("kept/magpipe-1.0.0-cases.wasm");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_of_yesterday_proves_maps_and_answers() {
    let host = Host::new(&Limits::default());
    let plugin = host.load(ROGUE).await.expect("the plugin loads");
    let honest = grant(&plugin, &route("rogue", "behave"));
    assert_eq!(host.judge(&honest, webhook()).await.to_string(), "accepted 1");
    let mut forged = webhook();
    forged.body = Bytes::from_static(b"{\"event\":\"ended\",\"call_id\":\"2\"}");
    assert!(
        host.judge(&honest, forged)
            .await
            .to_string()
            .starts_with("rejected unauthenticated")
    );
    let answering = grant(&plugin, &route("rogue", "hmac-allowed"));
    assert_eq!(host.judge(&answering, webhook()).await.to_string(), "accepted 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_of_yesterday_maps_its_webhooks() {
    let host = Host::new(&Limits::default());
    let plugin = host.load(MAGPIPE).await.expect("the plugin loads");
    let route = Route {
        provider: "magpipe".to_owned(),
        secrets: vec![("signing".to_owned(), vec![Secret::new(SIGNING)])],
        options: json!({}),
        ..route("magpipe", "")
    };
    let body = json!({
        "event": "call.completed", "timestamp": "2026-02-18T15:30:45Z",
        "data": { "call_record_id": "c1", "direction": "inbound", "caller_number": "+16045551234", "duration_seconds": 127 },
    });
    let body = Bytes::from(body.to_string());
    let signature: String = mac(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    let request = Request {
        headers: vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("x-magpipe-signature".to_owned(), format!("sha256={signature}")),
        ],
        body,
        ..webhook()
    };
    let ending = host.judge(&grant(&plugin, &route), request).await;
    let Answer::Accepted(Accepted { mapped, .. }) = ending else {
        panic!("{ending}");
    };
    assert_eq!((&*mapped[0].kind, &*mapped[0].subject), ("call.completed", "c1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_of_yesterday_comes_through_the_cases_it_carries() {
    let host = Host::new(&Limits::default());
    let plugin = host.load(MAGPIPE_WITH_CASES).await.expect("the plugin loads");
    let came = kit::rehearse(&host.stand, &plugin, Path::new("magpipe.wasm")).await;
    assert_eq!(came.expect("it serves").cases, 2);
}
