//! Bytes that mean one request to us and two to somebody before us, or the other way round.

use std::time::Duration;

use harness::{Gateway, Setup, Webhook};

/// A webhook as it goes over the wire.
fn bytes(webhook: &Webhook) -> Vec<u8> {
    let mut bytes = format!("POST {} HTTP/1.1\r\nhost: gateway\r\n", webhook.path).into_bytes();
    for (name, value) in &webhook.headers {
        bytes.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    bytes.extend(format!("content-length: {}\r\n\r\n", webhook.body.len()).into_bytes());
    bytes.extend(&webhook.body);
    bytes
}

fn statuses(answers: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answers);
    let heads = text.match_indices("HTTP/1.1 ");
    heads
        .map(|(at, found)| text[at + found.len()..][..3].parse().unwrap())
        .collect()
}

/// What is answered to these bytes, and whether the connection was closed then.
async fn answers(gateway: &Gateway, bytes: &[u8]) -> (Vec<u16>, bool) {
    let mut connection = gateway.connect().await;
    connection.try_send(bytes).await;
    let (answers, closed) = connection.read_for(Duration::from_secs(3)).await;
    (statuses(&answers), closed)
}

#[tokio::test]
async fn requests_sent_in_one_go_are_answered_one_after_the_other() {
    let gateway = Setup::new().route("magpipe").start().await;
    let webhooks: Vec<_> = (0..3).map(|_| gateway.sample("magpipe", "call-completed")).collect();
    let together: Vec<u8> = webhooks.iter().flat_map(bytes).collect();
    let mut connection = gateway.connect().await;
    connection.send(&together).await;
    for _ in &webhooks {
        let (status, _) = connection.read_head().await;
        assert_eq!(status, 200);
    }
    assert_eq!(gateway.feed().await.len(), 3);
}

#[tokio::test]
async fn a_request_hidden_in_another_one_is_not_taken() {
    let gateway = Setup::new().route("magpipe").start().await;
    let hidden = bytes(&gateway.sample("magpipe", "call-completed"));
    let length = hidden.len();
    let outer = |head: &str, before: &str| {
        let mut bytes = format!("POST /hooks/magpipe HTTP/1.1\r\nhost: gateway\r\n{head}\r\n\r\n{before}").into_bytes();
        bytes.extend(&hidden);
        bytes
    };
    let with_end = length + 5;
    for (attempt, bytes) in [
        (
            "a length and chunks",
            outer(
                &format!("content-length: {with_end}\r\ntransfer-encoding: chunked"),
                "0\r\n\r\n",
            ),
        ),
        (
            "chunks and a length",
            outer(
                &format!("transfer-encoding: chunked\r\ncontent-length: {with_end}"),
                "0\r\n\r\n",
            ),
        ),
        (
            "two lengths",
            outer(&format!("content-length: 0\r\ncontent-length: {length}"), ""),
        ),
        ("two lengths in one", outer(&format!("content-length: 0, {length}"), "")),
        ("a length with a sign", outer("content-length: +0", "")),
        ("a negative length", outer("content-length: -1", "")),
        ("a length in hexadecimal", outer("content-length: 0x0", "")),
        (
            "a length that overflows",
            outer("content-length: 18446744073709551616", ""),
        ),
        (
            "a space before the colon",
            outer(&format!("content-length : {length}"), ""),
        ),
        (
            "chunks by another name",
            outer(
                &format!("content-length: {with_end}\r\ntransfer-encoding: xchunked"),
                "0\r\n\r\n",
            ),
        ),
        (
            "chunks that are not last",
            outer("transfer-encoding: chunked, identity", "0\r\n\r\n"),
        ),
        (
            "chunks in a folded line",
            outer(
                &format!("content-length: {with_end}\r\ntransfer-encoding:\r\n chunked"),
                "0\r\n\r\n",
            ),
        ),
        (
            "a chunk that overflows",
            outer("transfer-encoding: chunked", "10000000000000000\r\n"),
        ),
        ("a chunk with a sign", outer("transfer-encoding: chunked", "+0\r\n\r\n")),
    ] {
        let (statuses, closed) = answers(&gateway, &bytes).await;
        assert!(closed, "{attempt}: {statuses:?}, and the connection stays open");
        assert!(
            statuses.iter().all(|status| (400..500).contains(status)) && statuses.len() <= 1,
            "{attempt}: {statuses:?}"
        );
        assert!(gateway.feed().await.is_empty(), "{attempt}");
    }
    // Nobody else notices.
    gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
}

#[tokio::test]
async fn a_small_body_that_would_become_a_large_one_is_not_unpacked() {
    let gateway = Setup::new().route("magpipe").start().await;
    for encoding in ["gzip", "deflate", "br", "zstd", "identity, gzip"] {
        let webhook = gateway
            .sample("magpipe", "call-completed")
            .header("content-encoding", encoding);
        assert_eq!(gateway.post(&webhook).await.status, 415, "{encoding}");
    }
    assert!(gateway.feed().await.is_empty());
}
